"""What is said on an introduction port, and what the dialling machine asks its driver to do."""

from __future__ import annotations

from dataclasses import dataclass

from zmesh.core.membership.member import Contact

__all__ = [
    "CloseDial",
    "DialEffect",
    "DialFailed",
    "DialSucceeded",
    "Enrol",
    "Enrolled",
    "Hello",
    "IntroductionMessage",
    "OpenDial",
    "Rejection",
    "SeedUnanswered",
    "Welcome",
]


@dataclass(frozen=True, slots=True)
class Hello:
    """I am this node, and here is the proof."""

    versions: tuple[int, ...]  # of the control protocol, that the dialler speaks
    mesh_id: str
    certificate: bytes
    contact: Contact


@dataclass(frozen=True, slots=True)
class Welcome:
    """So am I."""

    version: int  # the one to speak
    certificate: bytes
    contact: Contact


@dataclass(frozen=True, slots=True)
class Rejection:
    """No. ``code`` is a fixed word, ``detail`` a sentence for people."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Enrol:
    """I hold an invitation; make me a member. Keys are Z85."""

    invitation_id: bytes
    name: str
    curve_public: bytes
    signing_public: bytes
    proof: bytes


@dataclass(frozen=True, slots=True)
class Enrolled:
    """You are a member; what you need is sealed to your key."""

    sealed: bytes


IntroductionMessage = Hello | Welcome | Rejection | Enrol | Enrolled


# -- effects of the dialling machine, to be carried out in this order ------------------------------------------------


@dataclass(frozen=True, slots=True)
class OpenDial:
    """Open a connection to this introduction port and say hello."""

    dial: int
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class CloseDial:
    """Close it."""

    dial: int


@dataclass(frozen=True, slots=True)
class DialSucceeded:
    """This node was met at ``host``; whoever asked for it must be told first, then the membership."""

    contact: Contact
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class DialFailed:
    """The node was not met at any of its addresses."""

    node_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class SeedUnanswered:
    """Nobody of the mesh answered at an address given by a person. It will be tried again."""

    host: str
    port: int
    reason: str


DialEffect = OpenDial | CloseDial | DialSucceeded | DialFailed | SeedUnanswered
