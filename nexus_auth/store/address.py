"""A Postgres URL, read once for every service, the command line and the migrations.

libpq's parameters are the standard that providers and people go by, and each driver knows a part of them: asyncpg sends
the others to the server as settings, where they end the connection. So the URL is read here. A parameter is honoured,
or the URL is refused and the parameter named; a URL that works for one program works for all.

Source: "Parameter Key Words" and "Connection URIs" of PostgreSQL's documentation, chapter libpq.
"""

import configparser
import getpass
import os
import random
import re
import shlex
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, unquote, urlencode, urlsplit, urlunsplit

Pooler = Literal["auto", "session", "transaction"]
"""How a pooler on the way shares its connections: found out at start, by session (or no pooler), or by transaction."""

POOLER = "NEXUS_AUTH_POOLER"
"""The variable that says it where it shall not be found out."""

CONNECT_SECONDS = 5.0
"""Where the URL sets no connect_timeout."""

KEEPALIVE = {"keepalives": 1, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
TCP_USER_TIMEOUT_MS = 10_000
"""What a proxy dropped without a word is noticed after these times. libpq leaves them to the system: two hours."""

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
ENCODE = "; percent-encode special characters of login and password (@ is %40, / %2F, : %3A, ? %3F, # %23, % %25)"

ENVIRONMENT = {
    "service": "PGSERVICE",
    "servicefile": "PGSERVICEFILE",
    "host": "PGHOST",
    "port": "PGPORT",
    "dbname": "PGDATABASE",
    "user": "PGUSER",
    "password": "PGPASSWORD",
    "passfile": "PGPASSFILE",
    "channel_binding": "PGCHANNELBINDING",
    "connect_timeout": "PGCONNECT_TIMEOUT",
    "options": "PGOPTIONS",
    "application_name": "PGAPPNAME",
    "sslmode": "PGSSLMODE",
    "sslnegotiation": "PGSSLNEGOTIATION",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcrl": "PGSSLCRL",
    "ssl_min_protocol_version": "PGSSLMINPROTOCOLVERSION",
    "ssl_max_protocol_version": "PGSSLMAXPROTOCOLVERSION",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
    "load_balance_hosts": "PGLOADBALANCEHOSTS",
    "require_auth": "PGREQUIREAUTH",
    "gssencmode": "PGGSSENCMODE",
}
"""libpq's variables, read where neither the URL nor its service sets the parameter."""

HONOURED = frozenset(ENVIRONMENT) - {"require_auth", "gssencmode"} | {
    *KEEPALIVE,
    "tcp_user_timeout",
    "fallback_application_name",
    "sslpassword",
}

ACCEPTED: Mapping[str, tuple[str, ...]] = {
    "client_encoding": ("utf8", "utf-8", "unicode", "auto"),
    "gssencmode": ("disable", "prefer"),
    "gssdelegation": ("0",),
    "replication": ("false", "off", "no", "0"),
    "require_auth": ("",),
    "sslcertmode": ("allow", "disable"),
    "sslcompression": ("0",),
    "sslsni": ("1",),
    "min_protocol_version": ("3.0",),
    "max_protocol_version": ("3.0", "latest"),
    "pgbouncer": ("true", "false"),
}
"""Parameters of which only these values mean what happens in any case. `pgbouncer` is Prisma's and Supabase's word."""

REFUSED = frozenset(
    {
        *("hostaddr", "requirepeer", "krbsrvname", "gsslib", "sslcrldir", "scram_client_key", "scram_server_key"),
        *("sslkeylogfile", "oauth_issuer", "oauth_client_id", "oauth_client_secret", "oauth_scope"),
    }
)
"""libpq's parameters that no driver of ours has."""

WRITABLE = ("any", "read-write", "primary")


class AddressRefused(ValueError):
    """A Postgres URL cannot be used; the text names the parameter or the part, never a value that may be secret."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a database is and how it is reached; no secret in its repr."""

    hosts: tuple[tuple[str, int], ...]
    """Names or socket folders, each with its port; empty for the default socket."""
    user: str
    database: str
    password: str | None = field(default=None, repr=False)
    tls: Mapping[str, str] = field(default_factory=dict, repr=False)
    """sslmode, sslrootcert, sslcert and the like, as libpq names them."""
    passfile: str | None = None
    connect_timeout: float = CONNECT_SECONDS
    keepalive: Mapping[str, int] = field(default_factory=lambda: {**KEEPALIVE, "tcp_user_timeout": TCP_USER_TIMEOUT_MS})
    target: str = "any"
    settings: Mapping[str, str] = field(default_factory=dict)
    """What `options` sets: given to the session, because poolers refuse it at the start of a connection."""
    startup_options: str = ""
    """What else `options` holds, for a proxy on the way (Neon's endpoint=…)."""
    application_name: str | None = None
    pooler: Pooler = "auto"
    binding: bool = False
    """channel_binding=require: our drivers cannot bind, so the server's certificate and name are verified instead."""

    def __str__(self) -> str:
        """`login@host:port/database`, for sentences."""
        places = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        return f"{self.user}@{places or 'the local socket'}/{self.database}"

    def at(self, place: tuple[str, int]) -> "Address":
        """The same at one of its hosts."""
        return replace(self, hosts=(place,))

    def arguments(self) -> dict[str, Any]:
        """How asyncpg is told: arguments of its `connect`. Raises `AddressRefused` where a certificate is missing."""
        tls = dict(self.tls)
        context = None
        if tls.get("sslrootcert") == "system":
            context = _system_context(tls)
            tls = {"sslnegotiation": tls["sslnegotiation"]} if "sslnegotiation" in tls else {}
        server_settings = {"options": self.startup_options} if self.startup_options else {}
        return {
            "dsn": f"postgresql://?{urlencode(tls, quote_via=quote)}" if tls else None,
            "host": [host for host, _ in self.hosts] or None,
            "port": [port for _, port in self.hosts] or None,
            "user": self.user,
            "password": self.password,
            "passfile": self.passfile,
            "database": self.database,
            "ssl": context,
            "timeout": self.connect_timeout,
            "target_session_attrs": self.target,
            "server_settings": server_settings,
        }

    def for_dbmate(self, *, pooled: bool) -> str:
        """The URL for dbmate's driver, lib/pq, of the first host; it holds the password.

        `pooled`: a pooler is on the way, which takes no settings at the start of a connection.
        """
        host, port = self.hosts[0] if self.hosts else ("", 5432)
        query = {"sslmode": "prefer", **self.tls, "connect_timeout": str(int(self.connect_timeout))}
        settings = [] if pooled else [f"-c {name}={_escaped(value)}" for name, value in self.settings.items()]
        if options := " ".join(filter(None, [*settings, self.startup_options])):
            query["options"] = options
        if host.startswith("/"):
            query["host"], host = host, ""
        login = quote(self.user, safe="")
        if self.password is not None:
            login += f":{quote(self.password, safe='')}"
        netloc = f"{login}@{f'[{host}]' if ':' in host else host}:{port}"
        path = "/" + quote(self.database, safe="")
        return urlunsplit(("postgres", netloc, path, urlencode(query, quote_via=quote), ""))


def read_address(url: str, *, environment: Mapping[str, str] = os.environ) -> Address:
    """Reads a URL as libpq does. Raises `AddressRefused`.

    A parameter comes from the URL, else from the service that it names, else from libpq's variable in `environment`.
    """
    given = _parameters(url)
    for name, value in given.items():
        _judge(name, value)
    variables = {name: environment[var] for name, var in ENVIRONMENT.items() if environment.get(var)}
    known = {**variables, **given}
    of_service = _service(known) if known.get("service") else {}
    for name, value in of_service.items():
        _judge(name, value)
    known = {**variables, **of_service, **given}
    hosts = _hosts(known)
    user = known.get("user") or getpass.getuser()
    tls, binding = _tls(known, remote=not hosts or any(not host.startswith("/") for host, _ in hosts))
    settings, rest = _options(known.get("options", ""))
    target = known.get("target_session_attrs") or ("read-write" if len(hosts) > 1 else "any")
    if target not in WRITABLE:
        raise AddressRefused(f"target_session_attrs must be one of {', '.join(WRITABLE)}: nexus-auth writes")
    return Address(
        hosts=hosts,
        user=user,
        database=known.get("dbname") or user,
        password=known.get("password"),
        passfile=known.get("passfile"),
        tls=tls,
        connect_timeout=float(_number(known, "connect_timeout", default=0) or CONNECT_SECONDS),
        keepalive={
            **{name: _number(known, name, default=value) for name, value in KEEPALIVE.items()},
            "tcp_user_timeout": _number(known, "tcp_user_timeout", default=TCP_USER_TIMEOUT_MS),
        },
        target=target,
        settings=settings,
        startup_options=rest,
        application_name=known.get("application_name") or known.get("fallback_application_name"),
        pooler=_pooler(known, hosts, asked=environment.get(POOLER) or "auto"),
        binding=binding,
    )


def _parameters(url: str) -> dict[str, str]:
    """The URL taken apart, decoded; its own parts under libpq's names."""
    if not re.match(r"postgres(?:ql)?://", url):
        raise AddressRefused("it is no Postgres URL: postgresql://login:password@host:port/database")
    if re.search(r"[\s\x00-\x1f]", url) or re.search(r"%(?![0-9A-Fa-f]{2})", url):
        raise AddressRefused(f"the Postgres URL has a character that no URL may have{ENCODE}")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise AddressRefused(f"the Postgres URL cannot be taken apart{ENCODE}") from None
    stray = "@" in parts.path or ("@" in parts.query and "@" not in parts.netloc)
    if stray or "#" in url or parts.netloc.count("@") > 1:
        raise AddressRefused(f"the Postgres URL has more @, / or # than a URL may have{ENCODE}")
    login, _, places = parts.netloc.rpartition("@")
    user, colon, password = login.partition(":")
    found = {}
    if user:
        found["user"] = unquote(user)
    if colon:
        found["password"] = unquote(password)
    names, ports = _places(places)
    if any(names):
        found["host"] = ",".join(names)
    if any(ports):
        found["port"] = ",".join(ports)
    if parts.path.strip("/"):
        found["dbname"] = unquote(parts.path.removeprefix("/"))
    for pair in filter(None, parts.query.split("&")):
        name, equals, value = pair.partition("=")
        name = unquote(name)
        if not equals or not re.fullmatch(r"[A-Za-z_]{1,40}", name):
            raise AddressRefused(f"the Postgres URL has a parameter without a name or a value{ENCODE}")
        if (name, value) == ("ssl", "true"):
            name, value = "sslmode", "require"
        found["dbname" if name == "database" else name] = unquote(value)
    return found


def _places(text: str) -> tuple[list[str], list[str]]:
    """Hosts and ports of the URL's authority: `a:1,b`, `[::1]:5432`, `%2Frun%2Fpostgresql`."""
    names, ports = [], []
    for place in text.split(","):
        name, port = re.fullmatch(r"(\[[^]]*\]|[^:]*)(?::(.*))?", place, re.DOTALL).groups() or ("", "")  # type: ignore[union-attr]
        if port and not port.isdecimal():
            raise AddressRefused(f"the port in the Postgres URL is no number{ENCODE}")
        names.append(unquote(name.strip("[]")))
        ports.append(port or "")
    return names, ports


def _judge(name: str, value: str) -> None:
    """Raises `AddressRefused` for a parameter that cannot be kept."""
    if name in ACCEPTED:
        if value.lower() not in ACCEPTED[name]:
            allowed = " or ".join(filter(None, ACCEPTED[name]))
            raise AddressRefused(
                f"{name} in the Postgres URL must be {allowed}" if allowed else f"{name} is not supported"
            )
    elif name in REFUSED or name.startswith("oauth_"):
        raise AddressRefused(f"{name} in the Postgres URL is not supported: take it out")
    elif name not in HONOURED:
        raise AddressRefused(
            f"{name} in the Postgres URL is no parameter of libpq: take it out, or for a setting of the server write"
            f" options=-c%20{name}%3D…"
        )


def _number(known: Mapping[str, str], name: str, *, default: int) -> int:
    value = known.get(name, "")
    if not value:
        return default
    if not re.fullmatch(r"-?\d{1,9}", value):
        raise AddressRefused(f"{name} in the Postgres URL must be a whole number")
    return max(int(value), 0)


def _hosts(known: Mapping[str, str]) -> tuple[tuple[str, int], ...]:
    if not known.get("host"):
        return (("localhost", _ports(known, 1)[0]),) if known.get("port") else ()
    names = [name.strip() or "localhost" for name in known["host"].split(",")]
    places = list(zip(names, _ports(known, len(names)), strict=True))
    balance = known.get("load_balance_hosts", "disable")
    if balance not in ("disable", "random"):
        raise AddressRefused("load_balance_hosts must be disable or random")
    if balance == "random":
        random.shuffle(places)
    return tuple(places)


def _ports(known: Mapping[str, str], number: int) -> list[int]:
    texts = known.get("port", "").split(",")
    if len(texts) not in (1, number):
        raise AddressRefused("port in the Postgres URL must be one number, or one for each host")
    if any(text and not (text.isdecimal() and 0 < int(text) < 65536) for text in texts):
        raise AddressRefused("port in the Postgres URL must be a number from 1 to 65535")
    ports = [int(text or 5432) for text in texts]
    return ports * number if len(ports) == 1 else ports


def _tls(known: Mapping[str, str], *, remote: bool) -> tuple[dict[str, str], bool]:
    """The TLS parameters as the drivers take them, and whether channel_binding=require raised them."""
    names = ("sslmode", "sslnegotiation", "sslcert", "sslkey", "sslpassword", "sslrootcert", "sslcrl")
    tls = {name: known[name] for name in names if known.get(name)}
    for bound in ("ssl_min_protocol_version", "ssl_max_protocol_version"):
        if known.get(bound):
            if known[bound] not in ("TLSv1.2", "TLSv1.3"):
                raise AddressRefused(f"{bound} must be TLSv1.2 or TLSv1.3")
            tls[bound] = known[bound]
    if known.get("channel_binding", "prefer") not in ("disable", "prefer", "require"):
        raise AddressRefused("channel_binding must be disable, prefer or require")
    binding = known.get("channel_binding") == "require"
    if tls.get("sslnegotiation", "postgres") not in ("postgres", "direct"):
        raise AddressRefused("sslnegotiation must be postgres or direct")
    if tls.get("sslmode", "prefer") not in SSL_MODES:
        raise AddressRefused(f"sslmode must be one of {', '.join(SSL_MODES)}")
    if binding:
        if not remote or tls.get("sslmode") == "disable":
            raise AddressRefused("channel_binding=require needs TLS, and this connection has none: take it out")
        tls["sslmode"] = "verify-full"
        if "sslrootcert" not in tls and not _default_root().exists():
            tls["sslrootcert"] = "system"
    if tls.get("sslrootcert") == "system":
        if tls.setdefault("sslmode", "verify-full") != "verify-full":
            raise AddressRefused("sslrootcert=system needs sslmode=verify-full: anybody can get a public certificate")
    elif tls.get("sslmode") in ("verify-ca", "verify-full"):
        tls.setdefault("sslrootcert", str(_default_root()))
        if not Path(tls["sslrootcert"]).is_file():
            raise AddressRefused(
                f"sslmode={tls['sslmode']} needs the root certificate {tls['sslrootcert']}, and there is no such file:"
                " name one by sslrootcert=, or take sslrootcert=system for a public certificate"
            )
    for name in ("sslrootcert", "sslcert", "sslkey", "sslcrl"):
        if name in tls and tls[name] != "system" and not Path(tls[name]).is_file():
            raise AddressRefused(f"{name} in the Postgres URL names {tls[name]}, and there is no such file")
    return tls, binding


def _default_root() -> Path:
    return Path.home() / ".postgresql" / "root.crt"


def _system_context(tls: Mapping[str, str]) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if "sslcert" in tls:
        context.load_cert_chain(tls["sslcert"], tls.get("sslkey"), tls.get("sslpassword", ""))
    if "sslcrl" in tls:
        context.load_verify_locations(cafile=tls["sslcrl"])
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
    versions = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}
    context.minimum_version = versions[tls.get("ssl_min_protocol_version", "TLSv1.2")]
    context.maximum_version = versions[tls.get("ssl_max_protocol_version", "TLSv1.3")]
    context.set_alpn_protocols(["postgresql"])
    return context


