"""Loads SQL statements from the `.sql` files of this package.

A file holds one statement or several; where there are several, each begins at a line `-- name: word`.
"""

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@cache
def load(module: str) -> Mapping[str, str]:
    """The statements of `<module>.sql` by name. Raises FileNotFoundError; KeyError is the caller's misspelling."""
    text = files("nexus_auth.store").joinpath(f"{module}.sql").read_text("utf-8")
    _, *parts = _NAME.split(text)
    return {name: statement.strip() for name, statement in zip(parts[::2], parts[1::2], strict=True)}
