"""Unsigned integers of 128, 256 and 512 bits for kernels: numba has none above 64, and wraps silently.

`U128`, `U256` and `U512` are numba types whose values are LLVM's own wide integers, so `+ - * & | ^ << >>`
and comparisons in a kernel are a few machine instructions and no limb code; they wrap as the EVM's do.
A plain integer on the right is widened. LLVM divides wide integers bit by bit, so division is our own:
schoolbook long division by 64-bit digits (Knuth, TAOCP 4.3.1, algorithm D). A digit is estimated by x86's
division instruction, elsewhere with a reciprocal (Moeller and Granlund, "Improved division by invariant
integers", 2011).

These values exist in kernels only. They come in and go out through uint64 arrays, least limb first
(`load`, `store`), and nothing here allocates.
"""

from __future__ import annotations

import math
import operator
import platform
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import extending, types
from numba.core import cgutils
from numba.extending import models, overload, register_model

from mev_engine.jit import helper

intrinsic: Any = extending.intrinsic  # numba types it as what it is in Python, not in a kernel
LIMB = 64
_MASK = 2**LIMB - 1


class Wide(types.Type):
    """An unsigned integer of `bits` bits, arithmetic modulo 2**bits."""

    def __init__(self, bits: int) -> None:
        self.bits = bits
        super().__init__(name=f"uint{bits}")


U128, U256, U512 = Wide(128), Wide(256), Wide(512)


@register_model(Wide)
class _WideModel(models.PrimitiveModel):
    def __init__(self, manager: Any, wide: Wide) -> None:
        super().__init__(manager, wide, ir.IntType(wide.bits))


# --- Making them --------------------------------------------------------------------------------------


def _converter(target: Wide) -> Any:
    """Intrinsic: any integer, wide or not, to `target`; a wider one loses its upper bits."""

    @intrinsic
    def convert(typing_context: Any, value: Any) -> Any:
        if not isinstance(value, Wide | types.Integer | types.Boolean):
            return None

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            wanted, given = ir.IntType(target.bits), args[0].type.width
            if given > target.bits:
                return builder.trunc(args[0], wanted)
            if given == target.bits:
                return args[0]
            signed = getattr(value, "signed", False)
            return builder.sext(args[0], wanted) if signed else builder.zext(args[0], wanted)

        plain = types.unliteral(value)
        return target(plain), generate

    return convert


u128, u256, u512 = _converter(U128), _converter(U256), _converter(U512)
_CONVERT = {U128: u128, U256: u256, U512: u512}


@intrinsic
def constant(typing_context: Any, text: Any) -> Any:
    """`constant("0x…")`: a U256 written out, for numbers above 64 bits."""
    if not isinstance(text, types.StringLiteral):
        return None
    number = int(text.literal_value, 0)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return ir.Constant(ir.IntType(256), number)

    return U256(text), generate


@intrinsic
def low64(typing_context: Any, value: Any) -> Any:
    """The lowest limb, as uint64."""
    if not isinstance(value, Wide):
        return None

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.trunc(args[0], ir.IntType(LIMB))

    return types.uint64(value), generate


@intrinsic
def leading_zeros(typing_context: Any, value: Any) -> Any:
    """Leading zero bits, as int64; all bits for 0."""
    if not isinstance(value, Wide | types.Integer):
        return None

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        count = builder.ctlz(args[0], ir.Constant(ir.IntType(1), 0))
        wanted = ir.IntType(LIMB)
        return builder.trunc(count, wanted) if count.type.width > LIMB else count

    return types.int64(value), generate


@intrinsic
def times(typing_context: Any, a: Any, b: Any) -> Any:
    """The whole product of two U256 as a U512."""
    if a is not U256 or b is not U256:
        return None

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        wide = ir.IntType(512)
        return builder.mul(builder.zext(args[0], wide), builder.zext(args[1], wide))

    return U512(a, b), generate


# --- Operators ----------------------------------------------------------------------------------------


