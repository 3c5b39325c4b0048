"""What a kubelet serves of itself, as far as `kubectl logs` needs it: the API server asks here, nobody else may.

TLS with a certificate that both know: the node serves with it, the API server shows it.
"""

import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

FOLLOW_SECONDS = 0.2
DAYS = 30

FindLog = Callable[[str, str, str], tuple[Path, Callable[[], bool]] | None]
"""Namespace, pod, container: its log, and whether more may come."""


def write_certificate(folder: Path) -> None:
    """`kubelet.crt` and `kubelet.key` in a folder."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "node of processes")])
    began = datetime.now(UTC) - timedelta(minutes=5)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(began)
        .not_valid_after(began + timedelta(days=DAYS))
        .sign(key, hashes.SHA256())
    )
    (folder / "kubelet.key").touch(mode=0o600)
    (folder / "kubelet.key").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    )
    (folder / "kubelet.crt").write_bytes(certificate.public_bytes(Encoding.PEM))


class LogServer(ThreadingHTTPServer):
    """Raises `OSError` where its address is taken: by another node."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], *, certificates: Path, find: FindLog) -> None:
        """Listens, and serves once it is told to."""
        super().__init__(address, _Request)
        self.find = find
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificates / "kubelet.crt", certificates / "kubelet.key")
        tls.load_verify_locations(certificates / "kubelet.crt")
        tls.verify_mode = ssl.CERT_REQUIRED
        self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)


class _Request(BaseHTTPRequestHandler):
    server: LogServer
    error_message_format = "%(message)s"
    error_content_type = "text/plain"

    def do_POST(self) -> None:
        """`kubectl exec` and `port-forward` are told."""
        self.send_error(501, "this node of processes serves logs and nothing else")

    def do_GET(self) -> None:
        """`/containerLogs/NAMESPACE/POD/CONTAINER?tailLines=&follow=&previous=`; nothing else is served."""
        url = urlsplit(self.path)
        asked = {name: values[-1] for name, values in parse_qs(url.query).items()}
        match url.path.split("/"):
            case ["", "containerLogs", namespace, pod, container]:
                found = self.server.find(namespace, pod, container)
            case _:
                self.do_POST()
                return
        if found is None:
            self.send_error(404, "no such container here")
            return
        log, goes_on = found
        if asked.get("previous") == "true":
            log, goes_on = log.with_suffix(".before"), lambda: False
        if not log.exists():
            self.send_error(404, "it has said nothing yet")
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        self._send(log, lines=int(asked.get("tailLines", -1)), goes_on=goes_on if asked.get("follow") else None)

    def _send(self, log: Path, *, lines: int, goes_on: Callable[[], bool] | None) -> None:
        with log.open("rb") as opened:
            content = opened.read().splitlines(keepends=True)
            self.wfile.write(b"".join(content[-lines:] if lines > 0 else content if lines < 0 else []))
            while goes_on is not None:
                last = not goes_on()  # asked before the read: what it said at its end is not missed
                self.wfile.write(opened.read())
                self.wfile.flush()
                if last:
                    return
                time.sleep(FOLLOW_SECONDS)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""
