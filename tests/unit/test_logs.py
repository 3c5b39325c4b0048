"""Lines that repeat are left out and counted; a trouble is said once, and again when it changes."""

import json
import logging
from collections.abc import Iterator

import pytest

from nexus_auth.telemetry.logs import JsonLines, OnChange, RepeatLimit
from tests.wire import until


class Lines(logging.Handler):
    """What would be written."""

    def __init__(self, limit: RepeatLimit) -> None:
        super().__init__()
        self.lines: list[dict[str, object]] = []
        self.setFormatter(JsonLines())
        self.addFilter(limit)

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps the line."""
        self.lines.append(json.loads(self.format(record)))


class Clock:
    """A clock that the test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    logger = logging.getLogger("tests.limited")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    yield logger
    for handler in list(logger.handlers):
        logger.removeHandler(handler)


def test_thirty_five_thousand_lines_of_one_text_become_ten_and_a_number(log: logging.Logger, clock: Clock) -> None:
    written = Lines(RepeatLimit(lines=10, seconds=60, clock=clock))
    log.addHandler(written)
    for number in range(35_000):
        log.error("refused", extra={"svix_id": f"msg_{number}"})
    assert len(written.lines) == 10
    clock.now = 60
    log.error("refused")
    assert [line.get("left_out") for line in written.lines[10:]] == [34_990, None]


def test_other_texts_levels_and_syncs_are_not_left_out(log: logging.Logger, clock: Clock) -> None:
    written = Lines(RepeatLimit(lines=1, seconds=60, clock=clock))
    log.addHandler(written)
    for _ in range(3):
        log.error("one")
        log.error("another")
        log.warning("one")
        log.error("one", extra={"sync": "app"})
        log.info("one")
    assert len(written.lines) == 4 + 3


async def test_the_number_is_told_even_if_nothing_more_is_logged(log: logging.Logger) -> None:
    written = Lines(RepeatLimit(lines=1, seconds=0.05))
    log.addHandler(written)
    for _ in range(5):
        log.error("refused", extra={"sync": "app"})

    async def told() -> bool:
        return len(written.lines) == 2

    await until(told)
    assert (written.lines[1]["message"], written.lines[1]["left_out"], written.lines[1]["sync"]) == (
        "refused",
        4,
        "app",
    )


def test_a_trouble_is_said_once_and_again_when_it_changes(log: logging.Logger, clock: Clock) -> None:
    written = Lines(RepeatLimit(clock=clock))
    log.addHandler(written)
    state = OnChange(log, over="the database answers again")
    for text in ("away", "away", "read-only", "read-only"):
        state.trouble(text)
    state.fine()
    state.fine()
    state.trouble("away")
    assert [line["message"] for line in written.lines] == ["away", "read-only", "the database answers again", "away"]
