"""`nexus-auth status | plan | sync | findings | approve | explain` on a real Postgres, beside Clerk's emulator."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from devtools.clerk_emulator import ApiFault, Behaviour, Emulator, Settings
from devtools.postgres import Database
from nexus_auth.store.leadership import LEADER_LOCK
from tests.commandline import CommandLine, Ran, change, mirror, rows, store
from tests.events import INSTANCE, event, user

USERS, ORGANIZATIONS, MEMBERSHIPS = 40, 3, 20


@dataclass(frozen=True)
class World:
    """A Clerk, an empty database, and the command line between them."""

    clerk: Emulator
    database: Database
    nexus_auth: CommandLine

    async def __call__(self, *arguments: str, **environment: str) -> Ran:
        """The emulator answers in this loop, so the command runs in a thread."""
        return await asyncio.to_thread(self.nexus_auth, *arguments, **environment)

    async def backfilled(self) -> None:
        ran = await self("sync", "--full", "--apply")
        assert ran.code == 0, ran.err

    def seeded(self, number: int) -> list[str]:
        """Users of the start, as Clerk's ids."""
        return [
            row[0] for row in rows(self.database, "select id from clerk.users order by created_at limit $1", number)
        ]


@pytest_asyncio.fixture
async def world(database: Database, tmp_path: Path) -> AsyncIterator[World]:
    settings = Settings(
        users=USERS,
        organizations=ORGANIZATIONS,
        memberships=MEMBERSHIPS,
        seed=5,
        instance_id=INSTANCE,
        behaviour=Behaviour(rate_limit=0),
    )
    async with Emulator(settings) as clerk:
        change(
            database,
            "insert into clerk_private.budget (instance_id, per_second, burst, tokens)"
            f" values ('{INSTANCE}', 500, 100, 100)",
        )
        nexus_auth = CommandLine.of(
            database,
            tmp_path,
            RECONCILER_DATABASE_URL=database.url("reconciler"),
            CLERK_API_URL=clerk.api_url,
            CLERK_SECRET_KEY=clerk.secret_key,
            NEXUS_AUTH_VERIFY_AFTER="0",
        )
        yield World(clerk, database, nexus_auth)


async def test_plan_tells_what_a_backfill_would_do_and_writes_nothing(world: World) -> None:
    before = mirror(world.database)
    ran = await world("plan", "--output", "json")
    assert ran.code == 1, ran.err
    planned = ran.json()
    assert {kind: row["insert"] for kind, row in planned["kinds"].items()} == {
        "user": USERS,
        "organization": ORGANIZATIONS,
        "organization_membership": MEMBERSHIPS,
    }
    first = 1  # whose key it is, while the database belongs to nobody
    assert planned["requests"] + first == len(list(world.clerk.requests.since(0)))
    assert "sync --full --apply" in ran.err
    assert mirror(world.database) == before
    for table in ("runs", "findings", "watermarks", "instance"):
        assert rows(world.database, f"select count(*) from clerk_private.{table}") == [(0,)]
    shown = await world("plan")
    assert shown.code == 1
    assert "memberships" in shown.out
    assert "nothing was written" in shown.err
    change(world.database, "delete from clerk_private.budget")
    without = await world("plan", "--budget-percent", "50")
    assert without.code == 1, without.err
    assert without.out == shown.out
    assert rows(world.database, "select count(*) from clerk_private.budget") == [(0,)]


async def test_a_backfill_then_everything_is_in_step(world: World) -> None:
    ran = await world("sync", "--full", "--apply", "--output", "json")
    assert ran.code == 0, ran.err
    done = ran.json()
    assert (done["sync"], done["mode"], done["policy"], done["state"]) == ("nexus-auth", "full", "Fix", "completed")
    assert done["counts"]["user"]["repaired"] == USERS
    assert rows(world.database, "select count(*) from clerk.users") == [(USERS,)]
    for arguments in (["sync"], ["sync", "--full"], ["sync", "--deep", "--apply"], ["plan"], ["plan", "--deep"]):
        again = await world(*arguments)
        assert again.code == 0, (arguments, again.err)
    assert rows(world.database, "select per_second, burst from clerk_private.budget") == [(500, 100)]