def _operator(symbol: Callable[..., Any], build: Callable[[Any, Any, Any], Any], *, boolean: bool) -> None:
    """Give two wide integers of one width, or a wide and a plain one, an operator."""

    @intrinsic
    def apply(typing_context: Any, a: Any, b: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return build(builder, args[0], args[1])

        return (types.boolean if boolean else a)(a, b), generate

    @overload(symbol, strict=False)
    def choose(a: Any, b: Any) -> Any:
        if isinstance(a, Wide) and a is b:
            return lambda a, b: apply(a, b)
        if isinstance(a, Wide) and isinstance(b, types.Integer):
            convert = _CONVERT[a]
            return lambda a, b: apply(a, convert(b))
        return None


_operator(operator.add, lambda build, a, b: build.add(a, b), boolean=False)
_operator(operator.sub, lambda build, a, b: build.sub(a, b), boolean=False)
_operator(operator.mul, lambda build, a, b: build.mul(a, b), boolean=False)
_operator(operator.and_, lambda build, a, b: build.and_(a, b), boolean=False)
_operator(operator.or_, lambda build, a, b: build.or_(a, b), boolean=False)
_operator(operator.xor, lambda build, a, b: build.xor(a, b), boolean=False)
_operator(operator.lshift, lambda build, a, b: build.shl(a, b), boolean=False)
_operator(operator.rshift, lambda build, a, b: build.lshr(a, b), boolean=False)
_operator(operator.eq, lambda build, a, b: build.icmp_unsigned("==", a, b), boolean=True)
_operator(operator.ne, lambda build, a, b: build.icmp_unsigned("!=", a, b), boolean=True)
_operator(operator.lt, lambda build, a, b: build.icmp_unsigned("<", a, b), boolean=True)
_operator(operator.le, lambda build, a, b: build.icmp_unsigned("<=", a, b), boolean=True)
_operator(operator.gt, lambda build, a, b: build.icmp_unsigned(">", a, b), boolean=True)
_operator(operator.ge, lambda build, a, b: build.icmp_unsigned(">=", a, b), boolean=True)


# --- Arrays and floats --------------------------------------------------------------------------------


@intrinsic
def _load_limbs(typing_context: Any, words: Any, at: Any) -> Any:
    """Four uint64 of an array as one U256: on a little-endian machine one unaligned read."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, args[0])
        pointer = cgutils.gep_inbounds(builder, array.data, args[1])
        wide = builder.bitcast(pointer, ir.IntType(256).as_pointer())
        value = builder.load(wide)
        value.align = 8
        return value

    return U256(words, types.int64), generate


@intrinsic
def _store_limbs(typing_context: Any, words: Any, at: Any, value: Any) -> Any:
    """A U256 as four uint64 of an array."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, args[0])
        pointer = cgutils.gep_inbounds(builder, array.data, args[1])
        wide = builder.bitcast(pointer, ir.IntType(256).as_pointer())
        instruction = builder.store(args[2], wide)
        instruction.align = 8
        return context.get_dummy_value()

    return types.void(words, types.int64, U256), generate


@helper
def load(words: Any, at: int) -> Any:
    """`words[at : at + 4]` (uint64, C order, least limb first) as a U256. No bounds check."""
    return _load_limbs(words, np.int64(at))


@helper
def store(words: Any, at: int, value: Any) -> None:
    """Write a U256 to `words[at : at + 4]`. No bounds check."""
    _store_limbs(words, np.int64(at), value)


@helper
def to_float(value: Any) -> float:
    """The nearest float64 but for one unit in its last place: from the 64 leading bits."""
    bits = 256 - leading_zeros(value)
    if bits <= 64:
        return float(low64(value))
    return math.ldexp(float(low64(value >> (bits - 64))), bits - 64)


@helper
def from_float(value: float) -> Any:
    """The U256 of a float64 rounded down; 0 for negative numbers and NaN, the largest from 2**256 on."""
    if not value >= 1.0:
        return u256(0)
    if value >= 1.157920892373162e77:
        return ~u256(0)
    mantissa, exponent = math.frexp(value)
    digits = u256(np.uint64(math.ldexp(mantissa, 53)))
    if exponent >= 53:
        return digits << (exponent - 53)
    return digits >> (53 - exponent)


@overload(operator.invert, strict=False)
def _invert(value: Any) -> Any:
    if isinstance(value, Wide):
        return lambda value: value ^ (value - value - 1)
    return None


def limbs(value: int, count: int = 4) -> list[int]:
    """A Python integer as `count` limbs, least first; ValueError where it needs more."""
    if not 0 <= value < 1 << LIMB * count:
        raise ValueError(f"{value} does not fit {count} limbs of {LIMB} bits")
    return [value >> LIMB * k & _MASK for k in range(count)]


def integer(limbs: Sequence[int]) -> int:
    """The Python integer of limbs, least first."""
    return sum(limb << LIMB * k for k, limb in enumerate(limbs))


# --- Division -----------------------------------------------------------------------------------------


binding.initialize_native_asmparser()  # for the instruction below


@intrinsic
def _divide_instruction(typing_context: Any, high: Any, low: Any, d: Any) -> Any:
    """x86-64's own `div`: (high*2**64 + low) / d. It traps unless high < d."""
    limb = ir.IntType(LIMB)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pair = ir.LiteralStructType([limb, limb])
        shape = ir.FunctionType(pair, [limb, limb, limb])
        code = ir.InlineAsm(shape, "divq $4", "={rax},={rdx},{rax},{rdx},r,~{flags}", side_effect=False)
        result = builder.call(code, [args[1], args[0], args[2]])
        return builder.extract_value(result, 0)

    return types.uint64(types.uint64, types.uint64, types.uint64), generate


@helper
def _digit_by_instruction(high: Any, low: Any, d: Any, v: Any) -> Any:
    """As `_digit_by_reciprocal`, which it is tested against; `v` is not used."""
    return ~np.uint64(0) if high >= d else _divide_instruction(high, low, d)


@helper
def _no_reciprocal(d: Any) -> Any:
    return np.uint64(0)


@helper
def _reciprocal_of(d: Any) -> Any:
    """`floor((2**128 - 1) / d) - 2**64` for a `d` (uint64) with its top bit set.

    A float64 quotient is 2**12 or so off; the exact remainder corrects it, once by a quotient and
    then by units.
    """
    divisor = float(d)
    v = np.uint64(min((2.0**64 - divisor) / divisor * 2.0**64, 2.0**64 - 2048.0))
    rest = ~u128(0) - (u128(d) << 64) - u128(v) * u128(d)  # modulo 2**128, so perhaps negative
    high, low = np.int64(low64(rest >> 64)), low64(rest)
    step = np.int64((float(high) * 2.0**64 + float(low)) / divisor)
    v = np.uint64(np.int64(v) + step)
    rest = rest - u128(step) * u128(d)
    while np.int64(low64(rest >> 64)) < 0:
        v -= np.uint64(1)
        rest = rest + u128(d)
    while rest >= u128(d):
        v += np.uint64(1)
        rest = rest - u128(d)
    return v


@helper
def _digit_by_reciprocal(high: Any, low: Any, d: Any, v: Any) -> Any:
    """`min(floor((high*2**64 + low) / d), 2**64 - 1)` with `v` the reciprocal of `d`; all uint64."""
    if high >= d:
        return ~np.uint64(0)
    q = u128(v) * u128(high) + (u128(high) << 64) + u128(low)
    quotient, fraction = low64(q >> 64) + np.uint64(1), low64(q)
    rest = low - quotient * d
    if rest > fraction:
        quotient -= np.uint64(1)
        rest += d
    if rest >= d:
        quotient += np.uint64(1)
    return quotient


_X86 = platform.machine() == "x86_64"
_digit = _digit_by_instruction if _X86 else _digit_by_reciprocal
_reciprocal = _no_reciprocal if _X86 else _reciprocal_of


@helper
def div_rem(n: Any, d: Any) -> Any:
    """`(n // d, n % d)` of a U512 by a U256, both U256. Needs `n >> 256 < d`, so that the quotient fits."""
    shift = leading_zeros(d)
    d = d << shift
    rest = n << shift
    top = low64(d >> 192)
    v = _reciprocal(top)
    wide = u512(d)
    quotient = u256(0)
    if rest >= (wide << 192):
        quotient, rest = _step(quotient, rest, wide, top, v, 192)
    if rest >= (wide << 128):
        quotient, rest = _step(quotient, rest, wide, top, v, 128)
    if rest >= (wide << 64):
        quotient, rest = _step(quotient, rest, wide, top, v, 64)
    if rest >= wide:
        quotient, rest = _step(quotient, rest, wide, top, v, 0)
    return quotient, u256(rest) >> shift


@helper
def _step(quotient: Any, rest: Any, d: Any, top: Any, v: Any, at: int) -> Any:
    """Take the digit at bit `at` off `rest`; the estimate is at most 2 too large (Knuth, theorem 4.3.1B)."""
    window = rest >> (at + 192)
    digit = _digit(low64(window >> 64), low64(window), top, v)
    taken = (d * u512(digit)) << at
    while taken > rest:
        digit -= np.uint64(1)
        taken = taken - (d << at)
    return quotient | (u256(digit) << at), rest - taken


@helper
def div(n: Any, d: Any) -> Any:
    """`n // d` of two U256; `d` must not be 0."""
    quotient, _rest = div_rem(u512(n), d)
    return quotient


@helper
def div_up(n: Any, d: Any) -> Any:
    """`ceil(n / d)` of two U256; `d` must not be 0."""
    quotient, rest = div_rem(u512(n), d)
    return quotient if rest == 0 else quotient + 1


@helper
def mul_div(a: Any, b: Any, d: Any) -> Any:
    """`(a * b // d, fits)` of U256, by the whole product; False where the quotient does not fit or d is 0."""
    product = times(a, b)
    if u256(product >> 256) >= d:
        return u256(0), False
    quotient, _rest = div_rem(product, d)
    return quotient, True


@helper
def mul_div_up(a: Any, b: Any, d: Any) -> Any:
    """As `mul_div`, rounded up."""
    product = times(a, b)
    if u256(product >> 256) >= d:
        return u256(0), False
    quotient, rest = div_rem(product, d)
    if rest == 0:
        return quotient, True
    quotient = quotient + 1
    return quotient, quotient != 0


@helper
def sqrt(n: Any) -> Any:
    """`floor(sqrt(n))` of a U256: Newton's method down from a float64 estimate above the root."""
    if n == 0:
        return n
    guess = math.sqrt(to_float(n)) * (1.0 + 1e-15) + 1.0
    x = from_float(min(guess, 2.0**128 * (1.0 - 2.0**-53)))
    if guess >= 2.0**128 * (1.0 - 2.0**-53):
        x = (u256(1) << 128) - 1
    while True:
        y = (x + div(n, x)) >> 1
        if y >= x:
            return x
        x = y


@helper
def div64(n: Any, d: Any) -> Any:
    """`(n // d, n % d)` of a U256 by a uint64 that is not 0; the rest as uint64."""
    shift = np.uint64(leading_zeros(d))
    top = d << shift
    v = _reciprocal(top)
    # n << shift is five limbs: the uppermost is what falls off
    rest = low64(n >> 192) >> (np.uint64(64) - shift) if shift else np.uint64(0)
    n = n << np.int64(shift)
    quotient = u256(0)
    for at in (192, 128, 64, 0):
        low = low64(n >> at)
        digit = _digit(rest, low, top, v)
        rest = low - digit * top
        quotient = quotient | (u256(digit) << at)
    return quotient, rest >> shift


@helper
def div128(n: Any, d: Any) -> Any:
    """`(n // d, n % d)` of U256 where `d < 2**128` and `n >> 128 < d`: half the work of `div_rem`."""
    shift = leading_zeros(d) - 128
    d = d << shift
    rest = n << shift
    top = low64(d >> 64)
    v = _reciprocal(top)
    quotient = u256(0)
    for at in (64, 0):
        window = rest >> (at + 64)
        digit = _digit(low64(window >> 64), low64(window), top, v)
        taken = (d * u256(digit)) << at
        while taken > rest:
            digit -= np.uint64(1)
            taken = taken - (d << at)
        rest = rest - taken
        quotient = quotient | (u256(digit) << at)
    return quotient, rest >> shift
