"""Rules that every migration keeps, each proved able to fail: a violation is planted, and the rule names it."""

import re

import asyncpg
import pytest

from devtools.postgres import Database, execute, fetch
from nexus_auth.store.migrations import SQL_DIR

OURS = "('clerk'::regnamespace, 'clerk_private'::regnamespace)"

ENTRIES = """
    'ingest', 'replay', 'bury', 'verifier_seen', 'held_due', 'answer_held', 'settle_held', 'clear_secret', 'forget',
    'fence', 'repair', 'undo_edits', 'set_guard', 'weigh_deletions', 'bury_verified', 'revive', 'lower_version',
    'held', 'unadopted', 'edited', 'differing', 'open_budget', 'take_budget', 'pause_budget'"""
"""Functions through which the services write; each is granted to those that need it (privileges.txt)."""

RULES = {
    "every table has row-level security": f"""
        select oid::regclass::text from pg_class
        where relnamespace in {OURS} and relkind in ('r', 'p') and not relrowsecurity""",
    "no table forces row-level security upon its owner, who could not be dumped": f"""
        select oid::regclass::text from pg_class
        where relnamespace in {OURS} and relkind in ('r', 'p') and relforcerowsecurity""",
    "nobody but a superuser has the owner's rights without becoming the owner": """
        select m.rolname from pg_roles m
        where not m.rolsuper and m.rolname not in ('clerk_owner', 'clerk_definer') and (
          pg_has_role(m.oid, 'clerk_owner', 'usage') or pg_has_role(m.oid, 'clerk_definer', 'usage'))""",
    "the owner has no policy of its own, nor has everybody": f"""
        select p.polname from pg_policy p join pg_class c on c.oid = p.polrelid
        where c.relnamespace in {OURS} and p.polroles && array[0, 'clerk_owner'::regrole]::oid[]""",
    "a reader has one policy on a table, and it reads": f"""
        select p.polrelid::regclass || ' ' || r from pg_policy p join pg_class c on c.oid = p.polrelid
        cross join unnest(p.polroles) r
        where c.relnamespace in {OURS} and r in ('anon'::regrole, 'authenticated'::regrole, 'service_role'::regrole)
        group by p.polrelid, r having count(*) > 1 or bool_or(p.polcmd <> 'r' or not p.polpermissive)""",
    "no function is for everybody": f"""
        select p.oid::regprocedure::text from pg_proc p
        where p.pronamespace in {OURS} and has_function_privilege('public', p.oid, 'execute')""",
    "no table, column or sequence is for everybody": f"""
        select c.oid::regclass::text from pg_class c
        where c.relnamespace in {OURS} and c.relkind in ('r', 'p', 'v', 'm', 'S')
          and exists (select from aclexplode(c.relacl) a where a.grantee = 0)
        union
        select c.oid::regclass || '.' || a.attname from pg_class c join pg_attribute a on a.attrelid = c.oid
        where c.relnamespace in {OURS} and exists (select from aclexplode(a.attacl) x where x.grantee = 0)""",
    "everything belongs to the owner or the definer": f"""
        select c.oid::regclass::text from pg_class c
        where c.relnamespace in {OURS} and c.relowner <> 'clerk_owner'::regrole
        union all
        select p.oid::regprocedure::text from pg_proc p
        where p.pronamespace in {OURS} and p.proowner not in ('clerk_owner'::regrole, 'clerk_definer'::regrole)
        union all
        select nspname from pg_namespace
        where oid in {OURS} and nspowner <> 'clerk_owner'::regrole""",
    "owner and definer cannot log in, and no group can": """
        select rolname from pg_roles where rolname ~ '^clerk_(owner|definer|writer|webhook|reconciler|worker|cli)$'
          and (rolcanlogin or rolsuper or rolbypassrls or rolcreaterole or rolcreatedb or rolreplication)""",
    "what runs with its owner's rights and takes arguments is one service's way to write, known by name": f"""
        select p.oid::regprocedure::text from pg_proc p
        where p.pronamespace in {OURS} and p.prosecdef and p.pronargs > 0 and p.proname <> all (array[{ENTRIES}])""",
    "what runs with its owner's rights is for no reader, but for ids": f"""
        select p.oid::regprocedure || ' ' || r from pg_proc p
        cross join unnest(array['anon', 'authenticated', 'service_role']) r
        where p.pronamespace in {OURS} and p.prosecdef and has_function_privilege(r, p.oid, 'execute')
          and p.proname <> all (array['hidden_ids', 'my_org_ids'])""",
    "no service deletes from the mirror, nor writes what decides about it": """
        select c.oid::regclass || ' ' || r from pg_class c
        cross join unnest(array['writer', 'webhook', 'reconciler', 'worker', 'cli']) r
        where (c.relnamespace = 'clerk'::regnamespace and c.relkind in ('r', 'p', 'v')
            or c.oid = any (array['clerk_private.objects', 'clerk_private.burying', 'clerk_private.deletions',
              'clerk_private.guard_limits', 'clerk_private.held_deletions',
              'clerk_private.distrusted_secrets']::regclass[]))
          and has_table_privilege('clerk_' || r, c.oid, 'insert, update, delete, truncate')""",
    "what runs with its owner's rights looks nowhere for names but in pg_catalog, and in pg_temp last": f"""
        select p.oid::regprocedure::text from pg_proc p where p.pronamespace in {OURS} and p.prosecdef
          and not coalesce('search_path=pg_catalog, pg_temp' = any (p.proconfig), false)""",
    "what runs with the table owner's rights is upkeep, known by name": f"""
        select p.oid::regprocedure::text from pg_proc p
        where p.pronamespace in {OURS} and p.prosecdef and p.proowner <> 'clerk_definer'::regrole
          and p.oid <> all (array['clerk_private.maintain()', 'clerk_private.backlog()']::regprocedure[])""",
    "helpers that read for a policy stand in the private schema": """
        select p.oid::regprocedure::text from pg_proc p
        where p.pronamespace = 'clerk'::regnamespace and (p.prosecdef or p.prokind <> 'f')""",
    "every procedural function fixes its search_path": f"""
        select p.oid::regprocedure::text from pg_proc p join pg_language l on l.oid = p.prolang
        where p.pronamespace in {OURS} and l.lanname <> 'sql'
          and not coalesce(p.proconfig && array['search_path=""', 'search_path=pg_catalog, pg_temp'], false)""",
    "no foreign keys in the mirror": """
        select conname from pg_constraint
        where contype = 'f' and 'clerk'::regnamespace in (connamespace, (
          select c.relnamespace from pg_class c where c.oid = confrelid))""",
    "no unique key in the mirror but Clerk's id": """
        select i.indexrelid::regclass::text from pg_index i join pg_class c on c.oid = i.indrelid
        where c.relnamespace = 'clerk'::regnamespace and i.indisunique and not i.indisprimary
        union all
        select i.indexrelid::regclass::text from pg_index i join pg_class c on c.oid = i.indrelid
        where c.relnamespace = 'clerk'::regnamespace and i.indisprimary
          and (select array_agg(a.attname::text order by a.attname) from pg_attribute a
               where a.attrelid = c.oid and a.attnum = any (i.indkey))
              <> case c.relname when 'user_emails' then array['id', 'user_id'] else array['id'] end""",
    "no generated columns and nothing private in the mirror": """
        select a.attrelid::regclass || '.' || a.attname from pg_attribute a join pg_class c on c.oid = a.attrelid
        where c.relnamespace = 'clerk'::regnamespace and c.relkind = 'r' and a.attnum > 0 and not a.attisdropped
          and (a.attgenerated <> '' or a.attname ~ 'private|unsafe|raw')""",
    "the mirror holds no views": """
        select oid::regclass::text from pg_class
        where relnamespace = 'clerk'::regnamespace and relkind in ('v', 'm')""",
    "a view of ours reads with its caller's rights": f"""
        select oid::regclass::text from pg_class where relnamespace in {OURS}
          and (relkind = 'm' or relkind = 'v' and not 'security_invoker=true' = any (coalesce(reloptions, '{{}}')))""",
    "no triggers and no rules": f"""
        select t.tgname from pg_trigger t join pg_class c on c.oid = t.tgrelid
        where c.relnamespace in {OURS} and not t.tgisinternal
        union all
        select r.rulename from pg_rewrite r join pg_class c on c.oid = r.ev_class
        where c.relnamespace in {OURS} and r.rulename <> '_RETURN'""",
    "no function calls auth.jwt() or anything else of auth's": f"""
        select p.oid::regprocedure::text from pg_proc p
        where p.pronamespace in {OURS} and coalesce(p.prosrc, '') ~* '\\mauth\\s*\\.'""",
    "texts of the mirror have the database's collation, which is deterministic and hence leakproof": """
        select a.attrelid::regclass || '.' || a.attname from pg_attribute a join pg_class c on c.oid = a.attrelid
        where c.relnamespace = 'clerk'::regnamespace and c.relkind = 'r' and a.attnum > 0
          and a.attcollation not in (0, 'pg_catalog."default"'::regcollation)""",
}