async def test_without_apply_drift_is_noted_and_nothing_changes(world: World) -> None:
    await world.backfilled()
    edited, renamed, deleted = world.seeded(3)
    change(world.database, f"update clerk.users set first_name = 'By hand' where id = '{edited}'")
    with world.clerk.events.silence():
        world.clerk.changes.users.update(renamed, {"first_name": "Renamed"})
        world.clerk.changes.users.delete(deleted)
    before = mirror(world.database)
    ran = await world("sync", "--full", "--kind", "users", "--output", "json")
    assert ran.code == 1
    assert ran.json()["sync"] == "nexus-auth/report"
    assert mirror(world.database) == before

    run = str(ran.json()["run"])
    listed = await world("findings", "--run", run, "--output", "json")
    assert listed.code == 1
    problems = {(row["id"], row["problem"], row["action"]) for row in listed.json()}
    assert problems == {
        (edited, "edited", "reported"),
        (renamed, "stale", "reported"),
        (deleted, "extra", "reported"),
    }
    assert {row["cause"] for row in listed.json() if row["id"] == edited} == {"edited by hand"}

    repaired = await world("sync", "--full", "--apply", "--output", "json")
    assert repaired.code == 0, repaired.err
    run = str(repaired.json()["runs"]["user"])
    waiting = await world("findings", "--run", run)
    assert waiting.code == 1
    assert "awaiting second read" in waiting.out
    assert "1 user awaits its second read" in (await world("status")).out
    second = await world("sync", "--apply")
    assert second.code == 0, second.err
    found = await world("findings", "--run", run, "--output", "json")
    assert found.code == 0, found.err
    assert {(row["id"], row["action"]) for row in found.json()} >= {
        (edited, "repaired"),
        (renamed, "repaired"),
        (deleted, "tombstoned"),
    }
    assert rows(world.database, f"select first_name from clerk.users where id = '{renamed}'") == [("Renamed",)]
    only = await world("findings", "--run", run, "--kind", "users", "--problem", "edited", "--output", "json")
    assert [row["id"] for row in only.json()] == [edited]


async def test_findings_count_the_run_and_not_what_is_shown(world: World) -> None:
    await world.backfilled()
    with world.clerk.events.silence():
        for renamed in world.seeded(7):
            world.clerk.changes.users.update(renamed, {"first_name": "Renamed"})
    assert (await world("sync", "--full")).code == 1
    ran = await world("findings", "--limit", "3")
    assert ran.code == 1
    assert "the newest 3 of 7" in ran.err
    assert "7 of 7 findings of the run still stand" in ran.err
    assert len((await world("findings", "--limit", "3", "--output", "json")).json()) == 3


async def test_a_backfill_says_that_its_rows_are_not_listed_one_by_one(world: World) -> None:
    done = await world("sync", "--full", "--apply", "--kind", "users", "--output", "json")
    ran = await world("findings", "--run", str(done.json()["run"]))
    assert ran.code == 0, ran.err
    assert f"found {USERS} missing rows; a backfill counts them and does not list them here" in ran.err


async def test_an_incremental_look_finds_a_lost_update(world: World) -> None:
    early = await world("sync")
    assert early.code == 1
    assert "no full sweep of nexus-auth has completed" in early.err
    await world.backfilled()
    (lost,) = world.seeded(1)
    with world.clerk.events.silence():
        world.clerk.changes.users.update(lost, {"first_name": "Lost"})
    told = await world("sync")
    assert told.code == 1
    assert "1 stale" in told.err
    done = await world("sync", "--apply")
    assert done.code == 0
    assert rows(world.database, f"select first_name from clerk.users where id = '{lost}'") == [("Lost",)]


async def test_status_names_counts_that_differ(world: World) -> None:
    await world.backfilled()
    assert "counts differ" not in (await world("status")).out
    (creator,) = world.seeded(1)
    with world.clerk.events.silence():
        world.clerk.changes.organizations.create({"name": "Lost", "created_by": creator})
    assert (await world("sync", "--full")).code == 1
    ran = await world("status")
    assert "Clerk has 1 organization more, 1 membership more than the mirror" in " ".join(ran.out.split())
    assert "a full sweep left it so" in " ".join(ran.out.split())
    told = json.loads((await world("status", "--output", "json")).out)["counts_differ"]
    assert {of["kind"]: of["difference"] for of in told} == {"organization": 1, "organization_membership": 1}
    assert (await world("sync", "--full", "--apply")).code == 0
    assert "counts differ" not in (await world("status")).out


async def test_beside_a_leader_a_run_takes_a_name_of_its_own(world: World) -> None:
    await world.backfilled()
    leader = await asyncpg.connect(world.database.url("reconciler"), server_settings={"role": "clerk_reconciler"})
    await leader.execute("select pg_advisory_lock($1, hashtext('nexus-auth'))", LEADER_LOCK)
    ran = await world("sync", "--full", "--apply", "--output", "json")
    await leader.close()
    assert ran.code == 0, ran.err
    assert ran.json()["sync"] == "nexus-auth/by-hand"
    assert "a reconciler leads nexus-auth" in ran.err


