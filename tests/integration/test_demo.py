"""`make demo`: the story holds, and each of its steps can be made to fail, at that step and nowhere else."""

import asyncio
import io
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from devtools.demo.printer import StoryPrinter
from devtools.demo.stage import Stage
from devtools.demo.steps import STEPS
from devtools.demo.story import Broken, Checks, Step, Told, tell
from devtools.postgres import Database

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "devtools.demo")
SECONDS = 120

BREAKS = {
    "backfill": "as many as Clerk counts",
    "signup": "she reads her own row, and no other",
    "lost": "all ten are in Postgres as Clerk has them",
    "edited": "both rows are as they were",
    "deletion": "the user stays deleted",
    "wrong-key": "the key of another instance, which has no users at all, nothing is deleted",
    "mass-deletion": "deletes no row",
    "adoption": "orders",
    "leaked-secret": "no more rows go than the guard",
}
"""The check that each sabotage must break: those before it still hold."""


async def told(database: Database, steps: Sequence[Step], *, sabotage: str | None = None) -> tuple[list[Told], str]:
    """The story on a test's database, and what was printed of it."""
    stream = io.StringIO()
    async with Stage(lambda: database) as stage:
        return await tell(stage, steps, sabotage=sabotage, printer=StoryPrinter(stream)), stream.getvalue()


async def test_every_step_holds(database: Database) -> None:
    story, text = await told(database, STEPS)
    assert [(each.step.name, each.broken) for each in story] == [(step.name, None) for step in STEPS], text
    assert all(each.held for each in story)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
async def test_a_sabotaged_step_fails_and_says_what_was_expected_and_what_was_seen(
    database: Database, step: Step
) -> None:
    steps = tuple(dict.fromkeys((STEPS[0], step)))
    story, text = await told(database, (*steps, STEPS[0]), sabotage=step.name)
    assert [bool(each.broken) for each in story] == [False] * (len(steps) - 1) + [True], text
    broken = story[-1].broken
    assert story[-1].step is step
    assert broken is not None
    assert BREAKS[step.name] in broken.what, str(broken)
    assert broken.expected != broken.seen
    assert step.sabotage in " ".join(text.split())


def test_as_a_command_it_prints_plain_lines_into_a_pipe_and_fails_where_it_is_sabotaged() -> None:
    done = subprocess.run([*COMMAND, "--sabotage", "signup"], cwd=ROOT, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 1, done.stderr
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    heads = [line.split()[:3] for line in done.stdout.splitlines() if line[:1] in ("✔", "✘")]
    assert heads == [["✔", "1", "backfill"], ["✘", "2", "signup"]]
    assert "expected  1 row, hers" in done.stdout
    assert "seen      301 rows" in done.stdout


def test_on_a_terminal_it_is_coloured_and_its_exit_code_is_zero() -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(COMMAND, cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        text = _read_all(ours)
        assert process.wait(SECONDS) == 0, text
    assert "\x1b[1;32m✔" in text
    assert "✘" not in text
    assert f"all {len(STEPS)} steps held" in text


async def test_ctrl_c_ends_it_at_once() -> None:
    process = await asyncio.create_subprocess_exec(
        *COMMAND, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    assert process.stdout is not None
    first = await asyncio.wait_for(process.stdout.readline(), SECONDS)
    process.send_signal(signal.SIGINT)
    rest = (await asyncio.wait_for(process.stdout.read(), SECONDS)).decode()
    assert await process.wait() == 130, first.decode() + rest
    assert "Traceback" not in rest


def test_make_hands_the_step_over() -> None:
    done = subprocess.run(
        ["make", "--dry-run", "demo", "SABOTAGE=lost"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    # below another make, this one says which folder it enters and leaves
    assert [line for line in done.stdout.splitlines() if line.endswith("-m devtools.demo --sabotage lost")]


def test_a_step_that_nobody_knows_is_refused() -> None:
    done = subprocess.run([*COMMAND, "--sabotage", "nothing"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert all(step.name in done.stderr for step in STEPS)


async def test_a_step_that_ends_in_an_error_is_broken_and_the_story_ends_there(database: Database) -> None:
    async def stumble(_stage: Stage, checks: Checks, _sabotaged: bool) -> None:
        checks.equal("one is one", 1, expected=1)
        raise ValueError("over\na stone")

    step = Step("stumbles", "It stumbles", "", stumble)
    story, text = await told(database, (step, STEPS[0]))
    assert len(story) == 1
    assert story[0].held == ("one is one",)
    assert isinstance(story[0].broken, Broken)
    assert "ValueError: over a stone" in text


def test_where_the_stream_has_no_ticks_there_are_words() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")

    async def nothing(_stage: Stage, _checks: Checks, _sabotaged: bool) -> None:
        """Never played."""

    step = Step("step", "Title", "", nothing)
    StoryPrinter(stream).ended(Told(1, step, 0.25, ("a check",), Broken("another", expected="1", seen="2")))
    stream.flush()
    assert raw.getvalue().decode().splitlines() == [
        "FAILED 1 step            0.2 s  Title",
        "    ok a check",
        "    FAILED another",
        "        expected  1",
        "        seen      2",
    ]


def _read_all(terminal: int) -> str:
    pieces = []
    try:
        while piece := os.read(terminal, 65_536):
            pieces.append(piece)
    except OSError:  # the other side is gone
        pass
    finally:
        os.close(terminal)
    return b"".join(pieces).decode("utf-8", "replace")