VIOLATIONS = {
    "every table has row-level security": [
        "create table clerk_private.planted (id text)",
        "create table clerk.planted (id text)",
        "alter table clerk_private.objects disable row level security",
        "create table clerk_private.inbox_20200101 partition of clerk_private.inbox"
        " for values from ('2020-01-01') to ('2020-01-02')",
    ],
    "no table forces row-level security upon its owner, who could not be dumped": [
        "alter table clerk.users force row level security",
        "alter table clerk_private.objects force row level security",
    ],
    "nobody but a superuser has the owner's rights without becoming the owner": [
        "grant clerk_owner to clerk_webhook",
        "create role planted; grant clerk_definer to planted",
        "alter role clerk_migrator inherit; grant clerk_owner to clerk_migrator; grant clerk_owner to clerk_cli",
    ],
    "the owner has no policy of its own, nor has everybody": [
        "create policy planted on clerk.users to clerk_owner using (true)",
        "create policy planted on clerk_private.objects using (true)",
    ],
    "a reader has one policy on a table, and it reads": [
        "create policy planted on clerk.users for select to authenticated using (true)",
        "drop policy users_read on clerk.users; create policy planted on clerk.users to authenticated using (true)",
    ],
    "no function is for everybody": [
        "create function clerk_private.planted() returns int language sql as 'select 1'",
        "grant execute on function clerk.jwt() to public",
    ],
    "no table, column or sequence is for everybody": [
        "grant select on clerk.users to public",
        "grant select (id) on clerk.users to public",
        "grant usage on sequence clerk_private.tombstones to public",
    ],
    "everything belongs to the owner or the definer": [
        "create table clerk.planted (id text)",
        "create function clerk_private.planted() returns int language sql as 'select 1'",
        "alter schema clerk owner to current_user",
    ],
    "owner and definer cannot log in, and no group can": [
        "alter role clerk_owner login",
        "alter role clerk_webhook bypassrls",
        "alter role clerk_worker createrole",
    ],
    "what runs with its owner's rights and takes arguments is one service's way to write, known by name": [
        "create function clerk_private.planted(a int) returns int language sql security definer as 'select 1'",
        "alter function clerk_private.bury_children(integer) security definer",
    ],
    "what runs with its owner's rights is for no reader, but for ids": [
        "grant execute on function clerk_private.backlog() to authenticated",
    ],
    "no service deletes from the mirror, nor writes what decides about it": [
        "grant delete on clerk.users to clerk_reconciler",
        "grant update on clerk_private.objects to clerk_writer",
        "grant insert on clerk_private.deletions to clerk_cli",
    ],
    "what runs with its owner's rights looks nowhere for names but in pg_catalog, and in pg_temp last": [
        "create function clerk_private.planted() returns int language sql security definer as 'select 1'",
        "alter function clerk_private.maintain() set search_path = ''",
        "alter function clerk_private.hidden_ids() reset search_path",
    ],
    "what runs with the table owner's rights is upkeep, known by name": [
        "alter function clerk_private.my_org_ids() owner to clerk_owner",
    ],
    "helpers that read for a policy stand in the private schema": [
        "alter function clerk.current_user_id() security definer",
    ],
    "every procedural function fixes its search_path": ["alter function clerk_private.bury(integer) reset search_path"],
    "no foreign keys in the mirror": [
        "alter table clerk.user_emails add constraint planted foreign key (user_id) references clerk.users",
    ],
    "no unique key in the mirror but Clerk's id": [
        "create unique index planted on clerk.users (primary_email)",
        "alter table clerk.organization_memberships add constraint planted unique (organization_id, user_id)",
        "alter table clerk.organizations drop constraint organizations_pkey, add primary key (slug)",
    ],
    "no generated columns and nothing private in the mirror": [
        "alter table clerk.users add column private_metadata jsonb",
        "alter table clerk.users add column planted text generated always as (lower(username)) stored",
    ],
    "the mirror holds no views": ["create view clerk.planted as select * from clerk.users"],
    "a view of ours reads with its caller's rights": [
        "create view clerk_private.planted as select * from clerk.users",
        "alter view clerk_private.typed_rows reset (security_invoker)",
    ],
    "no triggers and no rules": [
        "create trigger planted before update on clerk.users execute function suppress_redundant_updates_trigger()",
        "create rule planted as on delete to clerk.users do instead nothing",
    ],
    "no function calls auth.jwt() or anything else of auth's": [
        "create schema auth; create function auth.jwt() returns jsonb language sql as $$ select '{}'::jsonb $$;"
        "create or replace function clerk.jwt() returns jsonb language sql stable as 'select auth.jwt()'",
    ],
    "texts of the mirror have the database's collation, which is deterministic and hence leakproof": [
        'alter table clerk.organizations alter column slug type text collate "C"',
    ],
}


