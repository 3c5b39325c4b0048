"""Names of signing secrets."""

from base64 import b64encode
from hashlib import sha256

import pytest

from nexus_auth.clerk.signature import NoSecret, fingerprint, secrets_from

KEY = bytes(range(24))
SECRET = "whsec_" + b64encode(KEY).decode()
SHORT = "whsec_" + b64encode(bytes(25)).decode()
OTHER = "whsec_" + b64encode(bytes(24)).decode()


def test_a_fingerprint_is_that_of_the_key_and_not_of_its_spelling() -> None:
    assert fingerprint(SECRET) == sha256(KEY).hexdigest()[:16] == fingerprint(SECRET.removeprefix("whsec_"))
    assert fingerprint(SHORT) == fingerprint(SHORT.rstrip("="))
    assert fingerprint(OTHER) != fingerprint(SECRET)


def test_secrets_are_separated_by_any_white_space_and_counted_once() -> None:
    assert secrets_from(f"  {SECRET}\n\t{OTHER} {SECRET}\r\n") == (SECRET, OTHER)
    assert secrets_from(" \n") == ()


@pytest.mark.parametrize("text", ["whsec_", "whsec_!!!", "sk_test_abcdefg", "whsec_MTIz4"])
def test_what_is_no_secret_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(NoSecret) as refused:
        secrets_from(f"{SECRET} {text}")
    assert "secret 2 of 2" in str(refused.value)
    if text.removeprefix("whsec_"):
        assert text.removeprefix("whsec_") not in str(refused.value)


def test_a_secret_of_fewer_than_24_bytes_is_refused_and_not_repeated() -> None:
    assert secrets_from("whsec_" + b64encode(bytes(24)).decode())
    for length in (1, 2, 16, 23):
        digits = b64encode(bytes(range(1, length + 1))).decode()
        with pytest.raises(NoSecret, match=f"it has {length} bytes, a signing secret has 24 or more") as refused:
            secrets_from(f"whsec_{digits}")
        assert digits not in str(refused.value)
