"""Logs as one JSON object a line on standard error: what a cluster's collector reads without a parser of our own.

Nothing out of an event's payload is ever logged; ids and types are, where asked for.
"""

import json
import logging
import sys
import traceback
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


def configure(*, level: str = "INFO") -> None:
    """Sends every logger's lines, from `level` on, to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)
