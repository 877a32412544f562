"""What OAuth libraries look up before they ask for a token: discovery documents and keys.

Open to anybody, and on the record like everything else. Every URL in them comes from the
configuration, never from the Host that a request names.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlsplit

import msgspec

from app.errors import BrokerError, Unreadable
from app.web.asgi import Answer, head_of, send_answer
from app.web.forms import read_form
from app.web.oauth import CLIENT_CREDENTIALS, TOKEN_EXCHANGE
from app.web.problems import broker_headers, problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.web.asgi import Receive, RequestHead, Scope, Send
    from app.web.dispatch import Refusals

JWKS: Final = b"/.well-known/jwks.json"
OPENID_CONFIGURATION: Final = b"/.well-known/openid-configuration"
INSTANCE: Final = b"/common/discovery/instance"
TENANT_CONFIGURATION: Final = re.compile(
    rb"/([A-Za-z0-9][A-Za-z0-9.-]{0,252})/v2\.0/\.well-known/openid-configuration"
)
_AUTHORIZE: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9.-]{0,252})/oauth2/(?:v2\.0/)?authorize")
_ASSERTION_ALGORITHMS: Final = (
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "EdDSA",
)
MAX_AGE_S: Final = 300
"""How long keys and documents may be kept: a key that is rotated overlaps for much longer."""


class SigningKeys(Protocol):
    def jwks(self) -> bytes:
        """The public halves of the keys that broker tokens are signed with, as a JWK Set."""
        ...


class Visits(Protocol):
    """The record of requests that need no caller."""

    async def answered(self, head: RequestHead, *, status: int, bytes_out: int) -> None:
        """Returns when it is durable. Raises `Unavailable` where it cannot be."""
        ...


class Discovery:
    """The ASGI app behind all of these addresses."""

    def __init__(
        self,
        *,
        public_url: Callable[[], str],
        keys: SigningKeys,
        visits: Visits,
        refusals: Refusals,
        algorithms: tuple[str, ...],
    ) -> None:
        self._public_url = public_url
        self._keys = keys
        self._visits = visits
        self._refusals = refusals
        self._algorithms = algorithms

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        head = head_of(scope)
        try:
            body = self._document(head)
        except BrokerError as error:
            await self._refusals.refuse(head, error)
            await send_answer(send, problem(error, request_id=head.request_id))
            return
        await self._visits.answered(head, status=200, bytes_out=len(body))
        await send_answer(
            send,
            Answer(
                status=200,
                headers=(
                    (b"content-type", b"application/json"),
                    (b"content-length", str(len(body)).encode("ascii")),
                    (b"cache-control", b"public, max-age=%d" % MAX_AGE_S),
                    *broker_headers(head.request_id, b"allowed"),
                ),
                body=body,
            ),
        )

    def _document(self, head: RequestHead) -> bytes:
        if head.method not in {"GET", "HEAD"}:
            raise Unreadable(
                "method-not-allowed", "this is only read", extra={"allow": ["GET", "HEAD"]}
            )
        if head.path == JWKS:
            return self._keys.jwks()
        if head.path == INSTANCE:
            return msgspec.json.encode(instance_document(self._public_url(), head.query))
        tenant = TENANT_CONFIGURATION.fullmatch(head.path)
        return msgspec.json.encode(
            openid_configuration(
                self._public_url(),
                tenant=tenant.group(1).decode("ascii") if tenant else None,
                algorithms=self._algorithms,
            )
        )


def openid_configuration(
    public_url: str, *, tenant: str | None, algorithms: tuple[str, ...]
) -> dict[str, Any]:
    """RFC 8414 and OpenID Connect Discovery 1.0, as far as there is something to discover."""
    root = f"{public_url}/{tenant}" if tenant else public_url
    return {
        "issuer": f"{root}/v2.0" if tenant else public_url,
        "token_endpoint": f"{root}/oauth2/v2.0/token",
        # MSAL reads it without ever going there: nobody logs in here.
        "authorization_endpoint": f"{root}/oauth2/v2.0/authorize",
        "jwks_uri": f"{public_url}{JWKS.decode('ascii')}",
        "token_endpoint_auth_methods_supported": [
            "client_secret_post",
            "client_secret_basic",
            "private_key_jwt",
        ],
        # Of callers' own JWTs: what an issuer of the configuration may sign with.
        "token_endpoint_auth_signing_alg_values_supported": list(_ASSERTION_ALGORITHMS),
        "grant_types_supported": [CLIENT_CREDENTIALS, TOKEN_EXCHANGE],
        # Required, and not empty, say the specifications and authlib.
        "response_types_supported": ["none"],
        "response_modes_supported": ["query"],
        "subject_types_supported": ["public"],
        # RS256 must be among them (OpenID Connect Discovery 1.0, 3), though nobody gets an ID
        # token here; the rest is what broker tokens are signed with.
        "id_token_signing_alg_values_supported": ["RS256", *algorithms],
    }


def instance_document(public_url: str, query: bytes) -> dict[str, Any]:
    """Entra's answer to "is this authority known?", for this one authority."""
    endpoint = read_form(query).get("authorization_endpoint", "")
    ours = urlsplit(public_url)
    # MSAL leaves the port out of the endpoint that it asks about.
    hosts = list(dict.fromkeys((ours.netloc, ours.hostname or ours.netloc)))
    prefixes = (f"{ours.scheme}://{host}{ours.path}/" for host in hosts)
    prefix = next((prefix for prefix in prefixes if endpoint.startswith(prefix)), None)
    tenant = _AUTHORIZE.fullmatch(endpoint.removeprefix(prefix)) if prefix else None
    if tenant is None:
        raise Unreadable("bad-query", "authorization_endpoint is none of this broker's")
    return {
        "tenant_discovery_endpoint": f"{public_url}/{tenant.group(1)}"
        "/v2.0/.well-known/openid-configuration",
        "api-version": "1.1",
        "metadata": [
            {"preferred_network": ours.netloc, "preferred_cache": ours.netloc, "aliases": hosts}
        ],
    }
