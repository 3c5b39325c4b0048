"""The reconciler in a cluster: custom resources say what to do, their status tells how it went. It holds no SQL."""
