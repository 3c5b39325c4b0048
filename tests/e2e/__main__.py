"""Prints the context that tests would use, or ends with 1 and says why they may not: `python -m tests.e2e`."""

import asyncio
import sys

from tests.e2e.cluster import Cluster, Failed, NotAllowed

if __name__ == "__main__":
    try:
        print(asyncio.run(Cluster.open()).context)
    except (NotAllowed, Failed) as error:
        sys.exit(str(error))
