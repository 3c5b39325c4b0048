"""Who sees what: policies as users, gateways, owners and curious callers meet them, and what they cost."""

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from devtools.postgres import Database
from nexus_auth.store.views import unsafe_views
from tests.events import event, membership, organization, user
from tests.store import Seen, Store, as_role

TABLES = ("users", "user_emails", "organizations", "organization_memberships")

MEMBERS = {"org_a": ("user_a", "user_b"), "org_b": ("user_b", "user_c"), "org_c": ("user_c",)}
"""user_d belongs nowhere."""


@pytest.fixture
async def store(database: Database) -> AsyncIterator[Store]:
    async with Store(database) as opened:
        await opened.put(
            *(event("user.created", user(f"user_{letter}")) for letter in "abcd"),
            *(event("organization.created", organization(f"org_{letter}")) for letter in "abc"),
            *(
                event(
                    "organizationMembership.created",
                    membership(f"{name}_{member}", organization_id=name, user_id=member),
                )
                for name, members in MEMBERS.items()
                for member in members
            ),
        )
        yield opened


async def everything(store: Store, who: Seen) -> dict[str, list[str]]:
    return {
        table: await store.seen(
            who, f"select {'user_id' if table == 'user_emails' else 'id'} from clerk.{table} order by 1"
        )
        for table in TABLES
    }


def sees(*, users: list[str], organizations: list[str], memberships: list[str]) -> dict[str, list[str]]:
    return {
        "users": users,
        "user_emails": users,
        "organizations": organizations,
        "organization_memberships": memberships,
    }


NOTHING = sees(users=[], organizations=[], memberships=[])
OF_A = sees(users=["user_a"], organizations=["org_a"], memberships=["org_a_user_a", "org_a_user_b"])

V1 = {"org_id": "org_a", "org_role": "org:admin", "org_slug": "acme", "sid": "sess_1"}
V2 = {"v": 2, "o": {"id": "org_a", "rol": "admin", "slg": "acme"}, "sid": "sess_1"}


@pytest.mark.parametrize("more", [{}, V1, V2])
async def test_a_user_sees_their_row_their_organizations_and_the_members_of_these(
    store: Store, more: dict[str, Any]
) -> None:
    assert await everything(store, Seen.user("user_a", **more)) == OF_A
    assert await everything(store, Seen.user("user_b", **more)) == sees(
        users=["user_b"],
        organizations=["org_a", "org_b"],
        memberships=["org_a_user_a", "org_a_user_b", "org_b_user_b", "org_b_user_c"],
    )
    assert await everything(store, Seen.user("user_d", **more)) == sees(
        users=["user_d"], organizations=[], memberships=[]
    )
    assert await everything(store, Seen.user("user_x", **more)) == NOTHING


@pytest.mark.parametrize("more", [{}, V1, V2])
async def test_a_pending_session_is_signed_out(store: Store, more: dict[str, Any]) -> None:
    helpers = "select array[clerk.current_user_id(), clerk.current_org_id(), clerk.current_org_role()]"
    pending = Seen.user("user_a", sts="pending", **more)
    assert await everything(store, pending) == NOTHING
    assert await store.seen(pending, helpers) == [[None, None, None]]
    for active in ("active", None):
        assert await everything(store, Seen.user("user_a", sts=active, **more)) == OF_A


async def test_an_active_organization_in_the_token_makes_nobody_a_member(store: Store) -> None:
    for claims in ({"org_id": "org_b"}, {"o": {"id": "org_b", "rol": "admin"}}):
        assert await everything(store, Seen.user("user_a", **claims)) == OF_A


@pytest.mark.parametrize(
    ("claims", "found"),
    [
        (V1, ("user_a", "org_a", "org:admin")),
        (V2, ("user_a", "org_a", "org:admin")),
        ({}, ("user_a", None, None)),
        ({"o": "org_a"}, ("user_a", None, None)),
        ({"o": None, "org_id": None}, ("user_a", None, None)),
    ],
)
async def test_helpers_read_session_tokens_of_both_versions(
    store: Store, claims: dict[str, Any], found: tuple[str | None, ...]
) -> None:
    async with as_role(store.admin, Seen.user("user_a", **claims)):
        row = await store.admin.fetchrow(
            "select clerk.current_user_id(), clerk.current_org_id(), clerk.current_org_role()"
        )
    assert tuple(row) == found


