"""What a check answers, and how checks are run: each has a deadline, and one that crashes has failed."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "note", "failed"]
"""`note`: worth knowing, and no reason to fail."""

CHECK_SECONDS = 20.0

ANSWER_NO, SETTINGS, DATABASE, CLERK = 1, 2, 3, 4
"""Exit codes, as docs/reference/exit-codes.md has them."""


@dataclass(frozen=True, slots=True)
class Checked:
    """One line of the answer."""

    name: str
    """What was checked: `connection`, `API key`, …"""
    state: State
    said: str
    """What is so; where it failed, what is wrong and what to do. Never a secret."""
    code: int = ANSWER_NO
    """The exit code if this is the first that failed."""


Check = Callable[[], AsyncIterator[Checked]]
"""Asks one thing after the other; it may end early, where the rest depends on what failed."""


def ok(name: str, said: str) -> Checked:
    """It is right."""
    return Checked(name, "ok", said)


def note(name: str, said: str) -> Checked:
    """It is worth knowing."""
    return Checked(name, "note", said)


def failed(name: str, said: str, *, code: int = ANSWER_NO) -> Checked:
    """It is wrong."""
    return Checked(name, "failed", said, code)


async def answers(name: str, check: Check) -> AsyncIterator[Checked]:
    """Runs one check. Whatever it raises becomes a failure; so does an answer that takes over `CHECK_SECONDS`."""
    asking = check()
    try:
        while True:
            try:
                async with asyncio.timeout(CHECK_SECONDS):
                    answer = await anext(asking)
            except StopAsyncIteration:
                return
            except TimeoutError:
                yield failed(name, f"no answer within {CHECK_SECONDS:g} s; is the way to it open?")
                return
            except Exception as error:  # a check must never end the program with a traceback
                yield failed(name, f"this check itself failed ({type(error).__name__}); please report it")
                return
            yield answer
    finally:
        await asking.aclose()  # type: ignore[attr-defined]
