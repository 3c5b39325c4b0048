"""Where lines go: one writer thread, so that a terminal that stands still (Ctrl-S, a text selection) holds up nobody.

A part whose pipe nobody empties would stop in the middle of an event. Colours on a terminal only, and below the lines a
panel that is drawn again and again; everything else gets plain lines.
"""

import os
import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol, TextIO

Piece = tuple[str, str]
"""Text and its style, as rich names them; the style is left out where there is no terminal."""

WAITING_LINES = 10_000
PLAIN = "NEXUS_AUTH_PLAIN"
"""Set to 1: lines only, whatever the terminal could show."""


_DRAW: tuple[Piece, ...] = (("", "draw"),)
"""In the queue, by its identity: the panel has changed."""


class Screen(Protocol):
    """What the writer thread draws on."""

    has_panel: bool

    def line(self, pieces: tuple[Piece, ...]) -> None:
        """Adds a line."""

    def panel(self, lines: Sequence[tuple[Piece, ...]]) -> None:
        """Draws the panel anew."""

    def close(self) -> None:
        """Takes the panel away."""


class Output:
    """Prints lines in the order in which they come."""

    def __init__(self, stream: TextIO, *, on_closed: Callable[[], None]) -> None:
        """`on_closed` is called, from another thread, when nobody reads the stream any more."""
        self._on_closed = on_closed
        plain = not stream.isatty() or os.environ.get("TERM") == "dumb"
        self._screen: Screen = _Plain(stream) if plain else _Terminal(stream)
        self.has_panel = self._screen.has_panel and os.environ.get(PLAIN) != "1"
        self._lines: queue.Queue[tuple[Piece, ...] | None] = queue.Queue(WAITING_LINES)
        self._panel: Sequence[tuple[Piece, ...]] = ()
        self._dropped = 0
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def line(self, *pieces: str | Piece) -> None:
        """Prints one line. Where thousands wait already it is dropped, and the number of those is told later."""
        try:
            self._lines.put_nowait(tuple((piece, "") if isinstance(piece, str) else piece for piece in pieces))
        except queue.Full:
            self._dropped += 1

    def panel(self, lines: Sequence[tuple[Piece, ...]]) -> None:
        """Shows these lines below all others, in the place of those of before; only the newest is ever drawn."""
        if self.has_panel:
            self._panel = tuple(lines)
            with suppress(queue.Full):  # who is that far behind draws it with a later one
                self._lines.put_nowait(_DRAW)

    def close(self, *, timeout: float = 2.0) -> None:
        """Writes what waits, for so many seconds at most."""
        try:
            self._lines.put(None, timeout=timeout)
        except queue.Full:
            return
        self._thread.join(timeout)

    def _work(self) -> None:
        drawn: Sequence[tuple[Piece, ...]] = ()
        try:
            while (pieces := self._lines.get()) is not None:
                if pieces is not _DRAW:
                    self._screen.line(pieces)
                elif drawn is not self._panel:
                    drawn = self._panel
                    self._screen.panel(drawn)
                if self._dropped and self._lines.empty():
                    dropped, self._dropped = self._dropped, 0
                    self._screen.line(((f"({dropped} lines were left out: this terminal stood still)", "dim"),))
            self._screen.close()
        except OSError:  # a closed pipe, a terminal that is gone
            self._on_closed()


def clean(text: str, *, width: int = 500) -> str:
    """A line of other people's text without what would steer a terminal, `width` characters at most."""
    text = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text[: width + 1])
    return text if len(text) <= width else text[:width] + "…"


class _Plain:
    has_panel = False

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def line(self, pieces: tuple[Piece, ...]) -> None:
        self._stream.write("".join(text for text, _ in pieces).rstrip() + "\n")
        self._stream.flush()

    def panel(self, lines: Sequence[tuple[Piece, ...]]) -> None:
        """Lines only."""

    def close(self) -> None:
        """Nothing to take away."""


class _Terminal:
    has_panel = True

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console(file=stream, highlight=False, soft_wrap=True)
        self._live = Live(
            console=self._console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
        )

    def line(self, pieces: tuple[Piece, ...]) -> None:
        from rich.text import Text

        self._console.print(Text.assemble(*pieces))

    def panel(self, lines: Sequence[tuple[Piece, ...]]) -> None:
        from rich.text import Text

        if not self._live.is_started:
            self._live.start()
            self._console.show_cursor(True)  # who is killed cannot bring it back
        width = max(20, self._console.width - 1)
        texts = [Text.assemble(*pieces, no_wrap=True, overflow="ellipsis") for pieces in lines]
        for text in texts:
            text.truncate(width, overflow="ellipsis")
        self._live.update(Text("\n").join(texts), refresh=True)

    def close(self) -> None:
        self._live.stop()
