"""Ways to nodes: the host and port at which a node can be written to, found by its statement or by an introduction.

A statement gives everything (hosts, port, and the key in its certificate), but not which of several hosts answers, and
the node lets us in only if it knows us, which members of one view do. So a member with one address is written to
there; to all others we introduce ourselves first, which dials all addresses at once. What is to be sent waits.

In a mesh of up to ``near_size`` members every member is looked for at once, so that no message waits for its way. In a
larger one that would be n introductions a node: there a way is looked for when somebody has something to send.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from zmesh.core.membership.member import Contact
from zmesh.runtime.admission import AllowList
from zmesh.runtime.control_links import Links
from zmesh.runtime.control_resolver import is_literal
from zmesh.runtime.peer import Route

__all__ = ["Ways"]

IDLE_S: Final = 30.0  # a connection over which nothing was sent for so long is closed: neighbours send each second
MAX_WAITING: Final = 64  # frames for one node
MAX_WAITERS: Final = 256  # nodes that frames wait for


@dataclass(frozen=True, slots=True)
class _Meeting:
    contact: Contact
    since: float


class Ways:
    """Sends frames, finding the way first. Used on the control thread alone."""

    def __init__(self, links: Links, allowed: AllowList, clock: Callable[[], float], patience_s: float) -> None:
        """``patience_s``: no node is introduced to more often, unless it has moved."""
        self._links = links
        self._allowed = allowed
        self._clock = clock
        self._patience_s = patience_s
        self._found: dict[str, Contact] = {}  # for which statement of a node the way was found
        self._met: set[str] = set()  # those that know us from an introduction
        self._meetings: dict[str, _Meeting] = {}  # the last introduction to each that was asked for
        self._waiting: dict[str, dict[str, bytes]] = {}
        self._sent_at: dict[str, float] = {}
        self._rivals: set[str] = set()  # what ways are known by that are no member's, though they go by its name
        self.meet: Callable[[Contact], None] = lambda contact: None
        self.incarnation_of: Callable[[str], int | None] = lambda node_id: None  # of the member of that name

    def name_of(self, contact: Contact) -> str:
        """What the way to a node is known by: its name, which the member has where another start of it is a member.

        Else whoever comes with a copy of a member's keys would be asked, in its place, whether it lives.
        """
        incarnation = self.incarnation_of(contact.node_id)
        if incarnation is None or incarnation == contact.incarnation:
            return contact.node_id
        return f"{contact.node_id}#{contact.incarnation}"

    def send(self, to: Contact, key: str, frame: bytes, *, is_member: bool) -> None:
        """Send, or let it wait for the way; a later frame of that key takes the place of one that waits."""
        self.look(to, is_member=is_member)
        node_id = self.name_of(to)
        is_member = is_member and node_id == to.node_id
        if self._links.route_of(node_id) is not None and (is_member or node_id in self._met):
            self._sent_at[node_id] = self._clock()
            self._links.send(node_id, key, frame)
        elif node_id in self._waiting or len(self._waiting) < MAX_WAITERS:
            waiting = self._waiting.setdefault(node_id, {})
            if key in waiting or len(waiting) < MAX_WAITING:
                waiting[key] = frame

    def look(self, to: Contact, *, is_member: bool) -> None:
        """Find the way to where this statement says that the node is, unless it is known, or being looked for."""
        node_id = self.name_of(to)
        found = self._found.get(node_id)
        if found is not None and (found == to or found.incarnation > to.incarnation):
            return
        admitted = self._allowed.by_name(node_id)  # nobody has the name of a rival
        if is_member and admitted is not None and _is_plain(to):
            self._take(to, Route(to.hosts[0], to.introduction_port + 1, admitted.curve_public))
        else:
            self._meet(to)

    def note(self, to: Contact) -> None:
        """A member states this: take a way that costs nothing, and look for one only to a node that had one."""
        if _is_plain(to) or self._links.route_of(to.node_id) is not None:
            self.look(to, is_member=True)

    def met(self, contact: Contact, route: Route) -> None:
        """The node was introduced to, there."""
        self._met.add(self.name_of(contact))
        self._take(contact, route)

    def doubt(self, contact: Contact) -> None:
        """Its connection broke or did not come up: look for another way, if we had one; that one is used meanwhile."""
        self._found.pop(contact.node_id, None)
        if self._links.route_of(contact.node_id) is not None:
            self._meet(contact)

    def lost(self, node_id: str) -> None:
        """The node is gone; should it be written to again, it must be met again."""
        self.settled(node_id)
        self._links.close(node_id)
        self._met.discard(node_id)
        for known in (self._found, self._sent_at, self._waiting):
            known.pop(node_id, None)

    def forget(self, node_id: str) -> None:
        """Keep nothing of it."""
        self.lost(node_id)
        self._links.forget(node_id)
        self._meetings.pop(node_id, None)

    def settled(self, node_id: str) -> None:
        """Who has that name is decided: by their names of before, others are written to no more."""
        for name in [name for name in self._rivals if name.rpartition("#")[0] == node_id]:
            self._rivals.discard(name)
            self.forget(name)

    def review(self) -> None:
        """Close connections that are not used."""
        before = self._clock() - IDLE_S
        for node_id in [node_id for node_id, at in self._sent_at.items() if at < before]:
            del self._sent_at[node_id]
            self._links.close(node_id)

    def failed(self, node_id: str) -> None:
        """It could not be met: what waits for it is of no use later."""
        for name in [name for name in self._waiting if name == node_id or name.rpartition("#")[0] == node_id]:
            del self._waiting[name]

    def _meet(self, contact: Contact) -> None:
        node_id = self.name_of(contact)
        self._note_rival(contact, node_id)
        last, now = self._meetings.get(node_id), self._clock()
        if last is not None and last.contact == contact and now - last.since < self._patience_s:
            return
        self._meetings[node_id] = _Meeting(contact, now)
        self.meet(contact)

    def _take(self, contact: Contact, route: Route) -> None:
        node_id = self.name_of(contact)
        self._note_rival(contact, node_id)
        self._found[node_id] = contact
        if self._links.route_of(node_id) != route:
            self._links.set_route(node_id, route)
        for key, frame in self._waiting.pop(node_id, {}).items():
            self._sent_at[node_id] = self._clock()
            self._links.send(node_id, key, frame)

    def _note_rival(self, contact: Contact, name: str) -> None:
        if name != contact.node_id:
            self._rivals.add(name)


def _is_plain(contact: Contact) -> bool:
    """Whether the statement alone gives the way: one address, and no name that must be resolved."""
    return len(contact.hosts) == 1 and is_literal(contact.hosts[0])
