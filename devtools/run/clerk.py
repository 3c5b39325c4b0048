"""The Clerk of a run: the emulator as a process, or the real one out there. Both answer whose database this will be."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from devtools.run.choice import EMULATED_INSTANCE_ID, SEED, RealClerk, Unusable
from devtools.run.folder import Keys
from devtools.run.output import Output
from devtools.run.parts import Part, PartFailed
from devtools.run.said import part_lines

DATABASE = "nexus_auth"


@dataclass(frozen=True)
class ClerkFacts:
    """What others need to know of the Clerk that the run talks to."""

    api_url: str
    instance_id: str
    secret_key: str = field(repr=False)
    signing_secrets: str = field(repr=False)
    page_url: str | None = None
    """The emulator's page; None for a real Clerk, which has nothing of the kind."""
    is_live: bool = False


class Clerk(Protocol):
    """What the supervisor wants of either."""

    def webhook_secrets(self) -> Mapping[str, str]:
        """Environment of the webhook service: where its signing secrets are."""

    async def start(self) -> ClerkFacts:
        """Raises `PartFailed` or `Unusable`."""

    async def database_name(self) -> str:
        """The database on the embedded server: one for each instance, since a database serves one only."""

    async def watch(self) -> None:
        """Raises `PartFailed` when it is gone."""

    async def stop(self) -> None:
        """Ends what `start` started."""


class EmulatedClerk:
    """`python -m devtools.clerk_emulator`, sending its events to the webhook service."""

    def __init__(self, keys: Keys, *, port: int, webhook_url: str, state_file: Path, output: Output) -> None:
        """Starts nothing yet. `state_file`: what changed in earlier runs, and where this one's changes are kept."""
        self._keys = keys
        self._state_file = state_file
        self._port = port
        self._webhook_url = webhook_url
        self._output = output
        self._part: Part | None = None

    def webhook_secrets(self) -> Mapping[str, str]:
        """A folder: another file in it is another accepted secret, without a restart."""
        return {"NEXUS_AUTH_WEBHOOK_SECRETS_DIR": str(self._keys.signing_secrets.resolve())}

    async def start(self) -> ClerkFacts:
        """Returns when the emulator answers."""
        self._part = await Part.start(
            "emulator",
            "devtools.clerk_emulator",
            f"--port={self._port}",
            f"--seed={SEED}",
            f"--instance-id={EMULATED_INSTANCE_ID}",
            "--environment-type=production",
            f"--state-file={self._state_file.resolve()}",
            f"--secret-key-file={self._keys.emulator_key_file.resolve()}",
            f"--endpoint={self._webhook_url}",
            heard=self._heard,
        )
        self._part.begin({"CLERK_EMULATOR_ENDPOINT_SECRET": self._keys.signing_secret})
        await self._part.until_ready()
        url = f"http://127.0.0.1:{self._port}"
        return ClerkFacts(
            api_url=url,
            instance_id=EMULATED_INSTANCE_ID,
            secret_key=self._keys.secret_key,
            signing_secrets=self._keys.signing_secret,
            page_url=f"{url}/",
        )

    async def database_name(self) -> str:
        """Known before the emulator answers."""
        return DATABASE

    async def watch(self) -> None:
        """Events that it had not delivered yet go with it: no restart, but an end that is named."""
        if self._part is not None:
            raise await self._part.ended()

    async def stop(self) -> None:
        """Ends the process."""
        if self._part is not None:
            await self._part.stop()

    def _heard(self, part: Part, line: str) -> str:
        if part.ready.is_set():
            for pieces in part_lines(part.name, line):
                self._output.line(*pieces)
        elif line.startswith("events to "):  # the last line of its start
            part.ready.set()
        return line


class ClerkOutThere:
    """A real instance: asked once whose key it is, otherwise left alone."""

    def __init__(self, clerk: RealClerk) -> None:
        """Asks nothing yet."""
        self._clerk = clerk
        self._instance_id: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def webhook_secrets(self) -> Mapping[str, str]:
        """As they were given; they are in no file but `.run/env`."""
        return {"CLERK_WEBHOOK_SIGNING_SECRET": self._clerk.signing_secrets}

    async def start(self) -> ClerkFacts:
        """Asks the API; `Unusable` where it refuses the key or names another instance than we were told."""
        clerk = self._clerk
        found = await _ask(clerk)
        if clerk.instance_id not in (None, found):
            raise Unusable(f"CLERK_SECRET_KEY belongs to {found}, CLERK_INSTANCE_ID says {clerk.instance_id}")
        self._instance_id.set_result(found)
        return ClerkFacts(
            api_url=clerk.api_url,
            instance_id=found,
            secret_key=clerk.secret_key,
            signing_secrets=clerk.signing_secrets,
            is_live=clerk.is_live,
        )

    async def database_name(self) -> str:
        """Waits for Clerk's answer."""
        return f"{DATABASE}_{await self._instance_id}"

    async def watch(self) -> None:
        """Returns at once: there is nothing of ours to watch."""

    async def stop(self) -> None:
        """Nothing was started."""


async def _ask(clerk: RealClerk) -> str:
    from nexus_auth.clerk.api import ClerkApi, ClerkRefused, ClerkUnavailable  # 0.2 s that the emulator does not need

    async with ClerkApi(clerk.api_url, secret_key=clerk.secret_key) as api:
        try:
            return await api.instance_id()
        except ClerkRefused as error:
            raise Unusable(str(error)) from None
        except ClerkUnavailable as error:
            raise PartFailed("Clerk", what=f"does not answer: {error}") from None
