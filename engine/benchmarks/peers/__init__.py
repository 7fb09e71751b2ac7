"""The peers that our detection engine is measured against: degenbot 0.5.0 and 0.6.0a17, both MIT.

    python -m peers.generate --kind v2-v3 --count 100 > cycles.jsonl
    python -m peers.run 0.6.0a17 cycles.jsonl answers.jsonl     (both from engine/benchmarks)

Each peer runs in an environment of its own (`environments`), by a runner (`degenbot_05`, `degenbot_06`)
that reads cycles and writes answers as JSON, one object a line. `exact` evaluates a cycle with our
integers, so that a peer's amount is judged by what the pools really pay.

**A cycle**: `{"id": 7, "hops": [...]}`; numbers that may pass 2^53 are strings. Every hop has `family`,
`token_in` and `token_out` (addresses, 20 bytes in hex), `decimals_in`, `decimals_out`, `zero_for_one`, and

- `uniswap_v2`, `solidly_volatile`, `solidly_stable`: `reserve0`, `reserve1` (raw), `fee_num`, `fee_den`
  (the part of the input that counts, as 997 / 1000). Solidly pools are Velodrome V2's or Aerodrome's.
- `uniswap_v3`, `uniswap_v4`: `sqrt_price_x96`, `tick`, `liquidity`, `tick_spacing`, `fee_pips` (V4:
  `lp_fee`, without hooks and protocol fee), `ticks`: [tick, liquidity net, liquidity gross], all of them.
- `curve_stable`: a plain pool of two coins: `balances`, `amp` (A, not times a_precision), `fee` (1e-10).
- `balancer_weighted`: a pool of two tokens in vault 2: `balances`, `weights`, `swap_fee` (1e-18).

**An answer**: `{"id", "amount_in", "amount_out", "profit", "seconds"}`, amounts as strings, all "0" where the
peer finds no profit; or `{"id", "refused"}` with the reason why the peer can't take the cycle.
**A quote**: `{"id", "hop", "amount_in"}` gives `{"id", "amount_out", "seconds"}` or `{"id", "refused"}`.
"""
