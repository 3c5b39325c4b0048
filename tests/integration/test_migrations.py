"""The migrations as others run them: without superuser rights, at once, on Supabase, with a prefix, by mistake."""

import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

import pytest

from devtools import checksums, supabase
from devtools.postgres import (
    Database,
    ForeignServer,
    Server,
    create_database,
    create_logins,
    drop_database,
    execute,
    fetch,
)
from devtools.postgres.databases import login_password
from nexus_auth.store.migrations import SQL_DIR, MigrationFailed, migrate, render, rollback, status
from tests.conftest import prepare

FILES = sorted(file.name for file in SQL_DIR.glob("*.sql"))

OUR_OBJECTS = """
with ours as (select oid, nspname, nspowner, nspacl from pg_namespace where nspname in ('clerk', 'clerk_private'))
select 'schema' as kind, nspname::text as name, nspowner::regrole::text as what, nspacl::text as acl from ours
union all
select 'relation', format('%s.%s', nspname, relname),
       concat_ws(' ', relkind, relrowsecurity, relforcerowsecurity, relowner::regrole), relacl::text
from pg_class c join ours n on n.oid = c.relnamespace
union all
select 'function', p.oid::regprocedure::text,
       concat_ws(' ', md5(prosrc), prosecdef, provolatile, proconfig, proowner::regrole), proacl::text
from pg_proc p join ours n on n.oid = p.pronamespace
union all
select 'policy', format('%s.%s.%s', schemaname, tablename, policyname),
       concat_ws(' ', roles, cmd, qual, with_check), null
from pg_policies p join ours n on n.nspname = p.schemaname
union all
select 'default', concat_ws(' ', defaclrole::regrole, defaclobjtype), '', defaclacl::text from pg_default_acl
order by 1, 2
"""

AUTH_OBJECTS = """
with auth as (select oid, nspname, xmin, nspowner, nspacl from pg_namespace where nspname = 'auth')
select 'schema' as kind, nspname::text as name, concat_ws(' ', xmin, nspacl, nspowner) as what from auth
union all
select 'function', proname, concat_ws(' ', p.xmin, proacl, proowner)
from pg_proc p join auth a on a.oid = p.pronamespace
union all
select 'relation', relname, concat_ws(' ', c.xmin, relacl, relowner)
from pg_class c join auth a on a.oid = c.relnamespace
union all
select 'role', rolname, concat_ws(' ', rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolbypassrls)
from pg_roles where rolname in ('anon', 'authenticated', 'service_role', 'authenticator', 'supabase_auth_admin')
order by 1, 2
"""

SUPABASE = """
create role anon nologin;
create role authenticated nologin;
create role service_role nologin bypassrls;
create role authenticator login noinherit password 'authenticator';
create role supabase_auth_admin nologin noinherit createrole;
grant anon, authenticated, service_role to authenticator;
"""

SUPABASE_AUTH = """
create schema auth authorization supabase_auth_admin;
set local role supabase_auth_admin;
create table auth.users (id uuid primary key);
create function auth.jwt() returns jsonb language sql stable as
$$ select coalesce(nullif(current_setting('request.jwt.claim', true), ''),
                   nullif(current_setting('request.jwt.claims', true), ''))::jsonb $$;
create function auth.uid() returns uuid language sql stable as $$ select (auth.jwt() ->> 'sub')::uuid $$;
grant usage on schema auth to anon, authenticated, service_role;
"""

TWO_USERS = """
set role clerk_definer;
insert into clerk.users (id, created_at, updated_at) select id, now(), now() from unnest(array['user_a', 'user_b']) id;
"""


def one(url: str, query: str) -> object:
    return fetch(url, query)[0][0]


