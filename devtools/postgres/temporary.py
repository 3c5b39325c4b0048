"""Servers for tests: a fresh folder each, so that any number of test runs and workers go on beside each other."""

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from devtools.postgres.places import CHECKOUT, make_folder, memory_root_for, root_for
from devtools.postgres.server import REMOVED, Server, ServerFailed


@contextmanager
def temporary_server(
    *,
    version: int = 18,
    settings: Mapping[str, str] | None = None,
    checkout: Path = CHECKOUT,
    in_memory: bool = False,
) -> Iterator[Server]:
    """A server of its own, started; stopped and removed afterwards, together with what killed runs left behind.

    `in_memory` keeps its data in memory where the machine has room (`memory_root_for`), with the same settings.
    """
    disk = root_for(checkout)
    root = (memory_root_for(checkout) if in_memory else None) or disk
    if root != disk:
        settings = {"max_wal_size": "128MB", **(settings or {})}
    home = root / f"temporary-{secrets.token_hex(4)}-{version}"
    server = Server(home, version=version, settings=settings, copies=disk)
    with _one_at_a_time(root):
        # Checkouts that are gone leave nothing in memory for ever: whoever comes next looks at all of them.
        for other in root.parent.iterdir() if root != disk else [root]:
            remove_leftovers(other)
        server.claim()
    try:
        yield server.start()
    finally:
        with _one_at_a_time(root):
            server.destroy()
            with suppress(OSError):  # not empty: the checkout has other servers
                root.rmdir()


def remove_leftovers(root: Path) -> None:
    """Removes the temporary servers below a folder whose processes are gone."""
    for home in root.glob("temporary-*"):
        with suppress(ServerFailed):
            Server(home).destroy()
    for removed in root.glob(f"{REMOVED}*"):
        shutil.rmtree(removed, ignore_errors=True)


@contextmanager
def _one_at_a_time(root: Path) -> Iterator[None]:
    """A folder that was made and not claimed yet looks like a leftover. Beside the root, which comes and goes."""
    make_folder(root.parent, mode=0o755)
    with os.fdopen(os.open(root.parent / "temporary.lock", os.O_CREAT | os.O_RDWR, 0o600)) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
