"""What a cluster's Ingress would be: one fixed address on this machine that leads to whichever webhook pod is ready."""

import itertools
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from socketserver import BaseRequestHandler, ThreadingTCPServer

PIECE = 65_536


class Front(ThreadingTCPServer):
    """Each connection goes to one pod; without a ready one it is closed at once, and the sender comes again."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int, *, ready: Callable[[], Sequence[tuple[str, int]]]) -> None:
        """`ready` answers the addresses to choose from, in turn."""
        super().__init__(("127.0.0.1", port), _Connection)
        self.ready = ready
        self.turn = itertools.count()


class _Connection(BaseRequestHandler):
    server: Front

    def handle(self) -> None:
        """Until one of the two sides ends."""
        choices = self.server.ready()
        if not choices:
            return
        with suppress(OSError), socket.create_connection(choices[next(self.server.turn) % len(choices)], 5) as pod:
            pod.settimeout(None)
            back = threading.Thread(target=_pump, args=(pod, self.request), daemon=True)
            back.start()
            _pump(self.request, pod)
            back.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(PIECE):
            target.sendall(piece)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
