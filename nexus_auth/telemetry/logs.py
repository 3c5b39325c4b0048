"""Logs as one JSON object a line on standard error: what a cluster's collector reads without a parser of our own.

Nothing out of an event's payload is ever logged; ids and types are, where asked for.
"""

import json
import logging
import sys
import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonLines(logging.Formatter):
    """`time`, `level`, `logger`, `message`, then whatever was passed in `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line; an exception becomes its type and where it was raised."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = type(record.exc_info[1]).__name__
            # Frames only: a text may quote what could not be read, and that may be out of an event.
            line["traceback"] = "".join(traceback.format_tb(record.exc_info[2]))
        return json.dumps(line, default=str, ensure_ascii=False)


LIMIT_LINES = 10
LIMIT_SECONDS = 60.0
"""Of warnings and errors with one text, so many are written within so many seconds."""
REMEMBERED_TEXTS = 1_000
APART = ("sync", "task")
"""Values of `extra` that make two lines of one text different ones."""

_Key = tuple[object, ...]


@dataclass
class _Window:
    first: logging.LogRecord
    ends: float
    written: int = 0
    left_out: int = 0


class RepeatLimit(logging.Filter):
    """Leaves out warnings and errors that repeat, and says how many: an outage or a stranger must not fill a disk.

    Two lines are the same where logger, level, text before its arguments and the values of `APART` are. When a window
    ends in which lines were left out, one line tells their number, as `left_out`.
    """

    def __init__(
        self,
        *,
        lines: int = LIMIT_LINES,
        seconds: float = LIMIT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """At most `lines` of one text within `seconds`."""
        super().__init__()
        self._lines = lines
        self._seconds = seconds
        self._clock = clock
        self._windows: OrderedDict[_Key, _Window] = OrderedDict()
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is written."""
        if record.levelno < logging.WARNING or hasattr(record, "left_out"):
            return True
        key: _Key = (record.name, record.levelno, record.msg, *(getattr(record, name, None) for name in APART))
        now = self._clock()
        with self._lock:
            window = self._windows.get(key)
            if window is None or now >= window.ends:
                ended = self._windows.pop(key, None)
                window = self._windows[key] = _Window(record, now + self._seconds)
                if len(self._windows) > REMEMBERED_TEXTS:
                    self._windows.popitem(last=False)
            else:
                ended = None
            if window.written < self._lines:
                window.written += 1
                written = True
            else:
                window.left_out += 1
                written = False
                if window.left_out == 1:
                    self._tell_later(key, window, after=window.ends - now)
        if ended is not None:
            self._tell(ended)
        return written

    def _tell_later(self, key: _Key, window: _Window, *, after: float) -> None:
        def tell() -> None:
            with self._lock:
                if self._windows.get(key) is window:
                    del self._windows[key]
            self._tell(window)

        timer = threading.Timer(after, tell)
        timer.daemon = True
        timer.start()

    def _tell(self, window: _Window) -> None:
        left_out, window.left_out = window.left_out, 0
        if left_out:
            first = window.first
            apart = {name: getattr(first, name) for name in APART if hasattr(first, name)}
            extra = {**apart, "left_out": left_out, "seconds": round(self._seconds)}
            logging.getLogger(first.name).log(first.levelno, first.msg, *(first.args or ()), extra=extra)


class OnChange:
    """Says a trouble once, again when it becomes another one, and once that it is over."""

    def __init__(self, logger: logging.Logger, *, over: str) -> None:
        """`over` is logged when the trouble has ended."""
        self._logger = logger
        self._over = over
        self._said: object = None

    def trouble(self, text: str, *, kind: str | None = None, **extra: object) -> bool:
        """There is this trouble now. Logged as an error, and True, unless it is the last one that was logged.

        Two troubles are the same where their `kind` is; without one, where text and `extra` are.
        """
        trouble = (text, extra) if kind is None else kind
        if trouble == self._said:
            return False
        self._said = trouble
        self._logger.error(text, extra=extra)
        return True

    def fine(self) -> None:
        """There is none."""
        if self._said is not None:
            self._said = None
            self._logger.info(self._over)


def configure(*, level: str = "INFO") -> None:
    """Sends every logger's lines, from `level` on, to standard error; repeated warnings and errors are limited."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    handler.addFilter(RepeatLimit())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # Its warnings are tracebacks of a database that is away; whoever uses the pool says so in one line.
    logging.getLogger("asyncpg.pool").setLevel(logging.ERROR)
