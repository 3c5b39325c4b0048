"""`nexus-auth doctor`: is everything set up as it must be, and what to do where it is not."""
