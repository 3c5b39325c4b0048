"""Pods are found by the chart's labels; what they say comes from a kubelet, which this server does not have."""

from tests.kubernetes.cli.commands import Nexus, Objects


def test_no_pod_is_a_sentence(nexus: Nexus) -> None:
    ran = nexus("logs")
    assert ran.code == 1
    assert "app.kubernetes.io/component=operator; -n names a namespace" in ran.err


def test_a_pod_that_has_not_begun_hides_no_other(nexus: Nexus, objects: Objects) -> None:
    for name, component, node in (("one", "operator", "gone"), ("two", "operator", ""), ("hook", "webhook", "gone")):
        labels = {"app.kubernetes.io/name": "nexus-auth", "app.kubernetes.io/component": component}
        spec = {"containers": [{"name": "c", "image": "i"}], "automountServiceAccountToken": False, "nodeName": node}
        objects.admin.call("POST", objects.core("pods"), {"metadata": {"name": name, "labels": labels}, "spec": spec})
    for arguments in ((), ("--follow",)):
        ran = nexus("logs", *arguments)
        assert ran.code == 0
        assert "one: " in ran.err
        assert '"gone" not found' in ran.err
        assert "hook" not in ran.err
