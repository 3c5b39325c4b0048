"""Secrets that a ClerkSync and its ClerkInstance name, read with the caller's own rights, as settings of the CLI."""

import os
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from nexus_auth.clerk.api_hosts import CLERK, ApiHosts
from nexus_auth.reconcile.policy import Guard, SyncPolicy
from services.cli.kubernetes.cluster import Cluster
from services.cli.settings import CliSettings, NotConfigured
from services.cli.wording import KINDS

OWN_VARIABLES = ("NEXUS_AUTH_ROLE_PREFIX", "NEXUS_AUTH_ALLOW_FSYNC_OFF")
"""Settings that no manifest has: they come from the caller's environment."""


def database_settings(cluster: Cluster, sync: Mapping[str, Any]) -> CliSettings:
    """Settings with the sync's own database. Raises `ClusterFailed`, `NotConfigured`."""
    return _settings(RECONCILER_DATABASE_URL=_value(cluster, sync["spec"]["database"]["secretRef"], key="url"))


def engine_settings(
    cluster: Cluster, sync: Mapping[str, Any], instance: Mapping[str, Any]
) -> tuple[CliSettings, CliSettings]:
    """Settings of the sync with Clerk's key, and those of the database where the budget lives."""
    spec = instance["spec"]
    _refuse_host(instance)
    ours = _settings(
        RECONCILER_DATABASE_URL=_value(cluster, sync["spec"]["database"]["secretRef"], key="url"),
        CLERK_SECRET_KEY=_value(cluster, spec["secretKeyRef"], key="secret-key"),
        CLERK_API_URL=spec.get("apiUrl", "https://api.clerk.com"),
        CLERK_INSTANCE_ID=spec.get("instanceId", ""),
    )
    state = _settings(RECONCILER_DATABASE_URL=_value(cluster, spec["stateDatabase"]["secretRef"], key="url"))
    return ours, state


def _refuse_host(instance: Mapping[str, Any]) -> None:
    """The key is read with the caller's rights, and whoever edits the ClerkInstance chose the address.

    So it goes to listed hosts only. Raises `NotConfigured`.
    """
    try:
        hosts = ApiHosts.parse(os.environ.get("NEXUS_AUTH_API_HOSTS") or CLERK)
        hosts.check(instance["spec"].get("apiUrl", f"https://{CLERK}"))
    except ValueError as error:
        raise NotConfigured(f"ClerkInstance {instance['metadata']['name']}: {error}") from None


def policy_for(sync: Mapping[str, Any]) -> SyncPolicy:
    """The policy of a ClerkSync's spec with `Fix`: a plan shows what a repair would do."""
    spec = sync["spec"]
    enabled = {of["name"] for of in spec.get("resources", ()) if of.get("enabled", True)}
    kinds = tuple(kind for name, kind in KINDS.items() if name in enabled or "resources" not in spec)
    guard = spec.get("deletionGuard") or {}
    return SyncPolicy(
        sync["metadata"]["name"],
        drift="Fix",
        kinds=kinds,
        guard=Guard(floor=guard.get("floor", 10), percent=guard.get("percent", 1)),
    )


def _value(cluster: Cluster, ref: Mapping[str, str], *, key: str) -> str:
    return cluster.secret(ref["name"], ref.get("key", key))


def _settings(**variables: str) -> CliSettings:
    own = {name: os.environ[name] for name in OWN_VARIABLES if os.environ.get(name)}
    given = {name: value for name, value in variables.items() if value}
    try:
        return CliSettings.model_validate({**own, **given})
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise NotConfigured(f"{first['loc'][0] if first['loc'] else 'settings'}: {first['msg']}") from None
