"""The command: runs every check that this environment gives rise to, one after the other, and sums up."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial

import click
from rich.text import Text

from nexus_auth.store.address import AddressRefused, read_address
from services.cli.database import Failed, run
from services.cli.doctor.checks import SETTINGS, Check, Checked, answers, failed, ok
from services.cli.doctor.clerk import check_arrivals, check_key, check_secrets
from services.cli.doctor.database import DatabaseFacts, check_login
from services.cli.doctor.environment import Environment, LoginUrl, read_environment
from services.cli.output import print_json, print_lines
from services.cli.selection import output_option

STYLES = {"ok": "green", "note": "yellow", "failed": "bold red"}


class DoctorFailed(Failed):
    """At least one check failed; ends with the code of the first."""

    def __init__(self, message: str, *, code: int) -> None:
        """`code` is an exit code."""
        super().__init__(message)
        vars(self)["exit_code"] = code


@click.command()
@output_option
def doctor(*, output: str) -> None:
    """Check settings, database, Clerk and secrets, one line each; where one fails, the line says what to do.

    It works in the environment of each service, and beside `make run`. It changes nothing, and makes two requests to
    Clerk. The exit code is that of the first check that failed.
    """
    run(_doctor(output=output))


async def _doctor(*, output: str) -> None:
    environment = await asyncio.to_thread(read_environment)
    checked = [answer async for answer in examine(environment)]
    if output == "json":
        print_json([{"check": of.name, "state": of.state, "said": of.said} for of in checked])
    else:
        print_lines((Text(of.state, style=STYLES[of.state]), of.name, of.said) for of in checked)
    wrong = [of for of in checked if of.state == "failed"]
    if wrong:
        names = ", ".join(dict.fromkeys(of.name for of in wrong))
        raise DoctorFailed(f"{len(wrong)} of {len(checked)} checks failed: {names}", code=wrong[0].code)


async def examine(environment: Environment) -> AsyncIterator[Checked]:
    """All checks, in an order in which the cause comes before what follows from it."""
    for problem in environment.problems:
        yield failed("settings", problem, code=SETTINGS)
    if not environment.problems:
        yield ok("settings", f"from {environment.source}")
    databases: dict[str, DatabaseFacts] = {}
    changed: dict[str, datetime] = {}
    told: set[Checked] = set()
    for login in environment.logins:
        facts = databases.setdefault(_database(login), DatabaseFacts())
        check: Check = partial(
            check_login,
            login,
            role_prefix=environment.role_prefix,
            allow_fsync_off=environment.allow_fsync_off,
            facts=facts,
        )
        async for answer in answers("database", check):
            if answer.state != "ok" or answer not in told:  # what holds for the database is told once
                told.add(answer)
                yield answer
    for key in environment.keys:
        async for answer in answers("Clerk", partial(check_key, key, databases=databases, changed=changed)):
            yield answer
    async for answer in answers("signing secret", partial(check_secrets, environment.secrets, databases=databases)):
        yield answer
    read = {where: facts for where, facts in databases.items() if facts.knows_arrivals}
    arrivals = partial(check_arrivals, read, changed=changed, now=datetime.now(UTC))
    async for answer in answers("events", arrivals):
        yield answer


def _database(login: LoginUrl) -> str:
    """One name for all logins of one database."""
    try:
        address = read_address(login.url)
    except AddressRefused:
        return login.source
    return f"database {address.database} of {', '.join(f'{host}:{port}' for host, port in address.hosts)}"
