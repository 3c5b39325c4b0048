"""The reconciler without a cluster: the same manifests, from a file."""
