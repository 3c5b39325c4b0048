"""A Postgres URL means what libpq says it means, for every program, or is refused by the name of what is wrong."""

from pathlib import Path

import pytest

from nexus_auth.store.address import Address, AddressRefused, read_address


def read(url: str, **environment: str) -> Address:
    return read_address(url, environment=environment)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:secret@db:6432/app?sslmode=require", "me@db:6432/app"),
        ("postgres://me:secret@db/app", "me@db:5432/app"),
        ("postgresql://me:p%40ss@db/app", "me@db:5432/app"),
        ("postgresql://me:secret@a:1,b:2/app?target_session_attrs=read-write", "me@a:1,b:2/app"),
        ("postgresql://me:secret@[::1]:55/app", "me@[::1]:55/app"),
        ("postgresql://me:secret@%2Frun%2Fpostgresql:5433/app", "me@/run/postgresql:5433/app"),
        ("postgresql://me:secret@/app?host=/tmp&port=5433", "me@/tmp:5433/app"),
        ("postgresql://me:secret@/app", "me@the local socket/app"),
        ("postgresql://me:secret@db", "me@db:5432/me"),
        ("postgresql://db/?user=me&password=secret&dbname=app", "me@db:5432/app"),
    ],
)
def test_an_address_is_shown_without_its_password(url: str, shown: str) -> None:
    address = read(url)
    assert str(address) == shown
    assert "secret" not in repr(address)
    assert "p@ss" not in repr(address)


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("channel_binding=maybe", "channel_binding"),
        ("connect_timeout=soon", "connect_timeout"),
        ("keepalives_idle=x", "keepalives_idle"),
        ("sslmode=full", "sslmode"),
        ("sslrootcert=system&sslmode=require", "sslrootcert=system"),
        ("sslrootcert=/nowhere/root.crt&sslmode=verify-full", "/nowhere/root.crt"),
        ("sslcert=/nowhere/client.crt", "sslcert"),
        ("target_session_attrs=standby", "target_session_attrs"),
        ("load_balance_hosts=yes", "load_balance_hosts"),
        ("hostaddr=127.0.0.1", "hostaddr"),
        ("require_auth=scram-sha-256", "require_auth"),
        ("gssencmode=require", "gssencmode"),
        ("sslsni=0", "sslsni"),
        ("client_encoding=latin1", "client_encoding"),
        ("replication=database", "replication"),
        ("ssl_min_protocol_version=TLSv1", "ssl_min_protocol_version"),
        ("schema=public", "schema"),
        ("search_path=app", "search_path"),
        ("oauth_issuer=x", "oauth_issuer"),
        ("port=70000", "port"),
        ("service=nowhere", "service"),
        ("channel_binding=require&sslmode=disable", "channel_binding"),
    ],
)
def test_a_parameter_that_cannot_be_kept_is_refused_by_its_name(query: str, names: str) -> None:
    with pytest.raises(AddressRefused) as refused:
        read(f"postgresql://me:hush-word@db/app?{query}")
    assert names in str(refused.value)
    assert "hush-word" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:hush/word@db/app",
        "postgresql://me:hush#word@db/app",
        "postgresql://me:hush?word=1@db/app",
        "postgresql://me:hush?word@db/app",
        "postgresql://me:hush@word@db/app",
        "postgresql://me:hush%word@db/app",
        "postgresql://me:hush word@db/app",
        "postgresql://me:hush[word@db/app",
        "postgresql://me:hush:word@db:port/app",
    ],
)
def test_a_password_that_is_not_percent_encoded_is_refused_and_not_quoted(url: str) -> None:
    with pytest.raises(AddressRefused, match="percent-encode") as refused:
        read(url)
    assert "hush" not in str(refused.value)
    assert "word@" not in str(refused.value)


@pytest.mark.parametrize("url", ["mysql://me:secret@db/app", "host=db user=me", "", "//db/app"])
def test_what_is_no_postgres_url_is_said(url: str) -> None:
    with pytest.raises(AddressRefused, match="no Postgres URL") as refused:
        read(url)
    assert "secret" not in str(refused.value)


