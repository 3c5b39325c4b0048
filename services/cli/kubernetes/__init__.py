"""`kubectl nexus`: the same commands for those who have a cluster in front of them instead of a database."""
