"""Which session a frame belongs to, when either side may have begun anew without the other's knowing.

The two directions of a link are sessions of their own. Each side numbers its sending sessions upwards (from its clock,
so that a new process is above its predecessors). A frame names its sender's, to which its records belong, and, as far
as the sender knows it, the receiver's, of which its acknowledgement speaks (docs/spec/03-data-plane.md, section 3). A
side that gives a silent peer up begins a new sending session, and keeps what it knows of the peer's: so records of the
new one are never taken for duplicates of the old, and nothing is delivered twice.
"""

from __future__ import annotations

import enum

__all__ = ["Belonging", "belonging_of"]


class Belonging(enum.Enum):
    """What a frame's records are to this side."""

    CURRENT = "current"
    FIRST = "first"  # of a session that the peer has just begun; the one before, if there was one, is over
    NEWBORN = "newborn"  # as FIRST, of a process that knows nothing of ours, unlike its predecessor: begin anew as well
    STALE = "stale"  # of one that is over: drop it
    FORGOTTEN = "forgotten"  # of one whose earlier records went to a process of ours that is no more: say RESET


def belonging_of(own: int, remote: int, sender: int, receiver: int, *, is_over: bool = False) -> Belonging:
    """``own`` is our sending session, ``remote`` the peer's (0 before its first); the next two are the frame's.

    ``is_over``: the process that ``remote`` was of is known to be no more, and ``own`` was begun for another.
    """
    if sender < remote:
        return Belonging.STALE
    if not remote and receiver not in (0, own):
        return Belonging.FORGOTTEN
    if sender == remote:
        return Belonging.CURRENT
    # What we have sent in ``own`` went to a predecessor: what we said in it now, its successor would refuse.
    return Belonging.NEWBORN if remote and not is_over and not receiver else Belonging.FIRST
