"""`make run`: Postgres, a Clerk of our own, webhook service and reconciler as one process tree that ends as one.

Nothing here is part of the product; it starts what the product's own commands start, and reads what they say.
"""

import time

BEGAN = time.monotonic()
"""As near to the start of the process as Python gets: the ready time is measured from here."""
