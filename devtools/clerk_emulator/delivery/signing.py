"""The three headers of an attempt, signed by Svix's own library."""

import base64
from collections.abc import Sequence
from datetime import UTC, datetime

from standardwebhooks.webhooks import Webhook as StandardWebhook
from standardwebhooks.webhooks import hmac_data
from svix.webhooks import Webhook

from devtools.clerk_emulator.behaviour import HeaderFamily


def signature(secret: str, *, message_id: str, timestamp: int, body: bytes) -> str:
    """Return one ``v1,…`` signature. The library signs text only; bytes that are none are signed by its own HMAC."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return _signature_of_bytes(secret, message_id=message_id, timestamp=timestamp, body=body)
    return Webhook(secret).sign(message_id, datetime.fromtimestamp(timestamp, tz=UTC), text)


def _signature_of_bytes(secret: str, *, message_id: str, timestamp: int, body: bytes) -> str:
    key: bytes = StandardWebhook(secret)._whsecret
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac_data(key, signed)).decode()


def headers(
    *, message_id: str, timestamp: int, body: bytes, secrets: Sequence[str], families: Sequence[HeaderFamily]
) -> dict[str, str]:
    """Return id, timestamp and one signature per secret, once per header family."""
    signatures = " ".join(
        signature(secret, message_id=message_id, timestamp=timestamp, body=body) for secret in secrets
    )
    result: dict[str, str] = {}
    for family in families:
        result[f"{family}-id"] = message_id
        result[f"{family}-timestamp"] = str(timestamp)
        result[f"{family}-signature"] = signatures
    return result
