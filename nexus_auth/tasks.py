"""Tasks that must run for as long as their process: none of them ends unseen.

A task that ends, whatever the reason (an exception, a return, a cancellation from outside), is logged with its trace,
counted, and begun again with growing pauses. Nothing waits for it but a callback of the event loop, so that there is no
second task that could end instead.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge

logger = logging.getLogger(__name__)

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
"""Seconds. A task that ran for longer than the longest pause begins with the first one again."""


@dataclass
class _Kept:
    work: Callable[[], Coroutine[Any, Any, None]]
    first_pause: float
    longest_pause: float
    pause: float
    began: float = 0.0
    task: "asyncio.Task[None] | None" = None
    again: asyncio.TimerHandle | None = None


class Supervisor:
    """Keeps named tasks running. Use it inside one running event loop."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Registers `nexus_auth_task_running` and `nexus_auth_task_failures_total`, both by task."""
        self._running = Gauge(
            "nexus_auth_task_running", "1 while the task runs, 0 until it is begun again", ["task"], registry=registry
        )
        self._failures = Counter(
            "nexus_auth_task_failures", "Times that a task ended although it must not", ["task"], registry=registry
        )
        self._kept: dict[str, _Kept] = {}

    def keep(
        self,
        name: str,
        work: Callable[[], Coroutine[Any, Any, None]],
        *,
        first_pause: float = FIRST_PAUSE,
        longest_pause: float = LONGEST_PAUSE,
    ) -> None:
        """Starts `work()` as the task `name`, and again whenever it ends. Raises ValueError where the name is taken.

        The pauses before it is begun again are in seconds and double from the first to the longest.
        """
        if name in self._kept:
            raise ValueError(f"a task named {name!r} runs already")
        kept = self._kept[name] = _Kept(work, first_pause, longest_pause, first_pause)
        self._failures.labels(name)
        self._begin(name, kept)

    async def end(self, name: str) -> None:
        """Cancels a task for good, waits for its end, and takes its series away. Does nothing where there is none."""
        kept = self._kept.pop(name, None)
        if kept is None:
            return
        if kept.again is not None:
            kept.again.cancel()
        if kept.task is not None:
            kept.task.cancel()
            await asyncio.wait({kept.task})
        self._running.remove(name)
        self._failures.remove(name)

    async def close(self) -> None:
        """Ends every task."""
        await asyncio.gather(*(self.end(name) for name in list(self._kept)))

    def _begin(self, name: str, kept: _Kept) -> None:
        kept.again = None
        kept.began = time.monotonic()
        kept.task = asyncio.get_running_loop().create_task(kept.work(), name=name)
        kept.task.add_done_callback(lambda task: self._ended(name, kept, task))
        self._running.labels(name).set(1)

    def _ended(self, name: str, kept: _Kept, task: "asyncio.Task[None]") -> None:
        if self._kept.get(name) is not kept:  # ended by `end`
            if not task.cancelled():
                task.exception()  # so that asyncio does not report it as never retrieved
            return
        if time.monotonic() - kept.began > kept.longest_pause:
            kept.pause = kept.first_pause
        pause, kept.pause = kept.pause, min(kept.pause * 2, kept.longest_pause)
        self._running.labels(name).set(0)
        self._failures.labels(name).inc()
        error = None if task.cancelled() else task.exception()
        why = "it was cancelled" if task.cancelled() else "it returned" if error is None else type(error).__name__
        logger.error(
            "a task ended and is begun again",
            extra={"task": name, "why": why, "seconds": pause},
            exc_info=error,
        )
        kept.again = asyncio.get_running_loop().call_later(pause, self._begin, name, kept)
