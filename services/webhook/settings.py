"""Settings of the webhook service, each with its unit and the reason for its default."""

from pathlib import Path

from pydantic import Field, SecretStr, model_validator

from nexus_auth.settings import ServiceSettings


class WebhookSettings(ServiceSettings):
    """Environment names are the fields' with NEXUS_AUTH_ before them, unless an alias says otherwise."""

    host: str = "127.0.0.1"
    """Where the public port listens; 0.0.0.0 in a container."""
    port: int = 8080
    """The public port: POST /webhooks/clerk and nothing else."""
    health_host: str = "127.0.0.1"
    """Where the health port listens; never towards the internet."""
    health_port: int = 9090
    """/livez, /readyz, /metrics."""

    signing_secret: SecretStr | None = Field(default=None, validation_alias="CLERK_WEBHOOK_SIGNING_SECRET")
    """One or more secrets (whsec_…), separated by white space."""
    webhook_secrets_dir: Path | None = None
    """Or a folder of them, a file may hold several; read again whenever it changes."""
    withhold_key: SecretStr | None = None
    """Key of the HMAC for bodies of which parts are withheld: 32 characters or more, never in the database."""
    withhold_key_file: Path | None = None
    """Or a file that holds it."""
    keep_event_attributes: bool = False
    """Keep IP addresses, places and devices, of events and of sessions. They are personal data: off."""

    lanes: int = Field(default=2, ge=1, le=64)
    """Transactions at once; as many as the database has cores, more on slow disks."""
    batch_rows: int = Field(default=128, ge=1, le=5_000)
    """Events a transaction takes at most."""
    queue_rows: int = Field(default=5_000, ge=1)
    """Events that may wait for a transaction; beyond it 503, and Svix delivers again."""
    max_body_bytes: int = Field(default=2**20, ge=1_024)
    """Svix delivers up to 350 KB."""
    max_reading_bytes: int = Field(default=128 * 2**20, ge=2**20)
    """Bytes of bodies that are not verified yet, all requests together; when it is full, the slowest is given up."""
    body_timeout: float = Field(default=10.0, gt=0)
    """Seconds in which a body must have arrived."""
    answer_within: float = Field(default=10.0, gt=0)
    """Seconds in which an event is stored or answered 503. Svix waits for 15, and then for minutes until it tries
    again."""
    verify_after: float = Field(default=60.0, ge=0)
    """Seconds between two reads by name that find what a held deletion says is gone; the second refuses it."""
    drain_timeout: float = Field(default=20.0, gt=0)
    """Seconds that a stop may take to finish what was accepted."""
    log_events: bool = False
    """One log line per event: for a laptop, not for thousands a second."""

    @model_validator(mode="after")
    def _complete(self) -> "WebhookSettings":
        if self.signing_secret is None and self.webhook_secrets_dir is None:
            raise ValueError("set CLERK_WEBHOOK_SIGNING_SECRET or NEXUS_AUTH_WEBHOOK_SECRETS_DIR")
        if self.clerk_instance_id is None and self.read_clerk_secret_key() is None:
            raise ValueError(
                "set CLERK_INSTANCE_ID, or CLERK_SECRET_KEY (or CLERK_SECRET_KEY_FILE) to ask Clerk for it"
            )
        if len(self.withhold_bytes()) < 32:
            wanted = "NEXUS_AUTH_WITHHOLD_KEY or NEXUS_AUTH_WITHHOLD_KEY_FILE"
            raise ValueError(f"set {wanted} to 32 characters or more: openssl rand -hex 32")
        return self

    def withhold_bytes(self) -> bytes:
        """The withhold key; empty where none is set."""
        if self.withhold_key_file is not None:
            return self.withhold_key_file.read_text("utf-8").strip().encode()
        return self.withhold_key.get_secret_value().encode() if self.withhold_key is not None else b""
