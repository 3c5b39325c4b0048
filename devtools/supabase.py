"""Writes `sql/supabase/migrations`: the same migrations for people who apply them with `supabase db push`.

Supabase's runner knows no `-- migrate:down` and would run what stands below it. It also promises no transaction, and
outside one `set local role` does nothing: every table would belong to whoever runs the file. Hence begin and commit.

    python -m devtools.supabase           writes the copies
    python -m devtools.supabase --check   exits with 1 and says so where they are not up to date
"""

import re
import sys
from pathlib import Path

SQL = Path(__file__).resolve().parents[1] / "sql"

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


def copies(sql: Path = SQL) -> dict[str, str]:
    """File name and text of every copy, as the migrations want them."""
    return {file.name: for_supabase(file.read_text()) for file in sorted((sql / "migrations").glob("*.sql"))}


def out_of_date(sql: Path = SQL) -> list[str]:
    """The names of the copies that are missing, differ, or have lost their migration."""
    wanted = copies(sql)
    found = {file.name: file.read_text() for file in (sql / "supabase" / "migrations").glob("*.sql")}
    return sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))


def write(sql: Path = SQL) -> None:
    """Writes every copy and removes those without a migration."""
    folder = sql / "supabase" / "migrations"
    folder.mkdir(parents=True, exist_ok=True)
    wanted = copies(sql)
    for name, text in wanted.items():
        (folder / name).write_text(text)
    for file in folder.glob("*.sql"):
        if file.name not in wanted:
            file.unlink()


if __name__ == "__main__":
    if "--check" not in sys.argv[1:]:
        write()
    elif names := out_of_date():
        sys.exit(f"sql/supabase/migrations is not up to date ({', '.join(names)}): run `make checksums`")