async def test_a_failed_run_by_hand_is_past_once_the_sync_itself_has_completed(world: World) -> None:
    await world.backfilled()
    world.clerk.add_fault(ApiFault("short_page", route="/users"))
    assert (await world("sync", "--full")).code == 1
    assert "(users) failed" in (await world("status")).err
    world.clerk.api_faults.clear()
    assert (await world("sync", "--full", "--apply")).code == 0
    assert "failed" not in (await world("status")).err


async def test_a_mass_deletion_parks_until_it_is_approved(world: World) -> None:
    await world.backfilled()
    gone = world.seeded(15)
    with world.clerk.events.silence():
        for user_id in gone:
            world.clerk.changes.users.delete(user_id)
    planned = await world("plan")
    assert planned.code == 1
    assert "more than the guard allows" in planned.err
    assert "approve 0" not in planned.err
    first = await world("sync", "--full", "--apply", "--output", "json")
    assert (first.code, first.json()["state"]) == (0, "completed"), first.err
    parked = await world("sync", "--apply", "--output", "json")
    assert (parked.code, parked.json()["state"]) == (1, "parked")
    run = str(parked.json()["run"])
    assert f"nexus-auth approve {run}" in parked.err
    assert f"run {run} waits for an approval" in (await world("status")).err

    unasked = await world("approve", run)
    assert unasked.code == 2
    assert "15 users" in unasked.err
    assert rows(world.database, "select count(*) from clerk_private.runs where approved_at is not null") == [(0,)]
    approved = await world("approve", run, "--yes", "--output", "json")
    assert approved.code == 0, approved.err
    assert sorted(pair[1] for pair in approved.json()["ids"]) == sorted(gone)
    assert approved.json()["approved_by"].startswith("clerk_cli_login (")
    assert "nexus-auth sync --sync nexus-auth --apply" in approved.err

    done = await world("sync", "--apply")
    assert done.code == 0, done.err
    assert rows(world.database, "select count(*) from clerk.users") == [(USERS - 15,)]
    late = await world("approve", run, "--yes")
    assert late.code == 1
    assert "waits for no approval" in late.err


async def test_explain_tells_an_object_s_story_in_order(world: World) -> None:
    await world.backfilled()
    (ada,) = world.seeded(1)
    await asyncio.to_thread(store, world.database, event("user.updated", user(ada, updated_at=1, first_name="Old")))
    change(world.database, f"update clerk.users set first_name = 'By hand' where id = '{ada}'")
    await world("sync", "--full", "--apply")
    ran = await world("explain", ada, "--output", "json")
    assert ran.code == 0, ran.err
    story = ran.json()["story"]
    assert [step["at"] for step in story] == sorted(step["at"] for step in story)
    assert {"event", "finding", "last applied"} <= {step["what"] for step in story}
    (arbiter,) = ran.json()["objects"]
    assert (arbiter["kind"], arbiter["state"], arbiter["typed_row"]) == ("user", "live", "present")
    change(world.database, f"delete from clerk.users where id = '{ada}'")
    shown = await world("explain", ada)
    assert shown.code == 0
    assert "absent" in shown.out
    assert "disagree" in shown.err
    assert "user.updated" in shown.out
    unknown = await world("explain", "user_nobody")
    assert unknown.code == 1
    assert "nothing is known of user_nobody" in unknown.err


async def test_status_is_one_look(world: World) -> None:
    empty = await world("status")
    assert empty.code == 0, empty.err
    assert "none yet" in empty.out
    await world.backfilled()
    ran = await world("status", "--output", "json")
    assert ran.code == 0, ran.err
    shown = ran.json()
    assert shown["instance"] == INSTANCE
    assert shown["rows"] == {"users": USERS, "organizations": ORGANIZATIONS, "memberships": MEMBERSHIPS}
    assert shown["runs"][0]["state"] == "completed"
    assert shown["watermark"]
    text = (await world("status")).out
    assert f"users           {USERS}" in text
    assert "in step" not in text.partition("Runs")[0]


