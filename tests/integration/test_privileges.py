"""What each role may do is a list in the repository; what it must not do is tried; who could do more does not start."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from devtools.postgres import Database, ForeignServer, Server, create_database, drop_database
from devtools.privileges import GOLDEN, privileges
from nexus_auth.store.migrations import migrate
from nexus_auth.store.pool import UnsafeDatabase, open_pool, refuse_unsafe

READS = {
    "clerk.users": "select 1 from clerk.users",
    "clerk.user_emails": "select 1 from clerk.user_emails",
    "clerk.organizations": "select 1 from clerk.organizations",
    "clerk.organization_memberships": "select 1 from clerk.organization_memberships",
    "objects": "select 1 from clerk_private.objects",
    "seen": "select 1 from clerk_private.inbox_seen",
    "inbox": "select svix_id from clerk_private.inbox",
    "bodies": "select body from clerk_private.inbox",
    "a partition": "select body from clerk_private.inbox_default",
    "parked": "select 1 from clerk_private.parked",
    "burying": "select 1 from clerk_private.burying",
    "instance": "select 1 from clerk_private.instance",
}

MIRROR_WRITES = {
    "insert a user": "insert into clerk.users (id, created_at, updated_at) values ('user_x', now(), now())",
    "update users": "update clerk.users set banned = true",
    "delete users": "delete from clerk.users",
    "update memberships": "update clerk.organization_memberships set role = 'org:admin'",
    "delete organizations": "delete from clerk.organizations",
    "insert an address": "insert into clerk.user_emails values ('user_x', 'idn_x', 'x@y', true, true)",
}

PRIVATE_WRITES = {
    "write an arbiter": "update clerk_private.objects set deleted_at = null",
    "write the inbox": "insert into clerk_private.inbox (svix_id, svix_timestamp, signature, secret, state, body)"
    " values ('x', '1', 'x', 'x', 'kept', '')",
    "forge what was seen": "insert into clerk_private.inbox_seen values ('msg_x')",
    "hide a user": "insert into clerk_private.burying values ('user', 'user_x', 'cascade')",
    "apply": "select clerk_private.apply('{}')",
    "decide who wins": "select clerk_private.arbitrate('user', '{}', '{}', 1::smallint)",
    "remove rows": "select clerk_private.remove_rows('user', '{user_x}')",
    "write the ledger": "insert into clerk_private.deletions (kind, cause, number) values ('user', 'event', 1)",
    "empty the ledger": "delete from clerk_private.deletions",
    "lift the guard": "update clerk_private.guard_limits set floor = 1000000, percent = 100",
    "release what is held": "update clerk_private.held_deletions set state = 'released'",
    "trust a secret": "delete from clerk_private.distrusted_secrets",
    "pose as a verifier": "insert into clerk_private.verifier (seen_at) values (now())",
    "lock a parent": "do $$ begin lock table clerk_private.bucket_0 in row exclusive mode; end $$",
    "set the guard": "select clerk_private.set_guard('user', 10, 1)",
    "say that one verifies": "select clerk_private.verifier_seen()",
    "answer for what is held": "select clerk_private.answer_held('user', '{}', '{}', '{}', '60 s')",
    "settle what is held": "select clerk_private.settle_held('{}', true, 'x')",
    "forget": "select clerk_private.forget('user_x')",
    "ingest": "select clerk_private.ingest('{}', '{}')",
    "replay": "select clerk_private.replay('{}', '{}', '{}')",
    "claim": "select clerk_private.claim_instance('ins_x')",
    "request a sweep": "update clerk_private.instance set sweep_requested_at = now()",
}

UPKEEP = {
    "maintain": "select clerk_private.maintain()",
    "look at the backlog": "select clerk_private.backlog()",
    "bury": "select clerk_private.bury()",
}

OWNERS_MATTERS = {
    "create a table": "create table clerk.planted ()",
    "create a private table": "create table clerk_private.planted ()",
    "create a function": "create function clerk.planted() returns int language sql as 'select 1'",
    "replace a helper": "create or replace function clerk.current_user_id() returns text language sql as"
    " $$ select 'x' $$",
    "add a column": "alter table clerk.users add column planted text",
    "drop a table": "drop table clerk.users",
    "drop a partition": "drop table clerk_private.inbox_default",
    "truncate": "truncate clerk.users",
    "truncate the inbox": "truncate clerk_private.inbox",
    "a trigger": "create trigger planted before update on clerk.users for each row"
    " execute function suppress_redundant_updates_trigger()",
    "a policy": "create policy planted on clerk.users using (true)",
    "no policies": "alter table clerk.users disable row level security",
    "a grant": "grant select on clerk_private.inbox_default to public",
    "an index": "create index on clerk.users (locale)",
    "the owner": "set role clerk_owner",
    "the definer": "set role clerk_definer",
    "a role": "create role planted",
    "delete an arbiter": "delete from clerk_private.objects",
    "delete from the inbox": "delete from clerk_private.inbox",
    "forget what was seen": "delete from clerk_private.inbox_seen",
    "rewrite a body": "update clerk_private.inbox set body = ''",
    "drop the instance": "delete from clerk_private.instance",
    "the migrations' table": "delete from clerk_migrations.schema_migrations",
}

ALL = READS | MIRROR_WRITES | PRIVATE_WRITES | UPKEEP | OWNERS_MATTERS

MAY: dict[str, set[str]] = {
    "app": set(),
    "anon": set(),
    "authenticated": {*(name for name in READS if name.startswith("clerk."))},
    "service_role": {*(name for name in READS if name.startswith("clerk."))},
    "webhook": {
        *{"burying", "instance", "ingest", "claim", "request a sweep"},
        *{"say that one verifies", "answer for what is held"},
        *UPKEEP,
    },
    "reconciler": {
        *READS.keys() - {"bodies", "a partition"},
        *{"claim", "request a sweep", "set the guard", "say that one verifies", "answer for what is held"},
        *UPKEEP,
    },
    "worker": {"maintain", "look at the backlog"},
    "cli": {
        *READS.keys() - {"a partition"},
        *{"claim", "request a sweep", "replay", "settle what is held", "forget"},
        *{"look at the backlog", "bury"},
    },
}
"""Of `ALL`, what each may do. Everything else must end in 42501."""

SERVICES = ("webhook", "reconciler", "worker", "cli")


@asynccontextmanager
async def connected_as(database: Database, who: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection as that role has one: a service's login in its group, or the app's login as an API role."""
    url = database.url(who if who in (*SERVICES, "app") else "app")
    if who in SERVICES:
        connection = await asyncpg.connect(url, server_settings={"role": f"clerk_{who}"})
    elif who == "service_role":
        connection = await asyncpg.connect(database.admin_url)
        await connection.execute("set session authorization service_role")
    else:
        connection = await asyncpg.connect(url, server_settings={} if who == "app" else {"role": who})
    try:
        yield connection
    finally:
        await connection.close()


