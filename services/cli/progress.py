"""Progress of a long command: a bar on a terminal, a line every few seconds elsewhere; always on standard error."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from services.cli.output import tell

LINE_SECONDS = 5.0


class Advance(Protocol):
    """Told of every step."""

    def __call__(self, done: int) -> None:
        """`done` more are done."""


@contextmanager
def progress(word: str, *, total: int) -> Iterator[Advance]:
    """Shows progress while it is open; `word` says what is being done."""
    if sys.stderr.isatty():
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(word, total=total)
            yield lambda done: bar.advance(task, done)
    else:
        yield _Lines(word, total=total)


class _Lines:
    def __init__(self, word: str, *, total: int) -> None:
        self._word, self._total, self._done = word, total, 0
        self._next = time.monotonic() + LINE_SECONDS

    def __call__(self, done: int) -> None:
        self._done += done
        if time.monotonic() >= self._next:
            tell(f"{self._word}: {self._done} of {self._total}")
            self._next = time.monotonic() + LINE_SECONDS
