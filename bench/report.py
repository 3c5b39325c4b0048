"""What was measured, as tables for people or as JSON for programs."""

import dataclasses
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec
from rich.console import Console
from rich.table import Table

from bench.operator import Resting, words
from bench.startup import Startup
from bench.sweep import GROWTH, SHARES, Sweeping, Sweeps, Turn
from bench.throughput import VARIANTS, Round, Throughput
from bench.visibility import Visibility

FIGURES: tuple[tuple[str, Callable[[Round], float], str], ...] = (
    ("events/s", lambda one: one.rate, ",.0f"),
    ("p50 ms", lambda one: one.p50, ".1f"),
    ("p95 ms", lambda one: one.p95, ".1f"),
    ("p99 ms", lambda one: one.p99, ".1f"),
    ("events/transaction", lambda one: one.rows_per_transaction, ".1f"),
    ("CPU µs/event: service", lambda one: one.service_us, ",.0f"),
    ("CPU µs/event: Postgres", lambda one: one.postgres_us, ",.0f"),
    ("CPU µs/event: generator", lambda one: one.generator_us, ",.0f"),
    ("% of a core: service", lambda one: one.service_busy, ".0f"),
    ("% of a core: Postgres", lambda one: one.postgres_busy, ".0f"),
    ("% of a core: generator", lambda one: one.generator_busy, ".0f"),
    ("% of a core: all else", lambda one: one.others_busy, ".0f"),
)

SWEEP_FIGURES: tuple[tuple[str, Callable[[Turn], float], str], ...] = (
    ("requests", lambda one: one.requests, ",.0f"),
    ("seconds", lambda one: one.seconds, ".2f"),
    ("floor: reads and discards, s", lambda one: one.read_floor, ".2f"),
    ("floor: the limit itself, s", lambda one: one.limit_floor, ".2f"),
    ("times the higher floor", lambda one: one.ratio, ".2f"),
    ("CPU s: reconciler", lambda one: one.cpu_seconds, ".2f"),
    ("CPU s: reading and discarding", lambda one: one.floor_cpu_seconds, ".2f"),
    ("CPU s: Postgres", lambda one: one.postgres_seconds, ".2f"),
    ("CPU s: emulator", lambda one: one.emulator_seconds, ".2f"),
    ("most requests in any 10 s", lambda one: one.most_in_10s, ",.0f"),
    ("peak memory, MiB", lambda one: one.peak_mib, ",.0f"),
)

LIMITS = {"none": "no limit", "full": "full budget, 1,000 in 10 s", "10 %": "10 %, 100 in 10 s"}

MUCH = 30
"""Per cent of a core that others may take before the report says so."""


@dataclass(frozen=True, slots=True)
class Report:
    """All parts; one that was not asked for is None."""

    cores: int
    throughput: Throughput | None
    visibility: Visibility | None
    startup: Startup | None
    sweeping: Sweeping | None
    operator: Resting | None
    """None too where the Kubernetes test kit is not there."""


def print_tables(console: Console, report: Report) -> None:
    """For people."""
    if report.throughput is not None:
        _throughput(console, report.throughput, cores=report.cores)
    if report.visibility is not None:
        _visibility(console, report.visibility)
    if report.startup is not None:
        _startup(console, report.startup)
    if report.sweeping is not None:
        _sweeping(console, report.sweeping)
    if report.operator is not None:
        console.print(words(report.operator))


def as_json(report: Report) -> str:
    """For programs: everything measured, round by round, and the medians and the ratio."""
    whole = dataclasses.asdict(report)
    if report.throughput is not None:
        whole["throughput"] |= {
            "ratio": report.throughput.ratio,
            "acknowledged_equals_rows": True,
            "medians": {
                variant: {
                    field.name: statistics.median(getattr(one, field.name) for one in report.throughput.of(variant))
                    for field in dataclasses.fields(Round)
                    if field.name != "variant"
                }
                for variant in VARIANTS
            },
        }
    if report.startup is not None:
        whole["startup"] |= {"first_median": report.startup.first_median, "again_median": report.startup.again_median}
    if report.sweeping is not None:
        whole["sweeping"] |= {"growth": report.sweeping.growth}
        for size, sweeps in (("small", report.sweeping.small), ("large", report.sweeping.large)):
            whole["sweeping"][size] |= {
                "reasons_share": sweeps.explained.share,
                "ratios": {limit: sweeps.ratio(limit) for limit in SHARES},
                "backfill_rows_per_second": sweeps.backfill.rate,
                "peak_mib": sweeps.peak_mib,
            }
    return msgspec.json.format(msgspec.json.encode(whole), indent=2).decode()


