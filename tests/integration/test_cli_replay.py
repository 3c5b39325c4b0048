"""`nexus-auth replay`: stored events applied again, harmlessly, and what was parked after a fix."""

import asyncio
from pathlib import Path

import asyncpg
import pytest

from devtools.postgres import Database, Server
from nexus_auth.store.inbox import PAGE_ROWS
from tests.commandline import CommandLine, Ran, change, mirror, rows, store
from tests.events import INSTANCE, T0, Signed, deleted, event, membership, organization, user

POISON = "alter table clerk.users add constraint poison check (last_name <> 'Poison')"
ANTIDOTE = "alter table clerk.users drop constraint poison"


@pytest.fixture
def nexus_auth(database: Database, tmp_path: Path) -> CommandLine:
    return CommandLine.of(database, tmp_path)


def outcomes(ran: Ran) -> dict[str, int]:
    return dict(ran.json()["outcomes"])


def states(database: Database) -> dict[str, tuple[str, str | None]]:
    query = "select svix_id, state, outcome from clerk_private.inbox"
    return {svix_id: (state, outcome) for svix_id, state, outcome in rows(database, query)}


def parked(database: Database) -> dict[str, tuple[bool, int, str]]:
    query = "select svix_id, resolved_at is null, attempts, error from clerk_private.parked"
    return {svix_id: (still, attempts, error) for svix_id, still, attempts, error in rows(database, query)}


def life() -> list[Signed]:
    """Everything that happens to objects, out of order too."""
    return [
        Signed(body)
        for body in (
            event("user.updated", user("user_ada", updated_at=T0 + 9, first_name="Later")),
            event("user.created", user("user_ada", updated_at=T0)),
            event("organization.created", organization("org_1")),
            event(
                "organizationMembership.created", membership("orgmem_1", organization_id="org_1", user_id="user_ada")
            ),
            event("user.created", user("user_eve")),
            event("user.deleted", deleted("user", "user_eve"), timestamp=T0 + 5),
            event(
                "organizationMembership.created", membership("orgmem_2", organization_id="org_1", user_id="user_eve")
            ),
            event("session.created", {"object": "session", "id": "sess_1", "user_id": "user_ada"}),
            event("something.new", {}),
            event("email.created", {"object": "email", "id": "ema_1", "body": "424242"}),
        )
    ]


def test_replaying_everything_twice_leaves_the_same_rows(database: Database, nexus_auth: CommandLine) -> None:
    store(database, *life())
    before, inbox = mirror(database), states(database)
    for _ in range(2):
        ran = nexus_auth("replay", "--all", "--output", "json")
        assert ran.code == 0, ran.err
        assert ran.json()["events"] == 10
        assert outcomes(ran)["waiting"] == 1
        assert outcomes(ran)["kept"] == 2
        assert mirror(database) == before
        assert states(database) == inbox
    assert rows(database, "select distinct source from clerk_private.objects where id = 'user_ada'") == [("replay",)]


def test_a_lost_mirror_comes_back_from_the_inbox(database: Database, nexus_auth: CommandLine) -> None:
    store(database, *life())
    before = mirror(database)
    change(
        database,
        "truncate clerk.users, clerk.user_emails, clerk.organizations, clerk.organization_memberships,"
        " clerk_private.objects, clerk_private.burying",
    )
    assert nexus_auth("replay", "--all").code == 0
    assert mirror(database) == before


def test_what_was_poison_is_applied_after_a_fix(database: Database, nexus_auth: CommandLine) -> None:
    change(database, POISON)
    good, bad = (
        Signed(event("user.created", user("user_ada"))),
        Signed(event("user.created", user("user_eve", last_name="Poison"))),
    )
    store(database, good, bad)
    assert states(database) == {good.svix_id: ("applied", "created"), bad.svix_id: ("parked", None)}

    ran = nexus_auth("replay", "--state", "parked", "--output", "json")
    assert ran.code == 1
    assert "1 of 1 events are still parked" in ran.err
    (named,) = ran.json()["parked"]
    assert named == {"svix_id": bad.svix_id, "type": "user.created", "error": "CheckViolationError (23514) at poison"}
    assert parked(database)[bad.svix_id][:2] == (True, 2)

    change(database, ANTIDOTE)
    ran = nexus_auth("replay", "--state", "parked", "--output", "json")
    assert (ran.code, outcomes(ran)) == (0, {"created": 1})
    assert parked(database)[bad.svix_id][0] is False
    assert states(database)[bad.svix_id] == ("applied", "created")
    assert rows(database, "select id from clerk.users order by 1") == [("user_ada",), ("user_eve",)]
    assert nexus_auth("replay", "--state", "parked", "--output", "json").json()["events"] == 0


