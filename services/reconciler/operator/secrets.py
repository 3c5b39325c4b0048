"""Secrets that manifests name, read at every reconcile, and remembered by version so that a change brings the next one."""

from services.reconciler.leading import About, Trouble
from services.reconciler.manifests import SecretRef
from services.reconciler.operator.cluster import Cluster, Forbidden, Unreachable
from services.reconciler.operator.cache import TrackedObject


class Secrets:
    """Reads one key after the other."""

    def __init__(self, cluster: Cluster) -> None:
        """Keeps nothing."""
        self._cluster = cluster

    async def value(self, ref: SecretRef, *, user: TrackedObject, about: About) -> str:
        """What a key holds, without white space around it. Raises `Trouble`, which says what to create."""
        where = f"Secret {ref.name} in namespace {user.namespace}"
        try:
            found = await self._cluster.secret(user.namespace, ref.name)
        except (Forbidden, Unreachable) as error:
            raise Trouble("SecretMissing", f"{where} cannot be read: {error}", about=about) from None
        user.secrets[ref.name] = found.resource_version if found is not None else None
        if found is None:
            raise Trouble("SecretMissing", f"{where} does not exist: create it with a key {ref.key}", about=about)
        if ref.key not in found.data:
            have = ", ".join(sorted(found.data)) or "none"
            raise Trouble("SecretMissing", f"{where} has no key {ref.key} (it has: {have}): add it", about=about)
        try:
            text = found.data[ref.key].decode().strip()
        except UnicodeDecodeError:
            text = ""
        if not text:
            raise Trouble("SecretMissing", f"key {ref.key} of {where} is empty: fill it", about=about)
        return text
