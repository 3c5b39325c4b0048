"""Events a second at many connections, with group commit and without, in rounds that take turns.

Turns, because the machine is never quiet: both meet the same neighbours, and their ratio means something where a rate
does not. Every round has a database and a service of its own and ends with a comparison of all rows.
"""

import asyncio
import secrets
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from bench import checks, cpu
from bench.generator import Outcome
from bench.percentiles import percentiles
from bench.workload import Workload
from devtools.postgres import Database, Server, create_database, drop_database, execute
from tests.service import ROOT, WebhookService

VARIANTS: Mapping[str, Mapping[str, str]] = {"group commit": {}, "batches of one": {"NEXUS_AUTH_BATCH_ROWS": "1"}}
"""What is compared, by the settings that differ; the first is what we ship."""

GOAL = 1.8
"""Group commit must be so many times faster than one transaction an event."""


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

    def of(self, variant: str) -> list[Round]:
        """A variant's rounds, in order."""
        return [one for one in self.rounds if one.variant == variant]

    @property
    def ratio(self) -> float:
        """How many times faster the first variant is than the second: the median over pairs of neighbouring rounds."""
        ours, theirs = (self.of(variant) for variant in VARIANTS)
        return statistics.median(a.rate / b.rate for a, b in zip(ours, theirs, strict=True))

    def missed(self) -> str | None:
        """A sentence where the goal was missed."""
        if self.ratio >= self.goal:
            return None
        return f"group commit is {self.ratio:.2f} times as fast as batches of one; the goal is {self.goal:g}"


async def measure(
    server: Server,
    template: Database,
    workload: Workload,
    *,
    folder: Path,
    connections: int,
    seconds: float,
    rounds: int,
    goal: float = GOAL,
    variants: Mapping[str, Mapping[str, str]] = VARIANTS,
    progress: Callable[[int], None] = lambda _: None,
) -> Throughput:
    """Measures every variant `rounds` times for `seconds` each. Raises `checks.Wrong` where a row is missing."""
    measured: list[Round] = []
    for number in range(rounds):
        for variant, settings in variants.items():
            place = folder / f"round-{number}-{variant.replace(' ', '-')}"
            place.mkdir()
            measured.append(
                await _round(
                    server,
                    template,
                    workload,
                    variant=variant,
                    settings=settings,
                    folder=place,
                    connections=connections,
                    seconds=seconds,
                )
            )
            progress(len(measured))
    return Throughput(connections=connections, rounds=tuple(measured), goal=goal)


async def _round(
    server: Server,
    template: Database,
    workload: Workload,
    *,
    variant: str,
    settings: Mapping[str, str],
    folder: Path,
    connections: int,
    seconds: float,
) -> Round:
    name = f"bench_{secrets.token_hex(4)}"
    create_database(server.admin_url(), name, template=template.name)
    database = template.of(name)
    # What the round before left to be written is not this one's.
    execute(database.admin_url, "checkpoint")
    try:
        environment: dict[str, Any] = {**settings}  # mypy would have each of them be a bool
        async with WebhookService(database, folder=folder, NEXUS_AUTH_LOG_EVENTS=None, **environment) as service:
            port = int(service.url.split(":")[2].split("/")[0])
            warm = await _load(workload, port=port, connections=connections, seconds=0, first=0, count=workload.warm)
            assert server.pid is not None
            transactions = [await service.metric(f"nexus_auth_webhook_batch_rows_{name}") for name in ("sum", "count")]
            before, began = cpu.read(service=service.pid, postmaster=server.pid), time.perf_counter()
            timed = await _load(
                workload,
                port=port,
                connections=connections,
                seconds=seconds,
                first=workload.warm,
                count=len(workload.plan),
            )
            after, lasted = cpu.read(service=service.pid, postmaster=server.pid), time.perf_counter() - began
            after_transactions = [
                await service.metric(f"nexus_auth_webhook_batch_rows_{name}") for name in ("sum", "count")
            ]
            await service.stop()
        for outcome in (warm, timed):
            if outcome.others:
                raise checks.Wrong(f"{variant}: answers other than 204: {outcome.others}")
        answered = [workload.plan[number] for number in (*warm.acknowledged, *timed.acknowledged)]
        await checks.compare(database.admin_url, answered)
    finally:
        drop_database(server.admin_url(), name)
    rows, commits = (b - a for a, b in zip(transactions, after_transactions, strict=True))
    return _figures(variant, timed, before, after, lasted=lasted, rows_per_transaction=rows / max(commits, 1))


def _figures(
    variant: str,
    outcome: Outcome,
    before: cpu.Clock,
    after: cpu.Clock,
    *,
    lasted: float,
    rows_per_transaction: float,
) -> Round:
    events = len(outcome.acknowledged)
    service, postgres = after.service - before.service, after.postgres - before.postgres
    others = after.machine - before.machine - service - postgres - outcome.cpu_seconds
    cuts = percentiles(microseconds / 1000 for microseconds in outcome.latencies_us)
    return Round(
        variant=variant,
        events=events,
        rate=events / outcome.seconds,
        p50=cuts[50],
        p95=cuts[95],
        p99=cuts[99],
        service_us=service / events * 1e6,
        postgres_us=postgres / events * 1e6,
        generator_us=outcome.cpu_seconds / events * 1e6,
        rows_per_transaction=rows_per_transaction,
        service_busy=service / outcome.seconds * 100,
        postgres_busy=postgres / outcome.seconds * 100,
        generator_busy=outcome.cpu_seconds / outcome.seconds * 100,
        others_busy=max(others / lasted * 100, 0.0),
    )


async def _load(workload: Workload, *, port: int, connections: int, seconds: float, first: int, count: int) -> Outcome:
    numbers = (port, connections, seconds, first, count)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.generator",
        str(workload.file),
        *map(str, numbers),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    answer, _ = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"the load generator ended with exit code {process.returncode}")
    return msgspec.json.decode(answer, type=Outcome)
