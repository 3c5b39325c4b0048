"""`make bench`: events a second and what they cost, time to the visible row, time to readiness, sweeps; in one run.

Exit codes: 0, 1 when a row is missing or a ratio misses its goal (rates and times never fail a run: machines differ),
2 when the command line is wrong.
"""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import uvloop
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench import operator, startup, sweep, throughput, visibility, workload
from bench.checks import Wrong
from bench.report import Report, as_json, print_tables
from devtools.kubernetes.binaries import missing
from devtools.loopback import drop_real_world
from devtools.postgres import Database, Server, ServerFailed, create_database, create_logins, temporary_server
from nexus_auth.store.migrations import migrate
from tests.events import INSTANCE, SECRET

PARTS = ("throughput", "visibility", "startup", "sweep", "operator")
CHAPTERS = {
    "webhook": ("throughput", "visibility"),
    "startup": ("startup",),
    "sweep": ("sweep",),
    "operator": ("operator",),
}
"""Names for the command line, `make bench ARGS=sweep`."""

MOST_A_SECOND = 12_000
"""So many events are prepared for a second of a round; a faster machine's rounds end early."""

VISIBLE_RATE = 200.0


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("chapters", type=click.Choice(list(CHAPTERS)), nargs=-1)
@click.option("--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.option("--only", "parts", type=click.Choice(PARTS), multiple=True, help="This part; may be given again.")
@click.option("--rounds", type=click.IntRange(min=1), default=4, show_default=True, help="Of each kind.")
@click.option("--seconds", type=click.FloatRange(min=0.1), default=4.0, show_default=True, help="Of a round.")
@click.option("--connections", type=click.IntRange(1, 1000), default=64, show_default=True)
@click.option(
    "--users", type=click.IntRange(min=1), default=4000, show_default=True, help="Created before the clock starts."
)
@click.option(
    "--goal", type=float, default=throughput.GOAL, show_default=True, help="Group commit's ratio to batches of one."
)
@click.option(
    "--sweep-users",
    type=click.IntRange(min=10),
    default=100_000,
    show_default=True,
    help="Of the full sweep; a tenth of them is swept too. 1000000 takes a quarter of an hour and 3 GB of memory.",
)
@click.option("--sweep-goal", type=float, default=sweep.GOAL, show_default=True, help="A sweep's ratio to its floor.")
def main(
    chapters: tuple[str, ...],
    output: str,
    parts: tuple[str, ...],
    rounds: int,
    seconds: float,
    connections: int,
    users: int,
    goal: float,
    sweep_users: int,
    sweep_goal: float,
) -> None:
    """Measure the webhook service, batches of one beside it, the way to the visible row, make run, and full sweeps."""
    drop_real_world(os.environ)
    chosen = (*parts, *(part for chapter in chapters for part in CHAPTERS[chapter])) or PARTS
    console, errors = Console(), Console(stderr=True)
    try:
        with _progress(errors) as bar, tempfile.TemporaryDirectory(prefix="nexus-auth-bench-") as folder:
            report = uvloop.run(
                _measure(
                    chosen,
                    folder=Path(folder),
                    bar=bar,
                    rounds=rounds,
                    seconds=seconds,
                    connections=connections,
                    users=users,
                    goal=goal,
                    sweep_users=sweep_users,
                    sweep_goal=sweep_goal,
                )
            )
    except (Wrong, ServerFailed, startup.NotReady, operator.NotScheduled) as error:
        sys.exit(f"make bench: {error}")
    if output == "json":
        click.echo(as_json(report))
    else:
        print_tables(console, report)
    missed = [part.missed() for part in (report.throughput, report.sweeping, report.operator) if part is not None]
    if any(missed):
        sys.exit(f"make bench: {'; '.join(filter(None, missed))}")


async def _measure(
    parts: tuple[str, ...],
    *,
    folder: Path,
    bar: sweep.Bar,
    rounds: int,
    seconds: float,
    connections: int,
    users: int,
    goal: float,
    sweep_users: int,
    sweep_goal: float,
) -> Report:
    measured: throughput.Throughput | None = None
    seen: visibility.Visibility | None = None
    started: startup.Startup | None = None
    swept: sweep.Sweeping | None = None
    if {"throughput", "visibility", "sweep"} & set(parts):
        with temporary_server() as server:
            template = _template(server)
            if "throughput" in parts:
                timed = int(MOST_A_SECOND * seconds)

                def prepare() -> workload.Workload:
                    return workload.prepare(
                        folder / "requests",
                        warm=users,
                        timed=timed,
                        secret=SECRET,
                        instance_id=INSTANCE,
                        progress=bar("signing events", users + timed),
                    )

                measured = await throughput.measure(
                    server,
                    template,
                    prepare,
                    folder=folder,
                    connections=connections,
                    seconds=seconds,
                    rounds=rounds,
                    goal=goal,
                    progress=bar("rounds under load", rounds * len(throughput.VARIANTS)),
                )
            if "visibility" in parts:
                lasting = 2 * seconds
                seen = await visibility.measure(
                    server,
                    template,
                    folder=folder,
                    rate=VISIBLE_RATE,
                    seconds=lasting,
                    progress=bar("changes seen", int(VISIBLE_RATE * lasting)),
                )
            if "sweep" in parts:
                swept = await sweep.measure(
                    server, template, folder=folder, users=sweep_users, rounds=rounds, goal=sweep_goal, bar=bar
                )
    if "startup" in parts:
        times = min(rounds, 3)
        started = await startup.measure(folder=folder, rounds=times, progress=bar("starts of make run", 2 * times))
    resting = None
    if "operator" in parts and not missing():
        bar("an operator with a thousand syncs", 1)
        with temporary_server() as server:
            resting = await operator.measure(server, _template(server), folder=folder)
    return Report(os.cpu_count() or 1, measured, seen, started, swept, resting)


def _template(server: Server) -> Database:
    url = create_database(server.admin_url(), "bench_template")
    migrate(url)
    return create_logins(url)


@contextmanager
def _progress(console: Console) -> Iterator[sweep.Bar]:
    """Bars on a terminal, one line for each part elsewhere."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:

        def bar(name: str, total: int) -> Callable[[int], None]:
            if not console.is_terminal:
                console.print(f"{name} …")
            task = progress.add_task(name, total=total)
            return lambda done: progress.update(task, completed=done)

        yield bar


if __name__ == "__main__":
    main(prog_name="python -m bench")
