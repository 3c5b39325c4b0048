"""Writes the migrations for people who apply them with `supabase db push` (`make supabase`).

Supabase's runner does not know `-- migrate:down` and would run what stands below it. It also promises no transaction,
and outside one `set local role` does nothing: every table would belong to whoever runs the file. Hence the transaction.

    python -m devtools.supabase           writes them into build/supabase/migrations, which is emptied first
    python -m devtools.supabase FOLDER    writes them into this folder and leaves its other files alone
"""

import re
import shutil
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
MIGRATIONS = CHECKOUT / "sql" / "migrations"
DEFAULT_FOLDER = CHECKOUT / "build" / "supabase" / "migrations"

MARKS = re.compile(
    r"^-- migrate:up(?P<options>[^\n]*)\n(?P<up>.*?)(?:^-- migrate:down[^\n]*\n.*)?\Z", re.MULTILINE | re.DOTALL
)


def for_supabase(migration: str) -> str:
    """The upward half of a dbmate file, in a transaction unless the file asks for none; ValueError without the mark."""
    found = MARKS.search(migration)
    if found is None:
        raise ValueError("no line `-- migrate:up`")
    up = found["up"].strip()
    return f"{up}\n" if "transaction:false" in found["options"] else f"begin;\n{up}\ncommit;\n"


def write(folder: Path, *, migrations: Path = MIGRATIONS) -> list[Path]:
    """Writes every migration into the folder, which is made if it is missing, and answers the files in their order."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for file in sorted(migrations.glob("*.sql")):
        (folder / file.name).write_text(for_supabase(file.read_text()))
        written.append(folder / file.name)
    return written


def main(arguments: list[str]) -> None:
    """Writes the files and prints where they are."""
    if arguments:
        folder = Path(arguments[0])
    else:
        folder = DEFAULT_FOLDER
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{len(write(folder))} migrations in {folder}")


if __name__ == "__main__":
    main(sys.argv[1:])
