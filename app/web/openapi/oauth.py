"""The token endpoints in Entra's shape."""

from __future__ import annotations

from typing import Any, Final

from app.web.oauth import ACCESS_TOKEN_TYPE, CLIENT_CREDENTIALS, JWT_BEARER, TOKEN_EXCHANGE
from app.web.openapi.answers import EXAMPLE_BROKER, EXAMPLE_TENANT
from app.web.openapi.tokens import EXAMPLE_TOKEN, OAUTH_CODES, TOKEN_HEADERS, oauth_answers

TENANT: Final[dict[str, Any]] = {
    "name": "tenant",
    "in": "path",
    "required": True,
    "description": "for clients that must name one; it decides nothing",
    "schema": {"type": "string", "pattern": r"^[A-Za-z0-9][A-Za-z0-9.-]{0,252}$"},
    "example": EXAMPLE_TENANT,
}
_EXCHANGE_CODES: Final = (
    *OAUTH_CODES,
    "bad-header",
    "duplicate-header",
    "two-credentials",
    "unsupported-grant-type",
    "bad-subject-token",
)


def oauth_paths() -> dict[str, Any]:
    return {
        "/oauth2/v2.0/token": {"post": _token("oauth_token")},
        "/{tenant}/oauth2/v2.0/token": {
            "parameters": [TENANT],
            "post": _token("oauth_token_of_tenant"),
        },
    }


OAUTH_SCHEMAS: Final[dict[str, Any]] = {
    "OAuthToken": {
        "type": "object",
        "required": ["access_token", "token_type", "expires_in"],
        "properties": {
            "access_token": {"type": "string"},
            "token_type": {"type": "string", "const": "Bearer"},
            "expires_in": {"type": "integer", "description": "seconds from now"},
            "issued_token_type": {"type": "string", "description": "after a token exchange"},
        },
    },
}


def _token(operation_id: str) -> dict[str, Any]:
    scope = "https://contoso.crm4.dynamics.com/.default"
    text = {"type": "string"}
    return {
        "operationId": operation_id,
        "tags": ["tokens"],
        "summary": "A token, as Entra's endpoint gives it",
        "description": "Client credentials (RFC 6749): `client_id` is the caller's name, "
        "`client_secret` its API key, in the body or in Basic; or `client_assertion` its JWT "
        "(RFC 7523). Token exchange (RFC 8693): a JWT of a configured issuer in, a token out. "
        "`scope` or `resource` says which token. `/oauth2/token`, Entra's first version, takes "
        "the same and answers numbers as strings.",
        # An operation's own alternatives: a secret in the body, Basic, or the broker's headers.
        "security": [{}, {"basic": []}, {"bearer": []}, {"apiKey": []}],
        "requestBody": {
            "required": True,
            "content": {
                "application/x-www-form-urlencoded": {
                    "schema": {
                        "type": "object",
                        "required": ["grant_type"],
                        "properties": {
                            "grant_type": {
                                "type": "string",
                                "enum": [CLIENT_CREDENTIALS, TOKEN_EXCHANGE],
                            },
                            "scope": text,
                            "resource": text,
                            "client_id": text,
                            "client_secret": text,
                            "client_assertion": text,
                            "client_assertion_type": {"type": "string", "const": JWT_BEARER},
                            "subject_token": text,
                            "subject_token_type": text,
                            "requested_token_type": text,
                            "audience": text,
                        },
                    },
                    "examples": {
                        "secret": {
                            "value": {
                                "grant_type": CLIENT_CREDENTIALS,
                                "client_id": "invoice-loader",
                                "client_secret": "the caller's API key",
                                "scope": scope,
                            }
                        },
                        "assertion": {
                            "value": {
                                "grant_type": CLIENT_CREDENTIALS,
                                "client_assertion_type": JWT_BEARER,
                                "client_assertion": "the caller's JWT",
                                "scope": scope,
                            }
                        },
                        "exchange": {
                            "value": {
                                "grant_type": TOKEN_EXCHANGE,
                                "subject_token": "the caller's JWT",
                                "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
                                "resource": f"{EXAMPLE_BROKER}/environments/contoso",
                            }
                        },
                    },
                }
            },
        },
        "responses": {
            "200": {
                "description": "The token. Never cached by anybody in between.",
                "headers": TOKEN_HEADERS,
                "content": {
                    "application/json": {
                        "schema": {"$ref": "#/components/schemas/OAuthToken"},
                        "examples": {
                            "credentials": {"value": _oauth_token()},
                            "exchange": {
                                "value": {**_oauth_token(), "issued_token_type": ACCESS_TOKEN_TYPE}
                            },
                        },
                    }
                },
            },
            **oauth_answers(*_EXCHANGE_CODES, shape="entra"),
        },
    }


def _oauth_token() -> dict[str, Any]:
    return {key: EXAMPLE_TOKEN[key] for key in ("token_type", "expires_in", "access_token")}
