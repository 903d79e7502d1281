"""Run as a process: waits for a line, then works on the ledger of HOME as fast as it can.

``redeem HOME JOIN_STRING NAME`` prints ``enrolled`` or the refusal; ``invite HOME COUNT`` prints the join strings;
``enrol HOME COUNT NAME`` invites and enrols COUNT machines and prints their serials.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from tests.security.makers import ADDRESSES, HOUR_MS, NOW
from zmesh.errors import InvitationError
from zmesh.security import Keystore, NodeKeys, make_request, open_answer, parse_join_string
from zmesh.security.certificate import decode_chain


def redeem(keystore: Keystore, join_string: str, name: str) -> None:
    request = make_request(parse_join_string(join_string), name, NodeKeys.generate())
    try:
        keystore.authority().enrol(request, NOW)
    except InvitationError as error:
        print(error)
    else:
        print("enrolled")


def invite(keystore: Keystore, count: str) -> None:
    for _ in range(int(count)):
        print(keystore.authority().create_invitation(NOW, HOUR_MS, ADDRESSES))


def enrol(keystore: Keystore, count: str, name: str) -> None:
    for _ in range(int(count)):
        invitation = parse_join_string(keystore.authority().create_invitation(NOW, HOUR_MS, ADDRESSES))
        keys = NodeKeys.generate()
        answer = keystore.authority().enrol(make_request(invitation, name, keys), NOW)
        enrolled = open_answer(invitation, keys, answer, NOW)
        print(enrolled.name, decode_chain(enrolled.certificate)[0].certificate.serial)


if __name__ == "__main__":
    action, home, *arguments = sys.argv[1:]
    print("ready", flush=True)
    sys.stdin.readline()
    actions: dict[str, Callable[..., None]] = {"redeem": redeem, "invite": invite, "enrol": enrol}
    actions[action](Keystore(Path(home), "lab"), *arguments)
