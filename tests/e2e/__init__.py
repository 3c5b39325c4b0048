"""The chart on a cluster whose pods really run."""
