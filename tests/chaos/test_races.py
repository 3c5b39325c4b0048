"""Every interleaving of two writers that can meet, by stops inside Postgres and not by luck.

A scenario is run again and again, each time with another order of steps, until no order is left: at every decision
both writers that can move are tried. Whichever way it goes, the mirror equals the model, nobody had to be tried again
because of a deadlock, and no event is missing.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from devtools.postgres import Database
from nexus_auth.store.ingest import GroupCommit, Unavailable
from tests.chaos.stops import Stops, Writer, reached
from tests.chaos.writers import deliveries, group_commit
from tests.events import T0, Signed, deleted, event, membership, organization, user
from tests.model import connect_reader, expected, forget_everything, read_mirror
from tests.service import WebhookService

Events = tuple[Signed, ...]


def user_event(verb: str, number: int = 1, *, at: int = 0, svix_id: str = "", **members: Any) -> Signed:
    """About user_<number>, with version T0 + `at`."""
    data = user(f"user_{number}", updated_at=T0 + at, first_name=f"{verb} {at} {svix_id}", **members)
    return signed(event(f"user.{verb}", data, timestamp=T0 + at), svix_id=svix_id)


def organization_event(verb: str, number: int = 1, *, at: int = 0) -> Signed:
    """About org_<number>."""
    data = organization(f"org_{number}", updated_at=T0 + at, name=f"{verb} {at}")
    return signed(event(f"organization.{verb}", data, timestamp=T0 + at))


def membership_event(verb: str, *, at: int = 0, whole: bool = True) -> Signed:
    """About user_1 in org_1."""
    data = membership("orgmem_1", user_id="user_1", organization_id="org_1", updated_at=T0 + at, role=f"org:{verb}")
    if not whole:
        data["public_user_data"] = None
    return signed(event(f"organizationMembership.{verb}", data, timestamp=T0 + at))


def deletion(kind: str, object_id: str) -> Signed:
    """A DeletedObject."""
    return signed(event(f"{kind}.deleted", deleted(kind, object_id), timestamp=T0))


def signed(body: bytes, *, svix_id: str = "") -> Signed:
    """Under a new svix-id unless one is named."""
    return Signed(body, svix_id=svix_id) if svix_id else Signed(body)


@dataclass(frozen=True)
class Scenario:
    """What is there before, what each of two writers brings in one transaction, and where they are stopped."""

    name: str
    before: Events
    one: Events
    two: Events
    points: tuple[str, ...] = ("locked", "checked", "arbitrated", "written")


MOST = 250
"""Interleavings of one scenario. Two writers that do not wait for each other have hundreds with four stops each."""

PARENTS = (user_event("created"), organization_event("created"))
TWICE = user_event("updated", at=5)

SCENARIOS = [
    Scenario("membership / its user's delete", PARENTS, (membership_event("created"),), (deletion("user", "user_1"),)),
    Scenario(
        "membership / its user's delete, no parents", (), (membership_event("created"),), (deletion("user", "user_1"),)
    ),
    Scenario(
        "membership / its organization's delete",
        PARENTS,
        (membership_event("created"),),
        (deletion("organization", "org_1"),),
    ),
    Scenario(
        "membership / its organization's delete, no parents",
        (),
        (membership_event("created"),),
        (deletion("organization", "org_1"),),
    ),
    Scenario(
        "membership that exists is updated / its user's delete",
        (*PARENTS, membership_event("created")),
        (membership_event("updated", at=1),),
        (deletion("user", "user_1"),),
    ),
    Scenario(
        "membership without its user is completed / its user's delete",
        (*PARENTS, membership_event("created")),
        (membership_event("updated", at=1, whole=False),),
        (deletion("user", "user_1"),),
    ),
    Scenario(
        "both parents are deleted",
        (*PARENTS, membership_event("created")),
        (deletion("organization", "org_1"),),
        (deletion("user", "user_1"),),
        points=("checked", "written"),
    ),
    Scenario(
        "membership is deleted / its user's delete",
        (*PARENTS, membership_event("created")),
        (membership_event("deleted", at=1),),
        (deletion("user", "user_1"),),
        points=("checked", "written"),
    ),
    Scenario(
        "membership with its user and organization / both their deletes",
        (),
        (*PARENTS, membership_event("created")),
        (deletion("user", "user_1"), deletion("organization", "org_1")),
        points=("locked", "checked", "written"),
    ),
    Scenario("two updates of a user", PARENTS, (user_event("updated", at=2),), (user_event("updated", at=1),)),
    Scenario("two updates of an unknown user", (), (user_event("updated", at=2),), (user_event("updated", at=1),)),
    Scenario(
        "two updates of one version",
        PARENTS,
        (user_event("updated", at=1, svix_id="msg_B"),),
        (user_event("updated", at=1, svix_id="msg_a"),),
    ),
    Scenario("user created / deleted", (), (user_event("created"),), (deletion("user", "user_1"),)),
    Scenario("user updated / deleted", PARENTS, (user_event("updated", at=1),), (deletion("user", "user_1"),)),
    Scenario("user deleted / deleted", PARENTS, (deletion("user", "user_1"),), (deletion("user", "user_1"),)),
    Scenario(
        "the same event twice", PARENTS, (TWICE,), (TWICE,), points=("locked", "deduplicated", "checked", "written")
    ),
    Scenario(
        "the same event twice, nothing there",
        (),
        (TWICE,),
        (TWICE,),
        points=("locked", "deduplicated", "checked", "written"),
    ),
    Scenario(
        "two users in one batch / in the other order",
        (),
        (user_event("created", 1), user_event("created", 2)),
        (user_event("updated", 2, at=1), user_event("updated", 1, at=1)),
        points=("checked", "written"),
    ),
]


@dataclass
class Arena:
    """Two writers and whoever looks."""

    stops: Stops
    commits: Sequence[GroupCommit]
    setup: GroupCommit
    reader: Any

    async def writers(self, scenario: Scenario) -> tuple[Writer, Writer]:
        """Begins anew: what the scenario has before is there, the stops are planted, the writers are to begin."""
        await forget_everything(admin=self.stops.admin)
        await asyncio.gather(*map(self.setup.submit, deliveries(scenario.before)))
        await self.stops.plant(scenario.points)
        return self._writer(0, scenario.one), self._writer(1, scenario.two)

    def _writer(self, number: int, events: Events) -> Writer:
        batch = deliveries(events)
        return Writer(number, lambda: asyncio.gather(*map(self.commits[number].submit, batch)))

    async def stored(self) -> set[str]:
        """The svix-ids that the inbox has, in both its parts."""
        rows = await self.reader.fetch(
            "select svix_id from clerk_private.inbox join clerk_private.inbox_seen using (svix_id)"
        )
        return {row["svix_id"] for row in rows}


@asynccontextmanager
async def arena(database: Database) -> AsyncIterator[Arena]:
    """Everything that a race takes."""
    reader = await connect_reader(database)
    async with (
        Stops(database) as stops,
        group_commit(database, name="writer 0") as zero,
        group_commit(database, name="writer 1") as one,
        group_commit(database, name="setup") as setup,
    ):
        yield Arena(stops, (zero, one), setup, reader)
    await reader.close()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
async def test_every_interleaving_ends_as_the_model_says(database: Database, scenario: Scenario) -> None:
    async with arena(database) as ring:
        todo: list[tuple[int, ...]] = [()]
        traces: set[tuple[int, ...]] = set()
        while todo:
            prefix = todo.pop()
            trace, choices, open_ends = await run_once(ring, scenario, prefix)
            assert choices not in traces, "one order of steps was run twice"
            assert len(traces) < MOST, "too many: let the writers stop at fewer points"
            traces.add(choices)
            todo += open_ends
            await check(ring, scenario, trace)
        first = {choices[0] for choices in traces}
    print(f"{scenario.name}: {len(traces)} interleavings")
    assert first == {0, 1}
    assert len(traces) >= 6


async def run_once(
    ring: Arena, scenario: Scenario, prefix: tuple[int, ...]
) -> tuple[list[str], tuple[int, ...], list[tuple[int, ...]]]:
    """Runs to the end, by `prefix` first; answers the steps, the choices, and the prefixes not taken on the way."""
    writers = await ring.writers(scenario)
    began = await ring.stops.arrivals()
    trace: list[str] = []
    choices: list[int] = []
    open_ends: list[tuple[int, ...]] = []
    while not all(writer.done for writer in writers):
        movable = [writer.number for writer in writers if not writer.done and writer.movable]
        assert movable, f"nobody can move: {trace}"
        if len(choices) < len(prefix):
            number = prefix[len(choices)]
            assert number in movable, f"not as it was before: {trace}"
        else:
            number = movable[0]
            open_ends += [(*choices, other) for other in movable[1:]]
        choices.append(number)
        await ring.stops.advance(writers[number])
        await ring.stops.settle(writers)
        trace.append(f"{number}: " + ", ".join(_stands(writer) for writer in writers))
    await ring.stops.lift()
    tries = [now - before for now, before in zip(await ring.stops.arrivals(), began, strict=True)]
    assert tries == [1, 1], f"tried again: {trace}"
    for writer in writers:
        assert writer.task is not None
        outcomes = writer.task.result()  # raises where it was refused
        assert "parked" not in outcomes, trace
    return trace, tuple(choices), open_ends


def _stands(writer: Writer) -> str:
    if writer.at is not None:
        return " ".join(map(str, writer.at))
    return "done" if writer.done else "waits" if writer.blocked else "not begun"


async def check(ring: Arena, scenario: Scenario, trace: list[str]) -> None:
    """The mirror is the model's, and no event is missing."""
    everything = (*scenario.before, *scenario.one, *scenario.two)
    assert expected(everything).differs_from(await read_mirror(ring.reader)) == [], trace
    assert await ring.stored() == {one.svix_id for one in everything}, trace


