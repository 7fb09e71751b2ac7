"""Our exact pool maths against the real contracts on a local chain: equal to the wei, reverts included.

Which npm package holds which contract is said in each test file. No registry package ships bytecode of
Curve's pools or of Velodrome's, Aerodrome's or Camelot's pairs, nor of Balancer's V3 vault: those
families are held against recorded on-chain answers only (engine/tests/unit).
"""
