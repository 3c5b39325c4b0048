"""Where the data lies, so that two checkouts, two accounts and two test workers never meet.

An ordinary user keeps it in the checkout. Root's Postgres runs as another account, which cannot reach a checkout below
a 0700 home, and no existing folder changes its mode: there the data lies below /var/lib, named after the checkout's
real path.
"""

import hashlib
import os
import shutil
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
STATE = Path("/var/lib/nexus-auth")
MEMORY = Path("/dev/shm")
MEMORY_BYTES = 2 * 1024**3
"""What must be free in memory before test servers are put there: a worker's server takes 300 MB at most."""


def home_for(name: str, *, version: int = 18, checkout: Path = CHECKOUT) -> Path:
    """The folder of one server, for instance `home_for("run")`: the same on every call, other for another checkout."""
    return root_for(checkout, name) / f"{name}-{version}"


def root_for(checkout: Path, name: str = "") -> Path:
    """The folder that holds a checkout's servers: `.run` for the one of `make run`, `.cache` for the rest."""
    if os.geteuid() == 0:
        return STATE / hashlib.sha256(os.fsencode(checkout.resolve())).hexdigest()[:16]
    return checkout.resolve() / (".run" if name == "run" else ".cache") / "postgres"


def memory_root_for(checkout: Path) -> Path | None:
    """The folder in memory that holds a checkout's test servers; None where this machine has no room for it.

    Tests kill processes and never the machine, so files in memory survive everything that they do. A commit there takes
    a tenth of a millisecond instead of several.
    """
    account = MEMORY / f"nexus-auth-{os.geteuid()}"
    try:
        if shutil.disk_usage(MEMORY).free < MEMORY_BYTES or _available_memory() < 2 * MEMORY_BYTES:
            return None
        make_folder(account, mode=0o755)
        if account.is_symlink() or account.stat().st_uid != os.geteuid():
            return None
    except OSError:
        return None
    return account / hashlib.sha256(os.fsencode(checkout.resolve())).hexdigest()[:16]


def _available_memory() -> int:
    """Bytes that programs can still take, as Linux estimates them; 0 where it does not say."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def make_folder(path: Path, *, mode: int) -> None:
    """Creates a folder and its missing parents (0755) whatever the umask says; one that exists keeps its mode."""
    if path.is_dir():
        return
    make_folder(path.parent, mode=0o755)
    try:
        path.mkdir()
    except FileExistsError:
        return
    path.chmod(mode)
