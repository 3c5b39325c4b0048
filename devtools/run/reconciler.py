"""The reconciler of a run: the standalone process with manifests of its own, and its runs told in plain words.

It sweeps far more often than in production, so that a lost event is repaired while somebody watches. Beside a real
Clerk it uses a tenth of the rate limit and only reports, unless it is told to repair.
"""

import asyncio
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from devtools.postgres import Database
from devtools.postgres.places import make_folder
from devtools.run.clerk import ClerkFacts
from devtools.run.folder import write_private
from devtools.run.output import Output, Piece, clean
from devtools.run.parts import Part
from devtools.run.service import Service
from services.cli.wording import DONE, differing, found_of, kind_words, repaired_of

SYNC = "make-run"
"""Name of the ClerkSync, and of the ClerkInstance."""

EMULATED_PERCENT = 30
"""Of Clerk's production limit: the backfill takes seconds, and the page and the tests have the rest."""

REAL_PERCENT = 10
VERIFY_SECONDS = 5
"""Before and between the two reads by name that delete, revive or lower a row, beside the emulator."""

MOST_FINDINGS = 10

MODES = {"incremental": "look", "full": "full sweep", "deep": "deep sweep"}

STATES = ("completed", "parked", "failed")
"""Of a sweep's runs, the one that decides last."""

FINDINGS = """
select run_id, kind, id, problem, action, cause from clerk_private.findings where run_id = any ($1)
order by found_at, kind, id limit $2
"""
RUNS = """
select id, kind, mode, state, message, counts, requests, extract(epoch from finished_at - started_at)::float8 as seconds
from clerk_private.runs where sweep_id = $1 and finished_at is not null and id > $2 order by id
"""


class Reconciler(Service):
    """One sync of everything. `repairs` is its policy: Fix, or else Report."""

    def __init__(self, *, port: int, repairs: bool, output: Output) -> None:
        """Starts nothing yet; `port` is that of its health and metrics."""
        super().__init__("reconciler", "services.reconciler.standalone", output=output)
        self.metrics_url = f"http://127.0.0.1:{port}/metrics"
        self.repairs = repairs
        self._port = port
        self._told: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()

    def prepare(self, folder: Path, *, clerk: ClerkFacts, database: Database) -> Mapping[str, str]:
        """Writes manifests and secrets into a folder for the owner only; answers the environment to begin with."""
        secrets = folder / "secrets"
        for place in (folder, secrets, secrets / "clerk", secrets / "database"):
            make_folder(place, mode=0o700)
        write_private(secrets / "clerk" / "secret-key", clerk.secret_key + "\n")
        write_private(secrets / "database" / "url", database.url("reconciler") + "\n")
        write_private(folder / "manifests.yaml", manifests(clerk, repairs=self.repairs))
        verify = {"NEXUS_AUTH_VERIFY_AFTER": str(VERIFY_SECONDS)} if clerk.page_url else {}
        return {
            "NEXUS_AUTH_MANIFESTS": str((folder / "manifests.yaml").resolve()),
            "NEXUS_AUTH_SECRETS_DIR": str(secrets.resolve()),
            "NEXUS_AUTH_HEALTH_PORT": str(self._port),
            "NEXUS_AUTH_API_HOSTS": urlsplit(clerk.api_url).netloc,
            **verify,
        }

    async def tell(self, database: Database) -> None:
        """Prints each run that did or found something, with its findings; goes on until it is cancelled."""
        import asyncpg

        last = 0
        while True:
            entry = await self._told.get()
            if entry["run"] <= last:
                continue  # it was told with the first run of its sweep
            try:
                connection = await asyncpg.connect(database.admin_url, timeout=5)
                try:
                    runs = await connection.fetch(RUNS, entry["sweep"], last)
                    findings = await connection.fetch(FINDINGS, [run["id"] for run in runs], MOST_FINDINGS + 1)
                finally:
                    await connection.close(timeout=5)
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
                self._complain(f"run {entry['run']} ended; it cannot be read ({type(error).__name__})", level="warning")
                continue
            last = max([entry["run"], *(run["id"] for run in runs)])
            for pieces in sweep_lines([dict(run) for run in runs], findings=findings):
                self._output.line(*pieces)

    def _said(self, part: Part, entry: Mapping[str, Any]) -> bool:
        if entry["message"] == "sync taken over":
            self._works(part, again="looks again")
        elif entry["message"] == "run":
            self._told.put_nowait(entry)
        else:
            return False
        return True


