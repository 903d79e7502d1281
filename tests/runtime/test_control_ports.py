"""Four consecutive ports, found or demanded, and what is said where they cannot be had."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import zmq

from tests.runtime.control_mesh import Mesh, Node
from zmesh.address import DEFAULT_PORT
from zmesh.errors import AddressInUse, ConfigurationError
from zmesh.runtime.ports import bind_port_block
from zmesh.security import Identity


@pytest.fixture
def identity(tmp_path: Path) -> Identity:
    return Mesh(tmp_path, "lab").identity("a")


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    with zmq.Context() as context:
        yield context


def test_the_first_free_block_is_found(context: zmq.Context[zmq.Socket[bytes]], identity: Identity) -> None:
    first = bind_port_block(context, identity, "127.0.0.1", None)
    second = bind_port_block(context, identity, "127.0.0.1", None)
    assert first.base_port >= DEFAULT_PORT
    assert (first.base_port - DEFAULT_PORT) % 10 == 0
    assert second.base_port > first.base_port
    for offset, bound in enumerate((first.introduction, first.control, first.data, first.publish)):
        assert bound.getsockopt(zmq.LAST_ENDPOINT) == f"tcp://127.0.0.1:{first.base_port + offset}".encode()
        assert bound.getsockopt(zmq.CURVE_SERVER) == 1
        assert bound.getsockopt(zmq.RCVHWM) == 0
    first.close()
    second.close()


def test_a_block_with_one_port_taken_is_passed_over(
    context: zmq.Context[zmq.Socket[bytes]], identity: Identity
) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        base = next(base for base in range(DEFAULT_PORT, DEFAULT_PORT + 1000, 10) if occupies(other, base + 2))
        found = bind_port_block(context, identity, "127.0.0.1", None)
        assert found.base_port != base
        found.close()


def occupies(other: socket.socket, port: int) -> bool:
    with suppress(OSError):  # another program has it, and so its block is passed over as well
        other.bind(("127.0.0.1", port))
        other.listen()
        return True
    return False


def test_the_options_given_are_set(context: zmq.Context[zmq.Socket[bytes]], identity: Identity) -> None:
    bound = bind_port_block(
        context, identity, "127.0.0.1", 0, data_options={zmq.MAXMSGSIZE: 12345}, publish_options={zmq.SNDHWM: 7}
    )
    assert bound.data.getsockopt(zmq.MAXMSGSIZE) == 12345
    assert bound.publish.getsockopt(zmq.SNDHWM) == 7
    bound.close()


def test_a_port_that_is_taken_is_named(identity: Identity, tmp_path: Path) -> None:
    with (
        Node(identity) as node,
        pytest.raises(AddressInUse, match=rf"port {node.port} of 127\.0\.0\.1 is in use.*listen on another port"),
    ):
        Node(Mesh(tmp_path / "second", "lab").identity("b"), port=node.port)


@pytest.mark.parametrize(
    ("host", "says"),
    [("203.0.113.9", "no such address"), ("nonsense", "no such address"), ("fd00::9", "no such address")],
)
def test_a_host_that_is_not_ours_is_named(
    context: zmq.Context[zmq.Socket[bytes]], identity: Identity, host: str, says: str
) -> None:
    with pytest.raises(ConfigurationError, match=says) as caught:
        bind_port_block(context, identity, host, 0)
    assert host in str(caught.value)
