"""The API server, with the caller's own rights; its refusals as sentences.

The official client opens the connection (kubeconfig, contexts, exec plugins, proxies); requests go by path, so that
objects come as they are, with fields that a model of that client's may not know. It is imported when it is needed:
`--help` should not wait for it.
"""

import base64
import binascii
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

import click

from services.cli.output import printable

GROUP = "nexus-auth.dev"
OURS = f"/apis/{GROUP}/v1alpha1"
SYNCS, INSTANCES = "clerksyncs", "clerkinstances"
REQUEST_SECONDS = 15.0
PAGE = 500
HOME_FILE = "~/.kube/config"


class ClusterFailed(click.ClickException):
    """The cluster cannot be reached or refuses: exit code 5."""

    exit_code = 5

    def __init__(self, message: str, *, status: int = 0) -> None:
        """`status` is that of the answer, 0 where there was none."""
        super().__init__(printable(message))
        self.status = status


class NoSuchObject(ClusterFailed):
    """The object that was named does not exist: exit code 1."""

    exit_code = 1


class Cluster:
    """One context of a kubeconfig."""

    def __init__(self, client: Any, *, namespace: str, name: str) -> None:
        """`client` is an ApiClient; `name` is for sentences."""
        self._client = client
        self.namespace = namespace
        self.name = name

    def objects(self, plural: str, *, namespace: str | None) -> list[dict[str, Any]]:
        """All ClerkSyncs or ClerkInstances of a namespace; None: of all."""
        return self.list(OURS, plural, namespace=namespace)

    def list(
        self, root: str, plural: str, *, namespace: str | None, query: Mapping[str, str] | None = None
    ) -> list[dict[str, Any]]:
        """All objects of a kind, page after page."""
        place = f"/namespaces/{quote(namespace)}" if namespace else ""
        found: list[dict[str, Any]] = []
        asked = {"limit": str(PAGE), **(query or {})}
        while True:
            page = self.get(f"{root}{place}/{plural}", query=asked)
            found += page["items"]
            more = page["metadata"].get("continue")
            if not more:
                return found
            asked["continue"] = more

    def get(self, path: str, *, query: Mapping[str, str] | None = None) -> Any:
        """One JSON document."""
        return json.loads(self._send("GET", path, query=query).data)

    def sync(self, name: str) -> dict[str, Any]:
        """One ClerkSync."""
        found: dict[str, Any] = self.get(f"{OURS}/namespaces/{quote(self.namespace)}/{SYNCS}/{quote(name)}")
        return found

    def instance(self, name: str) -> dict[str, Any]:
        """One ClerkInstance."""
        found: dict[str, Any] = self.get(f"{OURS}/namespaces/{quote(self.namespace)}/{INSTANCES}/{quote(name)}")
        return found

    def patch(self, name: str, change: Mapping[str, Any]) -> dict[str, Any]:
        """Merges a change into a ClerkSync."""
        path = f"{OURS}/namespaces/{quote(self.namespace)}/{SYNCS}/{quote(name)}"
        answer = self._send("PATCH", path, body=change, kind="application/merge-patch+json")
        changed: dict[str, Any] = json.loads(answer.data)
        return changed

    def annotate(self, name: str, annotations: Mapping[str, str | None]) -> dict[str, Any]:
        """Sets annotations of a ClerkSync, given without their prefix; None takes one away."""
        ours = {f"{GROUP}/{key}": value for key, value in annotations.items()}
        return self.patch(name, {"metadata": {"annotations": ours}})

    def whoami(self) -> str:
        """The user name under which the API server knows the caller."""
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        answer = self._send("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body=review)
        return str(json.loads(answer.data)["status"]["userInfo"]["username"])

    def secret(self, name: str, key: str) -> str:
        """What a key of a Secret holds, without white space around it."""
        where = f"Secret {name} in namespace {self.namespace}"
        path = f"/api/v1/namespaces/{quote(self.namespace)}/secrets/{quote(name)}"
        data = self.get(path).get("data") or {}
        if key not in data:
            have = ", ".join(sorted(data)) or "none"
            raise ClusterFailed(f"{where} has no key {key} (it has: {have})")
        try:
            return base64.b64decode(data[key]).decode().strip()
        except (binascii.Error, UnicodeDecodeError):
            raise ClusterFailed(f"key {key} of {where} is no text") from None

    def log(self, pod: Mapping[str, Any], *, follow: bool, query: Mapping[str, str]) -> Iterator[str]:
        """Lines of the log of a pod's first container."""
        of = pod["metadata"]
        path = f"/api/v1/namespaces/{quote(of['namespace'])}/pods/{quote(of['name'])}/log"
        asked = {**query, "container": pod["spec"]["containers"][0]["name"], **({"follow": "true"} if follow else {})}
        answer = self._send("GET", path, query=asked, endless=follow)
        rest = b""
        for piece in answer.response.stream(65_536):
            *lines, rest = (rest + piece).split(b"\n")
            yield from (line.decode("utf-8", "replace") for line in lines)
        if rest:
            yield rest.decode("utf-8", "replace")

    def _send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        kind: str = "application/json",
        endless: bool = False,
    ) -> Any:
        import urllib3
        from kubernetes.client.exceptions import ApiException

        headers = {"Accept": "*/*" if path.endswith("/log") else "application/json"}
        if body is not None:
            headers["Content-Type"] = kind
        self._client.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        url = self._client.configuration.host + path + (f"?{urlencode(query)}" if query else "")
        timeout = (REQUEST_SECONDS, None if endless else REQUEST_SECONDS)
        try:
            answer = self._client.call_api(method, url, headers, body, _request_timeout=timeout)
        except (urllib3.exceptions.HTTPError, OSError, ApiException) as error:
            raise ClusterFailed(f"{self.name} cannot be reached: {_cause(error)}") from None
        if answer.status >= 400:
            raise self._refusal(answer.status, answer.read(), path)
        if not path.endswith("/log"):
            answer.read()
        return answer

    def _refusal(self, status: int, body: bytes, path: str) -> ClusterFailed:
        known = True
        try:
            said = str(json.loads(body)["message"])
        except (ValueError, KeyError, TypeError):
            said, known = body.decode("utf-8", "replace").strip()[:300], False
        match status:
            case 401:
                text = f"{self.name} does not accept who you are; log in again"
            case 403:
                text = f"{self.name} does not allow it: {said}"
            case 404 if path.startswith(OURS) and not known:
                text = f"{self.name} does not know the kinds of {GROUP}; is the chart installed, with crds.enabled?"
            case 404 if path.startswith(OURS):
                return NoSuchObject(f"there is no such object in namespace {self.namespace}: {said}", status=status)
            case _:
                text = f"{self.name} answered {status}: {said}"
        return ClusterFailed(text, status=status)