@pytest.mark.parametrize("point", ["locked", "deduplicated", "checked", "arbitrated", "written"])
@pytest.mark.parametrize(
    "scenario",
    [
        Scenario("the same event twice", PARENTS, (TWICE,), (TWICE,)),
        Scenario(
            "membership / its user's delete", PARENTS, (membership_event("created"),), (deletion("user", "user_1"),)
        ),
        Scenario("user deleted / created", (), (deletion("user", "user_1"),), (user_event("created"),)),
    ],
    ids=lambda scenario: scenario.name,
)
async def test_a_writer_that_dies_leaves_its_event_to_the_next_delivery(
    database: Database, scenario: Scenario, point: str
) -> None:
    """Its backend is ended at the stop, while the other waits for it; the sender then comes again."""
    async with arena(database) as ring:
        scenario = Scenario(scenario.name, scenario.before, scenario.one, scenario.two, points=(point,))
        one, two = await ring.writers(scenario)
        await ring.stops.advance(one)
        await ring.stops.settle([one])
        assert one.at == (point, 1)
        await ring.stops.advance(two)
        await ring.stops.settle([one, two])
        assert await ring.stops.admin.fetchval("select pg_terminate_backend($1, 5000)", one.pid)
        await ring.stops.lift()
        assert one.task is not None
        assert two.task is not None
        with pytest.raises(Unavailable):
            await one.task
        await two.task
        survived = (*scenario.before, *scenario.two)
        assert expected(survived).differs_from(await read_mirror(ring.reader)) == []
        await asyncio.gather(*map(ring.commits[0].submit, deliveries(scenario.one)))
        await check(ring, scenario, [])