def deployer(server: Server, *, attributes: str = "createrole") -> Database:
    """A database that belongs to a role without superuser rights, reached as that role."""
    password = login_password(server.admin_url(), "deployer")
    execute(server.admin_url(), f"create role deployer login {attributes} password '{password}'")
    create_database(server.admin_url(), "deployed")
    execute(server.admin_url(), "alter database deployed owner to deployer")
    admin = Database(server.admin_url("deployed"))
    return Database(
        admin.admin_url.replace(f"//{admin.admin_url.split('//')[1].split('@')[0]}@", f"//deployer:{password}@")
    )


def everything_back(url: str, *, role_prefix: str = "clerk_") -> None:
    taken_back = []
    while any(status(url).values()):
        taken_back += rollback(url, role_prefix=role_prefix)
    assert taken_back == FILES[::-1]


def up_down_up(url: str) -> None:
    assert migrate(url) == FILES
    first = fetch(url, OUR_OBJECTS)
    assert len(first) > 20
    assert migrate(url) == []
    everything_back(url)
    assert fetch(url, OUR_OBJECTS) == []
    assert migrate(url) == FILES
    assert fetch(url, OUR_OBJECTS) == first
    assert status(url) == dict.fromkeys(FILES, True)


def test_up_down_up_as_superuser(own_server: Server) -> None:
    up_down_up(create_database(own_server.admin_url(), "by_superuser"))


def test_up_down_up_as_a_role_that_may_only_create_roles(own_server: Server) -> None:
    database = deployer(own_server)
    up_down_up(database.admin_url)
    owners = fetch(
        database.admin_url,
        "select distinct pg_get_userbyid(relowner)::text from pg_class "
        "where relnamespace in ('clerk'::regnamespace, 'clerk_private'::regnamespace)",
    )
    assert [row[0] for row in owners] == ["clerk_owner"]


def test_a_view_that_the_migrator_makes_shows_no_row_past_the_policies(own_server: Server) -> None:
    """Policies do not hold for the owner's members, and a view reads as who made it. True before Postgres 16, too."""
    database = deployer(own_server)
    migrate(database.admin_url)
    execute(own_server.admin_url("deployed"), TWO_USERS)
    execute(
        database.admin_url,
        "set role clerk_owner; grant usage on schema clerk to deployer; grant select on clerk.users to deployer;"
        " reset role",
        "create view public.people as select id from clerk.users; grant select on public.people to authenticated",
    )
    assert one(own_server.admin_url("deployed"), "select count(*) from clerk.users") == 2
    assert fetch(database.admin_url, "select id from public.people") == []
    for role in ("clerk_owner", "clerk_definer"):
        held = f"select pg_has_role('deployer', '{role}', 'usage'), pg_has_role('deployer', '{role}', 'member')"
        assert tuple(fetch(database.admin_url, held)[0]) == (False, True)


def test_many_migrate_one_database_at_once(own_server: Server) -> None:
    url = create_database(own_server.admin_url(), "contended")
    with ThreadPoolExecutor(max_workers=4) as threads:
        applied = list(threads.map(lambda _: migrate(url), range(4)))
    assert sorted(name for names in applied for name in names) == FILES


def test_many_installations_create_their_roles_on_one_server_at_once(own_server: Server) -> None:
    urls = [create_database(own_server.admin_url(), f"installation_{number}") for number in range(4)]
    with ThreadPoolExecutor(max_workers=4) as threads:
        assert list(threads.map(migrate, urls)) == [FILES] * 4


def by_dbmate(url: str) -> None:
    assert migrate(url) == FILES


def by_supabase_push(url: str) -> None:
    with TemporaryDirectory() as folder:
        written = supabase.write(Path(folder))
        assert [file.name for file in written] == FILES
        for file in written:
            execute(url, file.read_text())


