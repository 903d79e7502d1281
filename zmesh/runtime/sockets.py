"""What ZeroMQ does not offer: cutting off one connection of a bound socket."""

from __future__ import annotations

import os
import socket

import zmq

__all__ = ["cut_connection"]


def cut_connection(frame: zmq.Frame) -> bool:
    """Shut down the TCP connection a received frame came over; whether that was possible.

    The descriptor is duplicated and its peer compared with the frame's ``Peer-Address`` first, because ZeroMQ may have
    closed the connection already and the number may be another's by now.
    """
    try:
        descriptor = frame.get(zmq.SRCFD)
        duplicate = os.dup(int(descriptor))
    except (OSError, zmq.ZMQError, TypeError, ValueError):
        return False
    with socket.socket(fileno=duplicate) as connection:
        try:
            peer = connection.getpeername()[0]
            if peer.removeprefix("::ffff:") != str(frame.get("Peer-Address")).removeprefix("::ffff:"):
                return False
            connection.shutdown(socket.SHUT_RDWR)
        except (OSError, zmq.ZMQError):
            return False
    return True
