"""What a start refuses, with exit code 78 and a sentence, and what it waits for instead."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest

from devtools.clerk_emulator import Emulator, Settings
from devtools.postgres import (
    Database,
    ForeignServer,
    Server,
    create_database,
    create_logins,
    drop_database,
    execute,
    fetch,
    temporary_server,
)
from nexus_auth.store.migrations import migrate
from nexus_auth.store.pool import UnsafeDatabase, open_pool, refuse_unsafe
from services.webhook.__main__ import main
from tests.conftest import postgres_version, prepare
from tests.events import INSTANCE, SECRET, Signed, event, user
from tests.service import WITHHOLD_KEY, WebhookService
from tests.wire import until

CONFIGURATION = 78


async def refusal(database: Database, folder: Path, **settings: str | None) -> str:
    """Starts a service that must end by itself, and answers what it said."""
    async with WebhookService(database, folder=folder, wait=False, **settings) as service:
        assert await service.wait() == CONFIGURATION
    return service.log.read_text()


@contextmanager
def another_login(
    database: Database, attributes: str = "", *, groups: str = "clerk_webhook"
) -> Iterator[tuple[str, str]]:
    """A login of the test's own; answers its name and its URL."""
    name, password = f"nexus_auth_test_{secrets.token_hex(4)}", secrets.token_hex(8)
    execute(
        database.admin_url,
        f"create role {name} login noinherit {attributes} password '{password}'",
        f"grant {groups} to {name}",
        f'grant connect on database "{database.name}" to {name}',
    )
    parts = urlsplit(database.admin_url)
    address = parts.netloc.rpartition("@")[2]
    try:
        yield name, urlunsplit(parts._replace(netloc=f"{name}:{password}@{address}"))
    finally:
        execute(database.admin_url, f"drop owned by {name}", f"drop role {name}")


async def judged(url: str) -> str:
    """What the service would say of a login, or nothing."""
    pool = await open_pool(url, role="clerk_webhook", application="test", size=1)
    try:
        async with pool.acquire() as connection:
            await refuse_unsafe(connection, role_prefix="clerk_", service="webhook", allow_fsync_off=False)
    except UnsafeDatabase as refused:
        return str(refused)
    finally:
        await pool.close()
    return ""


async def test_a_superuser_is_refused(database: Database, tmp_path: Path) -> None:
    assert "is a superuser; give the service a login that is a member of clerk_webhook only" in await refusal(
        database, tmp_path, DATABASE_URL=database.admin_url
    )


async def test_a_login_with_an_extra_grant_is_refused_by_name(database: Database, tmp_path: Path) -> None:
    with another_login(database) as (name, url):
        execute(database.admin_url, f"grant select on clerk_private.inbox to {name}")
        said = await refusal(database, tmp_path, DATABASE_URL=url)
        assert f"role {name} has more rights than webhook needs: table clerk_private.inbox SELECT" in said


async def test_the_login_that_the_documentation_describes_is_let_in(database: Database) -> None:
    with another_login(database) as (_name, url):
        assert await judged(url) == ""


@pytest.mark.parametrize("attribute", ["bypassrls", "createrole", "createdb", "replication"])
async def test_a_login_with_an_attribute_is_refused_by_name(database: Database, attribute: str) -> None:
    with another_login(database, attribute) as (name, url):
        assert f"login {name} has {attribute.upper()}" in await judged(url)


@pytest.mark.parametrize("group", ["clerk_owner", "clerk_definer", "clerk_cli", "pg_read_all_data"])
async def test_a_login_that_could_become_somebody_else_is_refused_by_name(database: Database, group: str) -> None:
    with another_login(database, groups=f"clerk_webhook, {group}") as (name, url):
        said = await judged(url)
        assert f"login {name} may become " in said
        assert group in said


EXTRA = {
    "select on clerk_private.inbox": "table clerk_private.inbox SELECT",
    "select (body) on clerk_private.inbox": "column clerk_private.inbox.body SELECT",
    "update (claimed_by) on clerk_private.instance": "column clerk_private.instance.claimed_by UPDATE",
    "truncate on clerk.users": "table clerk.users TRUNCATE",
    "create on schema clerk_private": "schema clerk_private CREATE",
    "execute on function clerk_private.replay(text[], timestamptz[], clerk_private.change[])": "clerk_private.replay",
}


