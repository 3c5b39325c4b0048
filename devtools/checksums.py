"""Notes the migrations' checksums in `sql/CHECKSUMS` (the format of sha256sum), and tells where a file no longer fits.

dbmate remembers numbers, not contents: a migration that is edited after it was applied somewhere would make two
databases of one version differ, and nothing would say so.

    python -m devtools.checksums           writes the list
    python -m devtools.checksums --check   exits with 1 and names what was edited, added or removed
"""

import hashlib
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]


def checksums(checkout: Path = CHECKOUT) -> dict[str, str]:
    """Path below the checkout and SHA-256 of every migration."""
    files = sorted((checkout / "sql" / "migrations").glob("*.sql"))
    return {file.relative_to(checkout).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def write(checkout: Path = CHECKOUT) -> None:
    """Writes the list anew."""
    lines = [f"{digest}  {name}\n" for name, digest in checksums(checkout).items()]
    (checkout / "sql" / "CHECKSUMS").write_text("".join(lines))


def differences(checkout: Path = CHECKOUT) -> list[str]:
    """The files that were edited, added or removed since the list was written."""
    found = checksums(checkout)
    lines = (checkout / "sql" / "CHECKSUMS").read_text().splitlines()
    noted = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    return sorted(name for name in found.keys() | noted.keys() if found.get(name) != noted.get(name))


if __name__ == "__main__":
    if "--check" not in sys.argv[1:]:
        write()
    elif names := differences():
        sys.exit(
            f"not as sql/CHECKSUMS says: {', '.join(names)}\n"
            "A migration that was applied anywhere must not change; a new one is noted by `make checksums`."
        )
