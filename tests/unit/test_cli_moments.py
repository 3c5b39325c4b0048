"""Times on the command line, and what is fit to be shown."""

from datetime import UTC, datetime

import click
import pytest

from services.cli.moments import Moment, iso, iso_ms
from services.cli.output import printable

NOW = datetime(2026, 11, 25, 10, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-25", "2026-11-25T00:00:00.000Z"),
        ("2026-11-25T09:00", "2026-11-25T09:00:00.000Z"),
        ("2026-11-25T09:00:01.5Z", "2026-11-25T09:00:01.500Z"),
        ("2026-11-25T09:00+02:00", "2026-11-25T07:00:00.000Z"),
        ("90s", "2026-11-25T10:28:30.000Z"),
        ("2h", "2026-11-25T08:30:00.000Z"),
        ("3d", "2026-11-22T10:30:00.000Z"),
        ("1w", "2026-11-18T10:30:00.000Z"),
    ],
)
def test_a_moment_is_read_as_utc(text: str, expected: str) -> None:
    assert iso(Moment(now=lambda: NOW).convert(text, None, None)) == expected


@pytest.mark.parametrize("text", ["", "now", "2h ago", "-2h", "2026-13-01", "0001-01-01T00:00+10:00", "999999w"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        Moment(now=lambda: NOW).convert(text, None, None)


def test_milliseconds_that_no_calendar_holds_stay_a_number() -> None:
    assert iso_ms(1_780_000_000_123) == "2026-05-28T20:26:40.123Z"
    assert iso_ms(2**53) == str(2**53)
    assert iso_ms(0) is None


def test_control_characters_are_written_out() -> None:
    assert printable("Zoë \x1b[2J \x9b \u202e\n") == "Zoë \\x1b[2J \\x9b \\u202e\\n"
    assert printable("a\nb", lines=True) == "a\nb"