def _service(known: Mapping[str, str]) -> dict[str, str]:
    """The parameters of a service, from the file of the URL or the environment, or ~/.pg_service.conf."""
    file = Path(known.get("servicefile") or Path.home() / ".pg_service.conf")
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",), strict=False)
    try:
        parser.read_string(file.read_text("utf-8"))
        found = dict(parser[known["service"]])
    except (OSError, UnicodeDecodeError) as error:
        raise AddressRefused(f"service: its file {file} cannot be read ({type(error).__name__})") from None
    except (KeyError, configparser.Error):
        raise AddressRefused(f"service: {file} has no section of that name, or cannot be understood") from None
    return found


def _options(text: str) -> tuple[dict[str, str], str]:
    """The settings of `options` (-c name=value, --name=value), and what is none."""
    try:
        words = shlex.split(text)
    except ValueError:
        raise AddressRefused("options in the Postgres URL cannot be taken apart") from None
    settings: dict[str, str] = {}
    rest = []
    while words:
        word = words.pop(0)
        if word == "-c" and words:
            word = "-c" + words.pop(0)
        found = re.fullmatch(r"(?:-c\s*|--)([A-Za-z][\w.-]*)=(.*)", word, re.DOTALL)
        if found:
            settings[found[1].replace("-", "_").lower()] = found[2]
        else:
            rest.append(word)
    return settings, " ".join(rest)


def _escaped(value: str) -> str:
    """A value inside `options`, where a backslash keeps a space from ending it."""
    return re.sub(r"([ \\])", r"\\\1", value)


def _pooler(known: Mapping[str, str], hosts: tuple[tuple[str, int], ...], *, asked: str) -> Pooler:
    """What the environment, or the URL itself, says of a pooler. Supabase's shares by transaction on port 6543."""
    if asked not in ("auto", "session", "transaction"):
        raise AddressRefused(f"{POOLER} must be auto, session or transaction")
    if asked == "session":
        return "session"
    supabase = any(host.endswith(".pooler.supabase.com") and port == 6543 for host, port in hosts)
    if asked == "transaction" or supabase or known.get("pgbouncer", "").lower() == "true":
        return "transaction"
    return "auto"
