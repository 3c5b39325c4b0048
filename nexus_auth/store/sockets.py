"""Notices a connection whose other end is gone without a word, as behind a proxy or a NAT that drops idle ones."""

import socket
from typing import Any

IDLE_SECONDS = 30
PROBE_SECONDS = 5
PROBES = 3
"""A connection that is idle and dead is noticed after 45 s."""
UNACKNOWLEDGED_SECONDS = 15
"""What was sent and not acknowledged for so long ends the connection; by default Linux tries for 15 minutes."""


def watch(connection: Any) -> None:
    """Sets TCP keepalive and the user timeout on the socket of an asyncpg connection; does nothing to Unix sockets."""
    transport = getattr(connection, "_transport", None)
    opened = transport.get_extra_info("socket") if transport is not None else None
    if opened is None or opened.family not in (socket.AF_INET, socket.AF_INET6):
        return
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", IDLE_SECONDS),
        ("TCP_KEEPINTVL", PROBE_SECONDS),
        ("TCP_KEEPCNT", PROBES),
        ("TCP_USER_TIMEOUT", UNACKNOWLEDGED_SECONDS * 1000),
    ):
        if hasattr(socket, name):  # not every system has all of them
            opened.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
