"""The administrator's requests to an API server, no more than the kit needs, and by the standard library."""

import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

POLL_SECONDS = 0.05
REQUEST_SECONDS = 10.0


class ApiError(Exception):
    """An answer that is no success: `.status` (HTTP), `.message` as the server put it."""

    def __init__(self, status: int, message: str) -> None:
        """Keeps both."""
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message


class Api:
    """One API server, with one bearer token."""

    def __init__(self, url: str, *, ca: Path, token: str) -> None:
        """`ca` is a PEM file."""
        self.url = url
        self._token = token
        tls = urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=str(ca)))
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), tls)

    def call(self, method: str, path: str, body: Any = None, *, content: str = "application/json") -> Any:
        """One request; answers the decoded JSON (text where it is none). Raises `ApiError`, `OSError`."""
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self._token}", "Content-Type": content, "Accept": "application/json"},
        )
        try:
            with self._opener.open(request, timeout=REQUEST_SECONDS) as answer:
                return _decoded(answer.read())
        except urllib.error.HTTPError as error:
            said = _decoded(error.read())
            raise ApiError(error.code, said.get("message", "") if isinstance(said, dict) else str(said)) from None

    def apply(self, document: Mapping[str, Any], *, path: str) -> Any:
        """Server-side apply of one object at its own path."""
        where = f"{path}?fieldManager=nexus-auth-devtools&force=true&fieldValidation=Strict"
        return self.call("PATCH", where, dict(document), content="application/apply-patch+yaml")

    def install_definitions(self, folder: Path, *, timeout: float = 20.0) -> None:
        """Applies a folder's CustomResourceDefinitions and waits until the server serves them."""
        deadline = time.monotonic() + timeout
        names = []
        for file in sorted(folder.glob("*.yaml")):
            document = yaml.safe_load(file.read_text("utf-8"))
            names.append(document["metadata"]["name"])
            self.apply(document, path=f"{_DEFINITIONS}/{names[-1]}")
        for name in names:
            while not self._is_served(name):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{name} is not served after {timeout:.0f} s")
                time.sleep(POLL_SECONDS)

    def service_account_token(self, namespace: str, name: str, *, seconds: int = 3_600, audience: str = "") -> str:
        """A token of a service account (TokenRequest), valid for so many seconds (600 at least)."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"}
        spec = {"expirationSeconds": seconds, **({"audiences": [audience]} if audience else {})}
        answer = self.call("POST", path, {**body, "spec": spec})
        return str(answer["status"]["token"])

    def _is_served(self, name: str) -> bool:
        """Established is said a moment before the path answers."""
        plural, _, group = name.partition(".")
        status = self.call("GET", f"{_DEFINITIONS}/{name}").get("status", {})
        established = [c["status"] for c in status.get("conditions") or () if c["type"] == "Established"]
        if established != ["True"]:
            return False
        try:
            self.call("GET", f"/apis/{group}/{status['storedVersions'][0]}/{plural}?limit=1")
        except ApiError as error:
            if error.status in (404, 503):
                return False
            raise
        return True


_DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def _decoded(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return content.decode(errors="replace")
