"""Moments on the command line: ISO 8601, or how long ago (`2h`, `3d`). Everything is UTC unless it says otherwise."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import click

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def _now() -> datetime:
    return datetime.now(UTC)


class Moment(click.ParamType[datetime]):
    """An option's value as a moment with a time zone."""

    name = "time"

    def __init__(self, *, now: Callable[[], datetime] = _now) -> None:
        """`now` is what a relative moment counts from."""
        self._now = now

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Reads it, or fails as click wants it."""
        if isinstance(value, datetime):
            return value
        text = str(value).strip()
        try:
            if relative := re.fullmatch(r"(\d{1,6})([smhdw])", text):
                return self._now() - timedelta(**{_UNITS[relative[2]]: int(relative[1])})
            moment = datetime.fromisoformat(text)
        except (ValueError, OverflowError):
            self.fail(
                f"{text!r} is no time: 2026-11-25, 2026-11-25T10:30Z, or how long ago: 90s, 15m, 2h, 3d", param, ctx
            )
        try:
            return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        except OverflowError:
            self.fail(f"{text!r} is out of range", param, ctx)


def iso(moment: datetime | None) -> str | None:
    """UTC with milliseconds and a Z."""
    if moment is None:
        return None
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def iso_ms(milliseconds: int | None) -> str | None:
    """Clerk's milliseconds as a moment; 0 stands for none; what no calendar holds is given as the number."""
    if not milliseconds:
        return None
    try:
        return iso(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds))
    except OverflowError:
        return str(milliseconds)