def test_poison_among_many_is_parked_alone(database: Database, nexus_auth: CommandLine) -> None:
    events = [
        Signed(event("user.created", user(f"user_{n}", last_name="Poison" if n % 17 == 5 else "Lovelace")))
        for n in range(60)
    ]
    store(database, *events)
    bad = {events[n].svix_id for n in range(60) if n % 17 == 5}
    change(database, "truncate clerk.users, clerk.user_emails, clerk_private.objects", POISON)
    ran = nexus_auth("replay", "--all", "--output", "json")
    assert ran.code == 1
    assert outcomes(ran) == {"created": 60 - len(bad), "parked": len(bad)}
    assert {entry["svix_id"] for entry in ran.json()["parked"]} == bad == set(parked(database))
    assert {svix_id for svix_id, (state, _) in states(database).items() if state == "parked"} == bad
    change(database, ANTIDOTE)
    assert outcomes(nexus_auth("replay", "--state", "parked", "--output", "json")) == {"created": len(bad)}
    assert rows(database, "select count(*) from clerk.users") == [(60,)]


def test_what_cannot_be_read_stays_parked_and_counts_its_attempts(database: Database, nexus_auth: CommandLine) -> None:
    (broken,) = store(database, b"{")
    for attempt in (2, 3):
        ran = nexus_auth("replay", "--id", broken)
        assert ran.code == 1
        assert broken in ran.out
        assert "no JSON" in ran.out
        assert parked(database)[broken][:2] == (True, attempt)


def test_what_could_not_be_read_before_and_can_now_is_settled(database: Database, nexus_auth: CommandLine) -> None:
    """As after an update of the reader: the same bytes come to another state."""
    ada, session, odd = store(
        database,
        event("user.created", user("user_ada")),
        event("session.created", {"object": "session"}),
        event("something.new", {}),
    )
    change(
        database,
        "truncate clerk.users, clerk.user_emails, clerk_private.objects",
        "update clerk_private.inbox set state = 'parked', outcome = null, type = '', observed_at = 0",
        "insert into clerk_private.parked (svix_id, error) select svix_id, 'a bug' from clerk_private.inbox",
    )
    ran = nexus_auth("replay", "--state", "parked", "--output", "json")
    assert (ran.code, outcomes(ran)) == (0, {"created": 1, "kept": 1, "waiting": 1})
    assert states(database) == {ada: ("applied", "created"), session: ("waiting", None), odd: ("kept", None)}
    assert {still for still, _, _ in parked(database).values()} == {False}
    assert rows(database, "select observed_at from clerk_private.objects") == [(T0,)]


def test_a_membership_without_its_user_waits_for_the_whole_one(database: Database, nexus_auth: CommandLine) -> None:
    bare = membership("orgmem_1", organization_id="org_1", user_id="", updated_at=T0 + 9, role="org:admin")
    bare["public_user_data"] = None
    (first,) = store(database, event("organizationMembership.updated", bare))
    assert nexus_auth("replay", "--state", "parked").code == 1
    assert parked(database)[first][:2] == (True, 2)
    store(
        database,
        event("organizationMembership.created", membership("orgmem_1", organization_id="org_1", user_id="user_ada")),
    )
    ran = nexus_auth("replay", "--state", "parked", "--output", "json")
    assert (ran.code, outcomes(ran)) == (0, {"updated": 1})
    assert rows(database, "select role from clerk.organization_memberships") == [("org:admin",)]
    assert parked(database)[first][0] is False


def test_an_incomplete_event_of_a_membership_that_is_gone_parks_nothing(
    database: Database, nexus_auth: CommandLine
) -> None:
    whole = membership("orgmem_1", organization_id="org_1", user_id="user_ada")
    bare = {**whole, "public_user_data": None, "updated_at": T0 + 9}
    ids = store(
        database,
        event("organizationMembership.created", whole),
        event("organizationMembership.updated", bare),
        event("organizationMembership.deleted", whole),
        event("organizationMembership.updated", {**bare, "updated_at": T0 + 10}),
    )
    before = states(database)
    assert [before[svix_id] for svix_id in ids] == [
        ("applied", "created"),
        ("applied", "updated"),
        ("applied", "deleted"),
        ("applied", "buried"),
    ]
    ran = nexus_auth("replay", "--all", "--output", "json")
    assert ran.code == 0
    assert (states(database), parked(database)) == (before, {})


def test_withheld_events_replay(database: Database, nexus_auth: CommandLine) -> None:
    body = event("user.created", user("user_ada", backup_codes=["1111", "2222"]), event_attributes={"http_request": {}})
    (svix_id,) = store(database, body)
    assert rows(database, "select body_hmac is not null from clerk_private.inbox") == [(True,)]
    before = mirror(database)
    change(database, "truncate clerk.users, clerk.user_emails, clerk_private.objects")
    assert outcomes(nexus_auth("replay", "--id", svix_id, "--output", "json")) == {"created": 1}
    assert mirror(database) == before


