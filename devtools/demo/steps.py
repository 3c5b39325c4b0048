"""The story, in its order. Each step after the first needs only the first, so that a test can tell it alone."""

from devtools.demo.arrivals import BACKFILL, SIGN_UP
from devtools.demo.deletions import DELETION, MASS_DELETION, WRONG_KEY
from devtools.demo.guarded import ADOPTION, LEAKED_SECRET
from devtools.demo.repairs import EDITED, LOST_EVENTS

STEPS = (BACKFILL, SIGN_UP, LOST_EVENTS, EDITED, DELETION, WRONG_KEY, MASS_DELETION, ADOPTION, LEAKED_SECRET)
