"""Drivers of the protocol cores: the ZeroMQ sockets, the control thread, the event loop, the clocks."""

__all__: list[str] = []
