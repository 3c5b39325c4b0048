"""What a full sweep costs: beside a client that only reads and discards, beside the rate limit, and in memory.

Nothing is to be repaired, as on most days. The engine, the emulator and the client that discards are processes of their
own; the database is filled once, by the engine's own backfill, and then swept again and again, turn by turn with the
floor. Two sizes, one ten times the other, show whether memory grows.
"""

import asyncio
import os
import secrets
import statistics
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import aiohttp
import msgspec

from bench import cpu, floor, sweeper
from bench.checks import Wrong
from bench.emulator import API_KEY, Started, emulator
from devtools.postgres import Database, Server, create_database, drop_database, execute
from nexus_auth.store.budget import Share
from nexus_auth.store.runs import Mode
from tests.events import INSTANCE
from tests.service import ROOT

GOAL = 1.2
"""A sweep may take so many times its floor, where the budget is what a rate limit allows."""

GROWTH = 1.25
"""Ten times the users may need so many times the memory: a ratio, as machines and interpreters differ."""

RENDERED_MIB_A_USER = 0.0029
"""JSON that the emulator keeps, so that it is not what is measured."""

REASONS = 0.05
"""What share of a run the reasons of its findings may take."""

FINDINGS = 50_000
EVENTS_A_FINDING = 20
"""Of the run whose reasons are measured: a million events lie in the inbox beside its findings."""

FILL_INBOX = """
insert into clerk_private.inbox
  (received_at, svix_id, svix_timestamp, signature, secret, type, observed_at, kind, object_id, subjects, state,
   outcome, body)
select now() - n * interval '80 ms', 'msg_bench_' || n, '1', 'v1,x', 'bench', 'user.updated', 1, 'user', u.id,
  array[u.id], 'applied', 'updated', convert_to(repeat(md5(n::text), 30), 'UTF8')
from generate_series(1, {events}) n
join (select id, row_number() over (order by id) as place, count(*) over () as number from clerk.users) u
  on u.place = n % u.number + 1;
analyze clerk_private.inbox;
"""
LOSE_USERS = """
with lost as (select id from clerk.users order by id limit {findings}), gone as (
  delete from clerk_private.objects o using lost l where o.kind = 'user' and o.id = l.id)
delete from clerk.users u using lost l where u.id = l.id;
delete from clerk.user_emails e where not exists (select from clerk.users u where u.id = e.user_id);
analyze clerk.users, clerk_private.objects;
"""

Limit = Literal["none", "full", "10 %"]
SHARES: Mapping[Limit, Share] = {
    "none": Share(per_second=1e6, burst=1_000_000),
    "full": Share.of("Production", percent=100),
    "10 %": Share.of("Production", percent=10),
}
ALLOWED: Mapping[Limit, int] = {"full": 1_000, "10 %": 100}
"""Requests in any 10 s, as Clerk counts them."""

PAIR: tuple[Limit, ...] = ("none", "full")
"""What takes turns; a tenth of the budget is slow, and steady: once is enough."""

Bar = Callable[[str, int], Callable[[int], None]]
"""Opens a bar with a name and a total; answers what is told how many are done."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One sweep and what it is set beside; times in seconds."""

    limit: Limit
    requests: int
    seconds: float
    read_floor: float
    """The same requests by a client that reads and discards, just before."""
    limit_floor: float
    """What the limit alone takes for so many requests."""
    cpu_seconds: float
    """The reconciler's."""
    floor_cpu_seconds: float
    """The discarding client's."""
    postgres_seconds: float
    emulator_seconds: float
    """CPU too."""
    peak_mib: float
    most_in_10s: int

    @property
    def ratio(self) -> float:
        """To the floor that is higher: nobody gets below either."""
        return self.seconds / max(self.read_floor, self.limit_floor)