def manifests(clerk: ClerkFacts, *, repairs: bool) -> str:
    """The two documents, as a cluster would be given them."""
    emulated = clerk.page_url is not None
    production = emulated or not clerk.secret_key.startswith("sk_test_")
    instance = {
        "instanceId": clerk.instance_id,
        "apiUrl": clerk.api_url,
        "secretKeyRef": {"name": "clerk"},
        "environment": "Production" if production else "Development",
        "budgetPercent": EMULATED_PERCENT if emulated else REAL_PERCENT,
        "stateDatabase": {"secretRef": {"name": "database"}},
    }
    sync = {
        "instanceRef": {"name": SYNC},
        "database": {"secretRef": {"name": "database"}},
        "interval": "30s" if emulated else "1m",
        "fullSweepInterval": "2m" if emulated else "1h",
        "drift": {"policy": "Fix" if repairs else "Report"},
    }
    documents = [
        {"apiVersion": "nexus-auth.dev/v1alpha1", "kind": kind, "metadata": {"name": SYNC}, "spec": spec}
        for kind, spec in (("ClerkInstance", instance), ("ClerkSync", sync))
    ]
    return yaml.safe_dump_all(documents, sort_keys=False)


def forget(folder: Path) -> None:
    """Takes manifests and secrets away."""
    shutil.rmtree(folder, ignore_errors=True)


def sweep_lines(runs: Sequence[Mapping[str, Any]], *, findings: Iterable[Mapping[str, Any]]) -> list[tuple[Piece, ...]]:
    """A sweep as lines: what it was, what its runs found and did, each finding with its cause.

    A look that found nothing is not worth a line.
    """
    if not runs:
        return []
    counts = {run["kind"]: _counts(run["counts"]) for run in runs}
    found, done, mode = found_of(counts), repaired_of(counts), MODES[runs[0]["mode"]]
    state = max((run["state"] for run in runs if run["state"] in STATES), key=STATES.index, default="aborted")
    said = "; ".join(dict.fromkeys(clean(run["message"]) for run in runs if run["message"]))
    if state == "completed" and not differing(counts) and done == "-" and runs[0]["mode"] == "incremental" and not said:
        return []
    took = f" in {sum(run['seconds'] for run in runs):.1f} s"
    ids = [run["id"] for run in runs]
    number = f"run {ids[0]}" if len(ids) == 1 else f"runs {ids[0]} to {ids[-1]}"
    listed = list(findings)
    if state != "completed":
        text, style = f"{mode} {state}: {said}", "red"
    elif all(of.get("missing", 0) == differing({"": of}) for of in counts.values()) and done != "-" and not listed:
        rows = ", ".join(f"{of['repaired']:,} {kind_words(kind, of['repaired'])}" for kind, of in counts.items() if of)
        text, style = f"backfill: {rows}{took}", "green"  # of a backfill nothing is noted
    elif not differing(counts) and done == "-":
        rows = ", ".join(f"{of.get('seen', 0):,} {kind_words(kind, 2)}" for kind, of in counts.items())
        text, style = f"{mode}: {rows} compared{took}, all in step", "green"
    else:
        nothing = found == "in step"
        text = f"{mode}: found {'nothing' if nothing else found}; {'nothing repaired' if done == '-' else done}{took}"
        style = "yellow"
    if state == "completed" and said:
        text = f"{text}; {said}"
    requests = sum(run["requests"] for run in runs)
    asked = f"{requests:,} request{'s' * (requests != 1)}"
    lines: list[tuple[Piece, ...]] = [(("reconciler: ", "bold"), (text, style), (f"  ({number}, {asked})", "dim"))]
    lines += [_finding(finding) for finding in listed[:MOST_FINDINGS]]
    if len(listed) > MOST_FINDINGS:
        lines.append(((f"    and more: nexus-auth findings --run {listed[-1]['run_id']}", "dim"),))
    return lines


def _counts(counts: str | Mapping[str, int]) -> Mapping[str, int]:
    read: Mapping[str, int] = json.loads(counts) if isinstance(counts, str) else counts
    return read


def _finding(finding: Mapping[str, Any]) -> tuple[Piece, ...]:
    return (
        (f"    {finding['problem']:<10} ", "yellow"),
        (f"{kind_words(finding['kind'], 1):<12} {clean(finding['id'], width=120):<33} ", ""),
        (f"{finding['action']:<10} ", "green" if finding["action"] in DONE else ""),
        (clean(str(finding["cause"] or "")), "dim"),
    )