@pytest.mark.parametrize("who", MAY)
async def test_each_role_may_do_what_is_listed_and_is_refused_all_else(template: Database, who: str) -> None:
    assert MAY[who] <= ALL.keys()
    wrong = []
    async with connected_as(template, who) as connection:
        for name, statement in ALL.items():
            transaction = connection.transaction()
            await transaction.start()
            try:
                await connection.execute(statement)
                state = "done"
            except asyncpg.PostgresError as error:
                state = str(error.sqlstate)
            await transaction.rollback()
            if state != ("done" if name in MAY[who] else "42501"):
                wrong.append(f"{name}: {state}")
    assert wrong == []


@pytest.mark.parametrize("who", SERVICES)
async def test_a_login_that_became_nobody_can_do_nothing(template: Database, who: str) -> None:
    connection = await asyncpg.connect(template.url(who))
    try:
        for statement in ALL.values():
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    finally:
        await connection.close()


@pytest.mark.parametrize(("who", "role"), [(who, role) for who in SERVICES for role in SERVICES if who != role])
async def test_a_login_becomes_its_own_group_and_no_other(template: Database, who: str, role: str) -> None:
    with pytest.raises(asyncpg.PostgresError) as refused:
        await asyncpg.connect(template.url(who), server_settings={"role": f"clerk_{role}"})
    assert refused.value.sqlstate in ("42501", "22023")


@pytest.mark.parametrize("role", ["service_role", "clerk_webhook", "clerk_writer", "clerk_owner", "postgres"])
async def test_the_apps_login_becomes_no_more_than_a_signed_in_user(template: Database, role: str) -> None:
    connection = await asyncpg.connect(template.url("app"))
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(f"set role {role}")
    finally:
        await connection.close()


async def test_the_golden_list_is_what_the_database_grants(template: Database) -> None:
    found = await privileges(template.admin_url)
    listed = GOLDEN.read_text("utf-8").splitlines()
    assert found == listed, "run `python -m devtools.privileges URL` and look at what changed"


async def test_the_golden_list_is_the_same_under_another_prefix(own_server: Server) -> None:
    url = create_database(own_server.admin_url(), "prefixed")
    migrate(url, role_prefix="other_")
    assert await privileges(url, role_prefix="other_") == GOLDEN.read_text("utf-8").splitlines()


async def test_everybody_may_do_nothing(template: Database) -> None:
    assert [line for line in await privileges(template.admin_url) if line.startswith("public:")] == []


async def refusal(database: Database, *, service: str = "webhook", after: str = "select 1", as_role: str = "") -> str:
    """What a service would say to its login once `after` was done; empty where it starts. All is taken back."""
    connection = await asyncpg.connect(database.admin_url)
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(after)
        await connection.execute(f"set local session authorization clerk_{service}_login")
        await connection.execute(f"set local role {as_role or f'clerk_{service}'}")
        await refuse_unsafe(connection, role_prefix="clerk_", service=service, allow_fsync_off=True)
    except UnsafeDatabase as refused:
        return str(refused)
    finally:
        await transaction.rollback()
        await connection.close()
    return ""