def test_a_deletion_wins_over_every_replay(database: Database, nexus_auth: CommandLine) -> None:
    created, _ = store(
        database, event("user.created", user("user_ada")), event("user.deleted", deleted("user", "user_ada"))
    )
    assert outcomes(nexus_auth("replay", "--id", created, "--output", "json")) == {"buried": 1}
    assert rows(database, "select * from clerk.users") == []


def test_a_dry_run_tells_and_changes_nothing(database: Database, nexus_auth: CommandLine) -> None:
    change(database, POISON)
    store(database, *life(), event("user.created", user("user_bad", last_name="Poison")), b"{")
    change(database, "truncate clerk.users, clerk.user_emails, clerk_private.objects")
    before = mirror(database), states(database), parked(database)
    ran = nexus_auth("replay", "--all", "--dry-run", "--output", "json")
    assert ran.code == 1
    assert ran.json()["dry_run"] is True
    assert outcomes(ran)["parked"] == 2
    assert outcomes(ran)["created"] >= 1
    assert (mirror(database), states(database), parked(database)) == before
    assert "nothing was changed" in nexus_auth("replay", "--all", "--dry-run").err


def test_events_of_another_instance_are_left_alone(database: Database, nexus_auth: CommandLine) -> None:
    (old,) = store(database, event("user.created", user("user_ada")))
    assert nexus_auth("instance", "claim", "ins_another", "--yes").code == 0
    change(database, "truncate clerk.users, clerk.user_emails, clerk_private.objects")
    ran = nexus_auth("replay", "--all", "--output", "json")
    assert outcomes(ran) == {"other instance": 1}
    assert "another Clerk instance than ins_another" in ran.err
    assert rows(database, "select * from clerk.users") == []
    assert states(database)[old] == ("applied", "created")


def test_more_than_a_page_is_replayed_in_order_and_once(database: Database, nexus_auth: CommandLine) -> None:
    store(
        database, *(event("user.updated", user("user_ada", updated_at=T0 + n, first_name=f"n{n}")) for n in range(450))
    )
    change(database, "truncate clerk.users, clerk.user_emails, clerk_private.objects")
    ran = nexus_auth("replay", "--all", "--output", "json")
    assert ran.json()["events"] == 450
    assert outcomes(ran)["created"] == 1
    assert rows(database, "select first_name from clerk.users") == [("n449",)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "say which events"),
        (("--all", "--type", "user.*"), "--all and a filter contradict each other"),
        (("--since", "soon"), "'soon' is no time"),
        (("--state", "gone"), "'gone' is not one of"),
    ],
)
def test_bad_input(nexus_auth: CommandLine, arguments: tuple[str, ...], said: str) -> None:
    ran = nexus_auth("replay", *arguments)
    assert ran.code == 2
    assert said in ran.err


def test_a_database_of_nobody_and_of_another_instance_is_refused(database: Database, nexus_auth: CommandLine) -> None:
    ran = nexus_auth("replay", "--all")
    assert ran.code == 3
    assert "belongs to no Clerk instance yet" in ran.err
    store(database, event("user.created", user("user_ada")))
    ran = nexus_auth("replay", "--all", CLERK_INSTANCE_ID="ins_another")
    assert ran.code == 3
    assert f"belongs to {INSTANCE}, and CLERK_INSTANCE_ID says ins_another" in ran.err
    assert nexus_auth("replay", "--all", CLERK_INSTANCE_ID=INSTANCE).code == 0


async def test_a_server_that_dies_in_the_middle_ends_it_with_a_sentence(
    own_server: Server, own_database: Database, tmp_path: Path
) -> None:
    users = [event("user.created", user(f"user_{n}")) for n in range(PAGE_ROWS + 50)]
    await asyncio.to_thread(store, own_database, *users)
    nexus_auth = CommandLine.of(own_database, tmp_path)
    blocker = await asyncpg.connect(own_database.admin_url)
    await blocker.execute(f"begin; select from clerk_private.objects where id = 'user_{PAGE_ROWS + 7}' for update")
    replaying = asyncio.create_task(asyncio.to_thread(nexus_auth, "replay", "--all"))
    await blocked(own_database)
    own_server.kill()
    ran = await replaying
    blocker.terminate()
    assert ran.code == 3
    assert f"stopped after {PAGE_ROWS} events, which are applied" in ran.err
    assert "went away" in ran.err
    own_server.start()
    assert (await asyncio.to_thread(nexus_auth, "replay", "--all")).code == 0


async def blocked(database: Database) -> None:
    """Waits until the command waits for a lock."""
    query = "select from pg_stat_activity where application_name = 'nexus-auth cli' and wait_event_type = 'Lock'"
    async with asyncio.timeout(60):
        while True:
            if await asyncio.to_thread(rows, database, query):
                return
            await asyncio.sleep(0.05)
