"""Events a second at many connections, with group commit and without, in rounds that take turns.

Turns, because the machine is never quiet: both meet the same neighbours, and their ratio means something where a rate
does not. Every round has a database and a service of its own and ends with a comparison of all rows.
"""

import asyncio
import secrets
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from bench import checks, cpu
from bench.generator import Outcome
from bench.percentiles import percentiles
from bench.workload import Workload
from devtools.pgbouncer import pgbouncer, why_missing
from devtools.postgres import Database, Server, create_database, drop_database, execute
from tests.service import ROOT, WebhookService

POOLED = {"NEXUS_AUTH_POOLER": "transaction"}
VARIANTS: Mapping[str, Mapping[str, str]] = {
    "group commit": {},
    "batches of one": {"NEXUS_AUTH_BATCH_ROWS": "1"},
    **({} if why_missing() else {"through PgBouncer, by transaction": POOLED}),
}
"""What is compared, by the settings that differ; the first is what we ship. The last shows what a pooler costs."""

GOAL = 1.8
"""Group commit must be so many times faster than one transaction an event."""

BATCH_ROWS = "nexus_auth_webhook_batch_rows"
"""The service's histogram of events in a transaction."""

ROUND = timedelta(seconds=120)
"""Longer than a round takes, its preparations included."""


@dataclass(frozen=True, slots=True)
class Round:
    """One measurement; CPU in µs for each event, latencies in ms, shares in % of one core."""

    variant: str
    events: int
    rate: float
    p50: float
    p95: float
    p99: float
    service_us: float
    postgres_us: float
    generator_us: float
    rows_per_transaction: float
    service_busy: float
    postgres_busy: float
    generator_busy: float
    others_busy: float
    """Everything else on this machine."""


@dataclass(frozen=True, slots=True)
class Throughput:
    """All rounds; every one of them had acknowledged = rows."""

    connections: int
    rounds: tuple[Round, ...]
    goal: float
    body_bytes: float
    """Of an event, on average."""

    def of(self, variant: str) -> list[Round]:
        """A variant's rounds, in order."""
        return [one for one in self.rounds if one.variant == variant]

    @property
    def ratio(self) -> float:
        """How many times faster the first variant is than the second: the median over pairs of neighbouring rounds."""
        ours, theirs, *_ = (self.of(variant) for variant in VARIANTS)
        return statistics.median(a.rate / b.rate for a, b in zip(ours, theirs, strict=True))

    def missed(self) -> str | None:
        """A sentence where the goal was missed."""
        if self.ratio >= self.goal:
            return None
        return f"group commit is {self.ratio:.2f} times as fast as batches of one; the goal is {self.goal:g}"


async def measure(
    server: Server,
    template: Database,
    prepare: Callable[[], Workload],
    *,
    folder: Path,
    connections: int,
    seconds: float,
    rounds: int,
    goal: float = GOAL,
    variants: Mapping[str, Mapping[str, str]] = VARIANTS,
    progress: Callable[[int], None] = lambda _: None,
) -> Throughput:
    """Measures every variant `rounds` times for `seconds` each. Raises `checks.Wrong` where a row is missing.

    `prepare` signs the same events; again on a slow machine, where the signatures would grow stale in between.
    """
    measured: list[Round] = []
    workload = prepare()
    with _copy_of(template, server=server) as begun:
        await _create_users(begun, workload, folder=folder, connections=connections)
        for number in range(rounds):
            for variant, settings in variants.items():
                place = folder / f"round-{number}-{variant.replace(' ', '-')}"
                place.mkdir()
                if not workload.is_good_for(ROUND):
                    workload = prepare()
                with _copy_of(begun, server=server) as database:
                    # What was written before is not to be paid for in this round.
                    execute(database.admin_url, "checkpoint")
                    outcome, spent = await _load_and_watch(
                        database,
                        workload,
                        postmaster=server.pid or 0,
                        settings=settings,
                        folder=place,
                        connections=connections,
                        seconds=seconds,
                    )
                    await _compare(database, workload, outcome)
                measured.append(_figures(variant, outcome, spent))
                progress(len(measured))
    return Throughput(connections=connections, rounds=tuple(measured), goal=goal, body_bytes=workload.mean_bytes)