NOBODY = (
    *(None, "", "{}", "null", "[]", "5", '"user_a"', '["user_a"]'),
    *('{"sub": null}', '{"sub": ""}', '{"sub": ["user_a"]}', '{"sub": {"sub": "user_a"}}', '{"sub": "user_a "}'),
    *('{"SUB": "user_a"}', '{"user_id": "user_a"}'),
)


@pytest.mark.parametrize("claims", NOBODY)
async def test_claims_without_a_subject_show_nothing(store: Store, claims: str | None) -> None:
    assert await everything(store, Seen("authenticated", claims)) == NOTHING


@pytest.mark.parametrize("claims", ["user_a", "{sub: user_a}", '{"sub": "user_a"', "\n", "{}x"])
@pytest.mark.parametrize("table", TABLES)
async def test_claims_that_are_no_json_are_an_error_and_show_nothing(store: Store, table: str, claims: str) -> None:
    with pytest.raises(asyncpg.InvalidTextRepresentationError):
        await store.seen(Seen("authenticated", claims), f"select * from clerk.{table}")


async def test_claims_of_one_transaction_are_gone_in_the_next(store: Store) -> None:
    assert await store.seen(Seen.user("user_a"), "select id from clerk.users") == ["user_a"]
    assert await store.seen(Seen("authenticated"), "select id from clerk.users") == []


async def test_a_backend_sees_all_rows_by_policy_and_not_by_bypassing(store: Store) -> None:
    found = await everything(store, Seen("service_role"))
    assert (len(found["users"]), len(found["organizations"]), len(found["organization_memberships"])) == (4, 3, 5)


