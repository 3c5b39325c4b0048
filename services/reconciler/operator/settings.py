"""Settings of the operator."""

from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from nexus_auth.clerk.api_hosts import CLERK, ApiHosts
from nexus_auth.settings import LogLevel


class OperatorSettings(BaseSettings):
    """Environment names are the fields' with NEXUS_AUTH_ before them."""

    model_config = SettingsConfigDict(
        env_prefix="NEXUS_AUTH_", extra="ignore", hide_input_in_errors=True, use_attribute_docstrings=True
    )

    watch_namespaces: str = ""
    """Namespaces that are watched, separated by commas; empty: the whole cluster."""
    controller_class: str = ""
    """The operator reconciles the ClerkSyncs whose spec.controllerClass is this, and no others."""
    api_hosts: str = CLERK
    """Hosts that an API key may be sent to, separated by commas: host, host:port (https; a loopback host http as well)
    or http://host:port."""
    secret_names: str = ""
    """The only Secrets that the role allows, separated by commas; they are read at each look and not watched. Empty:
    every Secret with the label."""
    lease_namespace: str | None = None
    """Namespace of the Lease; by default the pod's own."""
    lease_name: str = "nexus-auth-operator"
    """Name of the Lease; each release has its own."""
    lease_seconds: int = Field(default=15, ge=2)
    """How long a leader that does not renew the Lease remains the leader."""
    concurrency: int = Field(default=4, ge=1)
    """Runs at the same time. Each holds up to 12 connections to its database and 2 to the state database while it
    lasts."""
    health_host: str = "127.0.0.1"
    """Where /livez, /readyz and /metrics listen."""
    health_port: int = 9091
    """Their port."""
    role_prefix: str = Field(default="clerk_", pattern=r"^[a-z][a-z0-9_]{0,30}$")
    """What our roles' names begin with."""
    verify_after: float = Field(default=60.0, ge=0)
    """Seconds between the two reads that must agree before an object is deleted, revived or set to a lower version."""
    look_seconds: float = Field(default=60.0, gt=0)
    """Seconds between two looks into a database for work that no interval announces. Longer where there are many
    syncs."""
    relist_seconds: float = Field(default=600.0, gt=0)
    """Seconds between two listings of all custom resources, in case the watch missed a change."""
    log_level: LogLevel = "INFO"
    """DEBUG, INFO, WARNING or ERROR, in any case."""
    allow_fsync_off: bool = False
    """Tests only."""
    failpoints_dir: Path | None = None
    """Tests only: see `nexus_auth.failpoints`."""

    @field_validator("api_hosts")
    @classmethod
    def _lists_hosts(cls, value: str) -> str:
        ApiHosts.parse(value)
        return value

    @property
    def namespaces(self) -> tuple[str, ...]:
        """What `watch_namespaces` lists, sorted; empty means all."""
        return tuple(sorted({name.strip() for name in self.watch_namespaces.split(",") if name.strip()}))
