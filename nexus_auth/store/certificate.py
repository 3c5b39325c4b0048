"""Why TLS to a Postgres server failed, as a sentence that names the file, or the name that the certificate has."""

import asyncio
import ssl
import struct
from contextlib import suppress

from nexus_auth.store.address import Address

SSL_REQUEST = struct.pack("!ll", 8, 80877103)
"""Postgres's question whether TLS may begin ("SSLRequest", chapter Message Formats)."""

WRONG_NAME = {62, 64}
"""OpenSSL's verify codes for another host name and another IP address (X509_V_ERR_HOSTNAME_MISMATCH, IP_ADDRESS)."""

NAMES_SECONDS = 3.0


class TlsRefused(ConnectionError):
    """TLS with the server cannot be had as the URL asks for it; the text says what to change."""


async def refusal(error: OSError, address: Address) -> TlsRefused | None:
    """What a failed connection says about TLS; None where TLS is not what failed."""
    because = " (channel_binding=require is kept by verifying the server)" if address.binding else ""
    asked = address.tls.get("sslmode", "prefer")
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in WRONG_NAME:
            names = await _names(address)
            has = f"is for {names}" if names else "is for another name"
            return TlsRefused(
                f"the certificate of {_hosts(address)} {has}: use that name as the URL's host{because},"
                " or sslmode=verify-ca, which does not compare names"
            )
        root = address.tls.get("sslrootcert", "")
        where = "the system's certificates" if root == "system" else root
        return TlsRefused(
            f"the certificate of {_hosts(address)} was not signed by {where} ({error.verify_message}): give the"
            f" certificate of its authority by sslrootcert={because}"
        )
    if isinstance(error, ssl.SSLError):
        return TlsRefused(f"TLS with {_hosts(address)} failed ({error.reason or type(error).__name__})")
    if "rejected SSL upgrade" in str(error):
        return TlsRefused(f"{_hosts(address)} does not speak TLS, and sslmode={asked} asks for it{because}")
    return None


def _hosts(address: Address) -> str:
    return ", ".join(host for host, _ in address.hosts) or "the server"


async def _names(address: Address) -> str:
    """The names in the certificate of the first host that shows one; empty where none does. Nothing secret is sent."""
    context = ssl.create_default_context(cafile=_file(address.tls.get("sslrootcert")))
    context.check_hostname = False
    for host, port in address.hosts:
        with suppress(OSError, TimeoutError, EOFError):
            async with asyncio.timeout(NAMES_SECONDS):
                reader, writer = await asyncio.open_connection(host, port)
                try:
                    writer.write(SSL_REQUEST)
                    if await reader.readexactly(1) != b"S":
                        continue
                    await writer.start_tls(context, server_hostname=host)
                    certificate = writer.get_extra_info("peercert") or {}
                finally:
                    writer.close()
            names = [value for _, value in certificate.get("subjectAltName", ())]
            names += [] if names else [value for part in certificate.get("subject", ()) for _, value in part]
            if names:
                return ", ".join(names)
    return ""


def _file(root: str | None) -> str | None:
    return None if root in (None, "system") else root