def _throughput(console: Console, measured: Throughput, *, cores: int) -> None:
    title = f"{measured.connections} connections, events of {measured.body_bytes:,.0f} bytes, fsync on, {cores} cores"
    table = Table("median (lowest to highest)", title=title, title_justify="left")
    for variant in VARIANTS:
        table.add_column(variant, justify="right")
    for name, figure, form in FIGURES:
        table.add_row(name, *(_spread(map(figure, measured.of(variant)), form) for variant in VARIANTS))
    table.add_row(
        "acknowledged = rows", *(f"{sum(one.events for one in measured.of(variant)):,}, all" for variant in VARIANTS)
    )
    console.print(table)
    console.print(f"Group commit is {measured.ratio:.2f} times as fast as batches of one (goal {measured.goal:g}).")
    console.print("Rounds took turns: of all figures, the ratio carries furthest to other machines.")
    others = statistics.median(one.others_busy for one in measured.rounds)
    if others > MUCH:
        console.print(f"[yellow]Others took {others:.0f} % of a core meanwhile: on a quiet machine it is faster.[/]")
    console.print()


def _visibility(console: Console, measured: Visibility) -> None:
    table = Table(
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "slowest ms",
        title=f"From the emulator's send to the visible row, {measured.rate:.0f} events/s, {measured.events:,} events",
        title_justify="left",
    )
    table.add_row(*(f"{value:.1f}" for value in (measured.p50, measured.p95, measured.p99, measured.slowest)))
    console.print(table)
    console.print(
        f"Looked for every {measured.look_ms:.1f} ms as service_role; up to that, and 1 ms, is in the figures.\n"
    )


def _startup(console: Console, measured: Startup) -> None:
    table = Table("make run", "ready after (median, lowest to highest)", title_justify="left")
    table.add_row("the first time, on nothing", _spread(measured.first, ".1f") + " s")
    table.add_row("again, on its data", _spread(measured.again, ".1f") + " s")
    console.print(table)


def _sweeping(console: Console, measured: Sweeping) -> None:
    for sweeps in (measured.small, measured.large):
        _sweeps(console, sweeps)
    console.print(
        f"At full budget a sweep of {measured.large.users:,} users takes {measured.large.ratio('full'):.2f} times its"
        f" floor (goal {measured.goal:g}), at 10 % {measured.large.ratio('10 %'):.2f} times."
    )
    console.print(f"Ten times the users take {measured.growth:.2f} times the memory (goal {GROWTH:g}).\n")


def _sweeps(console: Console, sweeps: Sweeps) -> None:
    title = (
        f"Full sweep of {sweeps.users:,} users, {sweeps.organizations:,} organizations, {sweeps.memberships:,}"
        " memberships, nothing to repair"
    )
    table = Table("median (lowest to highest)", title=title, title_justify="left")
    for limit in SHARES:
        table.add_column(LIMITS[limit], justify="right")
    for name, figure, form in SWEEP_FIGURES:
        table.add_row(name, *(_spread(map(figure, sweeps.of(limit)), form) for limit in SHARES))
    console.print(table)
    filled = sweeps.backfill
    console.print(
        f"Backfill at full budget: {filled.rows:,} rows in {filled.seconds:.1f} s, {filled.rate:,.0f} rows/s,"
        f" {filled.requests:,} requests; CPU {filled.cpu_seconds:.1f} s reconciler, {filled.postgres_seconds:.1f} s"
        f" Postgres; peak {filled.peak_mib:.0f} MiB."
    )
    console.print(
        f"Incremental, nothing changed: {sweeps.incremental_requests} requests, {sweeps.incremental_seconds:.2f} s."
    )
    explained = sweeps.explained
    console.print(
        f"{explained.findings:,} lost users repaired beside an inbox of {explained.events:,} events:"
        f" {explained.seconds:.1f} s, of which {explained.reasons_seconds:.2f} s ({explained.share:.1%}) for the"
        " reasons of the findings.\n"
    )


def _spread(values: Iterable[float], form: str) -> str:
    held = list(values)
    middle = format(statistics.median(held), form)
    return middle if len(held) == 1 else f"{middle} ({min(held):{form}} to {max(held):{form}})"
