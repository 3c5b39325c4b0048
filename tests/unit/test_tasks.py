"""A task that must run for ever: whatever ends it, somebody sees it and it is begun again."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest
from prometheus_client import CollectorRegistry

from nexus_auth.tasks import Supervisor
from tests.wire import until

FAILURES = "nexus_auth_task_failures_total"
RUNNING = "nexus_auth_task_running"


async def broken() -> None:
    raise RuntimeError("nobody expected this")


async def returns() -> None:
    return


def named(name: str) -> asyncio.Task[None]:
    (task,) = [task for task in asyncio.all_tasks() if task.get_name() == name]
    return task


@pytest.mark.parametrize(("work", "why"), [(broken, "RuntimeError"), (returns, "it returned")])
async def test_a_task_that_ends_is_logged_counted_and_begun_again(
    work: Callable[[], Awaitable[None]], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    registry, begun = CollectorRegistry(), 0

    async def first_ends() -> None:
        nonlocal begun
        begun += 1
        if begun == 1:
            await work()
            return
        await asyncio.Event().wait()

    supervisor = Supervisor(registry)
    supervisor.keep("lane", first_ends, first_pause=0.01)
    assert registry.get_sample_value(FAILURES, {"task": "lane"}) == 0
    await until(lambda: asyncio.sleep(0, begun == 2))
    assert registry.get_sample_value(FAILURES, {"task": "lane"}) == 1
    assert registry.get_sample_value(RUNNING, {"task": "lane"}) == 1
    (line,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert (line.message, line.__dict__["task"], line.__dict__["why"]) == (
        "a task ended and is begun again",
        "lane",
        why,
    )
    assert (line.exc_info is not None) == (work is broken)
    await supervisor.close()


async def test_a_task_that_somebody_cancels_is_begun_again_and_one_that_is_ended_is_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    registry = CollectorRegistry()
    supervisor = Supervisor(registry)
    supervisor.keep("upkeep", asyncio.Event().wait, first_pause=0.01)  # type: ignore[arg-type]
    await asyncio.sleep(0)
    before = named("upkeep")
    before.cancel()

    async def again() -> bool:
        return any(task.get_name() == "upkeep" and task is not before for task in asyncio.all_tasks())

    await until(again)
    assert registry.get_sample_value(FAILURES, {"task": "upkeep"}) == 1
    await supervisor.end("upkeep")
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "upkeep"]
    assert registry.get_sample_value(RUNNING, {"task": "upkeep"}) is None
    assert len(caplog.records) == 1


async def test_pauses_grow_until_the_longest(caplog: pytest.LogCaptureFixture) -> None:
    supervisor = Supervisor(CollectorRegistry())
    supervisor.keep("upkeep", broken, first_pause=0.001, longest_pause=0.004)
    await until(lambda: asyncio.sleep(0, len(caplog.records) >= 5))
    await supervisor.close()
    assert [record.__dict__["seconds"] for record in caplog.records[:5]] == [0.001, 0.002, 0.004, 0.004, 0.004]


async def test_one_name_is_kept_once() -> None:
    supervisor = Supervisor(CollectorRegistry())
    supervisor.keep("upkeep", asyncio.Event().wait)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'upkeep'"):
        supervisor.keep("upkeep", returns)
    await supervisor.close()
