"""One declaration and one migration are enough for another entity, one migration for another column.

CONTRIBUTING.md says how; what it says is typed here, into a scratch copy of the product.
"""

import asyncio
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from devtools.clerk_emulator import Behaviour, Emulator, Settings
from devtools.postgres import Database, ForeignServer, Server
from nexus_auth.clerk.catalogue import BY_KIND, PROJECTED
from nexus_auth.store.migrations import migrate
from tests.conftest import DATABASE_URL
from tests.events import T0, event, user
from tests.reconcile.world import close_world, open_world
from tests.store import Store

ROOT = Path(__file__).parents[2]
PARTS = ("nexus_auth", "services", "sql", "crds", "devtools", "tests")
VERSION = "20261201000001"
ENDS_DECLARATIONS = ")\n\nENTITIES: Mapping[str, Entity]"


def blocks(heading: str, language: str) -> list[str]:
    """The code blocks of one section of CONTRIBUTING.md."""
    section = (ROOT / "CONTRIBUTING.md").read_text("utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```$", section, flags=re.MULTILINE | re.DOTALL)


def edit(file: Path, before: str, after: str) -> None:
    """Replaces what stands exactly once in a file."""
    text = file.read_text("utf-8")
    assert text.count(before) == 1, f"{file.name} does not hold it once: {before}"
    file.write_text(text.replace(before, after), "utf-8")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A scratch copy of the product and of what tests need."""
    target = tmp_path / "copy"
    for part in PARTS:
        shutil.copytree(ROOT / part, target / part, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
    shutil.copy2(ROOT / "pyproject.toml", target)
    edit(target / "nexus_auth" / "store" / "schema.py", 'REQUIRED = "20261125000008"', f'REQUIRED = "{VERSION}"')
    return target


def in_copy(copy: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs Python inside the copy."""
    known = os.environ | {"PYTHONPATH": str(copy)} | environment
    return subprocess.run(
        [sys.executable, *command], cwd=copy, env=known, capture_output=True, text=True, timeout=280, check=False
    )


@pytest.mark.slow
def test_a_declaration_and_a_migration_are_an_entity(copy: Path, postgres: Server | ForeignServer) -> None:
    (declaration,) = blocks("Add an entity", "python")
    (migration,) = blocks("Add an entity", "sql")
    edit(
        copy / "nexus_auth" / "clerk" / "catalogue.py",
        ENDS_DECLARATIONS,
        f"    {declaration.rstrip()},\n" + ENDS_DECLARATIONS,
    )
    (copy / "sql" / "migrations" / f"{VERSION}_badges.sql").write_text(migration, "utf-8")
    edit(
        copy / "crds" / "clerksync.yaml",
        "[users, organizations, memberships]",
        "[users, organizations, memberships, badges]",
    )

    story = "tests/integration/another_entity/story.py"
    pytest_command = ("-m", "pytest", "-q", "--no-header", "--tb=short", "-p", "no:cacheprovider", story)
    done = in_copy(copy, *pytest_command, **{DATABASE_URL: postgres.admin_url()})
    assert done.returncode == 0, done.stdout[-6_000:] + done.stderr[-2_000:]


@pytest.mark.slow
async def test_a_migration_is_a_column_and_a_sweep_fills_it(copy: Path, database: Database) -> None:
    (migration,) = blocks("Add a column", "sql")
    settings = Settings(users=20, organizations=2, memberships=5, seed=7, behaviour=Behaviour(rate_limit=0))
    async with Emulator(settings) as clerk, Store(database) as store:
        world = await open_world(clerk, database)
        try:
            await world.sweep()
            await store.admin.execute("select clerk_private.claim_instance($1)", clerk.instance_id)
            banned = user("user_banned", banned=True, banned_at=T0 + 5, created_at=T0 + 10**11)
            assert await store.put(event("user.created", banned)) == ["created"]

            file = f"{VERSION}_banned_at.sql"
            (copy / "sql" / "migrations" / file).write_text(migration, "utf-8")
            edit(
                copy / "nexus_auth" / "clerk" / "catalogue.py",
                'named=NamedRead("/users", "user_id", paged=False),\n        projection=1,',
                'named=NamedRead("/users", "user_id", paged=False),\n        projection=2,',
            )
            assert migrate(database.admin_url, sql_dir=copy / "sql" / "migrations") == [file]
            assert await store.admin.fetchval("select count(*) from clerk.users where banned_at is not null") == 0

            problems = (
                "select problem, count(*) from clerk_private.edited('user', '', 1000) where id is not null group by 1"
            )
            assert [tuple(row) for row in await store.admin.fetch(problems)] == [("projection", 21)]

            synced = await asyncio.to_thread(
                in_copy,
                copy,
                *("-m", "services.cli", "sync", "--full", "--apply", "--kind", "users", "--output", "json"),
                RECONCILER_DATABASE_URL=database.url("reconciler"),
                CLI_DATABASE_URL=database.url("cli"),
                CLERK_API_URL=clerk.api_url,
                CLERK_SECRET_KEY=clerk.secret_key,
            )
            assert '"projection"' in synced.stdout, synced.stdout + synced.stderr
        finally:
            await close_world(world)
        assert [tuple(row) for row in await store.admin.fetch(problems)] == []
        filled = await store.admin.fetch("select id, banned_at::text from clerk.users where banned_at is not null")
        assert [row["id"] for row in filled] == ["user_banned"]
        versions = "select distinct projection from clerk_private.objects where kind = 'user'"
        assert [row[0] for row in await store.admin.fetch(versions)] == [2]
        # an event that comes afterwards is projected the same way
        assert await store.put(event("user.updated", {**banned, "banned_at": None, "updated_at": T0 + 9})) == [
            "updated"
        ]
        assert await store.admin.fetchval("select count(*) from clerk.users where banned_at is not null") == 0
        assert [tuple(row) for row in await store.admin.fetch(problems)] == []


async def test_declarations_and_database_say_the_same(database: Database) -> None:
    async with Store(database) as store:
        rows = await store.admin.fetch(
            "select e.kind, e.projection, coalesce((select"
            " array_agg(p.parent_kind || ' ' || array_to_string(p.path, '.') order by p.position)"
            " from clerk_private.entity_parents p where p.kind = e.kind), '{}') as parents"
            " from clerk_private.entities e order by e.rank"
        )
    declared = [
        (entity.kind, entity.projection, [f"{parent.kind} {'.'.join(parent.path)}" for parent in entity.parents])
        for entity in PROJECTED
    ]
    assert [(row["kind"], row["projection"], list(row["parents"])) for row in rows] == declared
    assert set(BY_KIND) >= {row["kind"] for row in rows}


def test_the_custom_resource_names_every_resource() -> None:
    crd = yaml.safe_load((ROOT / "crds" / "clerksync.yaml").read_text("utf-8"))
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    named = spec["resources"]["items"]["properties"]["name"]["enum"]
    assert named == [entity.resource for entity in PROJECTED]
