"""What a support bundle leaves out, by value and by look."""

import base64

import pytest

from services.cli.kubernetes.redaction import LEFT_OUT, Redaction, bare, secret_outline


@pytest.mark.parametrize(
    "secret",
    [
        "sk_live_abcDEF0123456789",
        "sk_test_abcDEF0123456789$",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ1c2VyXzEifQ.c2lnbmF0dXJl",
        "Bearer abcdefgh12345678",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_what_looks_like_a_secret_goes_though_nobody_named_it(secret: str) -> None:
    said = Redaction().text(f"before {secret} after")
    assert said == f"before {LEFT_OUT} after"


@pytest.mark.parametrize(
    "url", ["postgresql://login:pass@db:5432/app", "postgres://login:p%40ss@db/app", "postgresql://login:p@ss@db/app"]
)
def test_urls_keep_their_host_and_lose_their_login(url: str) -> None:
    assert (
        Redaction().text(f"{url} refused") == f"{url.partition('://')[0]}://{LEFT_OUT}@{url.rpartition('@')[2]} refused"
    )


def test_known_values_go_in_every_form_that_they_take() -> None:
    redaction = Redaction(["postgresql://login:p%2Fq%2Fr-long@db/app"])
    for form in (
        "p%2Fq%2Fr-long",
        "p/q/r-long",
        base64.b64encode(b"postgresql://login:p%2Fq%2Fr-long@db/app").decode(),
    ):
        assert redaction.text(f"<{form}>") == f"<{LEFT_OUT}>"


def test_logs_lose_what_is_assigned_to_a_telling_name() -> None:
    said = Redaction().log('{"password": "x1y2z3", "user": "ada"} api_key=abc token: def')
    for secret in ("x1y2z3", "abc", "def"):
        assert secret not in said
    assert '"user": "ada"' in said


def test_short_values_take_no_words_out() -> None:
    assert Redaction(["app"]).text("the app of apps") == "the app of apps"


def test_an_outline_of_a_secret_has_its_keys_and_their_lengths() -> None:
    of = {
        "metadata": {"name": "s", "annotations": {"a": "planted"}},
        "data": {"url": base64.b64encode(b"12345").decode()},
    }
    outline = secret_outline(of)
    assert outline["keys"] == {"url": "5 bytes"}
    assert "planted" not in str(outline)


def test_environment_values_go_but_for_plain_settings_of_ours() -> None:
    env = [
        {"name": "NEXUS_AUTH_CONCURRENCY", "value": "4"},
        {"name": "NEXUS_AUTH_WITHHOLD_KEY", "value": "planted"},
        {"name": "OTHER", "value": "planted"},
    ]
    cleaned = bare({"metadata": {"name": "p", "managedFields": [1]}, "spec": {"containers": [{"env": env}]}})
    assert "planted" not in str(cleaned)
    assert cleaned["spec"]["containers"][0]["env"][0]["value"] == "4"
    assert "managedFields" not in cleaned["metadata"]
