"""`kubectl nexus plan`: what the next sweep with `Fix` would do. It runs in this process and writes nothing.

The operator is not needed: whoever may read the Secrets can look before a ClerkSync gets `drift.policy: Fix`, also
while it is suspended or no operator runs.
"""

from typing import Any

import click

from services.cli.database import run
from services.cli.kubernetes.access import engine_settings, policy_for
from services.cli.kubernetes.objects import name_of
from services.cli.kubernetes.options import chosen_sync, cluster_of, cluster_options
from services.cli.output import tell
from services.cli.plan import Scope, plan_within
from services.cli.selection import output_option


@click.command()
@click.argument("name", required=False)
@click.option("--deep", is_flag=True, help="Compare every column too, not only updated_at.")
@cluster_options
@output_option
def plan(*, name: str | None, deep: bool, output: str, **options: Any) -> None:
    """Show which rows a full sweep of the ClerkSync NAME would insert, update or tombstone; exit 1 if there are any.

    Runs here, not in the operator: reads the Secrets that the objects name with your rights, and connects from here to
    database and Clerk. Its requests come out of the instance's budget.
    """
    cluster = cluster_of(options)
    sync = chosen_sync(cluster, name)
    instance = cluster.instance(sync["spec"]["instanceRef"]["name"])
    settings, state = engine_settings(cluster, sync, instance)
    tell(f"listing Clerk for {name_of(sync)}")
    policy = policy_for(sync)
    chosen = sync["metadata"]["name"]
    fixes = (sync["spec"].get("drift") or {}).get("policy") == "Fix"
    how = "repairs it" if fixes else "with spec.drift.policy Fix repairs it"
    scope = Scope(
        sync_name=chosen,
        budget_percent=instance["spec"].get("budgetPercent", 10),
        policy=lambda _: policy,
        advice=f"kubectl nexus sync {chosen} --full {how}",
        state=state,
        environment=instance["spec"].get("environment"),
    )
    run(plan_within(settings, scope, deep=deep, output=output))
