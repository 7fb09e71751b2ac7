"""Array types by name, so that signatures say what an array holds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

IndexArray = NDArray[np.int32]  # (n,) token, pool, edge or loop numbers
LoopArray = NDArray[np.int32]  # (n, hops) edge numbers
OffsetArray = NDArray[np.int64]  # (n + 1,) CSR offsets: int64, as a big index outgrows int32
FloatArray = NDArray[np.float64]  # (n,)
FlagArray = NDArray[np.bool_]  # (n,)
WordArray = NDArray[np.uint64]  # (n,) limbs of wide integers, least first
