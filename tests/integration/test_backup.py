"""docs/backup.md as it is typed, by an owner that is no superuser: dump, restore elsewhere, in step."""

import os
import re
import secrets
import subprocess
import sys
from pathlib import Path

from devtools.postgres import Database, Server, execute, fetch
from devtools.postgres.account import account_for_postgres
from devtools.postgres.binaries import find_binaries
from devtools.postgres.databases import login_name, login_password
from tests.commandline import CommandLine, mirror, store
from tests.conftest import postgres_version
from tests.events import event, membership, organization, user

PAGE = Path(__file__).parents[2] / "docs" / "backup.md"
SERVICES = ("webhook", "reconciler", "cli")


def commands() -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def typed(command: str, *, folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, command + done.stdout + done.stderr
    return done.stdout


def owned(server: Server, name: str) -> str:
    """The URL of an empty database whose owner may create roles and nothing more."""
    execute(server.admin_url(), f"create database {name} owner app_owner")
    return f"postgresql://app_owner:deploys@127.0.0.1:{server.port}/{name}?sslmode=disable"


def test_the_page_on_backup_works_as_it_is_typed(own_server: Server, tmp_path: Path) -> None:
    execute(own_server.admin_url(), "create role app_owner login createrole password 'deploys'")
    owner, restored_owner = owned(own_server, "app"), owned(own_server, "restored")
    before, after = (Database(own_server.admin_url(name)) for name in ("app", "restored"))
    logins = tmp_path / "logins"
    logins.mkdir()
    for service in SERVICES:
        (logins / service).write_text(login_password(before.admin_url, login_name(service)))
    migrate = CommandLine(tmp_path, DATABASE_URL=owner)
    made = migrate("migrate", "--logins-from", "logins")
    assert made.code == 0, made.err
    execute(
        before.admin_url,
        "grant usage on schema clerk to app_owner; grant references, select on clerk.users to app_owner;",
        "set role app_owner; create table orders (id serial primary key, user_id text references clerk.users)",
    )
    store(
        before,
        event("user.created", user("user_ada")),
        event("organization.created", organization("org_a")),
        event("organizationMembership.created", membership("orgmem_a", organization_id="org_a", user_id="user_ada")),
        event("user.deleted", {"id": "user_gone", "object": "user", "deleted": True}),
    )
    execute(before.admin_url, "insert into orders (user_id) values ('user_ada')")

    password = secrets.token_hex(8)
    binaries = find_binaries(postgres_version(), account=account_for_postgres(tmp_path), copies=own_server.home.parent)
    environment = {
        "PATH": f"{binaries}:{Path(sys.executable).parent}:{os.defpath}",
        "HOME": str(tmp_path),
        "OWNER_URL": owner,
        "RESTORED_URL": restored_owner,
        "BACKUP_PASSWORD": password,
        "BACKUP_URL": owner.replace("app_owner:deploys", f"app_backup:{password}"),
    }
    for command in commands():
        typed(command, folder=tmp_path, environment=environment)

    assert mirror(after) == mirror(before)
    for query in ("select id, user_id from orders", "select svix_id, body from clerk_private.inbox order by 1"):
        assert fetch(after.admin_url, query) == fetch(before.admin_url, query) != []
    assert fetch(restored_owner, "select relacl::text from pg_class where oid = 'clerk.users'::regclass") == fetch(
        owner, "select relacl::text from pg_class where oid = 'clerk.users'::regclass"
    )
    said = [CommandLine.of(database, tmp_path)("status", "--output", "json") for database in (before, after)]
    assert said[0].code == said[1].code
    assert said[0].out.replace('"app"', "") == said[1].out.replace('"restored"', "")
    store(after, event("user.updated", user("user_ada")))


def test_a_dump_without_the_owners_rights_fails_and_does_not_lose_rows_in_silence(
    own_server: Server, tmp_path: Path
) -> None:
    execute(own_server.admin_url(), "create role app_owner login createrole password 'deploys'")
    owner = owned(own_server, "app")
    assert CommandLine(tmp_path, DATABASE_URL=owner)("migrate").code == 0
    binaries = find_binaries(postgres_version(), account=account_for_postgres(tmp_path), copies=own_server.home.parent)
    refused = subprocess.run([binaries / "pg_dump", owner], capture_output=True, text=True)
    assert refused.returncode != 0
    assert "permission denied" in refused.stderr
