"""Where lines go: one writer thread, so that a terminal that stands still (Ctrl-S, a text selection) holds up nobody.

A part whose pipe nobody empties would stop in the middle of an event. Colours on a terminal only; everything else gets
plain lines.
"""

import queue
import threading
from collections.abc import Callable
from typing import TextIO

Piece = tuple[str, str]
"""Text and its style, as rich names them; the style is left out where there is no terminal."""

WAITING_LINES = 10_000


class Output:
    """Prints lines in the order in which they come."""

    def __init__(self, stream: TextIO, *, on_closed: Callable[[], None]) -> None:
        """`on_closed` is called, from another thread, when nobody reads the stream any more."""
        self._on_closed = on_closed
        self._write = _terminal(stream) if stream.isatty() else _plain(stream)
        self._lines: queue.Queue[tuple[Piece, ...] | None] = queue.Queue(WAITING_LINES)
        self._dropped = 0
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def line(self, *pieces: str | Piece) -> None:
        """Prints one line. Where thousands wait already it is dropped, and the number of those is told later."""
        try:
            self._lines.put_nowait(tuple((piece, "") if isinstance(piece, str) else piece for piece in pieces))
        except queue.Full:
            self._dropped += 1

    def close(self, *, timeout: float = 2.0) -> None:
        """Writes what waits, for so many seconds at most."""
        try:
            self._lines.put(None, timeout=timeout)
        except queue.Full:
            return
        self._thread.join(timeout)

    def _work(self) -> None:
        while (pieces := self._lines.get()) is not None:
            try:
                self._write(pieces)
                if self._dropped and self._lines.empty():
                    dropped, self._dropped = self._dropped, 0
                    self._write(((f"({dropped} lines were left out: this terminal stood still)", "dim"),))
            except OSError:  # a closed pipe, a terminal that is gone
                self._on_closed()
                return


def clean(text: str, *, width: int = 500) -> str:
    """A line of other people's text without what would steer a terminal, `width` characters at most."""
    text = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text[: width + 1])
    return text if len(text) <= width else text[:width] + "…"


def _plain(stream: TextIO) -> Callable[[tuple[Piece, ...]], None]:
    def write(pieces: tuple[Piece, ...]) -> None:
        stream.write("".join(text for text, _ in pieces).rstrip() + "\n")
        stream.flush()

    return write


def _terminal(stream: TextIO) -> Callable[[tuple[Piece, ...]], None]:
    from rich.console import Console
    from rich.text import Text

    console = Console(file=stream, highlight=False, soft_wrap=True)
    return lambda pieces: console.print(Text.assemble(*pieces))
