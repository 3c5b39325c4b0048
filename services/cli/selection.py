"""Which deliveries a command is about: the same options everywhere."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

import click

from nexus_auth.store.inbox import STATES, Selection
from services.cli.moments import Moment

Command = TypeVar("Command", bound=Callable[..., Any])


def selects(command: Command) -> Command:
    """Adds the options; the command is given `since`, `until`, `types`, `ids` and `states`."""
    options = (
        click.option("--since", type=Moment(), help="Received at or after: ISO 8601 (UTC), or 2h, 3d ago."),
        click.option("--until", type=Moment(), help="Received before."),
        click.option("--type", "types", multiple=True, metavar="TYPE", help="Event type; user.* for all of a kind."),
        click.option("--id", "ids", multiple=True, metavar="ID", help="svix-id, or any id that the event speaks of."),
        click.option("--state", "states", multiple=True, type=click.Choice(STATES), help="What became of it."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def selection_of(
    *,
    since: datetime | None,
    until: datetime | None,
    types: tuple[str, ...],
    ids: tuple[str, ...],
    states: tuple[str, ...],
) -> Selection:
    """The options as a selection; fails where nothing can lie between since and until."""
    if since is not None and until is not None and since >= until:
        raise click.UsageError("--since must be before --until")
    if any("\0" in text for text in (*types, *ids)):
        raise click.UsageError("no type or id holds a NUL")
    return Selection(since=since, until=until, types=types, ids=ids, states=states)


output_option = click.option(
    "--output",
    "output",
    type=click.Choice(("table", "json")),
    default="table",
    show_default=True,
    help="For people or programs.",
)
