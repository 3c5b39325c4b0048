"""`kubectl nexus`: the commands for a cluster. They read custom resources instead of a database."""
