"""What every test may ask for: a real Postgres, a migrated database of its own, and nothing of the real world."""

import os
import secrets
from collections.abc import Iterator

import hypothesis
import pytest
from hypothesis import Phase

from devtools.kubernetes import why_missing
from devtools.loopback import drop_real_world, is_loopback
from devtools.pgbouncer import why_missing as why_no_pgbouncer
from devtools.postgres import (
    Database,
    ForeignServer,
    Server,
    create_database,
    create_logins,
    drop_database,
    temporary_server,
)
from nexus_auth.store.migrations import migrate

VERSION = "NEXUS_AUTH_TEST_POSTGRES"
"""Major version of the embedded Postgres: 18 (default), 17 or 15."""

DATABASE_URL = "NEXUS_AUTH_TEST_DATABASE_URL"
"""Where `DATABASE_URL` is kept for the fixtures, while no code under test can pick it up. Workers inherit it."""

if "DATABASE_URL" in os.environ:
    os.environ[DATABASE_URL] = os.environ["DATABASE_URL"]
drop_real_world(os.environ)

EXAMPLES = "NEXUS_AUTH_TEST_EXAMPLES"
"""Examples per property: 75 in CI, else 25. The cells of the matrix ask for fewer, and whoever doubts for more."""

SHRINK = "NEXUS_AUTH_TEST_SHRINK"
"""0: a failing example is not made smaller. Planted faults ask no more than whether there is one."""

CI = os.environ.get("CI") == "true"

ONE_VERSION = (
    *("integration/test_bench.py", "integration/test_demo.py", "integration/test_make_run.py", "integration/test_cli_"),
    *("integration/test_webhook_answers.py", "integration/test_webhook_hostile.py", "integration/test_webhook_http.py"),
    "integration/test_webhook_tasks.py",
    *("integration/test_webhook_verification.py", "integration/test_webhook_secrets_withheld.py"),
)
"""How the paths of tests begin that ask for Postgres and whose subject is something else: HTTP, terminals, processes.
They run on one version; a new file runs on all of them until it is named here.
"""

hypothesis.settings.register_profile(
    "ci" if CI else "default",
    max_examples=int(os.environ.get(EXAMPLES) or (75 if CI else 25)),
    phases=[p for p in Phase if os.environ.get(SHRINK) != "0" or p not in (Phase.shrink, Phase.explain)],
    deadline=None,
    print_blob=True,
)
hypothesis.settings.load_profile("ci" if CI else "default")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """One seed for the whole run, all workers included, so that a failure can be had again."""
    if config.option.hypothesis_seed is None:
        config.option.hypothesis_seed = str(secrets.randbelow(2**32))
    config.addinivalue_line("markers", "slow: takes more than ten seconds; only `make test` runs it")
    config.addinivalue_line("markers", "kubernetes: asks for a Kubernetes API server (set where a fixture says so)")
    config.addinivalue_line("markers", "pgbouncer: starts a PgBouncer")
    config.addinivalue_line("markers", "postgres: asks for a server or a database (set where a fixture says so)")
    config.addinivalue_line("markers", "versions: asks for Postgres, and may depend on its version (set by path)")


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Iterator[None]:
    """Sets markers by fixtures and paths, and leaves out what cannot run and was asked for; the header says so.

    In CI nothing is left out.
    """
    for item in items:
        if {"postgres", "own_server"}.intersection(getattr(item, "fixturenames", ())):
            item.add_marker("postgres")
            if not item.nodeid.removeprefix("tests/").startswith(ONE_VERSION):
                item.add_marker("versions")
        if {"api_server", "bare", "helm"}.intersection(getattr(item, "fixturenames", ())):
            item.add_marker("kubernetes")
    yield  # here -m and -k choose
    for marker, reason in (("kubernetes", why_missing()), ("pgbouncer", why_no_pgbouncer())):
        left_out = [item for item in items if reason is not None and item.get_closest_marker(marker)]
        if left_out and CI:
            raise pytest.UsageError(f"{len(left_out)} tests cannot run: {reason}")
        if left_out:
            items[:] = [item for item in items if item not in left_out]
            config.hook.pytest_deselected(items=left_out)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Printed first, and only by the controlling process."""
    server = "the server of DATABASE_URL" if DATABASE_URL in os.environ else f"Postgres {postgres_version()}, embedded"
    reasons = {"Kubernetes": why_missing(), "a pooler": why_no_pgbouncer()}
    left_out = [f"left out, tests on {what}: {reason}" for what, reason in reasons.items() if reason is not None]
    return [f"{server}; --hypothesis-seed={config.option.hypothesis_seed}", *left_out]


def postgres_version() -> int:
    """The major version that this run is about."""
    return int(os.environ.get(VERSION) or 18)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server | ForeignServer]:
    """The server of this worker, or that of DATABASE_URL. No test stops or kills it: `own_server` is for that."""
    url = os.environ.get(DATABASE_URL)
    if url is None:
        with temporary_server(version=postgres_version(), in_memory=True) as server:
            yield server
    elif is_loopback(url):
        yield ForeignServer(url)
    else:
        raise pytest.UsageError("DATABASE_URL is not on this machine: tests talk to loopback only")


@pytest.fixture(scope="session")
def template(postgres: Server | ForeignServer) -> Iterator[Database]:
    """A migrated database with logins, that tests copy and never write to."""
    name = f"nexus_auth_template_{secrets.token_hex(4)}"
    yield prepare(postgres, name)
    drop_database(postgres.admin_url(), name)


@pytest.fixture
def database(postgres: Server | ForeignServer, template: Database) -> Iterator[Database]:
    """A migrated, empty database of the test's own: `.admin_url`, `.url("webhook")` and the other logins, `.name`."""
    name = f"nexus_auth_test_{secrets.token_hex(4)}"
    create_database(postgres.admin_url(), name, template=template.name)
    yield template.of(name)
    drop_database(postgres.admin_url(), name)


@pytest.fixture
def own_server() -> Iterator[Server]:
    """An embedded server of the test's own, to be stopped, killed and started at will (fsync on)."""
    with temporary_server(version=postgres_version(), in_memory=True) as server:
        yield server


@pytest.fixture
def own_database(own_server: Server) -> Database:
    """A migrated database with logins on `own_server`."""
    return prepare(own_server, "nexus_auth")


def prepare(server: Server | ForeignServer, name: str) -> Database:
    """Creates a database, migrates it and lets the logins in."""
    url = create_database(server.admin_url(), name)
    migrate(url)
    return create_logins(url)