def open_cluster(*, kubeconfig: str | None, context: str | None, namespace: str | None) -> Cluster:
    """The cluster of a kubeconfig, chosen as kubectl does; in a pod without one, the pod's own.

    Raises `ClusterFailed`.
    """
    import urllib3
    from kubernetes import client, config

    settings = client.Configuration()
    name, own = "the cluster", "default"
    try:
        file = kubeconfig or os.environ.get("KUBECONFIG") or HOME_FILE  # the client reads the variable once, at import
        if kubeconfig is None and context is None and not os.environ.get("KUBECONFIG") and _in_pod():
            config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
            own = _pod_namespace()
        else:
            contexts, current = config.list_kube_config_contexts(file)  # type: ignore[no-untyped-call]
            chosen = _chosen(contexts, current if context is None else context)
            name, own = f"the cluster of context {chosen['name']}", chosen["context"].get("namespace") or "default"
            config.load_kube_config(  # type: ignore[no-untyped-call]
                file, context=context, client_configuration=settings, persist_config=False
            )
    except ClusterFailed:
        raise
    except Exception as error:  # exec plugins and broken files fail in many ways
        raise ClusterFailed(f"the kubeconfig cannot be used: {error}") from None
    settings.retries = 0
    if not settings.verify_ssl:  # the kubeconfig says so; a warning before each answer tells nothing new
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    return Cluster(client.ApiClient(settings), namespace=namespace or own, name=name)


def _chosen(contexts: Sequence[Any], wanted: Any) -> Any:
    name = wanted["name"] if isinstance(wanted, Mapping) else wanted
    for context in contexts:
        if context["name"] == name:
            return context
    have = ", ".join(str(context["name"]) for context in contexts) or "none"
    raise ClusterFailed(f"the kubeconfig has no context {name} (it has: {have})")


def _in_pod() -> bool:
    return "KUBERNETES_SERVICE_HOST" in os.environ and not os.path.exists(os.path.expanduser(HOME_FILE))


def _pod_namespace() -> str:
    with open("/var/run/secrets/kubernetes.io/serviceaccount/namespace", encoding="utf-8") as file:
        return file.read().strip()


def _cause(error: Exception) -> str:
    """The innermost reason, without the pool's address and repr."""
    reason = getattr(error, "reason", None)
    return " ".join(str(reason or error).split(": ")[-1].split())
