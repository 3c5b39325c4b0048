"""A sabotaged webhook, a package so that the leash can run it."""
