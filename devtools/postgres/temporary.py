"""Servers for tests: a fresh folder each, so that any number of test runs and workers go on beside each other."""

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from devtools.postgres.places import CHECKOUT, make_folder, root_for
from devtools.postgres.server import REMOVED, Server, ServerFailed


@contextmanager
def temporary_server(
    *, version: int = 18, settings: Mapping[str, str] | None = None, checkout: Path = CHECKOUT
) -> Iterator[Server]:
    """A server of its own, started; stopped and removed afterwards, together with what killed runs left behind."""
    root = root_for(checkout)
    server = Server(root / f"temporary-{secrets.token_hex(4)}-{version}", version=version, settings=settings)
    with _one_at_a_time(root):
        remove_leftovers(root)
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
