"""A fingerprint of all that happened in a simulation: equal fingerprints, equal runs.

Each event adds its time and its number in the order of scheduling. What a message says shows in what it causes, and so
in later events; a *full* trace adds the text of every message as well, for the proof that replay is exact.
"""

from __future__ import annotations

import hashlib
from array import array

__all__ = ["Trace"]

DIGEST_BYTES = 16


class Trace:
    """Append numbers to ``numbers`` (fast), call ``flush`` now and then; ``digest`` whenever it is wanted."""

    def __init__(self) -> None:
        self.numbers = array("d")
        self._hash = hashlib.blake2b(digest_size=DIGEST_BYTES)

    def add_text(self, text: str) -> None:
        """Fold in a text, after all numbers appended so far."""
        self.flush()
        data = text.encode(errors="backslashreplace")
        self._hash.update(len(data).to_bytes(4, "big") + data)

    def flush(self) -> None:
        """Fold in the numbers; what they occupied is free again."""
        self._hash.update(self.numbers.tobytes())
        del self.numbers[:]

    def digest(self) -> str:
        """The fingerprint of everything so far, in hex."""
        self.flush()
        return self._hash.copy().hexdigest()
