"""A node that runs for longer than its certificate is good: real key directories, a clock that the test sets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.security.makers import DAY_MS, HOUR_MS, NOW, YEAR_MS, founded, joined, verifier_of
from zmesh.renewal import WARNINGS_MS, Renewal
from zmesh.runtime.control import IncidentNotice
from zmesh.security import Claim, Keystore


class Running:
    """A node of a key directory, as far as renewal is concerned."""

    def __init__(self, keystore: Keystore, node_id: str | None = None, *, client: bool = False) -> None:
        self.now = NOW
        self.claim: Claim = keystore.claim(node_id, client=client, now_ms=NOW)
        self.shown: list[bytes] = []  # the certificates that the mesh was told of
        self.incidents: list[IncidentNotice] = []
        self._renewal = Renewal(
            keystore,
            self.claim,
            client=client,
            renewed=lambda: self.shown.append(self.claim.identity.certificate),
            report=self.incidents.append,
            clock=lambda: self.now,
        )

    def review(self, since_start_ms: int) -> None:
        self.now = NOW + since_start_ms
        asyncio.run(self._renewal.review())

    @property
    def good_until(self) -> int:
        """When the certificate ends, in milliseconds since the start; checked as another node would."""
        identity = self.claim.identity
        verified = verifier_of(identity).verify(identity.certificate, self.now, identity.curve_public)
        assert verified.name == identity.node_id
        return verified.not_after_ms - NOW


@pytest.fixture
def founder(tmp_path: Path) -> Keystore:
    return founded(tmp_path / "founder")


@pytest.fixture
def laptop(founder: Keystore, tmp_path: Path) -> Keystore:
    return joined(founder, tmp_path / "joiner")


@pytest.fixture
def start() -> Iterator[Callable[..., Running]]:
    """Starts nodes, which give their names up at the end of the test."""
    started: list[Running] = []

    def make(keystore: Keystore, node_id: str | None = None, *, client: bool = False) -> Running:
        started.append(Running(keystore, node_id, client=client))
        return started[-1]

    yield make
    for node in started:
        node.claim.release()


def test_the_founder_renews_in_the_second_half_of_the_life_and_keeps_its_keys(
    start: Callable[..., Running], founder: Keystore
) -> None:
    node = start(founder)
    before = node.claim.identity
    node.review(100 * DAY_MS)
    assert (node.good_until, node.shown) == (YEAR_MS, [])
    node.review(200 * DAY_MS)
    assert node.good_until == 200 * DAY_MS + YEAR_MS
    assert node.shown == [node.claim.identity.certificate]
    assert (node.claim.identity.curve_public, node.claim.identity.node_id) == (before.curve_public, before.node_id)
    node.review(201 * DAY_MS)
    assert len(node.shown) == 1
    node.review(900 * DAY_MS)  # it was suspended: late, but it comes back
    assert node.good_until == 900 * DAY_MS + YEAR_MS
    assert node.incidents == []


@pytest.mark.parametrize(("node_id", "client", "life_ms"), [("laptop/2", False, 30 * DAY_MS), (None, True, 2 * DAY_MS)])
def test_an_enrolled_machine_renews_the_names_under_its_own(
    start: Callable[..., Running], laptop: Keystore, node_id: str | None, client: bool, life_ms: int
) -> None:
    node = start(laptop, node_id, client=client)
    for since_start_ms in range(0, 300 * DAY_MS, life_ms // 4):
        node.review(since_start_ms)
        assert node.good_until >= since_start_ms + life_ms // 2
    assert node.incidents == []
    for since_start_ms in range(300 * DAY_MS, YEAR_MS, life_ms // 4):
        node.review(since_start_ms)
        assert node.good_until <= YEAR_MS  # the authority has vouched for no more
    assert {incident.kind for incident in node.incidents} == {"certificate_expires"}


def test_what_only_the_authority_can_renew_is_foretold_in_stages(
    start: Callable[..., Running], laptop: Keystore
) -> None:
    node = start(laptop)
    told = []
    for left_ms in (40 * DAY_MS, 30 * DAY_MS, 29 * DAY_MS, 7 * DAY_MS, 6 * DAY_MS, DAY_MS, HOUR_MS, -HOUR_MS, -DAY_MS):
        node.review(YEAR_MS - left_ms)
        told.append(len(node.incidents))
    assert told == [0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert len(WARNINGS_MS) == 4
    assert {(incident.kind, incident.source) for incident in node.incidents} == {("certificate_expires", "laptop")}
    assert "ends in 30 days" in node.incidents[0].reason
    assert "has ended" in node.incidents[-1].reason
    for incident in node.incidents:
        assert "`zmesh invite` on the machine that founded" in incident.reason
        assert "\n" not in incident.reason


@pytest.mark.parametrize("node_id", ["laptop", "laptop/2"])
def test_a_running_node_takes_up_what_a_new_enrolment_brought(
    start: Callable[..., Running], founder: Keystore, laptop: Keystore, tmp_path: Path, node_id: str
) -> None:
    node = start(laptop, node_id)
    node.review(340 * DAY_MS)
    assert len(node.incidents) == 1
    joined(founder, tmp_path / "joiner", "laptop", NOW + 340 * DAY_MS)
    node.review(340 * DAY_MS + HOUR_MS)
    assert node.claim.identity.vouched_until_ms == NOW + 340 * DAY_MS + YEAR_MS
    assert node.shown[-1] == node.claim.identity.certificate
    node.review(YEAR_MS + DAY_MS)
    assert node.good_until > YEAR_MS + DAY_MS
    assert len(node.incidents) == 1


def test_a_renewal_that_fails_is_told_once_and_tried_again(
    start: Callable[..., Running], founder: Keystore, tmp_path: Path
) -> None:
    node = start(founder)
    key = tmp_path / "founder/lab/authority/key.msgpack"
    key.chmod(0o644)
    for day in (200, 201):
        node.review(day * DAY_MS)
    (incident,) = node.incidents
    assert incident.kind == "renewal_failed"
    assert str(key) in incident.reason
    node.review(340 * DAY_MS)
    assert "renewing it has failed, as was told" in node.incidents[-1].reason
    key.chmod(0o600)
    node.review(341 * DAY_MS)
    assert node.good_until == 341 * DAY_MS + YEAR_MS