@pytest.mark.parametrize("grant", EXTRA)
async def test_whoever_got_an_extra_grant_it_is_found_and_named(database: Database, grant: str) -> None:
    with another_login(database) as (name, url):
        for holder in (name, "clerk_webhook", "public"):
            execute(database.admin_url, f"grant {grant} to {holder}")
            said = await judged(url)
            assert "has more rights than webhook needs" in said, holder
            assert EXTRA[grant] in said, holder
            execute(database.admin_url, f"revoke {grant} from {holder}")
            assert await judged(url) == ""


async def test_a_server_that_may_lose_what_it_committed_is_refused_unless_a_test_says_so(tmp_path: Path) -> None:
    with temporary_server(version=postgres_version(), settings={"fsync": "off"}) as server:
        lossy = prepare(server, "nexus_auth")
        assert "the server runs with fsync = off" in await refusal(lossy, tmp_path)
        async with WebhookService(lossy, folder=tmp_path, NEXUS_AUTH_ALLOW_FSYNC_OFF="1") as service:
            assert await service.post(Signed(event("user.created", user("user_ada")))) == (204, "")


async def test_the_database_of_another_instance_is_refused(database: Database, tmp_path: Path) -> None:
    execute(database.admin_url, "insert into clerk_private.instance (id) values ('ins_somebodyelse')")
    said = await refusal(database, tmp_path)
    assert f"this database belongs to ins_somebodyelse, not to {INSTANCE}" in said
    assert f"nexus-auth instance claim {INSTANCE}" in said


async def test_the_instance_is_asked_of_clerk_and_must_be_the_configured_one(
    database: Database, tmp_path: Path
) -> None:
    async with Emulator(Settings(instance_id=INSTANCE)) as clerk:
        key: dict[str, Any] = {"CLERK_API_URL": clerk.api_url, "CLERK_SECRET_KEY": clerk.secret_key}
        async with WebhookService(database, folder=tmp_path, CLERK_INSTANCE_ID=None, **key) as service:
            assert await service.post(Signed(event("user.created", user("user_ada")))) == (204, "")
        said = await refusal(database, tmp_path, CLERK_INSTANCE_ID="ins_somebodyelse", **key)
        assert f"CLERK_SECRET_KEY belongs to {INSTANCE}, CLERK_INSTANCE_ID says ins_somebodyelse" in said
        wrong = key | {"CLERK_SECRET_KEY": "sk_test_wrong"}
        said = await refusal(database, tmp_path, CLERK_INSTANCE_ID=None, **wrong)
        assert "check CLERK_SECRET_KEY" in said
        assert "sk_test_wrong" not in said


async def test_until_the_instance_is_known_events_are_answered_503_with_the_reason(
    database: Database, tmp_path: Path
) -> None:
    signed = Signed(event("user.created", user("user_ada")))
    async with Emulator(Settings(instance_id=INSTANCE)) as clerk:
        url, key, port = clerk.api_url, clerk.secret_key, clerk.port
    async with WebhookService(
        database, folder=tmp_path, wait=False, CLERK_INSTANCE_ID=None, CLERK_API_URL=url, CLERK_SECRET_KEY=key
    ) as service:

        async def tried() -> bool:
            return "the Clerk instance is not known yet" in (await service.health("/readyz"))[1]

        await until(tried)
        status, text = await service.post(signed)
        assert (status, text.startswith("the Clerk instance is not known yet: ")) == (503, True)
        assert fetch(database.admin_url, "select from clerk_private.instance") == []
        async with Emulator(Settings(instance_id=INSTANCE, port=port)):
            await service.ready()
            assert await service.post(signed) == (204, "")
    async with WebhookService(
        database, folder=tmp_path, CLERK_API_URL=url, CLERK_SECRET_KEY=key
    ) as configured_and_clerk_away:
        assert await configured_and_clerk_away.post(signed) == (204, "")