@dataclass(frozen=True, slots=True)
class _Spent:
    """What went by during a round."""

    service: float
    """CPU seconds, as the next two."""
    postgres: float
    machine: float
    seconds: float
    rows: float
    """Events that transactions took."""
    transactions: float


@contextmanager
def _copy_of(template: Database, *, server: Server) -> Iterator[Database]:
    name = f"bench_{secrets.token_hex(4)}"
    create_database(server.admin_url(), name, template=template.name)
    try:
        yield template.of(name)
    finally:
        drop_database(server.admin_url(), name)


async def _create_users(database: Database, workload: Workload, *, folder: Path, connections: int) -> None:
    async with WebhookService(database, folder=folder, NEXUS_AUTH_LOG_EVENTS=None) as service:
        outcome = await _load(workload, service, connections=connections, seconds=0, first=0, count=workload.warm)
        await service.stop()
    if len(outcome.acknowledged) != workload.warm:
        raise checks.Wrong(f"the users could not be created: {outcome.others}")


async def _load_and_watch(
    database: Database,
    workload: Workload,
    *,
    postmaster: int,
    settings: Mapping[str, str],
    folder: Path,
    connections: int,
    seconds: float,
) -> tuple[Outcome, _Spent]:
    environment: dict[str, Any] = {**settings}  # mypy would have each of them be a bool
    async with AsyncExitStack() as stack:
        if settings == POOLED:
            pooler = stack.enter_context(pgbouncer(database.url("webhook"), mode="transaction"))
            environment["DATABASE_URL"] = pooler.url(database.url("webhook"))
        service = await stack.enter_async_context(
            WebhookService(database, folder=folder, NEXUS_AUTH_LOG_EVENTS=None, **environment)
        )
        before, began = cpu.read(service=service.pid, postmaster=postmaster), time.perf_counter()
        outcome = await _load(
            workload,
            service,
            connections=connections,
            seconds=seconds,
            first=workload.warm,
            count=len(workload.plan) - workload.warm,
        )
        after, lasted = cpu.read(service=service.pid, postmaster=postmaster), time.perf_counter() - began
        rows, transactions = [await service.metric(f"{BATCH_ROWS}_{part}") for part in ("sum", "count")]
        await service.stop()
    return outcome, _Spent(
        service=after.service - before.service,
        postgres=after.postgres - before.postgres,
        machine=after.machine - before.machine,
        seconds=lasted,
        rows=rows,
        transactions=transactions,
    )


async def _compare(database: Database, workload: Workload, outcome: Outcome) -> None:
    if outcome.others:
        raise checks.Wrong(f"answers other than 204: {outcome.others}")
    numbers = (*range(workload.warm), *outcome.acknowledged)
    await checks.compare(database.admin_url, [workload.plan[number] for number in numbers])


def _figures(variant: str, outcome: Outcome, spent: _Spent) -> Round:
    events = len(outcome.acknowledged)
    others = spent.machine - spent.service - spent.postgres - outcome.cpu_seconds
    cuts = percentiles(microseconds / 1000 for microseconds in outcome.latencies_us)
    return Round(
        variant=variant,
        events=events,
        rate=events / outcome.seconds,
        p50=cuts[50],
        p95=cuts[95],
        p99=cuts[99],
        service_us=spent.service / events * 1e6,
        postgres_us=spent.postgres / events * 1e6,
        generator_us=outcome.cpu_seconds / events * 1e6,
        rows_per_transaction=spent.rows / max(spent.transactions, 1),
        service_busy=spent.service / outcome.seconds * 100,
        postgres_busy=spent.postgres / outcome.seconds * 100,
        generator_busy=outcome.cpu_seconds / outcome.seconds * 100,
        others_busy=max(others / spent.seconds * 100, 0.0),
    )


async def _load(
    workload: Workload, service: WebhookService, *, connections: int, seconds: float, first: int, count: int
) -> Outcome:
    port = urlsplit(service.url).port
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.generator",
        str(workload.file),
        *map(str, (port, connections, seconds, first, count)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    answer, _ = await process.communicate()
    if process.returncode != 0:
        raise checks.Wrong(f"the load generator ended with exit code {process.returncode}; its last words are above")
    return msgspec.json.decode(answer, type=Outcome)