async def test_the_same_event_in_two_processes_at_once_is_stored_once(database: Database, tmp_path: Path) -> None:
    """Both services have taken it into a batch before either has sent anything."""
    (tmp_path / "ingest.gathered").touch()
    mine = user_event("created")
    async with AsyncExitStack() as stack:
        services = []
        for number in range(2):
            folder = tmp_path / str(number)
            folder.mkdir()
            service = WebhookService(database, folder=folder, NEXUS_AUTH_FAILPOINTS_DIR=str(tmp_path))
            services.append(await stack.enter_async_context(service))
        posts = [asyncio.create_task(service.post(mine)) for service in services]
        await asyncio.gather(*(reached(tmp_path, "ingest.gathered", pid=service.pid) for service in services))
        assert not any(post.done() for post in posts)
        (tmp_path / "ingest.gathered").unlink()
        assert await asyncio.gather(*posts) == [(204, ""), (204, "")]
        outcomes = sorted([(await service.logged("event"))["outcome"] for service in services])
        assert outcomes == ["created", "seen"]
    reader = await connect_reader(database)
    assert expected([mine]).differs_from(await read_mirror(reader)) == []
    assert await reader.fetchval("select count(*) from clerk_private.inbox") == 1
    await reader.close()


CROSS = """
create function race.cross() returns trigger language plpgsql as $$
begin
  if race.writer() is not null then
    perform pg_advisory_xact_lock(7720, race.writer());
    perform race.stop(4);
    perform pg_advisory_xact_lock(7720, 1 - race.writer());
  end if;
  return null;
end $$;
drop trigger race_written on clerk_private.inbox;
create trigger race_cross after insert on clerk_private.inbox for each row execute function race.cross();
"""


