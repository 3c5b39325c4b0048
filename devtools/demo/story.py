"""Steps, the checks that they make, and the telling: one step after the other until one of them is broken.

A check says in plain words what it looked at. Whatever else goes wrong in a step breaks it too: a story that ends in a
traceback tells nobody anything.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from devtools.demo.stage import Stage


class Broken(Exception):
    """A check that did not hold."""

    def __init__(self, what: str, *, expected: str, seen: str) -> None:
        """Three pieces of one sentence, for people."""
        super().__init__(f"{what}: expected {expected}, saw {seen}")
        self.what = what
        self.expected = expected
        self.seen = seen


class Checks:
    """What a step found to hold so far."""

    def __init__(self) -> None:
        """Nothing was checked yet."""
        self.held: list[str] = []

    def equal(self, what: str, seen: object, *, expected: object) -> None:
        """Notes that both are the same. Raises `Broken` where they are not."""
        self.that(what, seen == expected, expected=str(expected), seen=str(seen))

    def that(self, what: str, holds: bool, *, expected: str, seen: str) -> None:
        """Notes that it holds. Raises `Broken` where it does not."""
        if not holds:
            raise Broken(what, expected=expected, seen=seen)
        self.held.append(what)


@dataclass(frozen=True)
class Step:
    """One promise. `play` is told whether to break it."""

    name: str
    title: str
    sabotage: str
    """What is done to break it, as the end of a sentence that begins with "SABOTAGE: "."""
    play: Callable[[Stage, Checks, bool], Awaitable[None]]


@dataclass(frozen=True)
class Told:
    """How a step went."""

    number: int
    step: Step
    seconds: float
    held: tuple[str, ...]
    broken: Broken | None = None


class Printer(Protocol):
    """Where the story is told."""

    def begins(self, number: int, step: Step, *, sabotaged: bool) -> None:
        """A step begins."""

    def ended(self, told: Told) -> None:
        """It ended, well or not."""


async def tell(stage: Stage, steps: Sequence[Step], *, sabotage: str | None, printer: Printer) -> list[Told]:
    """Plays the steps in their order and ends at the first that is broken, which is then the last one of the answer."""
    all_told: list[Told] = []
    for number, step in enumerate(steps, start=1):
        sabotaged = step.name == sabotage
        printer.begins(number, step, sabotaged=sabotaged)
        told = await _play(stage, step, number=number, sabotaged=sabotaged)
        printer.ended(told)
        all_told.append(told)
        if told.broken:
            break
    return all_told


async def _play(stage: Stage, step: Step, *, number: int, sabotaged: bool) -> Told:
    checks, began, broken = Checks(), time.monotonic(), None
    try:
        await step.play(stage, checks, sabotaged)
    except Broken as error:
        broken = error
    except Exception as error:
        seen = " ".join(f"{type(error).__name__}: {error}".split())
        broken = Broken("the step runs to its end", expected="no error", seen=seen)
    return Told(number, step, time.monotonic() - began, tuple(checks.held), broken)
