"""`make clean`: removes the data of this checkout's servers. One that runs is left, and said so."""

import shutil
import sys

from devtools.postgres.places import CHECKOUT, memory_root_for, root_for
from devtools.postgres.server import Server, ServerFailed


def main() -> None:
    """Removes every server's folder, then what is left beside them."""
    for root in {root_for(CHECKOUT), root_for(CHECKOUT, "run"), memory_root_for(CHECKOUT)} - {None}:
        assert root is not None
        for home in (lock.parent for lock in root.glob("*/lock")):
            try:
                Server(home).destroy()
            except ServerFailed as error:
                sys.exit(f"{error}: stop it first")
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
