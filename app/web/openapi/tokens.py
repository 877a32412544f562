"""The token endpoints."""

from __future__ import annotations

from typing import Any, Final

from app.web.oauth_errors import error_name
from app.web.openapi.answers import (
    BROKER_HEADERS,
    EXAMPLE_REQUEST_ID,
    example_problem,
    problem_headers,
)
from app.web.openapi.proxy import ENVIRONMENT
from app.web.problems import PROBLEMS

OAUTH_CODES: Final = (
    "bad-body",
    "body-too-large",
    "body-too-slow",
    "method-not-allowed",
    "target-too-long",
    "unsupported-media-type",
    "unauthenticated",
    "not-granted",
    "token-not-granted",
    "bad-scope",
    "rate-limited",
    "too-many-concurrent",
    "token-unavailable",
    "issuer-unavailable",
    "record-unavailable",
    "shutting-down",
    "internal-error",
)

TOKEN_HEADERS: Final[dict[str, Any]] = {
    **BROKER_HEADERS,
    "Cache-Control": {"schema": {"type": "string"}, "example": "no-store"},
}


def token_paths() -> dict[str, Any]:
    return {
        "/environments/{environment}/token": {
            "parameters": [ENVIRONMENT],
            "post": {
                "operationId": "tokens_issue",
                "tags": ["tokens"],
                "summary": "A token for the environment",
                "description": "Without `resource`, or with the environment's URL: the raw "
                "Dataverse token, which needs `issue_token: true` in the grant. With the "
                "broker's own URL: a broker token, good at the broker's proxy only.",
                "requestBody": {"required": False, "content": _request_content()},
                "responses": {
                    "200": {
                        "description": "The token. Never cached by anybody in between.",
                        "headers": TOKEN_HEADERS,
                        "content": {
                            "application/json": {
                                "schema": {"$ref": "#/components/schemas/Token"},
                                "example": EXAMPLE_TOKEN,
                            }
                        },
                    },
                    **oauth_answers(*OAUTH_CODES, shape="environment"),
                },
            },
        }
    }


EXAMPLE_TOKEN: Final[dict[str, Any]] = {
    "access_token": "eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9.e30.c2ln",
    "token_type": "Bearer",
    "expires_in": 3599,
    "expires_on": 1795503599,
    "resource": "https://contoso.crm4.dynamics.com",
    "application": "erp-invoices",
}

TOKEN_SCHEMAS: Final[dict[str, Any]] = {
    "Token": {
        "type": "object",
        "required": ["access_token", "token_type", "expires_in", "expires_on", "resource"],
        "properties": {
            "access_token": {"type": "string"},
            "token_type": {"type": "string", "const": "Bearer"},
            "expires_in": {"type": "integer", "description": "seconds from now"},
            "expires_on": {"type": "integer", "description": "seconds since 1970, UTC"},
            "resource": {"type": "string", "description": "what the token is good at"},
            "application": {
                "type": "string",
                "description": "whom the token stands for; absent for a broker token",
            },
        },
    },
    "OAuthError": {
        "type": "object",
        "required": ["error", "error_description", "request_id"],
        "properties": {
            "error": {"type": "string"},
            "error_description": {"type": "string"},
            "error_codes": {
                "type": "array",
                "items": {"type": "integer"},
                "description": "Entra's AADSTS code, where it gave the reason",
            },
            "request_id": {"type": "string"},
            "timestamp": {"type": "string"},
            "trace_id": {"type": "string"},
            "correlation_id": {"type": "string"},
        },
    },
}


def _request_content() -> dict[str, Any]:
    schema = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "resource": {"type": "string", "description": "RFC 8707"},
            "scope": {"type": "string", "description": "the resource, followed by `/.default`"},
        },
    }
    example = {"resource": "https://contoso.crm4.dynamics.com"}
    return {
        "application/x-www-form-urlencoded": {"schema": schema, "example": example},
        "application/json": {"schema": schema, "example": example},
    }


def oauth_answers(*codes: str, shape: str) -> dict[str, Any]:
    """OpenAPI responses for these codes in RFC 6749's form, by the status that `shape` gives."""
    by_status: dict[int, list[str]] = {}
    for code in dict.fromkeys(codes):
        by_status.setdefault(_status(code, shape), []).append(code)
    return {
        str(status): {
            "description": "; ".join(PROBLEMS[code].title for code in named),
            "headers": {**TOKEN_HEADERS, **problem_headers(status)},
            "content": {
                "application/json": {
                    "schema": {"$ref": "#/components/schemas/OAuthError"},
                    "examples": {
                        code: {"$ref": f"#/components/examples/oauth-{code}"} for code in named
                    },
                }
            },
        }
        for status, named in sorted(by_status.items())
    }


def example_error(code: str) -> dict[str, Any]:
    return {
        "error": error_name(code),
        "error_description": example_problem(code)["detail"],
        "request_id": EXAMPLE_REQUEST_ID,
    }


def oauth_example_components() -> dict[str, Any]:
    return {f"oauth-{code}": {"value": example_error(code)} for code in PROBLEMS}


def _status(code: str, shape: str) -> int:
    status = PROBLEMS[code].status
    if shape == "entra" and status < 500 and status != 429:
        return 401 if error_name(code) == "invalid_client" else 400
    return status
