"""Every random stream of a simulation, derived from its one seed by name.

A stream of its own for each purpose keeps them apart: a node that draws one number more does not move the network's
delays. Derivation is by BLAKE2b and not by ``hash``, whose values for strings differ from process to process.
"""

from __future__ import annotations

import hashlib
import random

__all__ = ["derive_seed", "stream"]

SEED_BYTES = 8


def derive_seed(seed: int, *names: str | int) -> int:
    """A 64-bit seed for the purpose that ``names`` name; the same in every process and on every machine."""
    text = "\0".join([str(seed), *(f"{type(name).__name__}:{name}" for name in names)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=SEED_BYTES).digest(), "big")


def stream(seed: int, *names: str | int) -> random.Random:
    """The random stream for the purpose that ``names`` name."""
    return random.Random(derive_seed(seed, *names))
