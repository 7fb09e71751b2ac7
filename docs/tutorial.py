"""Five minutes with the engine: load a snapshot, scan it, see what an input earns, quote a pool, add a pool.

Run it whole (`python docs/tutorial.py [SNAPSHOT]`) or cell by cell in an editor that knows `# %%`.
Without a snapshot it makes a small market itself. With matplotlib it draws into profit.png as well.
"""

# %% A market: the pools of a snapshot file, or four pools by hand
from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from mev_engine import report
from mev_engine.amm import registry
from mev_engine.amm.concentrated import tick_at_sqrt_price
from mev_engine.amm.curve_stable import CurveStablePool
from mev_engine.amm.uniswap_v3 import V3Pool
from mev_engine.detect import GasModel, Scanner
from mev_engine.loading import WRAPPED_NATIVE
from mev_engine.market import BlockDelta, BlockRef, Market, PoolSpec, TokenSpec, pair_spec, snapshot
from mev_engine.quote import quote
from rich.console import Console
from rich.table import Table

console = Console(highlight=False, width=120)
WETH, USDC, DAI = WRAPPED_NATIVE[1], f"0x{2:040x}", f"0x{3:040x}"
# %% [markdown]
# All amounts are integers in a token's smallest unit. Pools of any family go in together: here two pairs
# of the V2 kind, a V3 pool with one position from tick 78000 to 84000, and a Curve pool.
# %%
if len(sys.argv) > 1:
    read = snapshot.read(Path(sys.argv[1]))
    tokens, pools, native = read.tokens, read.pools, WRAPPED_NATIVE[read.chain_id]
    for pool, reason in list(read.excluded.items())[:5]:
        console.print(f"left out: {pool}: {reason}")
else:
    tokens = (TokenSpec(WETH, "WETH", 18), TokenSpec(USDC, "USDC", 6), TokenSpec(DAI, "DAI", 18))
    liquidity = 10**22
    v3 = V3Pool(
        sqrt_price_x96=2**96 * 56,  # 3136 DAI for a WETH
        tick=tick_at_sqrt_price(2**96 * 56),
        liquidity=liquidity,
        tick_spacing=60,
        ticks={78000: liquidity, 84000: -liquidity},
        fee_pips=500,
    )
    curve = CurveStablePool((5 * 10**24, 5 * 10**12), rates=(10**18, 10**30), amp=200_000, fee=10**6)
    pools = (
        pair_spec(f"0x{11:040x}", WETH, USDC, 2_000 * 10**18, 6_400_000 * 10**6),
        pair_spec(f"0x{12:040x}", WETH, DAI, 500 * 10**18, 1_575_000 * 10**18),
        PoolSpec(f"0x{13:040x}", (WETH, DAI), v3, "uniswap_v3"),
        PoolSpec(f"0x{14:040x}", (DAI, USDC), curve, "curve"),
    )
    native = WETH
market = Market.build(tokens, pools, base_tokens=[native], wrapped_native=native)
console.print(f"{market.n_pools:,} pools, {market.n_tokens:,} tokens, {market.n_cycles:,} cycles")

# %% Scan: every cycle screened in floats, what gains settled exactly in integers
gas = GasModel(priority_fee=0)
scanner = Scanner(market, chain_id=1, gas=gas, min_profit=0)
block = BlockRef(0, "", "", 0, base_fee=20 * 10**9)  # gas at 20 gwei
result = scanner.scan_all(block, unprofitable=100)
found = result.opportunities or result.unprofitable
console.print(report.table("The best", found[:5], market))
if not found:
    sys.exit("nothing gains in this snapshot, even before gas: give another")
best = found[0]

# %% Profit against input for the best path: exact at every point


def output(amount: int) -> int:
    """What the best path's pools pay for `amount` of its first token, one after the other."""
    for address, token_in, token_out in zip(best.pools, best.tokens, best.tokens[1:], strict=False):
        state, sides = market.state(address), market.pools[market.pool_index[address]].tokens
        family = registry.family_of(state)
        amount = family.exact_in(state, sides.index(token_in), sides.index(token_out), amount)
    return amount


base = market.tokens[market.token_index[best.tokens[0]]]
inputs = [max(best.amount_in * k // 10, 1) for k in range(1, 21)]
profits = [output(amount) - amount for amount in inputs]
table = Table(title=f"Profit against input: {' > '.join(best.symbols)}", title_justify="left")
table.add_column(f"input, {base.symbol}", justify="right")
table.add_column("profit before gas", justify="right")
table.add_column("")
for amount, profit in zip(inputs, profits, strict=True):
    bar = "█" * round(40 * max(profit, 0) / max(best.gross_profit, 1))
    table.add_row(report.quantity(amount, base.decimals), report.quantity(profit, base.decimals), bar)
console.print(table)

# %% The same as a plot, where matplotlib is installed (the engine does not need it)
if importlib.util.find_spec("matplotlib"):
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    unit = 10.0**base.decimals
    plt.plot([x / unit for x in inputs], [y / unit for y in profits])
    plt.axvline(best.amount_in / unit, linestyle=":")
    plt.xlabel(f"input, {base.symbol}")
    plt.ylabel(f"profit before gas, {base.symbol}")
    plt.savefig("profit.png")

# %% A quote: what the first pool of the path pays, and how far that is below its marginal price
first = market.pools[market.pool_index[best.pools[0]]]
answer = quote(first, best.tokens[0], best.tokens[1], best.amount_in)
console.print(
    f"{answer.family} pool {answer.pool}: {answer.amount_in} in, {answer.amount_out} out (raw units), "
    f"price impact {answer.price_impact:.3%}"
)

# %% A pool by hand: the index of cycles grows by those through it, and only they are scanned
before = market.n_cycles
new = pair_spec(f"0x{0xADD:040x}", *best.tokens[:2], *(10 * r for r in (best.amounts[0], best.amounts[1])))
touched = market.apply(BlockDelta(block, new_pools=(new,)))
again = scanner.scan(block, touched, unprofitable=100)
console.print(
    f"{market.n_cycles - before} new cycles, {again.cycles_screened} screened, "
    f"{len(again.opportunities)} pay for their gas"
)
