"""The reconciler of a run: the standalone process with manifests of its own, and its runs told in plain words.

It sweeps far more often than one would in production, so that a lost event is repaired while somebody watches; beside
a real Clerk it keeps to a tenth of the rate limit and only reports, unless it is told to repair.
"""

import asyncio
import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from devtools.postgres import Database
from devtools.postgres.places import make_folder
from devtools.run.clerk import ClerkFacts
from devtools.run.folder import write_private
from devtools.run.output import Output, Piece, clean
from devtools.run.parts import Part
from devtools.run.service import Service

SYNC = "make-run"
"""Name of the ClerkSync, and of the ClerkInstance."""

EMULATED_PERCENT = 30
"""Of Clerk's production limit: the backfill takes seconds, and the page and the tests have the rest."""

REAL_PERCENT = 10
VERIFY_SECONDS = 5
"""Before and between the reads that may revive a row, beside the emulator: nobody watches for two minutes."""

MOST_FINDINGS = 10

WORDS = {
    "user": ("user", "users"),
    "organization": ("organization", "organizations"),
    "organization_membership": ("membership", "memberships"),
}
FOUND = ("missing", "stale", "deep", "edited", "projection", "resurfaced", "ahead", "gone")
DONE = ("repaired", "tombstoned", "revived", "lowered")
MODES = {"incremental": "look", "full": "full sweep", "deep": "deep sweep"}

FINDINGS = """
select kind, id, problem, action, cause from clerk_private.findings where run_id = $1
order by found_at, kind, id limit $2
"""
DURATION = "select extract(epoch from finished_at - started_at)::float8 from clerk_private.runs where id = $1"


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
            "NEXUS_AUTH_API_HOSTS": clerk.api_url.partition("://")[2],
            **verify,
        }

    async def tell(self, database: Database) -> None:
        """Prints each run that did or found something, with its findings; goes on until it is cancelled."""
        import asyncpg

        while True:
            entry = await self._told.get()
            findings: list[Mapping[str, Any]] = []
            seconds = None
            try:
                connection = await asyncpg.connect(database.admin_url, timeout=5)
                try:
                    seconds = await connection.fetchval(DURATION, entry["run"])
                    findings = await connection.fetch(FINDINGS, entry["run"], MOST_FINDINGS + 1)
                finally:
                    await connection.close(timeout=5)
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
                self._complain(f"its findings cannot be read ({type(error).__name__})", level="warning")
            for pieces in run_lines(entry, seconds=seconds, findings=findings):
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


def run_lines(
    entry: Mapping[str, Any], *, seconds: float | None, findings: Iterable[Mapping[str, Any]]
) -> list[tuple[Piece, ...]]:
    """A run as lines: what it was, what it found and did, each finding with its cause. A look that found nothing is
    not worth a line.
    """
    counts: Mapping[str, Mapping[str, int]] = entry.get("counts") or {}
    if isinstance(counts, str):
        counts = json.loads(counts)
    found, done = (_summed(counts, words) for words in (FOUND, DONE))
    failed = entry.get("state") != "completed"
    if not failed and not found and not done and entry.get("mode") == "incremental":
        return []
    took = f" in {seconds:.1f} s" if seconds is not None else ""
    number = f"run {entry.get('run')}, {entry.get('requests')} requests"
    listed = list(findings)
    if failed:
        text, style = f"{MODES[entry['mode']]} {entry['state']}: {clean(str(entry.get('why')))}", "red"
    elif list(found) == ["missing"] and "repaired" in done and not listed:  # of a backfill nothing is noted
        rows = ", ".join(f"{of.get('repaired', 0):,} {_word(kind, of)}" for kind, of in counts.items())
        text, style = f"backfill: {rows}{took}", "green"
    elif not found and not done:
        rows = ", ".join(f"{of.get('seen', 0):,} {WORDS[kind][1]}" for kind, of in counts.items() if kind in WORDS)
        text, style = f"{MODES[entry['mode']]}: {rows} compared{took}, all in step", "green"
    else:
        text = f"{MODES[entry['mode']]}: found {_list(found) or 'nothing'}; {_list(done) or 'nothing repaired'}{took}"
        style = "yellow"
    lines: list[tuple[Piece, ...]] = [(("reconciler: ", "bold"), (text, style), (f"  ({number})", "dim"))]
    lines += [_finding(finding) for finding in listed[:MOST_FINDINGS]]
    if len(listed) > MOST_FINDINGS:
        lines.append(((f"    and more: nexus-auth findings --run {entry.get('run')}", "dim"),))
    return lines


def _finding(finding: Mapping[str, Any]) -> tuple[Piece, ...]:
    one = WORDS.get(finding["kind"], (finding["kind"],))[0]
    return (
        (f"    {finding['problem']:<10} ", "yellow"),
        (f"{one:<12} {clean(finding['id'], width=120):<33} ", ""),
        (f"{finding['action']:<10} ", "green" if finding["action"] in DONE else ""),
        (clean(str(finding["cause"] or "")), "dim"),
    )


def _summed(counts: Mapping[str, Mapping[str, int]], words: Iterable[str]) -> dict[str, int]:
    sums = {word: sum(of.get(word, 0) for of in counts.values()) for word in words}
    return {word: number for word, number in sums.items() if number}


def _list(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} {word}" for word, number in numbers.items())


def _word(kind: str, counts: Mapping[str, int]) -> str:
    one, many = WORDS.get(kind, (kind, kind))
    return one if counts.get("repaired") == 1 else many
