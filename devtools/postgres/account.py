"""Who Postgres runs as. initdb and postgres refuse root, so root hands them to an account without rights of its own.

A bare uid without an account does not do: initdb looks its name up.
"""

import fcntl
import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path

CANDIDATES = ("postgres", "nexus-auth-postgres")
"""Accounts tried in this order; the last one is created where neither exists."""


@dataclass(frozen=True)
class Account:
    """An account that Postgres is started as, because we are root."""

    name: str
    uid: int
    gid: int


def account_for_postgres(lock_folder: Path) -> Account | None:
    """The account that Postgres has to run as: None for an ordinary user, who runs it as himself.

    `lock_folder` (exists, ours) holds the lock under which an account is created: two checkouts may begin at once.
    """
    if os.geteuid() != 0:
        return None
    found = _existing()
    if found is None:
        with (lock_folder / "account.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            found = _existing() or _create()
    return found


def _existing() -> Account | None:
    for name in CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return Account(name=name, uid=entry.pw_uid, gid=entry.pw_gid)
    return None


def _create() -> Account:
    command = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"]
    subprocess.run([*command, "--shell", "/usr/sbin/nologin", CANDIDATES[-1]], check=True)
    created = _existing()
    if created is None:
        raise RuntimeError(f"useradd said yes, but there is no account {CANDIDATES[-1]}")
    return created
