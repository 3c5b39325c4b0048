"""Who may edit a ClerkInstance gets neither the API key nor any other Secret: hosts are listed, Secrets consent."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.kubernetes.operator.conftest import NAME, Stage
from tests.kubernetes.operator.kube import INSTANCES, condition_of

UNLABELLED = 'does not carry the label nexus-auth.dev/readable: "true"'


class Stranger:
    """A server that is on no list: it counts who connects, and keeps what they send."""

    def __init__(self) -> None:
        self.url = ""
        self.connections = 0
        self.received = b""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.received += await reader.read(65_536)
        writer.close()


@asynccontextmanager
async def stranger() -> AsyncIterator[Stranger]:
    of = Stranger()
    server = await asyncio.start_server(of.answer, "127.0.0.1", 0)
    of.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield of


async def test_a_host_that_is_not_listed_gets_no_connection_and_a_condition_says_why(stage: Stage) -> None:
    async with stranger() as other, stage.operator():
        await stage.all()
        await stage.ready()
        await stage.kube.patch(INSTANCES, NAME, {"spec": {"apiUrl": other.url}})
        instance = await stage.kube.condition(NAME, "Ready", "False", reason="ApiHostRefused", plural=INSTANCES)
        assert other.url in instance["message"]
        await stage.kube.condition(NAME, "ConnectionReady", "False", reason="ApiHostRefused", plural=INSTANCES)
        await stage.kube.annotate(NAME, sync_requested_at="full@now")
        sync = await stage.kube.condition(NAME, "Ready", "False", reason="ApiHostRefused")
        assert "not among the hosts" in sync["message"]
        await stage.kube.condition(NAME, "Stalled", "True", reason="ApiHostRefused")
        assert await stage.kube.events(reason="ApiHostRefused")
        assert other.connections == 0
        await stage.kube.patch(INSTANCES, NAME, {"spec": {"apiUrl": stage.clerk.api_url}})
        await stage.ready()
        await stage.kube.condition(NAME, "Ready", "True", plural=INSTANCES)


async def test_a_listed_host_that_redirects_does_not_pass_the_key_on(stage: Stage) -> None:
    """The listed server answers 302 to the stranger's address."""

    async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 302 Found\r\nLocation: {other.url}/v1/instance\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    async with stranger() as other:
        server = await asyncio.start_server(redirect, "127.0.0.1", 0)
        host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server, stage.operator(NEXUS_AUTH_API_HOSTS=host):
            await stage.secrets()
            await stage.instance(apiUrl=f"http://{host}")
            await stage.kube.condition(NAME, "Ready", "False", reason="UpstreamUnavailable", plural=INSTANCES)
            assert other.connections == 0


@pytest.mark.parametrize("exists", [False, True], ids=["missing", "without the label"])
async def test_a_secret_that_is_missing_or_does_not_consent_reads_the_same_and_is_taken_up_once_labelled(
    stage: Stage, exists: bool
) -> None:
    url = stage.database.url("reconciler")
    async with stage.operator():
        await stage.kube.secret("clerk", secret_key=stage.clerk.secret_key)
        if exists:
            await stage.kube.secret("database", readable=False, url=url)
        await stage.instance()
        await stage.sync()
        ready = await stage.kube.condition(NAME, "Ready", "False", reason="SecretMissing")
        assert ready["message"] == (
            f"Secret database in namespace {stage.kube.namespace} does not exist, or {UNLABELLED}: create it,"
            " or label it"
        )
        await stage.kube.secret("database", url=url)
        await stage.ready()
        await stage.kube.condition(NAME, "Ready", "True", plural=INSTANCES)


async def test_a_label_that_is_taken_away_takes_the_consent_away(stage: Stage) -> None:
    async with stage.operator():
        await stage.all()
        await stage.ready()
        await stage.kube.secret("clerk", readable=False, secret_key=stage.clerk.secret_key)
        ready = await stage.kube.condition(NAME, "Ready", "False", reason="SecretMissing", plural=INSTANCES)
        assert UNLABELLED in ready["message"]
        await stage.secrets()
        await stage.kube.condition(NAME, "Ready", "True", plural=INSTANCES)


async def test_what_is_no_api_key_is_sent_nowhere(stage: Stage) -> None:
    """A labelled Secret of another kind: the database's URL named as the API key."""
    async with stage.operator():
        await stage.secrets()
        await stage.instance(secretKeyRef={"name": "database", "key": "url"}, instanceId=stage.clerk.instance_id)
        ready = await stage.kube.condition(NAME, "Ready", "False", reason="UpstreamUnauthorized", plural=INSTANCES)
        assert "holds no API key" in ready["message"]
        assert "postgres" not in ready["message"]
        assert stage.clerk.requests.total == 0


async def test_a_status_does_not_list_the_keys_of_a_secret(stage: Stage) -> None:
    async with stage.operator():
        await stage.secrets()
        await stage.kube.secret("database", unmentionable="x", url=stage.database.url("reconciler"))
        await stage.instance(stateDatabase={"secretRef": {"name": "database", "key": "uri"}})
        await stage.sync(database={"secretRef": {"name": "database", "key": "uri"}})
        ready = await stage.kube.condition(NAME, "Ready", "False", reason="SecretMissing")
        assert "has no key uri: add it" in ready["message"]
        for plural in ("clerksyncs", INSTANCES):
            assert "unmentionable" not in str((await stage.kube.get(plural, NAME))["status"])


async def test_a_closed_port_and_a_port_of_something_else_read_the_same(stage: Stage) -> None:
    """Whoever may write a Secret and a ClerkSync cannot scan the operator's network; the log has the difference."""
    async with stranger() as other, stage.operator() as operator:
        await stage.secrets()
        await stage.instance()
        messages = set()
        for name, port in (("closed", "1"), ("open", other.url.rpartition(":")[2])):
            await stage.kube.secret(name, url=f"postgres://u:p@127.0.0.1:{port}/x")
            await stage.sync(name, database={"secretRef": {"name": name}})
            ready = await stage.kube.condition(name, "Ready", "False", reason="DatabaseUnavailable")
            messages.add(ready["message"])
            database = condition_of(await stage.kube.get("clerksyncs", name), "DatabaseReady") or {}
            messages.add(database["message"])
        assert other.connections > 0
        assert len(messages) == 1
        await operator.said("ConnectionRefusedError")
