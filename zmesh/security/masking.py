"""A base for objects that hold secrets: they are not shown, pickled, or deep-copied by accident.

Classes with something to tell have a ``repr`` of their own without the secrets; a test walks every one of them.
"""

from __future__ import annotations

from typing import NoReturn

__all__ = ["HoldsSecrets"]


class HoldsSecrets:
    """Shows its type only, and refuses to be pickled."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} holds secrets and cannot be pickled")
