"""Changes in the middle of a walk: before the k-th request of a kind, do this.

A race that would need luck is written down instead: a user is deleted exactly between page two and page three.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import count


@dataclass
class Script:
    """Something that is done once, right before a request is answered."""

    do: Callable[[], object]
    page: int = 1
    """Before which of the requests concerned, counted from now on."""
    method: str = "GET"
    route: str = "/users"
    """Which requests, as a glob on the route's pattern without ``/v1``."""
    query: str = "*"
    """Which query strings, decoded, as a glob."""
    seen: int = field(default=0, init=False)
    id: str = field(default="", init=False)

    def __post_init__(self) -> None:
        """Raise ValueError for a script that cannot work."""
        if self.page < 1:
            raise ValueError("page is at least 1")


class Scripts:
    """What is still to be done."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._scripts: dict[str, Script] = {}
        self._numbers = count(1)

    def add(self, script: Script) -> Script:
        """Wait for the script's request; return the script with its id."""
        script.id = f"script_{next(self._numbers)}"
        self._scripts[script.id] = script
        return script

    def clear(self) -> None:
        """Do nothing of what was still to be done."""
        self._scripts.clear()

    def __iter__(self) -> Iterator[Script]:
        """Yield what is still to be done, the oldest first."""
        return iter(list(self._scripts.values()))

    def before(self, *, method: str, route: str, query: str) -> None:
        """Do what is to be done before this request."""
        for script in list(self._scripts.values()):
            concerned = fnmatchcase(route, script.route) and fnmatchcase(query, script.query)
            if not concerned or not fnmatchcase(method, script.method):
                continue
            script.seen += 1
            if script.seen == script.page:
                del self._scripts[script.id]
                script.do()
