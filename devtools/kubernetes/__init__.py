"""A real Kubernetes API server on this machine: etcd, kube-apiserver and kube-controller-manager, for tests and people.

Their binaries are built once from pinned Go modules (`go.mod` here; `helm/go.mod`), or taken from KUBEBUILDER_ASSETS.
So are the definitions of others' kinds (`definitions/go.mod`).
"""

from devtools.kubernetes.api import Api, ApiError
from devtools.kubernetes.binaries import BinariesMissing, find_binary, find_definitions, prepare, why_missing
from devtools.kubernetes.cluster import Cluster, ClusterFailed, temporary_cluster

__all__ = [
    "Api",
    "ApiError",
    "BinariesMissing",
    "Cluster",
    "ClusterFailed",
    "find_binary",
    "find_definitions",
    "prepare",
    "temporary_cluster",
    "why_missing",
]
