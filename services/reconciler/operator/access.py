"""The operator's credentials for the API server: the pod's service account, or KUBECONFIG.

kopf and the official client log in separately, each in its own event loop. Both get their credentials here.
"""

import os
from pathlib import Path
from typing import Any

import kopf
from kubernetes.aio.client import Configuration
from kubernetes.aio.config.kube_config import load_kube_config

ACCOUNT = Path(os.environ.get("NEXUS_AUTH_SERVICE_ACCOUNT_DIR") or "/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod finds its service account: a folder with token, ca.crt and namespace."""


class NoAccess(Exception):
    """There is neither a service account nor a usable kubeconfig."""


def _in_cluster() -> str | None:
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host or not (ACCOUNT / "token").exists():
        return None
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


def own_namespace() -> str | None:
    """The pod's own namespace."""
    file = ACCOUNT / "namespace"
    return file.read_text("utf-8").strip() if file.exists() else None


async def configuration() -> Configuration:
    """For the official client. Raises `NoAccess`."""
    server = _in_cluster()
    settings = Configuration()
    if server is not None:
        settings.host = server
        settings.ssl_ca_cert = str(ACCOUNT / "ca.crt")
        await renew(settings)
        return settings
    try:
        await _load(settings)
    except Exception as error:
        raise NoAccess(f"no service account, and KUBECONFIG: {error}") from None
    return settings


async def _load(settings: Configuration) -> None:
    """From KUBECONFIG, else the usual file. The variable is read here: the client reads it once, at import."""
    file = os.environ.get("KUBECONFIG") or None
    await load_kube_config(config_file=file, client_configuration=settings, persist_config=False)  # type: ignore[no-untyped-call]


async def renew(settings: Configuration) -> None:
    """Reads the token again, after the API server refused the one that we have."""
    if _in_cluster() is not None:
        settings.api_key["BearerToken"] = "Bearer " + (ACCOUNT / "token").read_text("utf-8").strip()
        return
    fresh = Configuration()
    await _load(fresh)
    settings.api_key = fresh.api_key


def log_in(**kwargs: Any) -> kopf.ConnectionInfo | None:
    """Credentials for kopf, which calls this again when its token is refused."""
    server = _in_cluster()
    if server is None:
        return kopf.login_with_kubeconfig(**kwargs)
    return kopf.ConnectionInfo(
        server=server, ca_path=str(ACCOUNT / "ca.crt"), token=(ACCOUNT / "token").read_text("utf-8").strip()
    )