def broken(url: str, rule: str) -> list[str]:
    return [str(row[0]) for row in fetch(url, RULES[rule])]


@pytest.mark.parametrize("rule", RULES)
def test_the_migrated_database_keeps_the_rule(template: Database, rule: str) -> None:
    assert broken(template.admin_url, rule) == []


@pytest.mark.parametrize(
    ("rule", "violation"), [(rule, violation) for rule, violations in VIOLATIONS.items() for violation in violations]
)
async def test_a_planted_violation_breaks_the_rule(template: Database, rule: str, violation: str) -> None:
    connection = await asyncpg.connect(template.admin_url)
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(violation)
        assert await connection.fetch(RULES[rule]) != []
    finally:  # roles belong to the whole server: nothing of a violation may stay
        await transaction.rollback()
        await connection.close()


def test_every_rule_was_seen_to_fail() -> None:
    assert VIOLATIONS.keys() == RULES.keys()


def sql_without_comments() -> dict[str, str]:
    return {file.name: re.sub(r"--[^\n]*", "", file.read_text()) for file in sorted(SQL_DIR.glob("*.sql"))}


AUTH = re.compile(r"\bauth\s*\.|\bschema\s+(?:if\s+(?:not\s+)?exists\s+)?auth\b", re.IGNORECASE)


