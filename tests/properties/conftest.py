"""One pair of processes for all examples of a module: starting them takes longer than ten examples."""

import secrets
from collections.abc import Iterator

import pytest

from devtools.postgres import Database, ForeignServer, Server, create_database, drop_database
from tests.properties.pair import Pair


@pytest.fixture(scope="module")
def pair(
    postgres: Server | ForeignServer, template: Database, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    """Two webhook processes on a database of this module's own."""
    name = f"nexus_auth_pair_{secrets.token_hex(4)}"
    create_database(postgres.admin_url(), name, template=template.name)
    try:
        with Pair(template.of(name), folder=tmp_path_factory.mktemp("pair")) as pair:
            yield pair
    finally:
        drop_database(postgres.admin_url(), name)
