"""``/v1/instance`` and ``/v1/jwks``."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from devtools.clerk_emulator.api.door import json_answer
from devtools.clerk_emulator.behaviour import Behaviour


class InstanceView:
    """What the instance says of itself, and the key pair that signs session tokens."""

    def __init__(self, *, instance_id: str, environment_type: str) -> None:
        """Speak for this instance."""
        self.instance_id = instance_id
        self.environment_type = environment_type

    @cached_property
    def private_key(self) -> rsa.RSAPrivateKey:
        """The signing key; made when it is first asked for, since that takes a while."""
        return rsa.generate_private_key(public_exponent=65_537, key_size=2_048)

    def instance(self) -> dict[str, Any]:
        """Return an Instance."""
        return {
            "object": "instance",
            "id": self.instance_id,
            "environment_type": self.environment_type,
            "allowed_origins": None,
            "workspace_id": None,
        }

    def jwks(self) -> dict[str, Any]:
        """Return the public key as a JWKS; the key's id is the instance's."""
        public = RSAAlgorithm.to_jwk(self.private_key.public_key(), as_dict=True)
        key = {"use": "sig", "kty": "RSA", "kid": self.instance_id, "alg": "RS256", "n": public["n"], "e": public["e"]}
        return {"keys": [key]}


def add_routes(app: web.Application, *, view: InstanceView, behaviour: Callable[[], Behaviour]) -> None:
    """Add the routes of the instance."""

    async def instance(_: web.Request) -> web.Response:
        answered = behaviour().answered_instance_id
        return json_answer(view.instance() | ({"id": answered} if answered else {}))

    async def jwks(_: web.Request) -> web.Response:
        return json_answer(view.jwks())

    app.router.add_get("/instance", instance)
    app.router.add_get("/jwks", jwks)