async def test_a_deadlock_is_tried_again(database: Database) -> None:
    """A real one, made by a trigger (a customer's, say) that takes locks crosswise."""
    scenario = Scenario("crosswise", (), (user_event("created", 1),), (user_event("created", 2),), points=("written",))
    async with arena(database) as ring:
        await ring.stops.admin.execute(CROSS)
        writers = await ring.writers(scenario)
        for writer in writers:
            await ring.stops.advance(writer)
        await ring.stops.settle(writers)
        assert [writer.at for writer in writers] == [("written", 1)] * 2
        await ring.stops.lift()
        outcomes = [await writer.task for writer in writers if writer.task is not None]
        assert outcomes == [["created"], ["created"]]
        assert sum(await ring.stops.arrivals()) == 3
        await check(ring, scenario, [])


TROUBLE = """
create sequence race.attempts;
grant usage on sequence race.attempts to public;
create or replace function clerk_private.lock_parents(p_changes clerk_private.change[]) returns void
language plpgsql as $$
begin
  if nextval('race.attempts') <= {times} then
    raise exception 'simulated' using errcode = '{state}';
  end if;
  perform clerk_private.lock_parents_at_once(p_changes);
end $$
"""


@pytest.mark.parametrize(
    ("state", "times", "tries", "stored"),
    [
        pytest.param("40P01", 4, 5, True, id="a deadlock four times"),
        pytest.param("40001", 4, 5, True, id="a serialization failure four times"),
        pytest.param("40P01", 5, 5, False, id="a deadlock five times"),
        pytest.param("53200", 1, 1, False, id="out of shared memory"),
        pytest.param("53100", 1, 1, False, id="disk full"),
        pytest.param("57P01", 1, 1, False, id="shutting down"),
    ],
)
async def test_trouble_of_the_database_is_retried_or_refused_and_never_parked(
    database: Database, state: str, times: int, tries: int, stored: bool
) -> None:
    mine = user_event("created")
    async with arena(database) as ring:
        await ring.stops.admin.execute(TROUBLE.format(times=times, state=state))
        commit = ring.commits[0]
        if stored:
            assert await commit.submit(deliveries([mine])[0]) == "created"
        else:
            with pytest.raises(Unavailable, match=state):
                await commit.submit(deliveries([mine])[0])
        assert await ring.stops.admin.fetchval("select last_value from race.attempts") == tries
        assert await ring.stored() == ({mine.svix_id} if stored else set())
        assert await commit.submit(deliveries([mine])[0]) == ("seen" if stored else "created")
        assert expected([mine]).differs_from(await read_mirror(ring.reader)) == []
        assert await ring.reader.fetchval("select count(*) from clerk_private.parked") == 0
