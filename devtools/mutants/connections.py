"""The list's third part: how the database is reached, and who may do what there."""

from devtools.mutants.fault import Fault

POOL = "nexus_auth/store/pool.py"
ROLES = "sql/migrations/20261125000001_roles_and_schemas.sql"
CONNECTING = "tests/integration/test_connecting.py::test_"
MIGRATIONS = "tests/integration/test_migrations.py::test_"

FAULTS: tuple[Fault, ...] = (
    Fault(
        "synchronous_commit is what the login's default says",
        "3 no acknowledged event is lost",
        POOL,
        '        "synchronous_commit": "on",\n',
        "",
        (f"{CONNECTING}an_acknowledged_commit_is_durable_whatever_the_logins_default",),
        row="D10",
    ),
    Fault(
        "the isolation level is not read committed",
        "2 order independence",
        POOL,
        '        "default_transaction_isolation": "read committed",\n',
        '        "default_transaction_isolation": "repeatable read",\n',
        (f"{CONNECTING}transactions_are_read_committed_whatever_the_databases_default",),
        row="D9",
    ),
    Fault(
        "a setting stands in the start-up packet, which poolers refuse",
        "poolers work",
        POOL,
        '"application_name": settings["application_name"]}\n',
        '"application_name": settings["application_name"], "role": settings["role"]}\n',
        (f"{CONNECTING}every_service_works_through_a_pooler_with_its_default_ini",),
        row="C1",
    ),
    Fault(
        "a transaction behind a pooler begins without its settings",
        "poolers work",
        POOL,
        "return await super().execute(begin + self.begin_with, timeout=timeout)",
        "return await super().execute(begin, timeout=timeout)",
        (f"{CONNECTING}each_transaction_has_the_services_settings_and_leaves_none_behind",),
        row="C1",
    ),
    Fault(
        "a certificate's wrong name is not told",
        "refusals say what to do",
        "nexus_auth/store/certificate.py",
        "        if error.verify_code in WRONG_NAME:\n",
        "        if False:\n",
        (f"{CONNECTING}a_wrong_host_name_is_told_with_the_name_that_the_certificate_has",),
        row="C3",
    ),
    Fault(
        "the migrator inherits the owner's rights, and with it a view of its own",
        "users see their own rows",
        ROLES,
        "case when r = 'clerk_migrator' then 'noinherit' else '' end",
        "''",
        (f"{MIGRATIONS}a_view_that_the_migrator_makes_shows_no_row_past_the_policies",),
        row="C4",
    ),
    Fault(
        "migrate takes somebody else's schema for its own mistake",
        "refusals say what to do",
        ROLES,
        "  if found then\n    raise exception 'schema %",
        "  if false then\n    raise exception 'schema %",
        (f"{CONNECTING}a_schema_of_somebody_else_is_left_alone_and_named",),
        row="C5",
    ),
)
