"""`python -m bench.sweeper`: one run of the engine in a process of its own, so that CPU time and memory are its alone.

Takes an `Order` on its standard input (a password is in it) and answers with lines of JSON: `Said` now and then, and an
`Outcome`.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from nexus_auth.clerk.api import ClerkApi
from nexus_auth.reconcile import attribution, engine
from nexus_auth.reconcile.context import Context
from nexus_auth.reconcile.policy import SyncPolicy
from nexus_auth.store.budget import Budget, Share
from nexus_auth.store.pool import open_pool
from nexus_auth.store.runs import Mode
from services.reconciler.leading import CONNECTIONS

SAY_SECONDS = 0.5


class Order(msgspec.Struct, frozen=True):
    """What to run, with which share of the rate limit."""

    database_url: str
    api_url: str
    secret_key: str
    instance_id: str
    mode: Mode
    per_second: float
    burst: int


class Said(msgspec.Struct, frozen=True, tag="said"):
    """How many requests were made until now."""

    requests: int


class Outcome(msgspec.Struct, frozen=True, tag="outcome"):
    """One run; seconds are from its first statement to its last, without start and connecting."""

    state: str
    message: str | None
    counts: dict[str, dict[str, int]]
    requests: int
    seconds: float
    cpu_seconds: float
    reasons_seconds: float
    """Of them, what the reasons of its findings took."""
    peak_mib: float
    """Most memory that the process ever had resident, the interpreter and everything imported included."""


async def run(order: Order) -> Outcome:
    """Runs it and measures."""
    pool = await open_pool(order.database_url, role="clerk_reconciler", application="bench", size=CONNECTIONS)
    async with pool, ClerkApi(order.api_url, secret_key=order.secret_key) as clerk:
        share = Share(per_second=order.per_second, burst=order.burst)
        budget = Budget(pool, instance_id=order.instance_id, share=share)
        await budget.open()
        reasons = _Timed(attribution.tell_causes)
        vars(engine)["tell_causes"] = reasons
        reconciler = engine.Engine(pool, clerk=clerk, budget=budget, instance_id=order.instance_id, holder="bench")
        saying = asyncio.create_task(_say(budget))
        wall, cpu = time.perf_counter(), time.process_time()
        result = await reconciler.run(SyncPolicy("bench", drift="Fix"), mode=order.mode)
        seconds, cpu_seconds = time.perf_counter() - wall, time.process_time() - cpu
        saying.cancel()
    return Outcome(
        result.state,
        result.message,
        result.counts,
        result.requests,
        seconds,
        cpu_seconds,
        reasons_seconds=reasons.seconds,
        peak_mib=_peak_mib(),
    )


class _Timed:
    """Calls a step of the engine and adds up how long that took."""

    def __init__(self, step: Callable[[Context], Awaitable[str | None]]) -> None:
        self._step = step
        self.seconds = 0.0

    async def __call__(self, context: Context) -> str | None:
        began = time.perf_counter()
        try:
            return await self._step(context)
        finally:
            self.seconds += time.perf_counter() - began


async def _say(budget: Budget) -> None:
    while True:
        await asyncio.sleep(SAY_SECONDS)
        _write(Said(budget.requests))


def _write(answer: Said | Outcome) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
    sys.stdout.buffer.flush()


def _peak_mib() -> float:
    # getrusage would answer with what the parent had before this program was loaded
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("this kernel does not say VmHWM")


if __name__ == "__main__":
    _write(asyncio.run(run(msgspec.json.decode(sys.stdin.buffer.read(), type=Order))))
