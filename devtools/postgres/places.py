"""Where the data lies, so that two checkouts, two accounts and two test workers never meet.

An ordinary user keeps it in the checkout. Root's Postgres runs as another account, which cannot reach a checkout below
a 0700 home, and no existing folder changes its mode: there the data lies below /var/lib, named after the checkout's
real path.
"""

import hashlib
import os
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
STATE = Path("/var/lib/nexus-auth")


def home_for(name: str, *, version: int = 18, checkout: Path = CHECKOUT) -> Path:
    """The folder of one server, for instance `home_for("run")`: the same on every call, other for another checkout."""
    return root_for(checkout, name) / f"{name}-{version}"


def root_for(checkout: Path, name: str = "") -> Path:
    """The folder that holds a checkout's servers: `.run` for the one of `make run`, `.cache` for the rest."""
    if os.geteuid() == 0:
        return STATE / hashlib.sha256(os.fsencode(checkout.resolve())).hexdigest()[:16]
    return checkout.resolve() / (".run" if name == "run" else ".cache") / "postgres"


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