@pytest.mark.parametrize("run", [by_dbmate, by_supabase_push])
def test_supabase_keeps_its_roles_and_its_auth_schema(own_server: Server, run: Callable[[str], None]) -> None:
    execute(own_server.admin_url(), SUPABASE)
    database = deployer(own_server, attributes="createrole createdb bypassrls")
    admin = own_server.admin_url("deployed")
    execute(admin, SUPABASE_AUTH)
    before = fetch(admin, AUTH_OBJECTS)
    assert len(before) == 10
    run(database.admin_url)
    assert fetch(admin, AUTH_OBJECTS) == before
    calls = "select count(*) from pg_proc where pronamespace = 'clerk'::regnamespace and prosrc ~ 'auth[.]'"
    assert one(admin, calls) == 0
    assert one(admin, "select has_database_privilege('authenticator', current_database(), 'connect')") is True

    execute(admin, TWO_USERS)
    api = admin.replace(admin.split("//")[1].split("@")[0], "authenticator:authenticator")
    assert seen_by(api, "authenticated") == ["user_a"]
    assert seen_by(api, "service_role") == ["user_a", "user_b"]


def seen_by(api: str, role: str) -> list[str]:
    """The users that a role of PostgREST sees, with the claims of user_a."""
    claims = f'-c role={role} -c request.jwt.claims={{"sub":"user_a"}}'
    rows = fetch(f"{api}&options={quote(claims)}", "select id from clerk.users order by 1")
    return [row["id"] for row in rows]


def test_migrations_for_supabase_leave_a_projects_own_files_alone(tmp_path: Path) -> None:
    own = tmp_path / "20260101000000_own.sql"
    own.write_text("create table own ();")
    supabase.main([str(tmp_path)])
    assert own.read_text() == "create table own ();"
    assert sorted(file.name for file in tmp_path.iterdir()) == [own.name, *FILES]


def test_git_holds_no_copies_of_the_migrations_for_supabase() -> None:
    assert supabase.DEFAULT_FOLDER.relative_to(supabase.CHECKOUT).parts[0] == "build"
    assert "/build/" in (supabase.CHECKOUT / ".gitignore").read_text().splitlines()
    assert not (SQL_DIR.parent / "supabase").exists()


def test_a_migration_for_supabase_is_the_upward_half_in_a_transaction() -> None:
    assert (
        supabase.for_supabase("-- migrate:up\nselect 1;\n\n-- migrate:down\nselect 2;\n")
        == "begin;\nselect 1;\ncommit;\n"
    )
    assert supabase.for_supabase("-- migrate:up transaction:false\nselect 1;\n") == "select 1;\n"
    with pytest.raises(ValueError, match="migrate:up"):
        supabase.for_supabase("select 1;\n")


def test_another_prefix_is_another_installation_on_the_same_server(own_server: Server) -> None:
    first = prepare(own_server, "first")
    url = create_database(own_server.admin_url(), "second")
    assert migrate(url, role_prefix="second_") == FILES
    second = create_logins(url, role_prefix="second_")
    assert one(second.url("webhook"), "select current_user") == "second_webhook_login"
    assert one(second.admin_url, "select clerk.jwt() is null") is True
    foreign = "select count(*) from ({}) o where acl ~ '\\mclerk_' or what ~ '\\mclerk_(owner|definer|writer)'"
    assert one(second.admin_url, foreign.format(OUR_OBJECTS)) == 0
    for login, elsewhere in ((first, "second"), (second, "first")):
        with pytest.raises(Exception, match="permission denied for database"):
            fetch(login.of(elsewhere).url("webhook"), "select 1")
    everything_back(url, role_prefix="second_")
    assert one(first.url("webhook"), "select 1") == 1


def test_a_prefix_changes_the_names_of_roles_and_nothing_else() -> None:
    text = "grant usage on schema clerk_private to clerk_writer, \"clerk_cli\"; select clerk_owner_of('clerk_worker')"
    other = "grant usage on schema clerk_private to x_writer, \"x_cli\"; select clerk_owner_of('x_worker')"
    assert render(text, role_prefix="x_") == other
    assert render(text, role_prefix="clerk_") == text
    for bad in ("", "1x_", "X_", "x-", "x'; drop", "x" * 41):
        with pytest.raises(ValueError, match="role prefix"):
            render(text, role_prefix=bad)


