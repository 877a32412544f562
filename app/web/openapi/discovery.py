"""What OAuth libraries discover."""

from __future__ import annotations

from typing import Any, Final

from app.web.discovery import instance_document, openid_configuration
from app.web.openapi.answers import (
    BROKER_HEADERS,
    EXAMPLE_BROKER,
    EXAMPLE_TENANT,
    problem_answers,
)
from app.web.openapi.oauth import TENANT

_ALGORITHMS: Final = ("EdDSA",)
_KEYS: Final[dict[str, Any]] = {
    "keys": [
        {
            "crv": "Ed25519",
            "kty": "OKP",
            "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
            "kid": "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
            "use": "sig",
            "alg": "EdDSA",
        }
    ]
}
_AUTHORIZE: Final = f"{EXAMPLE_BROKER}/{EXAMPLE_TENANT}/oauth2/v2.0/authorize"


def discovery_paths() -> dict[str, Any]:
    return {
        "/.well-known/openid-configuration": {
            "get": _document(
                "discovery_broker",
                "OpenID configuration of the broker",
                openid_configuration(EXAMPLE_BROKER, tenant=None, algorithms=_ALGORITHMS),
            )
        },
        "/{tenant}/v2.0/.well-known/openid-configuration": {
            "parameters": [TENANT],
            "get": _document(
                "discovery_tenant",
                "The same, as Entra's clients ask for it",
                openid_configuration(EXAMPLE_BROKER, tenant=EXAMPLE_TENANT, algorithms=_ALGORITHMS),
            ),
        },
        "/common/discovery/instance": {"get": _instance()},
        "/.well-known/jwks.json": {
            "get": _document("discovery_keys", "The keys that broker tokens are signed with", _KEYS)
        },
    }


def _document(
    operation_id: str, summary: str, example: dict[str, Any], *codes: str
) -> dict[str, Any]:
    return {
        "operationId": operation_id,
        "tags": ["description"],
        "summary": summary,
        "description": "Open to anybody, and on the record.",
        "security": [],
        "responses": {
            "200": {
                "description": summary,
                "headers": BROKER_HEADERS,
                "content": {"application/json": {"schema": {"type": "object"}, "example": example}},
            },
            **{
                str(status): answer
                for status, answer in problem_answers("method-not-allowed", *codes).items()
                if status != 401
            },
        },
    }


def _instance() -> dict[str, Any]:
    operation = _document(
        "discovery_instance",
        "Whether this broker is a known authority: it knows itself",
        instance_document(EXAMPLE_BROKER, f"authorization_endpoint={_AUTHORIZE}".encode()),
        "bad-query",
    )
    operation["parameters"] = [
        {
            "name": "authorization_endpoint",
            "in": "query",
            "required": True,
            "schema": {"type": "string"},
            "example": _AUTHORIZE,
        }
    ]
    return operation
