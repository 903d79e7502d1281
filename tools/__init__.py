"""The programs ``zmesh-node`` and ``zmesh``, written against the public API alone.

The directory is ``tools/`` at the top of the repository and imports as ``zmesh.tools`` alone: a user's own ``tools``
module must never be shadowed by ours.
"""

__all__: list[str] = []

if not __name__.startswith("zmesh."):
    raise ImportError("import zmesh.tools instead: this directory is a part of zmesh, not a package by itself")