async def test_a_database_without_a_schema_is_waited_for(
    postgres: Server | ForeignServer, template: Database, tmp_path: Path
) -> None:
    name = f"nexus_auth_test_{secrets.token_hex(4)}"
    url = create_database(postgres.admin_url(), name)
    try:
        async with WebhookService(Database(admin_url=url), folder=tmp_path, wait=False) as service:

            async def told() -> bool:
                return "nexus-auth migrate" in (await service.health("/readyz"))[1]

            create_logins(url)  # the groups belong to the whole server: they are there already
            await until(told)
            migrate(url)
            create_logins(url)
            await service.ready()
            assert await service.post(Signed(event("user.created", user("user_ada")))) == (204, "")
    finally:
        drop_database(postgres.admin_url(), name)


def test_settings_that_cannot_be_are_told_in_a_sentence_that_repeats_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usual = {
        "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/x",
        "CLERK_WEBHOOK_SIGNING_SECRET": SECRET,
        "CLERK_INSTANCE_ID": INSTANCE,
        "NEXUS_AUTH_WITHHOLD_KEY": WITHHOLD_KEY,
    }
    missing = str(tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    (tmp_path / "short").mkdir()
    short = tmp_path / "short" / "signing"
    short.write_text(f"{SECRET}\nwhsec_cGxhbnRlZA==")
    cases: list[tuple[dict[str, str | None], str]] = [
        ({"CLERK_WEBHOOK_SIGNING_SECRET": None}, "set CLERK_WEBHOOK_SIGNING_SECRET or NEXUS_AUTH_WEBHOOK_SECRETS_DIR"),
        ({"CLERK_WEBHOOK_SIGNING_SECRET": " "}, "there is no signing secret"),
        ({"CLERK_WEBHOOK_SIGNING_SECRET": SECRET + " sk_live_planted!"}, "secret 2 of 2"),
        ({"CLERK_WEBHOOK_SIGNING_SECRET": None, "NEXUS_AUTH_WEBHOOK_SECRETS_DIR": missing}, "missing"),
        (
            {"CLERK_WEBHOOK_SIGNING_SECRET": None, "NEXUS_AUTH_WEBHOOK_SECRETS_DIR": str(tmp_path / "empty")},
            "there is no signing secret",
        ),
        ({"CLERK_WEBHOOK_SIGNING_SECRET": "whsec_123"}, "CLERK_WEBHOOK_SIGNING_SECRET: secret 1 of 1: it has 2 bytes"),
        (
            {"CLERK_WEBHOOK_SIGNING_SECRET": None, "NEXUS_AUTH_WEBHOOK_SECRETS_DIR": str(short.parent)},
            f"{short}: secret 2 of 2: it has 7 bytes, a signing secret has 24 or more",
        ),
        ({"NEXUS_AUTH_LOG_LEVEL": "planted"}, "log_level: Input should be 'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
        ({"CLERK_INSTANCE_ID": None}, "set CLERK_INSTANCE_ID, or CLERK_SECRET_KEY"),
        ({"CLERK_INSTANCE_ID": "org_planted"}, "CLERK_INSTANCE_ID"),
        ({"NEXUS_AUTH_WITHHOLD_KEY": "planted"}, "32 characters"),
        ({"NEXUS_AUTH_WITHHOLD_KEY": None}, "openssl rand -hex 32"),
        ({"NEXUS_AUTH_WITHHOLD_KEY_FILE": missing}, "missing"),
        ({"DATABASE_URL": None}, "DATABASE_URL"),
        ({"NEXUS_AUTH_PORT": "planted"}, "port"),
    ]
    for settings, sentence in cases:
        for name, value in (usual | settings).items():
            monkeypatch.setenv(name, value) if value is not None else monkeypatch.delenv(name, raising=False)
        assert main() == CONFIGURATION, settings
        said = capsys.readouterr().err
        assert sentence in said, settings
        assert "Traceback" not in said, settings
        assert "planted" not in said, settings
        assert "cGxhbnRlZA" not in said, settings
        assert WITHHOLD_KEY not in said
        for name in settings:
            monkeypatch.delenv(name, raising=False)


async def test_an_address_that_is_none_is_told_without_the_password_in_it(database: Database, tmp_path: Path) -> None:
    said = await refusal(database, tmp_path, DATABASE_URL="postgresql://clerk_webhook_login:planted#word@127.0.0.1/x")
    assert "percent-encode special characters of login and password" in said
    assert "planted" not in said
