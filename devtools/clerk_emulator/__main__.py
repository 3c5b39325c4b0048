"""``python -m devtools.clerk_emulator``: serve until SIGINT or SIGTERM.

Secrets come from files or the environment, never from the command line, where other users of the machine read them.
"""

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path

import uvloop

from devtools.clerk_emulator.behaviour import Behaviour
from devtools.clerk_emulator.emulator import Emulator
from devtools.clerk_emulator.settings import Settings
from nexus_auth.signals import take_over

SECRET_KEY = "CLERK_EMULATOR_SECRET_KEY"
ENDPOINT_SECRET = "CLERK_EMULATOR_ENDPOINT_SECRET"


def main() -> int:
    """Run the emulator and return the exit status."""
    take_over()
    options = _parser().parse_args()
    try:
        settings = Settings(
            seed=options.seed,
            users=options.users,
            organizations=options.organizations,
            memberships=options.memberships,
            host=options.host,
            port=options.port,
            secret_key=_secret(options.secret_key_file, variable=SECRET_KEY) or "",
            instance_id=options.instance_id,
            environment_type=options.environment_type,
            users_of_one_moment=options.users_of_one_moment,
            rendered_bytes=options.rendered_mib << 20,
            state_file=options.state_file,
            behaviour=Behaviour(
                retry_scale=options.retry_scale, timeout_seconds=options.timeout, rate_limit=options.rate_limit
            ),
        )
        secret = _secret(options.endpoint_secret_file, variable=ENDPOINT_SECRET)
        uvloop.run(_serve(settings, urls=options.endpoint, secret=secret))
    except (OSError, ValueError) as error:
        print(f"clerk_emulator: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m devtools.clerk_emulator", description="A Clerk on loopback.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="port to listen on (default: a free one)")
    parser.add_argument("--seed", type=int, default=1, help="decides every seeded object (default: %(default)s)")
    parser.add_argument("--users", type=int, default=5_000)
    parser.add_argument(
        "--users-of-one-moment", type=int, default=0, help="how many of them share one created_at (default: 0)"
    )
    parser.add_argument("--organizations", type=int, default=200)
    parser.add_argument("--memberships", type=int, default=12_000)
    parser.add_argument("--instance-id", default="", help="ins_… (default: derived from the seed)")
    parser.add_argument("--environment-type", choices=("development", "production"), default="development")
    parser.add_argument(
        "--rate-limit", type=int, help="API requests in 10 s, 0 is no limit (default: 100 or, in production, 1000)"
    )
    parser.add_argument(
        "--rendered-mib", type=int, default=256, help="users' JSON that is kept; 2600 holds a million (default: 256)"
    )
    parser.add_argument("--state-file", type=Path, help="keep what changes here, and go on from it at the next start")
    parser.add_argument("--secret-key-file", type=Path, help=f"file with the API key (or {SECRET_KEY})")
    parser.add_argument("--endpoint", action="append", default=[], metavar="URL", help="send events here; repeatable")
    parser.add_argument(
        "--endpoint-secret-file", type=Path, help=f"file with the endpoints' signing secret (or {ENDPOINT_SECRET})"
    )
    parser.add_argument("--retry-scale", type=float, default=0.01, help="factor on Svix's schedule (default: 1/100)")
    parser.add_argument("--timeout", type=float, default=15.0, help="seconds an endpoint may take (default: 15)")
    return parser


def _secret(path: Path | None, *, variable: str) -> str | None:
    text = path.read_text().strip() if path else os.environ.get(variable, "").strip()
    return text or None


async def _serve(settings: Settings, *, urls: list[str], secret: str | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with Emulator(settings) as emulator:
        for url in urls:
            emulator.add_endpoint(url, secret=secret)
        print(f"page      {emulator.url}/")
        print(f"api       {emulator.api_url}/v1")
        print(f"control   {emulator.url}/_emulator/")
        for endpoint in emulator.dispatcher.endpoints:
            print(f"events to {endpoint.url}")
        sys.stdout.flush()
        await stop.wait()


if __name__ == "__main__":
    sys.exit(main())
