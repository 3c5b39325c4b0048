"""What `plan` and `sync` share: the engine in this process, with the reconciler's login, at the budget that stands.

A run of this process never uses the name of a sync that another process leads, and a run that only reports never uses
the name of one that repairs: its watermark and its sweeps would count as theirs.
"""

import os
import re
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from nexus_auth.clerk.api import ClerkApi, ClerkRefused, ClerkUnavailable
from nexus_auth.reconcile.engine import Engine
from nexus_auth.reconcile.policy import SyncPolicy
from nexus_auth.reconcile.requester import Requester
from nexus_auth.store import instance, overview
from nexus_auth.store.budget import Budget, Share, UnwrittenBudget
from services.cli.database import RECONCILER, ClerkFailed, DatabaseFailed, opened
from services.cli.settings import CliSettings, NotConfigured
from services.cli.wording import KINDS

DEFAULT_SYNC = "nexus-auth"
DEFAULT_PERCENT = 10
REQUEST_SECONDS = 30.0

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True)
class Workshop:
    """Everything open that a command needs."""

    pool: Any
    engine: Engine
    requester: Requester
    budget: Budget
    share: Share
    instance_id: str
    sync: str
    """The name of the reconciler's sync."""


def engine_options(command: Command) -> Command:
    """Adds what steers an engine; the command is given `sync_name`, `kinds` and `budget_percent`."""
    options = (
        click.option(
            "--sync",
            "sync_name",
            metavar="NAME",
            callback=_sync_name,
            help="The ClerkSync's name; else that of the newest run.",
        ),
        click.option("--kind", "kinds", multiple=True, type=click.Choice(tuple(KINDS)), help="Only these; else all."),
        click.option(
            "--budget-percent",
            type=click.IntRange(1, 100),
            help="Share of Clerk's rate limit, where the database has no budget yet.  [default: 10]",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _sync_name(_context: click.Context, _option: click.Parameter, name: str | None) -> str | None:
    """A name as a manifest may have it; a slash is what runs by hand add to it."""
    if name is not None and not re.fullmatch(r"[a-z0-9]([a-z0-9.-]{0,240}[a-z0-9])?", name):
        raise click.BadParameter(f"{name!r} is no name of a ClerkSync: lower-case letters, digits, dots and dashes")
    return name


def policy_of(name: str, *, fix: bool, kinds: tuple[str, ...], verify_after: float) -> SyncPolicy:
    """The policy of a run by hand; guard and most times are the defaults."""
    chosen = tuple(kind for name, kind in KINDS.items() if name in kinds or not kinds)
    return SyncPolicy(name, drift="Fix" if fix else "Report", kinds=chosen, verify_after=verify_after)


@asynccontextmanager
async def workshop(
    settings: CliSettings,
    *,
    sync_name: str | None,
    budget_percent: int | None,
    writes: bool,
    state: CliSettings | None = None,
    environment: str | None = None,
) -> AsyncIterator[Workshop]:
    """Opens it. `writes`: a database that belongs to nobody becomes this key's instance's, and gets its budget.
    `state`: where the budget lives, if in another database; `environment`: the rate limit, if not the key's own prefix
    says it.

    Raises `ClerkFailed`, `DatabaseFailed`, `NotConfigured`.
    """
    if settings.clerk_secret_key is None:
        raise NotConfigured("CLERK_SECRET_KEY is not set")
    key = settings.clerk_secret_key.get_secret_value()
    try:
        api = ClerkApi(settings.clerk_api_url, secret_key=key, timeout=REQUEST_SECONDS)
    except ValueError as error:
        raise NotConfigured(str(error)) from None
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(opened(settings, login=RECONCILER))
        apart = state is not None and state.reconciler_database_url != settings.reconciler_database_url
        budgets = await stack.enter_async_context(opened(state, login=RECONCILER)) if state and apart else pool
        clerk = await stack.enter_async_context(api)
        instance_id = await _instance(pool, clerk, settings=settings, claims=writes)
        async with budgets.acquire() as connection:
            row = await overview.budget(connection, instance_id)
        async with pool.acquire() as connection:
            latest = await overview.latest_sync(connection)
        if row is not None:  # the share that the manifests set applies to every process
            share = Share(per_second=row["per_second"], burst=int(row["burst"]))
        else:
            prefixed = "Development" if key.startswith("sk_test_") else "Production"
            share = Share.of(environment or prefixed, percent=budget_percent or DEFAULT_PERCENT)
        if row is None and not writes:
            budget: Budget = UnwrittenBudget(budgets, instance_id=instance_id, share=share)
        else:
            budget = Budget(budgets, instance_id=instance_id, share=share)
        if row is None and writes:
            await budget.open()
        holder = f"{socket.gethostname()} {os.getpid()} nexus-auth"
        yield Workshop(
            pool=pool,
            engine=Engine(pool, clerk=clerk, budget=budget, instance_id=instance_id, holder=holder),
            requester=Requester(clerk, budget=budget),
            budget=budget,
            share=share,
            instance_id=instance_id,
            sync=sync_name or settings.sync_name or latest or DEFAULT_SYNC,
        )


async def _instance(pool: Any, clerk: ClerkApi, *, settings: CliSettings, claims: bool) -> str:
    async with pool.acquire() as connection:
        held = await instance.holder(connection)
        expected = settings.clerk_instance_id
        if held is not None:
            if expected not in (None, held[0]):
                raise DatabaseFailed(f"this database belongs to {held[0]}, and CLERK_INSTANCE_ID says {expected}")
            return held[0]
        try:
            found = await clerk.instance_id()
        except (ClerkRefused, ClerkUnavailable) as error:
            raise ClerkFailed(str(error)) from None
        if expected not in (None, found):
            raise ClerkFailed(f"CLERK_SECRET_KEY belongs to {found}, CLERK_INSTANCE_ID says {expected}")
        if claims:
            try:
                await instance.claim(connection, found)
            except instance.WrongInstance as error:  # another process was first
                raise DatabaseFailed(str(error)) from None
    return found
