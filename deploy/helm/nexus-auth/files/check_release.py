"""What `helm test` runs in a pod: is the release's webhook ready, and does it refuse what Clerk has not signed?"""

import os
import sys
import urllib.error
import urllib.request

SECONDS = 10.0


def status(url: str, *, body: bytes | None = None) -> int:
    """The status of an answer, whichever it is."""
    try:
        request = urllib.request.Request(url, data=body)  # noqa: S310 - the release's own Services
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:  # noqa: S310
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def main() -> int:
    """0 where everything answers as it should."""
    failures = 0
    for name, url, body, expected in (
        ("the webhook is ready", os.environ["HEALTH_URL"] + "/readyz", None, 200),
        ("metrics are served", os.environ["HEALTH_URL"] + "/metrics", None, 200),
        ("an unsigned event is refused", os.environ["WEBHOOK_URL"], b"{}", 400),
        ("metrics are not on the public port", os.environ["PUBLIC_URL"] + "/metrics", None, 404),
    ):
        try:
            got: int | str = status(url, body=body)
        except OSError as error:
            got = f"{type(error).__name__}: {error}"
        failures += got != expected
        print(f"{'ok    ' if got == expected else 'FAILED'}  {name} ({url}: {got})")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
