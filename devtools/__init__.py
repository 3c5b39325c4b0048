"""What stands in for the outside world, or starts the real thing: for development and tests only."""
