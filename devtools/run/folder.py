"""The folder `.run`: what one run leaves to the next, and what it tells other programs while it lasts.

Keys are made once, so that the database of yesterday accepts the emulator of today. Ports are kept where they are still
free, so that a bookmark or a tunnel stays right.
"""

import base64
import fcntl
import hashlib
import json
import os
import random
import secrets
import socket
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from devtools.postgres.places import make_folder
from devtools.postgres.server import PORTS
from devtools.run.choice import Unusable

PORT_NAMES = ("webhook", "metrics", "emulator", "reconciler")


@dataclass(frozen=True)
class Keys:
    """Made once for a checkout."""

    emulator_key_file: Path
    """Holds the API key that the emulator accepts."""
    signing_secrets: Path
    """The folder that the webhook service reads; one more file in it is one more accepted secret."""
    withhold_key_file: Path
    secret_key: str = field(repr=False)
    signing_secret: str = field(repr=False)
    withhold_key: str = field(repr=False)


class RunFolder:
    """`.run` of a checkout (or of another folder), held by one run at a time."""

    def __init__(self, home: Path) -> None:
        """Names the folder; touches nothing yet."""
        self.home = home
        self.path = home / ".run"
        self.env_file = self.path / "env"
        self.reconciler = self.path / "reconciler"
        """Its manifests, and the secrets that they name; there while a run lasts."""
        self._lock: IO[str] | None = None

    def claim(self) -> None:
        """Takes the folder until the end of this process. Raises `Unusable` where another run has it."""
        make_folder(self.path, mode=0o700)
        lock = os.fdopen(os.open(self.path / "lock", os.O_CREAT | os.O_RDWR, 0o600), "r+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = lock.read().strip()
            lock.close()
            raise Unusable(f"one already runs in {self.home} (process {owner}); end it first") from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        self._lock = lock
        self.remove_env()

    def release(self) -> None:
        """Leaves the folder to others."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def keys(self) -> Keys:
        """Reads the keys, and makes those that are missing."""
        folder = self.path / "signing-secrets"
        make_folder(folder, mode=0o700)
        emulator, withhold, signing = self.path / "emulator-key", self.path / "withhold-key", folder / "emulator"
        return Keys(
            emulator_key_file=emulator,
            signing_secrets=folder,
            withhold_key_file=withhold,
            secret_key=_kept(emulator, lambda: f"sk_test_{secrets.token_hex(21)}"),
            signing_secret=_kept(signing, lambda: f"whsec_{base64.b64encode(secrets.token_bytes(24)).decode()}"),
            withhold_key=_kept(withhold, lambda: secrets.token_hex(32)),
        )

    def emulator_state(self, database_url: str | None) -> Path:
        """What changed in the emulator in earlier runs on this database; None stands for the embedded server's."""
        if database_url is None:
            return self.path / "emulator.json"
        parts = urlsplit(database_url)
        named = f"{parts.hostname}:{parts.port or 5432}{parts.path}"
        return self.path / f"emulator-{hashlib.sha256(named.encode()).hexdigest()[:16]}.json"

    def ports(self) -> Mapping[str, int]:
        """A free port for each of `PORT_NAMES`: that of last time, or another below those of outgoing connections."""
        file = self.path / "ports"
        before: dict[str, int] = {}
        with suppress(OSError, ValueError):
            before = {str(name): int(port) for name, port in json.loads(file.read_text()).items()}
        with ExitStack() as held:  # until all are chosen: none is chosen twice
            chosen = {name: _free_port(before.get(name), held=held) for name in PORT_NAMES}
        write_private(file, json.dumps(chosen) + "\n")
        return chosen

    def write_env(self, variables: Mapping[str, str]) -> None:
        """Writes `.run/env`, whole or not at all, for the owner only."""
        lines = ["# Written by make run, removed when it ends. Every address and key: do not share.\n"]
        lines += [f"{name}={_quoted(value)}\n" for name, value in variables.items()]
        write_private(self.env_file, "".join(lines))

    def remove_env(self) -> None:
        """Takes `.run/env` away: addresses of a run that is over mislead."""
        self.env_file.unlink(missing_ok=True)


def write_private(file: Path, text: str) -> None:
    """Replaces a file by one of mode 0600, at once: nobody reads a half of it."""
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as opened:
        opened.write(text)
    beside.replace(file)


def _kept(file: Path, make: Callable[[], str]) -> str:
    with suppress(FileNotFoundError):
        if text := file.read_text().strip():
            return text
    text = make()
    write_private(file, text + "\n")
    return text


def _free_port(wanted: int | None, *, held: ExitStack) -> int:
    remembered = [wanted] if wanted is not None and wanted in PORTS else []
    for port in remembered + random.sample(PORTS, 50):
        probe = held.enter_context(socket.socket())
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):
            probe.bind(("127.0.0.1", port))
            probe.listen()
            return port
    raise Unusable(f"no free port between {PORTS.start} and {PORTS.stop}")


def _quoted(value: str) -> str:
    """A value as one word of a shell, whatever stands in it."""
    return "'" + value.replace("'", "'\"'\"'") + "'"
