"""The hosts that an API key may be sent to.

Who may edit a ClerkInstance chooses `apiUrl`. They need not be allowed to read the API key, so they must not be able to
name a server of theirs and receive it. The list of hosts belongs to whoever runs the process.
"""

import ipaddress
import re
from dataclasses import dataclass, field

CLERK = "api.clerk.com"

_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?\.?|\[[0-9a-f:.]{2,45}\]")
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>[^\s/:@?#\[\]\\]+|\[[^\s/@?#\[\]\\]+\])(:(?P<port>[0-9]{1,5}))?(/[^\s@?#\\]*)?"
)
_ENTRY = re.compile(r"((?P<scheme>https?)://)?(?P<host>[^\s/:@?#\[\]\\]+|\[[^\s/@?#\[\]\\]+\])(:(?P<port>[0-9]{1,5}))?")
_PORTS = {"https": 443, "http": 80}


class ApiHostRefused(ValueError):
    """An address that no API key is sent to; the text says why."""


@dataclass(frozen=True, slots=True)
class _Origin:
    scheme: str
    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether the host is this machine: localhost, 127.0.0.0/8 or ::1."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return False


@dataclass(frozen=True, slots=True)
class ApiHosts:
    """The allow-list. Without arguments: Clerk's own host."""

    origins: frozenset[_Origin] = field(default_factory=lambda: frozenset({_Origin("https", CLERK, 443)}))

    @classmethod
    def parse(cls, text: str) -> "ApiHosts":
        """Reads entries separated by commas: `host`, `host:port` or `http://host:port`. Raises ValueError.

        An entry without a scheme means https, and on a loopback host http as well. Without a port it means the
        scheme's own.
        """
        origins: set[_Origin] = set()
        for entry in filter(None, (part.strip() for part in text.split(","))):
            match = _ENTRY.fullmatch(entry.lower()) if entry.isascii() else None
            host = _normal_host(match["host"]) if match is not None else None
            if match is None or host is None:
                raise ValueError(f"{entry!r} is no host: write host, host:port or http://host:port")
            schemes = [match["scheme"]] if match["scheme"] else ["https"]
            if match["scheme"] is None and _Origin("https", host, 443).is_loopback:
                schemes.append("http")
            for scheme in schemes:
                port = _port(match["port"], scheme=scheme)
                if port is None:
                    raise ValueError(f"{entry!r} has no port from 1 to 65535")
                origins.add(_Origin(scheme, host, port))
        if not origins:
            raise ValueError("no host is listed: at least one is needed")
        return cls(frozenset(origins))

    def check(self, api_url: str) -> None:
        """Raises `ApiHostRefused` unless the address is one of the list's.

        Scheme, host and port are compared. Case, one trailing dot and a scheme's own port make no difference. User
        names, backslashes, percent signs and letters beyond ASCII are refused before anything is compared, so that no
        other reader of the address can understand another host.
        """
        # isascii() first: lower() makes an ASCII k of the Kelvin sign
        match = _URL.fullmatch(api_url.lower()) if api_url.isascii() else None
        host = _normal_host(match["host"]) if match is not None else None
        port = _port(match["port"], scheme=match["scheme"]) if match is not None else None
        if match is None or host is None or port is None:
            raise ApiHostRefused(
                "apiUrl is no plain address (https://host, perhaps with a port and a path; other letters as xn--…)"
            )
        if _Origin(match["scheme"], host, port) in self.origins:
            return
        if match["scheme"] == "http" and _Origin("https", host, port) in self.origins:
            raise ApiHostRefused("apiUrl would send the API key in clear: use https")
        shown = host if port == _PORTS[match["scheme"]] else f"{host}:{port}"
        raise ApiHostRefused(
            f"apiUrl names {match['scheme']}://{shown}, which is not among the hosts that the API key may be sent to:"
            " correct apiUrl, or ask whoever runs nexus-auth to add it (NEXUS_AUTH_API_HOSTS)"
        )


def _normal_host(text: str) -> str | None:
    """A host in one spelling; None for what is none."""
    if _HOST.fullmatch(text) is None:
        return None
    if text.startswith("["):
        try:
            return f"[{ipaddress.IPv6Address(text[1:-1]).compressed}]"
        except ValueError:
            return None
    return text.removesuffix(".")


def _port(text: str | None, *, scheme: str) -> int | None:
    """A port; None for what is none."""
    if text is None:
        return _PORTS[scheme]
    return int(text) if 1 <= int(text) <= 65_535 else None
