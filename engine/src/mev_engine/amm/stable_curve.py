"""The stableswap invariant in kernels, in closed form: Curve's and Balancer's stable pools share it.

With all other balances fixed, the balance y of the coin paid out solves `y² + (b - D)*y = c`, a quadratic
(Curve's stableswap paper; StableMath.sol). With g = `D^(n+1) / (n^n * prod * Ann)`, one number for the pool,
b - D is `g - y0 + u` and c is `g * y0 * x0 / (x0 + u)` for an input u from the state (x0, y0). The change
is then a quotient of sums of positive numbers: no digits are lost, in small trades and drained pools alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from mev_engine.jit import helper

_FAR = 1e30


def curvature(shares: Sequence[float], ann: float) -> float:
    """g in units of D, of balances in units of D (above 0); `ann`: A*n as a plain number."""
    product = 1.0
    for share in shares:
        product /= share * len(shares)
    return product / ann


@helper
def change(a: float, b: float, g: float, u: float) -> tuple[float, float, float]:
    """`(output, slope, bend)` for an input u to balance a, out of balance b; all in units of D.

    bend is -y''/(2*y') as `family` defines it; the relative errors are below 1e-14.
    """
    x = a + u
    if x > _FAR:
        return b, 0.0, 0.0
    w, c = b - u - g, g * b * a / x
    root = math.sqrt(w * w + 4.0 * c)
    y = 0.5 * (w + root) if w >= 0.0 else 2.0 * c / (root - w)
    output = 2.0 * u * b * (1.0 + g / x) / (b + g + u + root)
    yy, xy = y * y, x * y
    steep, flat = yy + c, xy + c
    part = c / steep
    bend = part * (yy / steep * (x * x - xy + yy) + part * (xy + steep)) / (x * flat)
    return output, (y + c / x) / root, bend


@helper
def change_for(a: float, b: float, g: float, output: float) -> float:
    """The input to balance a that brings `output`, below b, out of balance b; in units of D."""
    rest = b - output
    w, q, c = a + output - g, a + g - output, g * a * b / rest
    root = math.sqrt(w * w + 4.0 * c)
    if q < 0.0:
        return 0.5 * (root - q)
    return 2.0 * output * a * (1.0 + g / rest) / (q + root)
