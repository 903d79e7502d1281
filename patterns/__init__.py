"""Socket-pattern helpers on ZeroMQ that need no mesh. Empty in this version: the helpers come with a later one.

The directory is ``patterns/`` at the top of the repository and imports as ``zmesh.patterns`` alone: a user's own
``patterns`` module must never be shadowed by ours.
"""

__all__: list[str] = []

if not __name__.startswith("zmesh."):
    raise ImportError("import zmesh.patterns instead: this directory is a part of zmesh, not a package by itself")
