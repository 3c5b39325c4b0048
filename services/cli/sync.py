"""`nexus-auth sync`: one run of the engine in this process, with what it found and did at its end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import click
import msgspec

from nexus_auth.clerk.api import ClerkRefused, ClerkUnavailable
from nexus_auth.clerk.catalogue import BY_KIND
from nexus_auth.reconcile.engine import Fenced, SweepResult
from nexus_auth.reconcile.policy import SyncPolicy
from nexus_auth.store import overview
from nexus_auth.store.leadership import take_lead
from nexus_auth.store.runs import Mode
from services.cli.database import ClerkFailed, Failed, run
from services.cli.engine import Workshop, engine_options, policy_of, workshop
from services.cli.output import print_json, print_table, tell
from services.cli.progress import progress
from services.cli.selection import output_option
from services.cli.settings import CliSettings, read_settings
from services.cli.wording import BY_HAND, REPORTED, differing, found_of, kind_words, repaired_of

LOOK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class _Name:
    """What a run is called, and whether it is the one that leads the sync of that name."""

    name: str
    leads: bool


@click.command()
@click.option("--full", "mode", flag_value="full", help="List everything, instead of what changed since the last look.")
@click.option("--deep", "mode", flag_value="deep", help="Compare every column too, not only updated_at.")
@click.option("--apply", "fix", is_flag=True, help="Repair. Without it, differences are only noted.")
@engine_options
@output_option
def sync(
    *,
    mode: str | None,
    fix: bool,
    sync_name: str | None,
    kinds: tuple[str, ...],
    budget_percent: int | None,
    output: str,
) -> None:
    """Set Clerk beside the database once; exit 1 if drift was found that still stands, or the run parked or failed.

    Default is the incremental look: users that changed since the last one. It works beside a running reconciler.
    A row that Clerk does not list is deleted after two reads by name: a run a minute later makes the second one.
    """
    settings = read_settings(reconciler=True)
    chosen: Mode = "full" if mode == "full" else "deep" if mode == "deep" else "incremental"
    run(
        _sync(
            settings,
            mode=chosen,
            fix=fix,
            sync_name=sync_name,
            kinds=kinds,
            budget_percent=budget_percent,
            output=output,
        )
    )


async def _sync(
    settings: CliSettings,
    *,
    mode: Mode,
    fix: bool,
    sync_name: str | None,
    kinds: tuple[str, ...],
    budget_percent: int | None,
    output: str,
) -> None:
    async with (
        workshop(settings, sync_name=sync_name, budget_percent=budget_percent, writes=True) as shop,
        _named(shop, fix=fix) as named,
    ):
        if fix and not named.leads:
            tell(f"a reconciler leads {shop.sync}; this run is counted as {named.name}")
        policy = policy_of(named.name, fix=fix, kinds=kinds, verify_after=settings.verify_after)
        if mode == "incremental" and not await overview.has_watermark(shop.pool, named.name):
            raise Failed(f"no full sweep of {shop.sync} has completed: there is nothing to look back to; sync --full")
        try:
            async with _watched(shop, policy, mode=mode):
                result = await shop.engine.run(policy, mode=mode)
        except Fenced:
            raise Failed(f"another process has taken {named.name} over; nothing more was written here") from None
    _tell(result, name=named.name, mode=mode, fix=fix, output=output)
    _judge(result, fix=fix)


def _judge(result: SweepResult, *, fix: bool) -> None:
    if result.clerk_failed:
        raise ClerkFailed(result.message or "Clerk could not be read")
    if result.state != "completed":
        raise Failed(f"run {result.run_id} {result.state}: {result.message}")
    if not fix and differing(result.counts):
        first = next(run.run_id for run in result.runs if differing({run.kind: run.counts}))
        raise Failed(f"{found_of(result.counts)}; nothing was repaired (--apply): nexus-auth findings --run {first}")


@asynccontextmanager
async def _named(shop: Workshop, *, fix: bool) -> AsyncIterator[_Name]:
    """The name to run under: the sync's own where this process can lead it, else one beside it, that begins to look
    where the sync has come to.
    """
    async with shop.pool.acquire() as connection:
        leads = fix and await take_lead(connection, shop.sync)
        if leads:
            yield _Name(shop.sync, leads=True)  # the lock ends with the connection
            return
        name = f"{shop.sync}{BY_HAND if fix else REPORTED}"
        await overview.copy_watermarks(connection, shop.sync, to=name)
        if not await take_lead(connection, name):
            raise Failed(f"another {name} goes on at this moment")
        yield _Name(name, leads=False)


@asynccontextmanager
async def _watched(shop: Workshop, policy: SyncPolicy, *, mode: Mode) -> AsyncIterator[None]:
    """Shows how far the run is; how many there are to be seen, Clerk says first."""
    if mode == "incremental":
        yield
        return
    total = await _total(shop, policy)
    with progress("rows of Clerk's compared", total=total) as advance:

        async def watch() -> None:
            told = 0
            while True:
                await asyncio.sleep(LOOK_SECONDS)
                seen = await overview.seen_so_far(shop.pool, policy.name)
                if seen > told:
                    advance(seen - told)
                    told = seen

        watching = asyncio.create_task(watch())
        try:
            yield
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await watching


async def _total(shop: Workshop, policy: SyncPolicy) -> int:
    """Rows that Clerk has of the kinds; 0 for what it does not say. The run itself meets whatever is wrong."""
    total = 0
    for kind in policy.kinds:
        listing = BY_KIND[kind].listing
        if listing is None:
            continue
        path, params = (listing.count_path, []) if listing.count_path else (listing.path, [("limit", "1")])
        try:
            total += msgspec.json.decode((await shop.requester.read(path, params)).body, type=_Total).total_count
        except (ClerkRefused, ClerkUnavailable, msgspec.DecodeError):
            return total
    return total


class _Total(msgspec.Struct):
    total_count: int = 0


def _tell(result: SweepResult, *, name: str, mode: Mode, fix: bool, output: str) -> None:
    if output == "json":
        print_json(
            {
                "run": result.run_id,
                "sweep": result.sweep_id,
                "runs": {run.kind: run.run_id for run in result.runs},
                "sync": name,
                "mode": mode,
                "policy": "Fix" if fix else "Report",
                "state": result.state,
                "message": result.message,
                "counts": result.counts,
                "requests": result.requests,
            }
        )
        return
    print_table(
        ("kind", "run", "state", "seen", "found", "repaired", "says"),
        (
            (
                kind_words(run.kind, 2),
                run.run_id,
                run.state,
                f"{run.counts.get('seen', 0):,}",
                found_of({run.kind: run.counts}),
                repaired_of({run.kind: run.counts}),
                run.message,
            )
            for run in result.runs
        ),
    )
    tell(
        f"sweep {result.sweep_id} ({mode}, {name}) {result.state}: {found_of(result.counts)};"
        f" {repaired_of(result.counts) if fix else 'nothing repaired'}; {result.requests:,} requests"
    )
