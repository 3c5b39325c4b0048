"""What is printed when everything is ready: where each part is, and what to try next."""

import os
import shlex
import sys
from pathlib import Path
from urllib.parse import urlsplit

from devtools.postgres import Database
from devtools.postgres.places import CHECKOUT
from devtools.run.clerk import ClerkFacts
from devtools.run.folder import RunFolder
from devtools.run.output import Piece
from devtools.run.reconciler import Reconciler
from devtools.run.webhook import PATH, Webhook

QUERY = "select id, primary_email from clerk.users"

Line = tuple[Piece, ...]


def greeting(
    clerk: ClerkFacts,
    *,
    database: Database,
    webhook: Webhook,
    reconciler: Reconciler,
    folder: RunFolder,
    seconds: float,
) -> list[Line]:
    """The lines, in order; `seconds` is how long the start took."""
    psql = _psql(folder)
    server = urlsplit(database.admin_url)
    where = f"{server.hostname}:{server.port or 5432}/{database.name}"
    lines: list[Line] = [_line((f"ready in {seconds:.1f} s", "bold green"), ("; Ctrl-C ends all of it", "")), _line()]
    if clerk.page_url:
        lines.append(_row("page", clerk.page_url, "create, change and delete users; faults"))
    else:
        lines.append(_row("Clerk", clerk.api_url, f"{clerk.instance_id}, {'LIVE' if clerk.is_live else 'test'} key"))
    lines += [
        _row("webhook", webhook.url),
        _row("metrics", webhook.metrics_url, "of the webhook"),
        _row("", reconciler.metrics_url, "of the reconciler"),
        _row("Postgres", where, psql),
        _row("env", _short(folder.env_file), f"every address and key: . {shlex.quote(_short(folder.env_file))}"),
        _line(),
        *(_try_emulator(psql) if clerk.page_url else _try_real(psql, repairs=reconciler.repairs)),
        _line(),
    ]
    return lines


def _try_emulator(psql: str) -> list[Line]:
    return [
        _line("Create a user on the page. Its event is a line below, with its id; then ask Postgres as that user:"),
        _line((f"  {psql} --as user_… -c '{QUERY}'", "cyan")),
        _line("As any other id it shows nothing. The emulator's users of the start come by the reconciler's backfill;"),
        _line("let the page lose an event, or edit a row by hand: its next look or sweep (30 s, 2 min) repairs it."),
        _line("What you change is there again at the next run; make run FRESH=1 begins anew."),
        _line("  ", (f"{_command('nexus-auth')} status", "cyan"), ", plan, findings and explain ID tell more"),
    ]


def _try_real(psql: str, *, repairs: bool) -> list[Line]:
    return [
        _line("Clerk must reach the webhook from outside: open a tunnel to the port above, and give Clerk's dashboard"),
        _line((f"  https://<your tunnel>{PATH}", "cyan")),
        _line("Then sign a user up. Its event is a line below, with its id; ask Postgres as that user:"),
        _line((f"  {psql} --as user_… -c '{QUERY}'", "cyan")),
        _line(
            "The reconciler repairs what it finds (NEXUS_AUTH_APPLY=1)."
            if repairs
            else "The reconciler only reports what it finds; with NEXUS_AUTH_APPLY=1 it repairs, and backfills."
        ),
    ]


def _command(name: str) -> str:
    """A program beside our Python."""
    return shlex.quote(_short(Path(sys.executable).with_name(name)))


def _line(*pieces: str | Piece) -> Line:
    return tuple((piece, "") if isinstance(piece, str) else piece for piece in pieces)


def _row(name: str, address: str, remark: str = "") -> Line:
    return _line((f"  {name:<9}", "bold"), f"{address:<42} ", (remark, "dim"))


def _psql(folder: RunFolder) -> str:
    home = "" if folder.home.resolve() == CHECKOUT else f"--home {shlex.quote(str(folder.home))} "
    return f"{shlex.quote(_short(Path(sys.executable)))} -m devtools.run {home}psql"


def _short(path: Path) -> str:
    """Relative to where we are, if it is below."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
