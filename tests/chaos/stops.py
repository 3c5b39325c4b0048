"""Stops writers inside Postgres, at named points, and tells for certain where each one stands.

In the test's own database `clerk_private.lock_parents` is wrapped and triggers are added; at each point a writer takes
a shared advisory lock that the test holds exclusively: there it stands until the test lets it go. Whether it stands
there or waits for another writer is read from pg_locks, never guessed from time.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import asyncpg

from devtools.postgres import Database

CLASS = 7_719
"""First key of the advisory locks."""

POINTS = ("locked", "deduplicated", "checked", "arbitrated", "written")
"""locked: lock_parents has what it wanted. deduplicated: inbox_seen has the id. checked: about to write an arbiter row
(its parents, if any, were looked at before). arbitrated: the arbiter rows are written, the typed rows are not. written:
all is written, the commit comes next."""

PASSES = 3
"""A point is passed once for each row or kind; the first three times are stops of their own."""

SECONDS = 15.0
"""Longest time in which a writer must reach its next stop."""

INSTALL = f"""
create schema race;
grant usage on schema race to public;
create sequence race.arrivals_0;
create sequence race.arrivals_1;
grant usage on sequence race.arrivals_0, race.arrivals_1 to public;

create function race.writer() returns integer language sql stable as
$$ select substring(current_setting('application_name') from '^writer (\\d)$')::integer $$;

create function race.stop(p_point integer) returns void language plpgsql as $$
declare
  v_name text := 'race.passed_' || p_point;
  v_pass integer := coalesce(nullif(current_setting(v_name, true), ''), '0')::integer + 1;
begin
  if race.writer() is not null then
    perform set_config(v_name, v_pass::text, true);
    perform pg_advisory_xact_lock_shared({CLASS}, race.writer() * 100 + p_point * 10 + least(v_pass, 9));
  end if;
end $$;

alter function clerk_private.lock_parents(clerk_private.change[]) rename to lock_parents_at_once;
create function clerk_private.lock_parents(p_changes clerk_private.change[]) returns void language plpgsql as $$
begin
  if race.writer() is not null then
    perform nextval('race.arrivals_' || race.writer());
  end if;
  perform clerk_private.lock_parents_at_once(p_changes);
  perform race.stop(0);
end $$;
grant execute on function clerk_private.lock_parents(clerk_private.change[]) to clerk_definer;
-- A writer stands at a stop for as long as the test wants.
alter function clerk_private.ingest(clerk_private.delivery[], clerk_private.change[]) set lock_timeout = 0;

create function race.stop_trigger() returns trigger language plpgsql as $$
begin
  perform race.stop(tg_argv[0]::integer);
  return coalesce(new, old);
end $$;
create trigger race_deduplicated after insert on clerk_private.inbox_seen
  for each row execute function race.stop_trigger(1);
create trigger race_checked before insert on clerk_private.objects
  for each row execute function race.stop_trigger(2);
create trigger race_arbitrated after insert on clerk_private.objects
  for each statement execute function race.stop_trigger(3);
create trigger race_written after insert on clerk_private.inbox
  for each row execute function race.stop_trigger(4);
"""

WHERE = """
select a.application_name as who, l.pid, pg_blocking_pids(l.pid) as behind,
  l.locktype = 'advisory' and l.classid = $1::bigint and l.objsubid = 2 as stands, l.objid::bigint as at
from pg_locks l join pg_stat_activity a using (pid)
where not l.granted and a.datname = current_database() and a.application_name like 'writer _'
"""

Stop = tuple[str, int]
"""A point and the how manieth time of passing it."""


class Writer:
    """Somebody who writes on connections named `writer <number>`: `begin` starts it, once."""

    def __init__(self, number: int, work: Callable[[], Awaitable[Any]]) -> None:
        self.number = number
        self._work = work
        self.task: asyncio.Task[Any] | None = None
        self.at: Stop | None = None
        """Where it stands."""
        self.pid: int | None = None
        """The backend that stands or waits."""
        self.blocked = False
        """It waits for the other writer."""

    @property
    def done(self) -> bool:
        """It has its answer, whatever that is."""
        return self.task is not None and self.task.done()

    @property
    def movable(self) -> bool:
        """`Stops.advance` would have it go on."""
        return self.task is None or self.at is not None

    def begin(self) -> None:
        """Sends what it writes."""
        self.task = asyncio.ensure_future(self._work())


class Stops:
    """The test's hands on the stops of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def __aenter__(self) -> Self:
        self.admin = await asyncpg.connect(self._database.admin_url)
        await self.admin.execute(INSTALL)
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self.admin.close()

    async def plant(self, points: Iterable[str], *, writers: Iterable[int] = (0, 1)) -> None:
        """From now on each of these writers stops at each of these points."""
        keys = [_key(w, (point, n)) for w in writers for point in points for n in range(1, PASSES + 1)]
        await self.admin.execute("select pg_advisory_lock($1, k) from unnest($2::integer[]) k", CLASS, keys)

    async def lift(self) -> None:
        """Lets everybody go on, to the end."""
        await self.admin.execute("select pg_advisory_unlock_all()")

    async def advance(self, writer: Writer) -> None:
        """Begins it, or lets it go on to its next stop."""
        if writer.task is None:
            writer.begin()
            return
        assert writer.at is not None
        await self.admin.execute("select pg_advisory_unlock($1, $2)", CLASS, _key(writer.number, writer.at))

    async def settle(self, writers: Sequence[Writer]) -> None:
        """Returns when each is done, stands at a stop, or waits for another that does."""
        deadline = time.monotonic() + SECONDS
        while not await self._settled(writers):
            if time.monotonic() > deadline:
                raise AssertionError(f"no writer moves: {await self.admin.fetch(WHERE, CLASS)}")

    async def _settled(self, writers: Sequence[Writer]) -> bool:
        waiting = {row["who"]: row for row in await self.admin.fetch(WHERE, CLASS)}
        for writer in writers:
            writer.at, writer.pid, writer.blocked = None, None, False
            row = waiting.get(f"writer {writer.number}")
            if row is None or writer.task is None or writer.done:
                continue
            writer.pid = row["pid"]
            if row["stands"]:
                writer.at = _stop(row["at"])
        standing = {writer.pid for writer in writers if writer.at is not None}
        for writer in writers:
            row = waiting.get(f"writer {writer.number}")
            if row is not None and writer.at is None and writer.pid is not None:
                writer.blocked = bool(row["behind"]) and set(row["behind"]) <= standing
        return all(writer.done or writer.movable or writer.blocked for writer in writers)

    async def arrivals(self) -> tuple[int, int]:
        """How many transactions each writer has begun so far; the first counts as 1."""
        row = await self.admin.fetchrow(
            "select coalesce(pg_sequence_last_value('race.arrivals_0'), 0) as zero,"
            " coalesce(pg_sequence_last_value('race.arrivals_1'), 0) as one"
        )
        return row["zero"], row["one"]


def _key(writer: int, stop: Stop) -> int:
    return writer * 100 + POINTS.index(stop[0]) * 10 + stop[1]


def _stop(key: int) -> Stop:
    return POINTS[key % 100 // 10], key % 10


async def reached(folder: Path, name: str, *, pid: int, seconds: float = SECONDS) -> None:
    """Returns when process `pid` has come to the failpoint `name` that lies in `folder`."""
    deadline = time.monotonic() + seconds
    while not (folder / f"{name}.{pid}.reached").exists():
        if time.monotonic() > deadline:
            raise AssertionError(f"process {pid} does not come to {name}")
        await asyncio.sleep(0.005)
