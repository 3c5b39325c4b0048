"""Postgres: how what Clerk says is written, found again and kept. Knows no HTTP."""
