"""What stands beside the cluster: a Postgres and Clerk's emulator that pods reach, and the Secrets that name them."""

import base64
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from devtools.clerk_emulator import Emulator, Settings
from devtools.postgres import Database, create_database, create_logins, execute, temporary_server
from tests.e2e.cluster import Cluster, until

READABLE = {"nexus-auth.dev/readable": "true"}
FAILPOINTS = "/tmp"
"""Where a test plants failpoints in an operator's pod."""
RECONCILER, WEBHOOK, OWNER = "reconciler-database", "webhook-database", "owner-database"


@dataclass
class World:
    """One namespace, one database, one Clerk."""

    cluster: Cluster
    namespace: str
    host: str
    """Address under which pods reach this machine."""
    database: Database
    clerk: Emulator
    signing: list[str] = field(default_factory=lambda: [f"whsec_{secrets.token_hex(16)}"])

    def seen_by_pods(self, url: str) -> str:
        """A database's URL with the address that pods know."""
        parts = urlsplit(url)
        login = parts.netloc.rpartition("@")[0]
        return urlunsplit(parts._replace(netloc=f"{login}@{self.host}:{parts.port}"))

    async def put_secret(self, name: str, **data: str) -> None:
        """Creates or changes a Secret; a dash in a key is written as two underscores."""
        content = {key.replace("__", "-"): base64.b64encode(value.encode()).decode() for key, value in data.items()}
        await self.cluster.apply(
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "labels": READABLE}, "data": content},
            namespace=self.namespace,
        )

    async def put_secrets(self) -> None:
        """All that the release needs, before the release."""
        await self.put_secret(OWNER, url=self.seen_by_pods(self.database.admin_url))
        await self.put_secret(WEBHOOK, url=self.seen_by_pods(self.database.url("webhook")))
        await self.put_secret(RECONCILER, url=self.seen_by_pods(self.database.url("reconciler")))
        await self.put_secret("signing", **{f"secret{n}": secret for n, secret in enumerate(self.signing)})
        await self.put_secret("withhold", withhold__key=secrets.token_hex(32))
        await self.put_secret("clerk", secret__key=self.clerk.secret_key)

    async def let_logins_in(self) -> None:
        """Creates the services' logins as soon as the migration Job has made their groups."""

        async def migrated() -> bool:
            return await self.value("select to_regclass('clerk_private.findings') is not null") is True

        await until(migrated, seconds=120, what="the migration Job's schema")
        create_logins(self.database.admin_url)

    async def value(self, query: str, *arguments: Any) -> Any:
        """The first column of a query's first row, as administrator."""
        connection = await asyncpg.connect(self.database.admin_url)
        try:
            return await connection.fetchval(query, *arguments)
        finally:
            await connection.close()

    async def lost_user(self, name: str) -> str:
        """Creates a user at Clerk whose event is delivered to nobody; answers the id."""
        for endpoint in list(self.clerk.dispatcher.endpoints):
            endpoint.enabled = False
        created = self.clerk.changes.users.create({"email_address": [f"{name}@example.com"]})
        await self.clerk.idle()
        assert not await self.live(created.id)
        return str(created.id)

    @property
    def where(self) -> tuple[str, str]:
        """The namespace, as kubectl is told."""
        return "--namespace", self.namespace

    def passwords(self) -> set[str]:
        """Of the logins in the Secrets."""
        urls = self.database.admin_url, self.database.url("webhook"), self.database.url("reconciler")
        return {password for url in urls if (password := urlsplit(url).password)}

    async def live(self, user_id: str) -> bool:
        """Whether a user's row is there."""
        return bool(await self.value("select exists (select from clerk.users where id = $1)", user_id))

    def values(self, **settings: Any) -> dict[str, Any]:
        """The release's values; `settings` replace whole top-level entries."""
        return {
            "clerk": {"apiUrl": self.clerk.api_url, "apiKey": {"existingSecret": "clerk"}},
            "migrations": {"database": {"existingSecret": OWNER}},
            "webhook": {
                "database": {"existingSecret": WEBHOOK},
                "signing": {"existingSecret": "signing"},
                "withhold": {"existingSecret": "withhold"},
                "service": {"type": "NodePort"},
                "lanes": 1,
            },
            "operator": {
                "apiHosts": [self.clerk.api_url],
                "leaseSeconds": 6,
                "lookSeconds": 2,
                "verifyAfterSeconds": 1,
                "extraEnv": [{"name": "NEXUS_AUTH_FAILPOINTS_DIR", "value": FAILPOINTS}],
            },
            "watch": {"namespaces": [self.namespace]},
            "clerkInstance": {
                "create": True,
                "spec": {
                    "environment": "Development",
                    "budgetPercent": 100,
                    "stateDatabase": {"secretRef": {"name": RECONCILER}},
                },
            },
            "clerkSync": {
                "create": True,
                "spec": {"database": {"secretRef": {"name": RECONCILER}}, "drift": {"policy": "Fix"}, "interval": "1h"},
            },
            **settings,
        }


@asynccontextmanager
async def world(cluster: Cluster, *, host: str, namespace: str) -> AsyncIterator[World]:
    """A namespace that enforces PodSecurity `restricted`, with everything in it that comes before the release."""
    with temporary_server(settings={"listen_addresses": "*"}) as server:
        with (server.data / "pg_hba.conf").open("a") as hba:
            hba.write("host all all 0.0.0.0/0 scram-sha-256\n")
        execute(server.admin_url(), "select pg_reload_conf()")
        database = Database(create_database(server.admin_url(), "app"))
        async with Emulator(Settings(host=host, users=40, organizations=4, memberships=40)) as clerk:
            made = World(cluster, namespace, host, database, clerk)
            labels = {"pod-security.kubernetes.io/enforce": "restricted"}
            await cluster.apply(
                {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}}
            )
            await made.put_secrets()
            try:
                yield made
            finally:
                await cluster.kubectl("delete", "namespace", namespace, "--wait=false")