@dataclass(frozen=True, slots=True)
class Filling:
    """The backfill of an empty database, at full budget."""

    rows: int
    requests: int
    seconds: float
    cpu_seconds: float
    postgres_seconds: float
    peak_mib: float

    @property
    def rate(self) -> float:
        """Rows a second."""
        return self.rows / self.seconds


@dataclass(frozen=True, slots=True)
class Explained:
    """A full sweep that repairs, beside an inbox full of events."""

    findings: int
    events: int
    seconds: float
    reasons_seconds: float
    """Of them: why each row differed."""

    @property
    def share(self) -> float:
        """Of the run, what its reasons took."""
        return self.reasons_seconds / self.seconds


@dataclass(frozen=True, slots=True)
class Sweeps:
    """Everything of one size."""

    users: int
    organizations: int
    memberships: int
    backfill: Filling
    turns: tuple[Turn, ...]
    incremental_requests: int
    incremental_seconds: float
    explained: Explained

    def of(self, limit: Limit) -> list[Turn]:
        """The sweeps at one limit, in order."""
        return [turn for turn in self.turns if turn.limit == limit]

    def ratio(self, limit: Limit) -> float:
        """The median of the turns."""
        return statistics.median(turn.ratio for turn in self.of(limit))

    @property
    def peak_mib(self) -> float:
        """Of all sweeps."""
        return max(turn.peak_mib for turn in self.turns)


@dataclass(frozen=True, slots=True)
class Sweeping:
    """Both sizes."""

    small: Sweeps
    large: Sweeps
    goal: float

    @property
    def growth(self) -> float:
        """Memory of the larger sweep by that of the smaller."""
        return self.large.peak_mib / self.small.peak_mib

    def missed(self) -> str | None:
        """A sentence where a goal was missed."""
        sentences = [
            f"a sweep at {limit} budget takes {self.large.ratio(limit):.2f} times its floor; the goal is {self.goal:g}"
            for limit in ALLOWED
            if self.large.ratio(limit) > self.goal
        ]
        explained = self.large.explained
        if explained.share > REASONS:
            sentences.append(
                f"the reasons of {explained.findings:,} findings take {explained.share:.1%} of their run; the goal is"
                f" {REASONS:.0%}"
            )
        if self.growth > GROWTH:
            sentences.append(f"ten times the users take {self.growth:.2f} times the memory; the goal is {GROWTH:g}")
        return "; ".join(sentences) or None


