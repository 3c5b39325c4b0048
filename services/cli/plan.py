"""`nexus-auth plan`: what a repairing sweep would do, worked out in full, with nothing written."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from nexus_auth.clerk.api import ClerkRefused, ClerkUnavailable
from nexus_auth.reconcile.engine import SweepResult
from nexus_auth.reconcile.policy import SyncPolicy
from nexus_auth.store import instance
from nexus_auth.store.budget import Share
from services.cli.database import ClerkFailed, Failed, run
from services.cli.engine import engine_options, policy_of, workshop
from services.cli.output import print_json, print_table, tell
from services.cli.selection import output_option
from services.cli.settings import CliSettings, read_settings
from services.cli.wording import differing, kind_words


@click.command()
@click.option("--deep", is_flag=True, help="Compare every column too, not only updated_at.")
@engine_options
@output_option
def plan(*, deep: bool, sync_name: str | None, kinds: tuple[str, ...], budget_percent: int | None, output: str) -> None:
    """List Clerk and show which rows a full sweep would insert, update, adopt or tombstone; exit 1 if there are any.

    A deletion takes two sweeps, a minute or more apart: the first read by name only queues it.
    Writes nothing. It makes the requests that the sweep would make, at the budget that the database has.
    """
    settings = read_settings(reconciler=True)
    scope = Scope(
        sync_name=sync_name,
        budget_percent=budget_percent,
        policy=lambda name: policy_of(name, fix=True, kinds=kinds, verify_after=settings.verify_after),
        advice="nexus-auth sync --full --apply would repair it",
    )
    run(plan_within(settings, scope, deep=deep, output=output))


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose plan it is; the command line's options say it, or a ClerkSync does."""

    sync_name: str | None
    budget_percent: int | None
    policy: Callable[[str], SyncPolicy]
    """Given the sync's name."""
    advice: str
    """What repairs the drift that is found."""
    state: CliSettings | None = None
    """Where the budget lives, if not beside the mirror."""
    environment: str | None = None
    """Production or Development, where something else than the key says it."""


async def plan_within(settings: CliSettings, scope: Scope, *, deep: bool, output: str) -> None:
    """Runs the engine in this process and shows what it would do. Raises `Failed` where there is drift."""
    async with workshop(
        settings,
        sync_name=scope.sync_name,
        budget_percent=scope.budget_percent,
        writes=False,
        state=scope.state,
        environment=scope.environment,
    ) as shop:
        began = time.monotonic()
        try:
            result = await shop.engine.plan(scope.policy(shop.sync), mode="deep" if deep else "full")
        except (ClerkRefused, ClerkUnavailable, instance.WrongInstance) as error:
            raise ClerkFailed(str(error)) from None
        took = time.monotonic() - began
    rows = {kind: _row(counts) for kind, counts in result.counts.items()}
    if output == "json":
        print_json(
            {
                "sync": shop.sync,
                "kinds": rows,
                "requests": result.requests,
                "seconds_at_budget": round(_eta(result, shop.share), 1),
                "seconds": round(took, 1),
                "message": result.message,
            }
        )
    else:
        _print(rows, result=result, share=shop.share)
    if result.message:
        raise Failed(result.message)
    if differing(result.counts):
        raise Failed(f"there is drift; {scope.advice}")


def _row(counts: dict[str, int]) -> dict[str, int]:
    return {
        "seen": counts.get("seen", 0),
        "insert": counts.get("missing", 0),
        "update": sum(counts.get(what, 0) for what in ("stale", "deep", "edited", "projection")),
        "adopt": counts.get("unadopted", 0),
        "tombstone": counts.get("gone", 0),
        "verify": counts.get("resurfaced", 0) + counts.get("ahead", 0),
    }


def _eta(result: SweepResult, share: Share) -> float:
    """Seconds that so many requests take at the budget, from a full bucket."""
    return max(0.0, (result.requests - share.burst) / share.per_second)


def _print(rows: dict[str, dict[str, Any]], *, result: SweepResult, share: Share) -> None:
    print_table(
        ("kind", "Clerk lists", "insert", "update", "adopt", "tombstone", "verify first"),
        ((kind_words(kind, 2), *(f"{number:,}" for number in row.values())) for kind, row in rows.items()),
    )
    pace = f"{share.per_second:.2f} a second"
    tell(
        f"{result.requests:,} requests, about {_eta(result, share):.0f} s at the budget of {pace}; nothing was written"
    )