def test_no_migration_touches_schema_auth() -> None:
    assert [name for name, text in sql_without_comments().items() if AUTH.search(text)] == []
    for bad in ("create schema auth;", "CREATE SCHEMA IF NOT EXISTS auth", "select auth.jwt()", "drop schema auth"):
        assert AUTH.search(bad)
    assert not AUTH.search("grant usage on schema clerk to authenticated")


def test_every_function_is_read_by_the_rules(template: Database) -> None:
    """The rules look at two schemas; a migration that makes a third one must bring it under them."""
    made = fetch(
        template.admin_url,
        "select nspname from pg_namespace where nspname !~ '^pg_' and nspname <> 'information_schema' order by 1",
    )
    assert [row["nspname"] for row in made] == ["clerk", "clerk_migrations", "clerk_private", "public"]


SHADOWED = ("text", "date", "jsonb", "name", "regclass")


async def with_shadowed_types(url: str, *, role: str, query: str) -> None:
    """Runs a query while pg_temp holds a domain for each type's name, whose check tells who runs it."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f"set role {role}")
        await connection.execute("select set_config('request.jwt.claims', '{\"sub\":\"user_a\"}', false)")
        for name in SHADOWED:
            await connection.execute(
                f"create function pg_temp.steal_{name}(pg_catalog.{name}) returns boolean language plpgsql as"
                f" $$ begin raise exception 'ran as %', current_user; end $$;"
                f"create domain pg_temp.{name} as pg_catalog.{name} check (pg_temp.steal_{name}(value))"
            )
        await connection.fetch(query)
    finally:
        await connection.close()


@pytest.mark.parametrize(
    ("role", "query"),
    [
        ("clerk_webhook", "select clerk_private.maintain()"),
        ("clerk_webhook", "select clerk_private.backlog()"),
        ("authenticated", "select id from clerk.users"),
        ("authenticated", "select id from clerk.organization_memberships"),
    ],
)
async def test_a_callers_temporary_types_run_nothing_with_the_owners_rights(
    database: Database, role: str, query: str
) -> None:
    execute(database.admin_url, "insert into clerk_private.burying values ('user', 'user_a', 'cascade')")
    await with_shadowed_types(database.admin_url, role=role, query=query)


async def test_an_empty_search_path_would_let_them(database: Database) -> None:
    execute(database.admin_url, "alter function clerk_private.maintain() set search_path = ''")
    with pytest.raises(asyncpg.RaiseError, match="ran as clerk_owner"):
        await with_shadowed_types(database.admin_url, role="clerk_webhook", query="select clerk_private.maintain()")
