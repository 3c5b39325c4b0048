"""Which addresses an API key is sent to, in every spelling that somebody may try."""

import pytest

from nexus_auth.clerk.api_hosts import ApiHostRefused, ApiHosts

CLERKS = ApiHosts()


@pytest.mark.parametrize(
    "url",
    [
        "https://api.clerk.com",
        "https://api.clerk.com/",
        "https://api.clerk.com:443",
        "https://API.Clerk.com",
        "https://api.clerk.com.",
        "HTTPS://api.clerk.com/proxy",
    ],
)
def test_clerks_own_host_is_allowed_in_each_of_its_spellings(url: str) -> None:
    CLERKS.check(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://api.clerk.com",
        "http://api.clerk.com:443",
        "https://api.clerk.com:8443",
        "https://api.clerk.com:0",
        "https://api.clerk.com:99999",
        "https://api.clerk.com..",
        "https://evil.example",
        "https://api.clerk.com.evil.example",
        "https://evil.example/api.clerk.com",
        "https://evil-api.clerk.com",
        "https://sub.api.clerk.com",
        "https://api.clerk.com@evil.example",
        "https://api.clerk.com:443@evil.example",
        "https://evil.example#@api.clerk.com",
        "https://evil.example?@api.clerk.com",
        "https://evil.example\\@api.clerk.com",
        "https://api.clerk.com\\.evil.example",
        "https://api.clerk.com%2eevil.example",
        "https://api.clerk.com%00.evil.example",
        "https://api.clerk.com\n.evil.example",
        "https://api.clerk.com .evil.example",
        "https://\u0430pi.clerk.com",  # begins with a Cyrillic letter
        "https://api。clerk。com",
        "https://api.cler\u212a.com",  # the Kelvin sign, which lower() makes a k
        "https://xn--pi-7ka.clerk.com",
        "https://127.0.0.1",
        "https://2130706433",
        "https://0x7f000001",
        "https://[::1]",
        "https://[::ffff:127.0.0.1]",
        "https://10.0.0.1",
        "https://169.254.169.254",
        "https://kubernetes.default.svc",
        "http://localhost",
        "https:/api.clerk.com",
        "https:api.clerk.com",
        "//api.clerk.com",
        "api.clerk.com",
        "ftp://api.clerk.com",
        "file:///etc/passwd",
        "",
    ],
)
def test_every_other_address_is_refused(url: str) -> None:
    with pytest.raises(ApiHostRefused):
        CLERKS.check(url)


def test_a_refusal_says_which_host_and_what_to_do() -> None:
    with pytest.raises(ApiHostRefused, match=r"https://evil\.example:8443, .*NEXUS_AUTH_API_HOSTS"):
        CLERKS.check("https://evil.example:8443/x")
    with pytest.raises(ApiHostRefused, match="in clear: use https"):
        CLERKS.check("http://api.clerk.com:443")


def test_http_needs_a_loopback_host_or_an_entry_that_says_http() -> None:
    hosts = ApiHosts.parse("127.0.0.1:4010, [::1]:4010, proxy.example:8443, http://emulator.auth.svc:8080")
    for url in (
        "http://127.0.0.1:4010",
        "https://127.0.0.1:4010",
        "http://[::1]:4010",
        "http://[0:0:0:0:0:0:0:1]:4010",
        "https://proxy.example:8443",
        "http://emulator.auth.svc:8080",
    ):
        hosts.check(url)
    for url in (
        "http://127.0.0.1:4011",
        "http://127.0.0.2:4010",
        "http://proxy.example:8443",
        "https://emulator.auth.svc:8080",
        "http://emulator.auth.svc",
        "https://api.clerk.com",
    ):
        with pytest.raises(ApiHostRefused):
            hosts.check(url)


@pytest.mark.parametrize(
    "text", ["", " , ", "https://user@host", "a b", "host:0", "host:70000", "ho_st/x", "*", "*.clerk.com"]
)
def test_a_list_that_cannot_be_read_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):
        ApiHosts.parse(text)
