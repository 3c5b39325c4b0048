"""`nexus-auth doctor`: in each service's environment, beside `make run`, and where one thing after the other is off."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
import pytest_asyncio
import yaml

from devtools.clerk_emulator import ApiFault, Behaviour, Emulator, Settings
from devtools.postgres import Database, ForeignServer, Server, create_database, drop_database
from nexus_auth.clerk.signature import fingerprint
from services.cli.doctor import database as database_checks
from services.cli.doctor.database import SERVICES
from tests.commandline import CommandLine, Ran, change, store
from tests.events import INSTANCE, SECRET, event, user


@dataclass(frozen=True)
class World:
    """A Clerk, a database, and the environment of the webhook service."""

    clerk: Emulator
    database: Database
    folder: Path

    @property
    def webhook(self) -> dict[str, str]:
        """What the webhook service is given."""
        return {
            "DATABASE_URL": self.database.url("webhook"),
            "CLERK_API_URL": self.clerk.api_url,
            "CLERK_SECRET_KEY": self.clerk.secret_key,
            "CLERK_WEBHOOK_SIGNING_SECRET": SECRET,
            "NEXUS_AUTH_WITHHOLD_KEY": "w" * 32,
            "NEXUS_AUTH_ALLOW_FSYNC_OFF": "1",
        }

    async def doctor(self, *arguments: str, **environment: str) -> Ran:
        """Runs it with exactly this environment."""
        return await asyncio.to_thread(CommandLine(self.folder, **environment), "doctor", *arguments)

    async def lines(self, **environment: str) -> dict[str, tuple[str, str]]:
        """State and sentence of each check; the last of one name."""
        ran = await self.doctor("--output", "json", **environment)
        assert "Traceback" not in ran.err
        return {of["check"]: (of["state"], of["said"]) for of in ran.json()}


@pytest_asyncio.fixture
async def world(database: Database, tmp_path: Path) -> AsyncIterator[World]:
    settings = Settings(
        users=5, organizations=1, memberships=2, seed=5, instance_id=INSTANCE, behaviour=Behaviour(rate_limit=0)
    )
    async with Emulator(settings) as clerk:
        yield World(clerk, database, tmp_path)


@pytest.fixture
def empty(postgres: Server | ForeignServer) -> Iterator[Database]:
    """A database that nobody migrated, on a server that has our roles."""
    name = f"nexus_auth_empty_{secrets.token_hex(4)}"
    yield Database(create_database(postgres.admin_url(), name))
    drop_database(postgres.admin_url(), name)


def at(url: str, **parts: str) -> str:
    return urlunsplit(urlsplit(url)._replace(**parts))


async def test_a_sound_webhook_service_has_a_line_for_each_thing(world: World) -> None:
    await asyncio.to_thread(store, world.database, event("user.created", user("user_ada")))
    ran = await world.doctor(**world.webhook)
    assert (ran.code, ran.err) == (0, ""), ran
    lines = await world.lines(**world.webhook)
    assert {name: state for name, (state, _) in lines.items()} == dict.fromkeys(
        (
            *("settings", "URL", "connection", "TLS", "pooler", "schema", "role and rights", "commit settings"),
            *("clock of Postgres", "views", "API key", "clock of Clerk", "instance", "signing secret"),
        ),
        "ok",
    )
    assert f"fingerprint {fingerprint(SECRET)}" in lines["signing secret"][1]
    assert "31 bytes" in lines["signing secret"][1]
    assert "events" not in lines, "this login may not know it"
    assert INSTANCE in lines["instance"][1]
    assert "synchronous_commit on, read committed" in lines["commit settings"][1]


@pytest.mark.parametrize("service", ["cli", "reconciler", "worker"])
async def test_the_login_says_which_service_it_is(world: World, service: str) -> None:
    ran = await world.doctor(DATABASE_URL=world.database.url(service), NEXUS_AUTH_ALLOW_FSYNC_OFF="1")
    assert ran.code == 0, ran
    assert f"clerk_{service}_login is clerk_{service}, no more" in ran.out


async def test_the_manifests_of_the_standalone_reconciler_are_followed(world: World) -> None:
    for name, key, text in (
        ("clerk", "secret-key", world.clerk.secret_key),
        ("db", "url", world.database.url("reconciler")),
    ):
        (world.folder / "secrets" / name).mkdir(parents=True)
        (world.folder / "secrets" / name / key).write_text(text + "\n")
    reference = {"secretRef": {"name": "db"}}
    instance = {"apiUrl": world.clerk.api_url, "secretKeyRef": {"name": "clerk"}, "stateDatabase": reference}
    sync = {"instanceRef": {"name": "production"}, "database": reference}
    manifests = world.folder / "manifests.yaml"
    manifests.write_text(yaml.safe_dump_all([{"kind": "ClerkInstance", "spec": instance}, {"spec": sync}]))
    environment = {
        "NEXUS_AUTH_MANIFESTS": str(manifests),
        "NEXUS_AUTH_SECRETS_DIR": str(world.folder / "secrets"),
        "NEXUS_AUTH_ALLOW_FSYNC_OFF": "1",
    }
    ran = await world.doctor(**environment)
    assert ran.code == 0, ran
    assert "clerk_reconciler_login is clerk_reconciler" in ran.out
    assert f"secret clerk: a test key of {INSTANCE}" in ran.out
    (world.folder / "secrets" / "clerk" / "secret-key").unlink()
    ran = await world.doctor(**environment)
    assert ran.code == 2
    assert "secret clerk: its file secret-key cannot be read" in ran.out


async def test_beside_make_run_every_login_is_checked(world: World) -> None:
    file = world.folder / ".run" / "env"
    file.parent.mkdir()
    file.touch(mode=0o600)
    written = {
        "WEBHOOK_SECRETS": SECRET,
        "CLERK_API_URL": world.clerk.api_url,
        "CLERK_SECRET_KEY": world.clerk.secret_key,
        "CLERK_INSTANCE_ID": INSTANCE,
        "NEXUS_AUTH_ALLOW_FSYNC_OFF": "1",
        **{f"{name.upper()}_DATABASE_URL": world.database.url(name) for name in SERVICES},
    }
    file.write_text("".join(f"{name}='{value}'\n" for name, value in written.items()))
    ran = await world.doctor()
    assert ran.code == 0, ran
    assert ran.out.count("TLS ") == ran.out.count("schema ") == 1, "what holds for the database is told once"
    assert "no event has ever come" in ran.out
    for service in SERVICES:
        assert f"clerk_{service}_login is clerk_{service}, no more" in ran.out


@pytest.mark.parametrize(
    ("changed", "check", "sentence", "code"),
    [
        ({"DATABASE_URL": "mysql://a:s3cr3tly@b/c"}, "URL", "DATABASE_URL: it is no Postgres URL", 3),
        ({"DATABASE_URL": "postgresql://a:secret-word@127.0.0.1:1/x"}, "connection", "cannot be reached", 3),
        ({"CLERK_API_URL": "http://127.0.0.1:9"}, "API key", "cannot be reached", 4),
        ({"CLERK_API_URL": "nonsense"}, "API key", "CLERK_API_URL is no http(s) address", 2),
        ({"CLERK_SECRET_KEY": "sk_test_wrong"}, "API key", "check CLERK_SECRET_KEY", 4),
        (
            {"CLERK_INSTANCE_ID": "ins_other"},
            "instance",
            f"belongs to {INSTANCE}, and the settings expect ins_other",
            4,
        ),
        ({"CLERK_WEBHOOK_SIGNING_SECRET": "whsec_123"}, "settings", "a signing secret has 24 or more", 2),
        ({"NEXUS_AUTH_WITHHOLD_KEY": "short"}, "settings", "needs 32 characters or more, and has 5", 2),
        ({"NEXUS_AUTH_ROLE_PREFIX": "other_"}, "schema", "the server has no role other_webhook", 3),
        ({"CLERK_SECRET_KEY_FILE": "nowhere"}, "settings", "CLERK_SECRET_KEY_FILE names a file that cannot be read", 2),
    ],
)
async def test_each_wrong_setting_has_a_sentence_of_its_own(
    world: World, changed: dict[str, str], check: str, sentence: str, code: int
) -> None:
    environment = {**world.webhook, **changed}
    ran = await world.doctor(**environment)
    assert ran.code == code, ran
    state, said = (await world.lines(**environment))[check]
    assert state == "failed"
    assert sentence in " ".join(said.split())
    assert check in ran.err.splitlines()[-1]


async def test_each_wrong_database_has_a_sentence_of_its_own(world: World, empty: Database) -> None:
    url = world.database.url("webhook")
    login = f"clerk_webhook_login:wrong@{urlsplit(url).hostname}:{urlsplit(url).port}"
    for address, check, sentence in (
        (at(url, netloc=login), "connection", "the database refused the login or its password"),
        (at(url, path="/nowhere"), "connection", "the database does not exist"),
        (at(url, path=urlsplit(empty.admin_url).path), "schema", "nexus-auth migrate"),
        (world.database.url("app"), "role and rights", "is a member of no group"),
        (world.database.admin_url, "role and rights", "is a superuser"),
    ):
        environment = {**world.webhook, "DATABASE_URL": address}
        ran = await world.doctor(**environment)
        assert ran.code == 3, ran
        lines = await world.lines(**environment)
        state, said = lines[check]
        assert (state, sentence in said) == ("failed", True), lines
        assert lines["API key"][0] == "ok", "one failure hides no other check"
    named = await world.doctor(CLI_DATABASE_URL=url)
    assert named.code == 3
    assert "grant clerk_cli to clerk_webhook_login" in named.out


async def test_a_database_of_another_instance_says_both(world: World) -> None:
    await asyncio.to_thread(store, world.database, event("user.created", user("user_ada")))
    change(world.database, "update clerk_private.instance set id = 'ins_other'")
    ran = await world.doctor(**world.webhook)
    assert ran.code == 3
    assert f"belongs to {INSTANCE}" in ran.out
    assert "to ins_other" in ran.out
    assert f"nexus-auth instance claim {INSTANCE}" in ran.out


async def test_more_rights_than_listed_and_a_view_that_shows_every_row_are_told(world: World) -> None:
    change(
        world.database,
        "create view public.everybody as select id from clerk.users",
        "grant delete on clerk_private.inbox to clerk_webhook",
    )
    lines = await world.lines(**world.webhook)
    assert lines["role and rights"][0] == "failed"
    assert "more rights than webhook needs" in lines["role and rights"][1]
    assert lines["views"][0] == "failed"
    assert "alter view public.everybody set (security_invoker = true)" in lines["views"][1]


async def test_a_change_of_clerks_without_an_event_says_that_events_do_not_arrive(world: World) -> None:
    login = {**world.webhook, "DATABASE_URL": world.database.url("cli")}
    del login["NEXUS_AUTH_WITHHOLD_KEY"], login["CLERK_WEBHOOK_SIGNING_SECRET"]
    await asyncio.to_thread(store, world.database, event("user.created", user("user_ada")))
    assert (await world.lines(**login))["events"][0] == "ok"
    change(
        world.database,
        "update clerk_private.inbox_seen set received_at = received_at - interval '20 years'",
        "update clerk_private.instance set claimed_at = claimed_at - interval '20 years'",
    )
    state, said = (await world.lines(**login))["events"]
    assert state == "failed"
    assert "Clerk changed a user" in said
    assert "Webhooks → your endpoint" in said


async def test_events_of_a_secret_that_is_not_at_hand_are_noted(world: World) -> None:
    await asyncio.to_thread(store, world.database, event("user.created", user("user_ada")))
    other = "whsec_" + "b" * 32
    ran = await world.doctor(
        CLI_DATABASE_URL=world.database.url("cli"),
        CLERK_WEBHOOK_SIGNING_SECRET=other,
        NEXUS_AUTH_ALLOW_FSYNC_OFF="1",
    )
    assert ran.code == 0, ran
    assert f"were verified with {fingerprint(SECRET)}, which is not named here" in ran.out


async def test_a_secret_that_is_not_believed_any_more_fails(world: World) -> None:
    insert = f"insert into clerk_private.distrusted_secrets (secret) values ('{fingerprint(SECRET)}')"
    await asyncio.to_thread(change, world.database, insert)
    login = {"CLI_DATABASE_URL": world.database.url("cli"), "NEXUS_AUTH_ALLOW_FSYNC_OFF": "1"}
    ran = await world.doctor(**login)
    assert ran.code == 1, ran
    assert f"nexus-auth held clear {fingerprint(SECRET)}" in ran.out
    await asyncio.to_thread(change, world.database, "update clerk_private.distrusted_secrets set cleared_at = now()")
    assert (await world.doctor(**login)).code == 0


async def test_a_check_that_crashes_is_a_failed_check(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def crashes(*_: object, **__: object) -> None:
        raise ZeroDivisionError("nobody expected this")

    monkeypatch.setattr(database_checks, "pooler_of", crashes)
    ran = await world.doctor(**world.webhook)
    assert ran.code == 1
    assert "this check itself failed (ZeroDivisionError)" in ran.out
    assert "API key" in ran.out
    world.clerk.add_fault(ApiFault("status", status=500, route="/users"))
    assert "answered 500" in (await world.lines(**world.webhook))["API"][1]


async def test_without_any_setting_it_says_where_to_begin(world: World) -> None:
    ran = await world.doctor()
    assert ran.code == 2
    assert "no database is named: set DATABASE_URL" in ran.out