@pytest.mark.parametrize("service", SERVICES)
async def test_a_login_with_its_group_alone_is_accepted(template: Database, service: str) -> None:
    assert await refusal(template, service=service) == ""
    pool = await open_pool(template.url(service), role=f"clerk_{service}", application="tests", size=1)
    async with pool.acquire() as connection:
        await refuse_unsafe(connection, role_prefix="clerk_", service=service, allow_fsync_off=True)
    await pool.close()


MISTAKES = {
    "alter role clerk_webhook_login superuser": "is a superuser",
    "alter role clerk_webhook_login bypassrls": "has BYPASSRLS",
    "alter role clerk_webhook_login createrole": "has CREATEROLE",
    "alter role clerk_webhook_login createdb": "has CREATEDB",
    "alter role clerk_webhook_login replication": "has REPLICATION",
    "grant clerk_owner to clerk_webhook_login": "may become clerk_owner",
    "grant clerk_owner to clerk_webhook": "may become clerk_owner",
    "grant clerk_definer to clerk_writer": "may become clerk_definer",
    "grant clerk_cli to clerk_webhook_login": "may become clerk_cli",
    "grant pg_read_all_data to clerk_webhook_login": "may become pg_read_all_data",
    "create role stranger; grant stranger to clerk_webhook_login": "may become stranger",
    "alter database {database} owner to clerk_webhook_login": "may become pg_database_owner",
    "grant select on clerk_private.inbox to clerk_webhook": "table clerk_private.inbox SELECT",
    "grant select (body) on clerk_private.inbox to clerk_webhook": "column clerk_private.inbox.body SELECT",
    "grant delete on clerk_private.objects to clerk_webhook_login": "table clerk_private.objects DELETE",
    "grant truncate on clerk.users to clerk_writer": "table clerk.users TRUNCATE",
    "grant select on clerk_private.inbox to public": "table clerk_private.inbox SELECT",
    "grant create on schema clerk to clerk_webhook": "schema clerk CREATE",
    "grant execute on function clerk_private.replay to clerk_webhook": "function clerk_private.replay",
    "grant update on sequence clerk_private.tombstones to clerk_webhook": "sequence clerk_private.tombstones UPDATE",
}


@pytest.mark.parametrize("mistake", MISTAKES)
async def test_a_login_that_could_do_more_is_refused_with_the_reason(template: Database, mistake: str) -> None:
    said = await refusal(template, after=mistake.format(database=template.name))
    assert MISTAKES[mistake] in said


async def test_a_service_that_is_not_its_group_is_refused(template: Database) -> None:
    assert "expected clerk_webhook" in await refusal(template, as_role="clerk_writer")
    assert "expected clerk_webhook" in await refusal(template, as_role="clerk_webhook_login")


async def test_a_superuser_is_refused_though_it_has_become_the_group(template: Database) -> None:
    pool = await open_pool(template.admin_url, role="clerk_webhook", application="tests", size=1)
    async with pool.acquire() as connection:
        with pytest.raises(UnsafeDatabase, match="is a superuser"):
            await refuse_unsafe(connection, role_prefix="clerk_", service="webhook", allow_fsync_off=True)
    await pool.close()


NEWER = [
    "create table clerk.sessions (id text primary key); grant select, insert on clerk.sessions to clerk_writer",
    "create table clerk_private.outbox (id bigint); grant insert on clerk_private.outbox to clerk_webhook",
    "create function clerk_private.ingest(int) returns int language sql as 'select 1';"
    "grant execute on function clerk_private.ingest(int) to clerk_webhook",
    "alter table clerk_private.instance add column paused_at timestamptz;"
    "grant update (paused_at) on clerk_private.instance to clerk_webhook",
    "create sequence clerk_private.epochs; grant usage on sequence clerk_private.epochs to clerk_writer",
    "alter table clerk.users add column nickname text",
    "revoke insert (id) on clerk_private.instance from clerk_webhook",
]


@pytest.mark.parametrize("newer", NEWER)
async def test_a_schema_that_is_newer_than_the_service_is_accepted(template: Database, newer: str) -> None:
    assert await refusal(template, after=newer) == ""


async def test_a_server_without_fsync_is_refused_unless_it_is_a_tests(template: Database) -> None:
    connection = await asyncpg.connect(template.url("webhook"), server_settings={"role": "clerk_webhook"})
    try:
        on = await connection.fetchval("show fsync") == "on"
        if on:
            await refuse_unsafe(connection, role_prefix="clerk_", service="webhook")
        else:
            with pytest.raises(UnsafeDatabase, match="fsync = off"):
                await refuse_unsafe(connection, role_prefix="clerk_", service="webhook")
    finally:
        await connection.close()


async def test_a_login_is_let_into_its_own_database_and_into_no_other_of_the_server(
    postgres: Server | ForeignServer, template: Database
) -> None:
    """A group's rights hold in every database of the server: what keeps a login out is CONNECT."""
    name = f"nexus_auth_other_{secrets.token_hex(4)}"
    url = create_database(postgres.admin_url(), name)
    try:
        migrate(url)
        for service in SERVICES:
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied for database"):
                await asyncpg.connect(template.of(name).url(service))
    finally:
        drop_database(postgres.admin_url(), name)
