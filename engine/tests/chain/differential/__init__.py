"""Our exact pool maths against the real contracts on a local chain: equal to the wei, reverts included.

Which npm package holds which contract is said in each test file. No registry package was found that ships
code of these, so they are held against recorded on-chain answers only (engine/tests/vectors): Curve's
later pools, metapools and tricrypto; Velodrome's, Aerodrome's and Camelot's pairs (there is Solidity of
Aerodrome's, but no code); Balancer's V3 vault; Aerodrome's Slipstream.
"""