async def measure(
    server: Server, template: Database, *, folder: Path, users: int, rounds: int, goal: float = GOAL, bar: Bar
) -> Sweeping:
    """Measures a tenth of `users`, then `users`. Raises `Wrong` where a sweep does not see what it must."""
    sizes = []
    for size in (max(users // 10, 1), users):
        place = folder / f"sweep-{size}"
        place.mkdir()
        sizes.append(await _measure_one(server, template, folder=place, users=size, rounds=rounds, bar=bar))
    return Sweeping(small=sizes[0], large=sizes[1], goal=goal)


async def _measure_one(
    server: Server, template: Database, *, folder: Path, users: int, rounds: int, bar: Bar
) -> Sweeps:
    organizations, memberships = max(users // 500, 1), users // 20
    settings = {
        "--users": users,
        "--organizations": organizations,
        "--memberships": memberships,
        "--rate-limit": 0,
        "--rendered-mib": max(256, int(users * RENDERED_MIB_A_USER)),
    }
    words = [word for name, value in settings.items() for word in (name, str(value))]
    name = f"bench_{secrets.token_hex(4)}"
    create_database(server.admin_url(), name, template=template.name)
    try:
        async with emulator(*words, folder=folder) as clerk, aiohttp.ClientSession() as control:
            await _control(control, "POST", clerk, "warm")
            bench = _Bench(server, template.of(name), clerk=clerk, control=control)
            rows = {"user": users, "organization": organizations, "organization_membership": memberships}
            return await bench.measure(rows, rounds=rounds, bar=bar)
    finally:
        drop_database(server.admin_url(), name)


class _Bench:
    """One size: its database, its Clerk."""

    def __init__(self, server: Server, database: Database, *, clerk: Started, control: aiohttp.ClientSession) -> None:
        self._postmaster = server.pid or 0
        self._database = database
        self._clerk = clerk
        self._control = control

    async def measure(self, rows: Mapping[str, int], *, rounds: int, bar: Bar) -> Sweeps:
        users = rows["user"]
        pages = sum(rows.values()) // 500
        backfill = await self._fill(rows, told=bar(f"backfill of {users:,} users", pages))
        # as autovacuum would have, a minute later
        execute(self._database.admin_url, "vacuum analyze", "checkpoint")
        order: list[Limit] = [*(limit for _ in range(rounds) for limit in PAIR), "10 %"]
        told = bar(f"sweeps of {users:,} users", (len(order) + 1) * pages)
        # one that is not measured: it says what is asked, and fills the caches
        first, _, _ = await self._run("full", limit="none", told=told)
        self._check(first, rows)
        stages = floor.stages_of(await self._log())
        turns: list[Turn] = []
        for number, limit in enumerate(order, 1):
            turns.append(await self._turn(limit, rows, stages, told=_after(number * pages, told)))
        incremental, _, _ = await self._run("incremental", limit="full", told=lambda _: None)
        if set(incremental.counts.get("user", {})) - {"seen"}:
            raise Wrong(f"nothing had changed, and an incremental run found {incremental.counts}")
        return Sweeps(
            users=users,
            organizations=rows["organization"],
            memberships=rows["organization_membership"],
            backfill=backfill,
            turns=tuple(turns),
            incremental_requests=incremental.requests,
            incremental_seconds=incremental.seconds,
            explained=await self._explain(rows, bar=bar),
        )

    async def _explain(self, rows: Mapping[str, int], *, bar: Bar) -> Explained:
        """Loses users that no event tells of, and repairs them beside a full inbox."""
        findings = min(FINDINGS, max(rows["user"] // 2, 1))
        events = findings * EVENTS_A_FINDING
        told = bar(f"{findings:,} findings beside {events:,} events", sum(rows.values()) // 500)
        fill, lose = FILL_INBOX.format(events=events), LOSE_USERS.format(findings=findings)
        execute(self._database.admin_url, *(part for part in (*fill.split(";\n"), *lose.split(";\n")) if part.strip()))
        outcome, _, _ = await self._run("full", limit="full", told=told)
        counted = outcome.counts["user"]
        if (counted.get("missing"), counted.get("repaired")) != (findings, findings):
            raise Wrong(f"{findings} users were lost, and a sweep counted {counted}")
        return Explained(findings, events, outcome.seconds, outcome.reasons_seconds)

    async def _fill(self, rows: Mapping[str, int], *, told: Callable[[int], None]) -> Filling:
        outcome, postgres, _ = await self._run("full", limit="full", told=told)
        self._check(outcome, rows, repaired=True)
        return Filling(
            rows=sum(rows.values()),
            requests=outcome.requests,
            seconds=outcome.seconds,
            cpu_seconds=outcome.cpu_seconds,
            postgres_seconds=postgres,
            peak_mib=outcome.peak_mib,
        )

    async def _turn(
        self, limit: Limit, rows: Mapping[str, int], stages: list[floor.Stage], *, told: Callable[[int], None]
    ) -> Turn:
        least = await self._floor(stages)
        await _control(self._control, "DELETE", self._clerk, "requests")
        outcome, postgres, clerk = await self._run("full", limit=limit, told=told)
        self._check(outcome, rows)
        most = int((await _control(self._control, "GET", self._clerk, "requests/window?seconds=10"))["most"])
        if most > ALLOWED.get(limit, most):
            raise Wrong(f"a sweep made {most} requests in 10 s; its budget allows {ALLOWED[limit]}")
        share = SHARES[limit]
        return Turn(
            limit=limit,
            requests=outcome.requests,
            seconds=outcome.seconds,
            read_floor=least.seconds,
            limit_floor=max(outcome.requests - share.burst, 0) / share.per_second,
            cpu_seconds=outcome.cpu_seconds,
            floor_cpu_seconds=least.cpu_seconds,
            postgres_seconds=postgres,
            emulator_seconds=clerk,
            peak_mib=outcome.peak_mib,
            most_in_10s=most,
        )

    async def _run(
        self, mode: Mode, *, limit: Limit, told: Callable[[int], None]
    ) -> tuple[sweeper.Outcome, float, float]:
        """One run in a process of its own; Postgres's and the emulator's CPU seconds meanwhile."""
        share = SHARES[limit]
        order = sweeper.Order(
            database_url=self._database.url("reconciler"),
            api_url=self._clerk.url,
            secret_key=API_KEY,
            instance_id=INSTANCE,
            mode=mode,
            per_second=share.per_second,
            burst=share.burst,
        )
        before = cpu.read(service=self._clerk.pid, postmaster=self._postmaster)
        outcome: sweeper.Outcome | None = None
        async for line in _lines_of("bench.sweeper", order):
            answer = msgspec.json.decode(line, type=sweeper.Said | sweeper.Outcome)
            if isinstance(answer, sweeper.Outcome):
                outcome = answer
            told(answer.requests)
        after = cpu.read(service=self._clerk.pid, postmaster=self._postmaster)
        if outcome is None or outcome.state != "completed":
            raise Wrong(f"a run did not complete: {outcome and outcome.message}")
        return outcome, after.postgres - before.postgres, after.service - before.service

    async def _floor(self, stages: list[floor.Stage]) -> floor.Outcome:
        order = floor.Order(url=self._clerk.url, secret_key=API_KEY, stages=stages)
        lines = [line async for line in _lines_of("bench.floor", order)]
        return msgspec.json.decode(lines[-1], type=floor.Outcome)

    async def _log(self) -> list[tuple[str, str]]:
        """What the newest sweep asked."""
        entries = (await _control(self._control, "GET", self._clerk, "requests?limit=1000000"))["data"]
        begins = max(number for number, entry in enumerate(entries) if entry["route"] == "/v1/instance")
        return [(entry["path"], entry["query"]) for entry in entries[begins:]]

    @staticmethod
    def _check(outcome: sweeper.Outcome, rows: Mapping[str, int], *, repaired: bool = False) -> None:
        """Everything was seen; all of it was written, or nothing was."""
        for kind, number in rows.items():
            written = {"missing": number, "repaired": number} if repaired else {}
            wanted = {"seen": number, **written} if number else {}
            if outcome.counts.get(kind, {}) != wanted:
                raise Wrong(f"a run of {number} {kind} rows counted {outcome.counts.get(kind)}, not {wanted}")


def _after(done: int, told: Callable[[int], None]) -> Callable[[int], None]:
    return lambda more: told(done + more)


async def _control(client: aiohttp.ClientSession, method: str, clerk: Started, path: str) -> dict[str, Any]:
    async with client.request(
        method, f"{clerk.url}/_emulator/{path}", timeout=aiohttp.ClientTimeout(total=600)
    ) as answer:
        if answer.status >= 300:
            raise Wrong(f"the emulator answered {answer.status}: {(await answer.text())[:200]}")
        return await answer.json() if answer.status == 200 else {}


async def _lines_of(module: str, order: msgspec.Struct) -> AsyncIterator[bytes]:
    """Lines that a module of ours says, given an order. Raises `Wrong` where it fails."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(msgspec.json.encode(order))
        process.stdin.close()
        async for line in process.stdout:
            yield line
    finally:
        if process.returncode is None and not process.stdout.at_eof():
            process.terminate()
        await process.wait()
    if process.returncode != 0:
        raise Wrong(f"{module} ended with exit code {process.returncode}; its last words are above")
