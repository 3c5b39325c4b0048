"""The webhook service of a run. Clerk delivers again what it did not acknowledge: a restart loses nothing."""

from collections.abc import Mapping
from typing import Any

from devtools.run import said
from devtools.run.output import Output
from devtools.run.parts import Part
from devtools.run.service import Service

PATH = "/webhooks/clerk"


class Webhook(Service):
    """It has two ports: the public one, and the one for metrics."""

    def __init__(self, *, port: int, metrics_port: int, output: Output) -> None:
        """Starts nothing yet."""
        super().__init__("webhook", "services.webhook", output=output)
        self.url = f"http://127.0.0.1:{port}{PATH}"
        self.metrics_url = f"http://127.0.0.1:{metrics_port}/metrics"
        self._ports = {"NEXUS_AUTH_PORT": str(port), "NEXUS_AUTH_HEALTH_PORT": str(metrics_port)}

    def begin(self, environment: Mapping[str, str]) -> None:
        """Lets it run, on its ports, with a line for each event."""
        super().begin({**environment, **self._ports, "NEXUS_AUTH_LOG_EVENTS": "1"})

    def _said(self, part: Part, entry: Mapping[str, Any]) -> bool:
        if entry["message"] == "event":
            self._output.line(*said.event_pieces(entry))
        elif entry["message"] == "ready":
            self._works(part, again="accepts events again")
        else:
            return False
        return True