@pytest.mark.parametrize("table", TABLES)
async def test_anonymous_callers_read_no_table(store: Store, table: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await store.seen(Seen("anon", '{"sub": "user_a"}'), f"select 1 from clerk.{table}")


async def hide(store: Store, kind: str, object_id: str) -> None:
    await store.admin.execute("insert into clerk_private.burying values ($1, $2, 'foreign key')", kind, object_id)


async def test_what_is_being_buried_is_hidden_from_users_and_backends(store: Store) -> None:
    await hide(store, "user", "user_a")
    assert await everything(store, Seen.user("user_a")) == NOTHING
    by_b = await everything(store, Seen.user("user_b"))
    assert by_b["organization_memberships"] == ["org_a_user_b", "org_b_user_b", "org_b_user_c"]
    by_backend = await everything(store, Seen("service_role"))
    assert by_backend["users"] == by_backend["user_emails"] == ["user_b", "user_c", "user_d"]
    assert "org_a_user_a" not in by_backend["organization_memberships"]

    await hide(store, "organization", "org_b")
    assert (await everything(store, Seen.user("user_c"))) == sees(
        users=["user_c"], organizations=["org_c"], memberships=["org_c_user_c"]
    )
    assert (await everything(store, Seen("service_role")))["organizations"] == ["org_a", "org_c"]

    await hide(store, "organization_membership", "org_c_user_c")
    assert (await everything(store, Seen.user("user_c"))) == sees(users=["user_c"], organizations=[], memberships=[])
    assert await store.seen(Seen("clerk_cli"), "select count(*) from clerk.organization_memberships") == [5]


async def test_the_owner_sees_every_row_so_that_the_database_can_be_dumped(store: Store) -> None:
    assert len(await store.seen(Seen("clerk_owner"), "select id from clerk.users")) == 4


async def test_whoever_migrates_sees_no_row_without_becoming_the_owner(store: Store) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await store.seen(Seen("clerk_migrator"), "select id from clerk.users")


async def test_what_reads_as_the_definer_tells_a_reader_nothing_but_ids(store: Store) -> None:
    """The definer sees every row; what signed-in users may call of its functions is two, and they answer ids."""
    may = "select p.proname from pg_proc p where p.pronamespace = 'clerk_private'::regnamespace and p.prosecdef"
    for role in ("authenticated", "service_role", "anon"):
        callable_ = await store.admin.fetch(f"{may} and has_function_privilege('{role}', p.oid, 'execute') order by 1")
        assert {row["proname"] for row in callable_} <= {"hidden_ids", "my_org_ids"}


async def test_an_invokers_view_shows_what_its_caller_may_see_and_an_owners_view_is_named(store: Store) -> None:
    await store.admin.execute(
        """
        create view public.of_owner as select id from clerk.users;
        alter view public.of_owner owner to clerk_owner;
        create view public.of_invoker with (security_invoker = true) as select id from clerk.users;
        create view public."Over it" as select id from public.of_invoker;
        create materialized view public.kept as select id from clerk.users;
        create view public.of_migrator as select 1 as id from clerk.users;
        alter view public.of_migrator owner to clerk_migrator;
        create view public.of_others as select relname from pg_class;
        create view public.of_service as select id from clerk.organizations;
        alter view public.of_service owner to service_role;
        grant select on public.of_owner, public.of_invoker, public.of_migrator to authenticated;
        """
    )
    assert await store.seen(Seen.user("user_a"), "select id from public.of_invoker") == ["user_a"]
    assert len(await store.seen(Seen.user("user_a"), "select id from public.of_owner")) == 4
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await store.seen(Seen.user("user_a"), "select id from public.of_migrator")
    found = await unsafe_views(store.admin)
    assert [(view.name, view.materialized) for view in found] == [
        ('public."Over it"', False),
        ("public.kept", True),
        ("public.of_owner", False),
        ("public.of_service", False),
    ]
    assert str(found[2]) == (
        "view public.of_owner shows every row to whoever may read it: its owner clerk_owner has the rights of the"
        " tables' owner; alter view public.of_owner set (security_invoker = true)"
    )
    for view in (found[0], found[2], found[3]):
        await store.admin.execute(f"alter view {view.name} set (security_invoker = true)")
    assert [view.name for view in await unsafe_views(store.admin)] == ["public.kept"]
    assert await store.seen(Seen.user("user_a"), "select id from public.of_owner") == ["user_a"]


@pytest.mark.parametrize("table", TABLES)
async def test_row_security_cannot_be_switched_off(store: Store, table: str) -> None:
    async with as_role(store.admin, Seen.user("user_a")):
        await store.admin.execute("set local row_security = off")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await store.admin.fetch(f"select * from clerk.{table}")


async def test_a_curious_function_in_a_query_is_shown_no_row_of_others(store: Store) -> None:
    await store.admin.execute(
        """
        create function public.leak(text) returns boolean language plpgsql cost 0.0000001 as
        $$ begin raise notice 'saw %', $1; return true; end $$
        """
    )
    heard: list[str] = []
    store.admin.add_log_listener(lambda _connection, message: heard.append(message.message))
    for table, column in (("users", "id"), ("user_emails", "user_id"), ("organizations", "id")):
        await store.seen(Seen.user("user_a"), f"select 1 from clerk.{table} where public.leak({column})")
    await store.seen(Seen.user("user_a"), "select 1 from clerk.organization_memberships where public.leak(id)")
    assert sorted(heard) == ["saw org_a", "saw org_a_user_a", "saw org_a_user_b", "saw user_a", "saw user_a"]


async def test_an_error_that_depends_on_a_row_tells_nothing_of_others(store: Store) -> None:
    query = "select 1 / (case when id = 'user_c' then 0 else 1 end) from clerk.users"
    assert await store.seen(Seen.user("user_a"), query) == [1]
    assert await store.seen(Seen.user("user_a"), "select count(*) from clerk.users where id = 'user_c'") == [0]


@pytest.mark.parametrize("role", ["anon", "authenticated", "service_role"])
@pytest.mark.parametrize(
    "query",
    [
        "select 1 from clerk_private.objects",
        "select 1 from clerk_private.inbox",
        "select 1 from clerk_private.inbox_default",
        "select 1 from clerk_private.inbox_seen",
        "select 1 from clerk_private.parked",
        "select 1 from clerk_private.burying",
        "select 1 from clerk_private.instance",
        "select clerk_private.hidden_ids()",
        "select clerk_private.my_org_ids()",
        "select clerk_private.maintain()",
        "select clerk_private.apply('{}')",
        "select nextval('clerk_private.tombstones')",
    ],
)
async def test_the_private_schema_is_out_of_reach(store: Store, role: str, query: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="schema clerk_private"):
        await store.seen(Seen(role, '{"sub": "user_a"}'), query)


async def crowd(store: Store) -> None:
    """Enough rows that a plan has something to choose."""
    await store.admin.execute(
        """
        insert into clerk.users (id, created_at, updated_at)
        select 'user_' || n, now(), now() from generate_series(1, 20000) n;
        insert into clerk.user_emails (user_id, id, email, verified, is_primary)
        select 'user_' || n, 'idn_' || n, n || '@x', true, true from generate_series(1, 20000) n;
        insert into clerk.organizations (id, name, created_at, updated_at)
        select 'org_' || n, 'x', now(), now() from generate_series(1, 5000) n;
        insert into clerk.organization_memberships (id, organization_id, user_id, role, created_at, updated_at)
        select 'orgmem_' || n, 'org_' || n % 5000, 'user_' || n % 20000, 'x', now(), now()
        from generate_series(1, 30000) n;
        analyze clerk.users, clerk.user_emails, clerk.organizations, clerk.organization_memberships;
        """
    )


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", []) for node in nodes(child))]


async def plan_of(store: Store, who: Seen, query: str) -> list[dict[str, Any]]:
    async with as_role(store.admin, who):
        text = await store.admin.fetchval(f"explain (format json, verbose, analyze, timing off) {query}")
    return nodes(json.loads(text)[0]["Plan"])


OUR_FUNCTION = re.compile(r"\bclerk(?:_private)?\.\w+\(")


def called_per_row(found: list[dict[str, Any]]) -> list[str]:
    """What scans of the mirror compute with a function of ours, for each row, instead of what was asked once."""
    return [
        f"{name}: {value}"
        for node in found
        if node.get("Schema") == "clerk"
        for name, value in node.items()
        if name != "Plans" and OUR_FUNCTION.search(str(value))
    ]


INDEXED = {
    "users": "users_pkey",
    "user_emails": "user_emails_pkey",
    "organizations": "organizations_pkey",
    "organization_memberships": "memberships_by_organization",
}


@pytest.mark.parametrize("table", TABLES)
async def test_a_policy_asks_once_and_finds_by_index(store: Store, table: str) -> None:
    await crowd(store)
    found = await plan_of(store, Seen.user("user_7"), f"select count(*) from clerk.{table}")
    assert called_per_row(found) == []
    assert any(node.get("Parent Relationship") == "InitPlan" for node in found)
    scans = [node for node in found if "Scan" in node["Node Type"] and node["Node Type"] != "Function Scan"]
    assert INDEXED[table] in {node.get("Index Name") for node in scans}
    assert "Seq Scan" not in {node["Node Type"] for node in scans}
    assert all(node["Actual Loops"] == 1 for node in found if node["Node Type"] in ("ProjectSet", "Function Scan"))


@pytest.mark.parametrize("table", TABLES)
async def test_a_query_that_reads_all_rows_asks_once_all_the_same(store: Store, table: str) -> None:
    await crowd(store)
    for who in (Seen.user("user_7"), Seen("service_role")):
        async with as_role(store.admin, who):
            await store.admin.execute("set local enable_indexscan = off; set local enable_bitmapscan = off")
            await store.admin.execute("set local enable_indexonlyscan = off")
            text = await store.admin.fetchval(
                f"explain (format json, verbose, analyze, timing off) select count(*) from clerk.{table}"
            )
        found = nodes(json.loads(text)[0]["Plan"])
        assert "Seq Scan" in {node["Node Type"] for node in found}
        assert called_per_row(found) == []
        assert all(node["Actual Loops"] == 1 for node in found if node["Node Type"] in ("ProjectSet", "Function Scan"))


async def test_a_policy_with_a_function_per_row_would_be_noticed(store: Store) -> None:
    await crowd(store)
    await store.admin.execute(
        "alter policy users_read on clerk.users using (id = clerk.current_user_id());"
        "alter policy organizations_read on clerk.organizations using (id in (select clerk_private.my_org_ids()))"
    )
    assert called_per_row(await plan_of(store, Seen.user("user_7"), "select count(*) from clerk.users"))
    found = await plan_of(store, Seen.user("user_7"), "select count(*) from clerk.organizations")
    assert "Seq Scan" in {node["Node Type"] for node in found}


async def test_a_data_migration_as_the_owner_changes_every_row(store: Store) -> None:
    async with store.admin.transaction():
        await store.admin.execute("set local role clerk_owner")
        assert await store.admin.execute("update clerk.users set last_name = 'changed'") == "UPDATE 4"
    assert {row["last_name"] for row in await store.rows("clerk.users")} == {"changed"}


async def test_the_private_tables_obey_their_owner(store: Store) -> None:
    async with store.admin.transaction():
        await store.admin.execute("set local role clerk_owner")
        count = await store.admin.execute("update clerk_private.objects set synced_at = now()")
    assert count == "UPDATE 12"
