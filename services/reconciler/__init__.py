"""The reconciler: says when the engine runs, and tells how it went."""
