"""Descriptors of libzmq's: by the time they are looked at, the number may be another's."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from zmesh.runtime.monitor import peer_address
from zmesh.runtime.sockets import own_connection


def test_a_connection_is_duplicated_and_tells_its_peer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        connection = own_connection(client.fileno())
        assert connection is not None
        with connection:
            assert connection.fileno() != client.fileno()
            assert connection.getpeername() == server.getsockname()
        assert peer_address(client.fileno()) == "127.0.0.1"


@pytest.mark.parametrize("number", ["an eventfd's", "a directory's", "nobody's"])
def test_a_number_that_is_no_connection_any_more_leaves_nothing_open(number: str, tmp_path: Path) -> None:
    descriptor = os.eventfd(0) if number == "an eventfd's" else os.open(tmp_path, os.O_RDONLY)
    try:
        looked_at = 1 << 20 if number == "nobody's" else descriptor
        before = os.listdir("/proc/self/fd")
        assert own_connection(looked_at) is None
        assert peer_address(looked_at) == ""
        assert os.listdir("/proc/self/fd") == before
    finally:
        os.close(descriptor)
