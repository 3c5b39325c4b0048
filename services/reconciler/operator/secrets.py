"""The Secrets that manifests name: read at every reconcile, from those alone that carry the label.

Whoever may write a ClerkInstance may not read Secrets for that reason. So a Secret has to consent, and the sentences
here tell nothing about one that does not: a missing Secret and an unlabelled one read the same.
"""

from services.reconciler.leading import About, Trouble
from services.reconciler.manifests import SecretRef
from services.reconciler.operator.cache import TrackedObject
from services.reconciler.operator.cluster import READABLE, Cluster, Forbidden, Unreachable


class Secrets:
    """Reads keys of Secrets; keeps none."""

    def __init__(self, cluster: Cluster) -> None:
        """Reads nothing yet."""
        self._cluster = cluster

    async def value(self, ref: SecretRef, *, user: TrackedObject, about: About) -> str:
        """What a key holds, without surrounding white space. Raises `Trouble`, which says what to do."""
        where = f"Secret {ref.name} in namespace {user.namespace}"
        try:
            found = await self._cluster.secret(user.namespace, ref.name)
        except Forbidden:
            what = (
                f"the operator's role does not allow it to read {where}: add the name to rbac.secretNames of the chart"
            )
            raise Trouble("SecretMissing", what, about=about) from None
        except Unreachable as error:
            raise Trouble("SecretMissing", f"{where} cannot be read: {error}", about=about) from None
        user.secrets[ref.name] = found.resource_version if found is not None else None
        if found is None:
            what = f'{where} does not exist, or does not carry the label {READABLE}: "true": create it, or label it'
            raise Trouble("SecretMissing", what, about=about)
        if ref.key not in found.data:
            raise Trouble("SecretMissing", f"{where} has no key {ref.key}: add it", about=about)
        try:
            text = found.data[ref.key].decode().strip()
        except UnicodeDecodeError:
            text = ""
        if not text:
            raise Trouble("SecretMissing", f"key {ref.key} of {where} is empty, or no text: fill it", about=about)
        return text
