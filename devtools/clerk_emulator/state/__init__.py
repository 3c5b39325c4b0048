"""What the instance holds: compact records, their seeded population, and the tables that keep them."""