def test_neons_url_is_kept_by_verifying_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    address = read("postgresql://me:secret@ep-x.neon.tech/app?sslmode=require&channel_binding=require")
    assert address.tls == {"sslmode": "verify-full", "sslrootcert": "system"}
    assert address.arguments()["ssl"].check_hostname is True
    assert "sslmode=verify-full&sslrootcert=system" in address.for_dbmate(pooled=False)
    assert "channel_binding" not in address.for_dbmate(pooled=False)


def test_verify_full_without_a_root_certificate_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for mode in ("verify-full", "verify-ca"):
        with pytest.raises(AddressRefused, match=rf"{tmp_path}/\.postgresql/root\.crt, and there is no such file"):
            read(f"postgresql://me:secret@db/app?sslmode={mode}")


def test_libpqs_variables_are_read_where_the_url_says_nothing(tmp_path: Path) -> None:
    given = read("postgresql://db/app", PGUSER="me", PGPASSWORD="secret", PGCONNECT_TIMEOUT="7", PGSSLMODE="disable")
    assert (given.user, given.password, given.connect_timeout) == ("me", "secret", 7.0)
    assert given.tls == {"sslmode": "disable"}
    assert read("postgresql://you:own@db/app", PGUSER="me", PGPASSWORD="secret").password == "own"


def test_a_service_fills_what_the_url_leaves_out(tmp_path: Path) -> None:
    file = tmp_path / "pg_service.conf"
    file.write_text("[production]\nhost=db.internal\nport=6432\nuser=me\npassword=p%ss\ndbname=app\n")
    address = read("postgresql://you@/?service=production", PGSERVICEFILE=str(file))
    assert (str(address), address.password) == ("you@db.internal:6432/app", "p%ss")
    file.write_text("[production]\nhost=db.internal\nsearch_path=x\n")
    with pytest.raises(AddressRefused, match="search_path"):
        read("postgresql:///?service=production", PGSERVICEFILE=str(file))


def test_settings_of_options_go_to_the_session_and_the_rest_to_the_proxy() -> None:
    address = read("postgresql://me@db/app?options=-c%20work_mem%3D8MB%20--lock-timeout%3D5s%20endpoint%3Dep-x")
    assert address.settings == {"work_mem": "8MB", "lock_timeout": "5s"}
    assert address.startup_options == "endpoint=ep-x"
    assert address.for_dbmate(pooled=True).endswith("options=endpoint%3Dep-x")
    assert "work_mem%3D8MB" in address.for_dbmate(pooled=False)


@pytest.mark.parametrize(
    ("url", "variable", "mode"),
    [
        ("postgresql://me@db/app", "", "auto"),
        ("postgresql://me@db/app", "session", "session"),
        ("postgresql://me@db/app", "transaction", "transaction"),
        ("postgresql://me@db/app?pgbouncer=true", "", "transaction"),
        ("postgresql://me.x@aws-0-eu.pooler.supabase.com:6543/postgres", "", "transaction"),
        ("postgresql://me.x@aws-0-eu.pooler.supabase.com:5432/postgres", "", "auto"),
    ],
)
def test_a_pooler_that_shares_by_transaction_is_recognised_or_named(url: str, variable: str, mode: str) -> None:
    assert read(url, NEXUS_AUTH_POOLER=variable).pooler == mode
    with pytest.raises(AddressRefused, match="NEXUS_AUTH_POOLER"):
        read(url, NEXUS_AUTH_POOLER="statement")


def test_several_hosts_are_tried_for_the_one_that_can_be_written_to() -> None:
    assert read("postgresql://me@a,b/app").target == "read-write"
    assert read("postgresql://me@a/app").target == "any"
    assert read("postgresql://me@a,b:7/app").hosts == (("a", 5432), ("b", 7))
    assert read("postgresql://me@a,b/app?port=7").hosts == (("a", 7), ("b", 7))
    with pytest.raises(AddressRefused, match="port"):
        read("postgresql://me@a,b,c/app?port=7,8")
