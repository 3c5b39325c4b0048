"""Is this request from Clerk? The signature is checked first; nothing of a body is looked at before.

The svix library decides. It raises one error for a forged and for a stale message, and other errors for malformed
headers, so the headers are read here: stale messages whose signature is right for their own timestamp mean that our
clock is off and that Svix will give up on this endpoint (`skew`). That is worth an alert, forged requests are not.

Traded: the library is lenient where we are not. It reads `1e9`, `1_0` and fractions as timestamps and skips what is no
base64 in a signature, so that one message could be written in many ways. Here it can be written in one.
"""

import hmac
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from svix.webhooks import Webhook

from nexus_auth.clerk.signature import NoSecret, fingerprint, secrets_from

TOLERANCE = 300
"""Seconds; the library's own bound, in both directions."""

FAMILIES = ("svix-", "webhook-")
"""Header names differ by sender; hosted Svix may send both."""

_ID = re.compile(r"[!-\-/-~]{1,256}")
"""Printable ASCII without the full stop. What is signed is id, timestamp and body with full stops between them: with
one inside the id, the same signature would fit another id, timestamp and body."""
_TIMESTAMP = re.compile(r"[1-9][0-9]{0,11}")
_SIGNATURE = re.compile(r"v1,[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=")
"""32 bytes in base64: two bits of the last character are nothing, and must be."""

logger = logging.getLogger(__name__)


class Headers(Protocol):
    """What is read of a request's headers; names are case-insensitive."""

    def getall(self, key: str, default: Sequence[str]) -> Sequence[str]:
        """Every value of a header."""


class Rejected(Exception):
    """Not from Clerk, or not readable as such; `reason` is for metrics, never for the answer."""

    def __init__(self, reason: str) -> None:
        """Keeps a word: missing_header, malformed_header, signature, encoding."""
        super().__init__(reason)
        self.reason = reason


class Stale(Rejected):
    """Too old or too new. `genuine`: signed with our secret for its own timestamp, so a clock is wrong."""

    def __init__(self, *, svix_id: str, seconds: float, genuine: bool) -> None:
        """`seconds`: how far the message's time lies behind ours."""
        super().__init__("stale")
        self.svix_id = svix_id
        self.seconds = seconds
        self.genuine = genuine


@dataclass(frozen=True, slots=True)
class Verified:
    """The three headers as received, and which secret they were made with."""

    svix_id: str
    timestamp: str
    signature: str
    secret: str
    """Fingerprint."""


class Secrets:
    """The signing secrets that are accepted now. A folder is read again when its files change; what cannot be read
    leaves the last good set in place, said in the log."""

    def __init__(self, *, fixed: str = "", folder: Path | None = None) -> None:
        """`fixed`: secrets separated by white space. Raises ValueError where there is none or one is malformed."""
        self._fixed = fixed
        self._folder = folder
        self._seen: object = None
        self.webhooks: Mapping[str, Webhook] = {}
        self._load()

    def refresh(self) -> bool:
        """Looks whether the folder changed; True where the set is another one now."""
        state = self._state()
        if self._folder is None or state == self._seen:
            return False
        before = set(self.webhooks)
        try:
            self._load()
        except Exception as error:
            logger.error("signing secrets not taken over, the former stay", extra={"error": str(error)})
            self._seen = state  # as it was before reading: a file written meanwhile is read in the next round
            return False
        return set(self.webhooks) != before

    def _load(self) -> None:
        state = self._state()
        secrets = _read_secrets(self._fixed, where="CLERK_WEBHOOK_SIGNING_SECRET")
        for file in _files(self._folder) if self._folder is not None else ():
            secrets += _read_secrets(file, where=str(file))
        if not secrets:
            where = "CLERK_WEBHOOK_SIGNING_SECRET" if self._folder is None else f"a file in {self._folder}"
            raise ValueError(f"there is no signing secret: put whsec_… into {where}")
        self.webhooks = {fingerprint(secret): Webhook(secret) for secret in secrets}
        self._seen = state

    def _state(self) -> object:
        if self._folder is None:
            return None
        try:
            stats = [(file.name, file.stat()) for file in _files(self._folder)]
            return [(name, stat.st_mtime_ns, stat.st_ino, stat.st_size) for name, stat in stats]
        except OSError as error:
            return str(error)


def _read_secrets(source: str | Path, *, where: str) -> tuple[str, ...]:
    try:
        return secrets_from(source if isinstance(source, str) else source.read_text("utf-8"))
    except NoSecret as error:
        raise NoSecret(f"{where}: {error}") from None
    except UnicodeDecodeError:
        raise NoSecret(f"{where}: it is no UTF-8 text") from None


def _files(folder: Path) -> list[Path]:
    # Kubernetes keeps what it swaps under names with a dot.
    return sorted(file for file in folder.iterdir() if not file.name.startswith(".") and file.is_file())


def verify(
    body: bytes, headers: Headers, *, secrets: Mapping[str, Webhook], now: Callable[[], float] = time.time
) -> Verified:
    """Checks a request against every secret. Raises `Rejected`, of which `Stale` is one."""
    failure = Rejected("missing_header")
    for family in FAMILIES:
        values = [headers.getall(family + name, ()) for name in ("id", "timestamp", "signature")]
        if not all(values):
            continue
        try:
            return _verify_family(body, [_single(value) for value in values], secrets=secrets, now=now())
        except Rejected as error:
            failure = error
    raise failure


def _single(values: Sequence[str]) -> str:
    if len(values) != 1 or not values[0].isascii():
        raise Rejected("malformed_header")
    return values[0]


def _verify_family(body: bytes, values: Sequence[str], *, secrets: Mapping[str, Webhook], now: float) -> Verified:
    svix_id, timestamp, signature = values
    signatures = " ".join(part for part in signature.split(" ") if _SIGNATURE.fullmatch(part))
    if not (_ID.fullmatch(svix_id) and _TIMESTAMP.fullmatch(timestamp) and signatures):
        raise Rejected("malformed_header")
    sent = int(timestamp)
    try:
        at = datetime.fromtimestamp(sent, UTC)
    except (ValueError, OverflowError, OSError):  # the year 10,000
        raise Rejected("malformed_header") from None
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise Rejected("encoding") from None
    if abs(now - sent) > TOLERANCE:
        genuine = any(_signed(webhook, svix_id, at, text, signatures) for webhook in secrets.values())
        raise Stale(svix_id=svix_id, seconds=now - sent, genuine=genuine)
    headers = {"svix-id": svix_id, "svix-timestamp": timestamp, "svix-signature": signatures}
    for name, webhook in secrets.items():
        try:
            webhook.verify(body, headers)
        except Exception:  # noqa: S112 - the library raises whatever it meets
            continue
        return Verified(svix_id, timestamp, signature, name)
    raise Rejected("signature")


def _signed(webhook: Webhook, svix_id: str, at: datetime, text: str, signature: str) -> bool:
    expected = webhook.sign(svix_id, at, text)
    return any(hmac.compare_digest(expected, given) for given in signature.split(" "))
