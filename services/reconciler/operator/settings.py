"""Settings of the operator."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from nexus_auth.settings import LogLevel


class OperatorSettings(BaseSettings):
    """Environment names are the fields' with NEXUS_AUTH_ before them."""

    model_config = SettingsConfigDict(
        env_prefix="NEXUS_AUTH_", extra="ignore", hide_input_in_errors=True, use_attribute_docstrings=True
    )

    watch_namespaces: str = ""
    """Namespaces that are watched, separated by commas; empty: the whole cluster."""
    controller_class: str = ""
    """Only ClerkSyncs whose spec.controllerClass is this are looked after."""
    lease_namespace: str | None = None
    """Where the Lease lies; else the pod's own namespace."""
    lease_name: str = "nexus-auth-operator"
    """Its name: one for each release."""
    lease_seconds: int = Field(default=15, ge=2)
    """So long a leader that says nothing stays one."""
    concurrency: int = Field(default=4, ge=1)
    """Runs at once; each holds up to 12 connections to its database, and 2 to the state database, while it lasts."""
    health_host: str = "127.0.0.1"
    """Where /livez, /readyz and /metrics listen."""
    health_port: int = 9091
    """Their port."""
    role_prefix: str = Field(default="clerk_", pattern=r"^[a-z][a-z0-9_]{0,30}$")
    """What our roles' names begin with."""
    verify_after: float = Field(default=60.0, ge=0)
    """Seconds before a read may revive a tombstone or lower a version, and between the two reads."""
    look_seconds: float = Field(default=60.0, gt=0)
    """Seconds between two looks into a database for what its intervals do not tell; more where there are many syncs."""
    relist_seconds: float = Field(default=600.0, gt=0)
    """Seconds between two listings of all custom resources, should the watch have missed something."""
    log_level: LogLevel = "INFO"
    """DEBUG, INFO, WARNING or ERROR, in any case."""
    allow_fsync_off: bool = False
    """Tests only."""
    failpoints_dir: Path | None = None
    """Tests only: see `nexus_auth.failpoints`."""

    @property
    def namespaces(self) -> tuple[str, ...]:
        """What `watch_namespaces` lists, sorted; empty: all."""
        return tuple(sorted({name.strip() for name in self.watch_namespaces.split(",") if name.strip()}))
