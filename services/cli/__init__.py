"""`nexus-auth`: what a person asks of the database, from a shell: migrate, look, verify, replay."""