async def test_status_counts_the_servers_connections_by_login(world: World) -> None:
    webhook = await asyncpg.connect(world.database.url("webhook"))
    app = await asyncpg.connect(world.database.url("app"))
    try:
        shown = (await world("status", "--output", "json")).json()["connections"]
        text = (await world("status")).out
        reserved = await app.fetchval("select current_setting('superuser_reserved_connections')::int")
        limit = await app.fetchval("select current_setting('max_connections')::int")
    finally:
        await webhook.close()
        await app.close()
    assert (shown["max"], shown["reserved"]) == (limit, reserved)
    assert shown["by_login"].get("clerk_webhook_login", 0) >= 1, shown
    assert shown["by_login"]["clerk_cli_login"] >= 1
    assert shown["others"] >= 1
    assert shown["held"] == sum(shown["by_login"].values()) + shown["others"]
    assert "clerk_webhook_login" in text
    assert f"max_connections {limit}" in text


async def test_a_clerk_that_refuses_or_is_away_ends_with_4(world: World) -> None:
    await world.backfilled()
    for command in (["plan"], ["sync"], ["sync", "--full", "--apply"]):
        refused = await world(*command, CLERK_SECRET_KEY="sk_test_wrong")
        assert (refused.code, "Traceback" in refused.err) == (4, False), (command, refused.err)
    assert rows(world.database, "select count(*) from clerk.users") == [(USERS,)]
    world.clerk.add_fault(ApiFault("status", status=401, route="/users", skip=1))
    walked = await world("sync", "--full", "--apply")
    assert walked.code == 4
    assert "nothing more was deleted" in walked.err
    told = (await world("status")).err
    assert told.count("/v1/instance refused the key") == 1, "one cause of three runs is said once"
    assert rows(world.database, "select count(*) from clerk.users") == [(USERS,)]
    away = await world("plan", CLERK_API_URL="http://127.0.0.1:9")
    assert away.code == 4
    assert "cannot be reached" in away.err
    change(world.database, "update clerk_private.instance set id = 'ins_other'")
    other = await world("sync", "--full", "--apply")
    assert other.code == 4
    assert "belongs to" in other.err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["approve"], "Missing argument"),
        (["approve", "x"], "not a valid integer"),
        (["approve", "0"], "0 is not in the range"),
        (["approve", str(2**63)], "is not in the range"),
        (["findings", "--kind", "cats"], "is not one of"),
        (["findings", "--problem", "bad"], "is not one of"),
        (["explain", "a\0b"], "no id"),
        (["explain", " "], "no id"),
        (["sync", "--kind", "cats"], "is not one of"),
        (["plan", "--budget-percent", "0"], "is not in the range"),
        (["sync", "--sync", "a\0b"], "no name of a ClerkSync"),
        (["sync", "--sync", "a/b"], "no name of a ClerkSync"),
    ],
)
async def test_what_cannot_be_meant_ends_with_2(world: World, arguments: list[str], sentence: str) -> None:
    ran = await world(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert sentence in ran.err


async def test_each_command_says_which_setting_is_missing_and_which_database_is_away(world: World) -> None:
    for command in (["plan"], ["sync"]):
        missing = await world(*command, RECONCILER_DATABASE_URL="")
        assert (missing.code, missing.err) == (2, "Error: RECONCILER_DATABASE_URL is not set\n")
        keyless = await world(*command, CLERK_SECRET_KEY="")
        assert (keyless.code, keyless.err) == (2, "Error: CLERK_SECRET_KEY is not set\n")
        away = await world(*command, RECONCILER_DATABASE_URL="postgresql://x:y@127.0.0.1:9/z")
        assert away.code == 3
        wrong = await world(*command, RECONCILER_DATABASE_URL=world.database.url("webhook"))
        assert wrong.code == 3
        assert "clerk_reconciler" in wrong.err
    for command in (["status"], ["findings"], ["explain", "user_1"], ["approve", "1"]):
        missing = await world(*command, CLI_DATABASE_URL="")
        assert (missing.code, missing.err) == (2, "Error: CLI_DATABASE_URL is not set\n")
        away = await world(*command, CLI_DATABASE_URL="postgresql://x:y@127.0.0.1:9/z")
        assert away.code == 3


async def test_beside_make_run_everything_comes_from_its_file(world: World) -> None:
    nexus_auth = world.nexus_auth
    file = nexus_auth.folder / ".run" / "env"
    file.parent.mkdir()
    file.touch(mode=0o600)
    file.write_text("".join(f"{name}='{value}'\n" for name, value in nexus_auth.environment.items()))
    bare = CommandLine(nexus_auth.folder)
    ran = await asyncio.to_thread(bare, "sync", "--full", "--apply", "--output", "json")
    assert ran.code == 0, ran.err
    assert json.loads((await asyncio.to_thread(bare, "status", "--output", "json")).out)["rows"]["users"] == USERS
