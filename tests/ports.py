"""Ports of loopback that stay a test's own from the moment it knows their number.

A port that is only picked may be given to another process, or to any connection of one, before the server that is told its
number listens there.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def held_port(number: int = 0) -> Iterator[int]:
    """A port that Linux gives to nobody who asks for any: it is bound, and nobody listens. A server that asks for this one gets
    it, as it has SO_REUSEADDR too. ``number``: the port; 0: a free one.
    """
    with socket.socket() as door:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.bind(("127.0.0.1", number))
        yield door.getsockname()[1]