def test_a_mistyped_database_is_refused_and_not_created(postgres: Server | ForeignServer) -> None:
    with pytest.raises(MigrationFailed, match="does not exist"):
        migrate(postgres.admin_url("nexus_auth_mistyped"))
    assert one(postgres.admin_url(), "select count(*) from pg_database where datname = 'nexus_auth_mistyped'") == 0


def sql_folder(place: Path, **files: str) -> Path:
    for name, up in files.items():
        (place / f"{name.removeprefix('v')}.sql").write_text(f"-- migrate:up\n{up}\n-- migrate:down\n")
    return place


@pytest.fixture
def empty(own_server: Server) -> str:
    return create_database(own_server.admin_url(), "empty")


def test_a_failing_file_leaves_nothing_of_itself_and_its_reason_holds_no_password(empty: str, tmp_path: Path) -> None:
    sql = sql_folder(
        tmp_path, v20260101000000_good="create table good ();", v20260101000001_bad="create table half (); select 1/0;"
    )
    with pytest.raises(MigrationFailed, match="division by zero"):
        migrate(empty, sql_dir=sql)
    assert status(empty, sql_dir=sql) == {"20260101000000_good.sql": True, "20260101000001_bad.sql": False}
    assert one(empty, "select to_regclass('half') is null and to_regclass('good') is not null") is True
    wrong = empty.replace("@", "wrong%zz@")
    with pytest.raises(MigrationFailed) as refused:
        migrate(wrong, sql_dir=sql)
    assert wrong.split(":")[2].split("@")[0] not in str(refused.value)


def test_a_file_older_than_the_newest_applied_one_is_refused(empty: str, tmp_path: Path) -> None:
    migrate(empty, sql_dir=sql_folder(tmp_path, v20260102000000_new="select 1;"))
    with pytest.raises(MigrationFailed, match="out of order"):
        migrate(empty, sql_dir=sql_folder(tmp_path, v20260101000000_old="select 1;"))


def test_a_folder_without_migrations_is_a_mistake(empty: str, tmp_path: Path) -> None:
    with pytest.raises(MigrationFailed, match="no migrations"):
        migrate(empty, sql_dir=tmp_path)


def test_it_waits_for_a_server_that_is_starting_and_not_for_ever(own_server: Server) -> None:
    url = create_database(own_server.admin_url(), "late")
    own_server.stop()
    with pytest.raises(MigrationFailed, match="connection refused"):
        migrate(url, timeout=0.5)
    with ThreadPoolExecutor(max_workers=1) as threads:
        migrating = threads.submit(migrate, url)
        own_server.start()
        assert migrating.result(timeout=60) == FILES


def test_an_edited_added_or_lost_file_is_noticed(tmp_path: Path) -> None:
    shutil.copytree(SQL_DIR.parent, tmp_path / "sql")
    assert checksums.differences(tmp_path) == []
    edited, lost, added = (
        tmp_path / "sql" / "migrations" / name for name in (FILES[0], FILES[1], "20990101000000_new.sql")
    )
    edited.write_text(edited.read_text() + " ")
    lost.unlink()
    added.write_text("-- migrate:up\n")
    assert checksums.differences(tmp_path) == sorted(f"sql/migrations/{file.name}" for file in (edited, lost, added))
    checksums.write(tmp_path)
    assert checksums.differences(tmp_path) == []


def test_the_checksums_are_in_the_format_of_sha256sum() -> None:
    told = subprocess.run(
        ["sha256sum", "--check", "--strict", "sql/CHECKSUMS"], cwd=SQL_DIR.parents[1], capture_output=True, text=True
    )
    assert told.returncode == 0, told.stdout + told.stderr
    assert len(told.stdout.splitlines()) == len(FILES)


def test_a_database_that_was_migrated_can_be_dropped_and_made_again(postgres: Server | ForeignServer) -> None:
    for _ in range(2):
        url = create_database(postgres.admin_url(), "nexus_auth_again")
        assert migrate(url) == FILES
        drop_database(postgres.admin_url(), "nexus_auth_again")
