"""App Service's managed-identity endpoint."""

from __future__ import annotations

from typing import Any, Final

from app.web.managed_identity import API_VERSION, NO_CLIENT
from app.web.openapi.answers import EXAMPLE_BROKER, EXAMPLE_REQUEST_ID, problem_headers
from app.web.openapi.tokens import EXAMPLE_TOKEN, TOKEN_HEADERS


def managed_identity_paths() -> dict[str, Any]:
    return {"/msi/token": {"get": _managed_identity()}}


MANAGED_IDENTITY_SCHEMAS: Final[dict[str, Any]] = {
    "ManagedIdentityToken": {
        "type": "object",
        "properties": {
            name: {"type": "string"}
            for name in (
                "access_token",
                "token_type",
                "expires_in",
                "not_before",
                "expires_on",
                "resource",
                "client_id",
            )
        },
    },
    "ManagedIdentityError": {
        "type": "object",
        "required": ["statusCode", "message", "correlationId"],
        "properties": {
            "statusCode": {"type": "integer"},
            "message": {"type": "string"},
            "correlationId": {"type": "string"},
            "error": {"type": "string"},
            "error_description": {"type": "string"},
        },
    },
}


def _managed_identity() -> dict[str, Any]:
    statuses = {
        400: "The request is not the protocol's, or comes through a proxy",
        401: "The caller is not known",
        403: "The token is not granted",
        405: "Only GET",
        414: "The address is too long",
        429: "The caller's own limits",
        500: "The broker failed",
        503: "No token can be had, or no record be kept",
    }
    return {
        "operationId": "managed_identity_token",
        "tags": ["tokens"],
        "summary": "A token, as App Service's managed-identity endpoint gives it",
        "description": "`IDENTITY_ENDPOINT` at this address and the API key in "
        "`IDENTITY_HEADER` make `ManagedIdentityCredential` of every Azure SDK work.",
        "security": [{"identityHeader": []}],
        "parameters": [
            {
                "name": "api-version",
                "in": "query",
                "required": True,
                "schema": {"type": "string", "const": API_VERSION},
                "example": API_VERSION,
            },
            {
                "name": "resource",
                "in": "query",
                "required": True,
                "schema": {"type": "string"},
                "example": f"{EXAMPLE_BROKER}/environments/contoso",
            },
        ],
        "responses": {
            "200": {
                "description": "The token, numbers as strings",
                "headers": TOKEN_HEADERS,
                "content": {
                    "application/json": {
                        "schema": {"$ref": "#/components/schemas/ManagedIdentityToken"},
                        "example": {
                            "access_token": EXAMPLE_TOKEN["access_token"],
                            "token_type": "Bearer",
                            "expires_in": "900",
                            "not_before": "1795500000",
                            "expires_on": "1795500900",
                            "resource": f"{EXAMPLE_BROKER}/environments/contoso",
                            "client_id": NO_CLIENT,
                        },
                    }
                },
            },
            **{
                str(status): {
                    "description": text,
                    "headers": problem_headers(status),
                    "content": {
                        "application/json": {
                            "schema": {"$ref": "#/components/schemas/ManagedIdentityError"},
                            "example": {
                                "statusCode": status,
                                "message": text,
                                "correlationId": EXAMPLE_REQUEST_ID,
                            },
                        }
                    },
                }
                for status, text in statuses.items()
            },
        },
    }
