"""How answers are described in the OpenAPI document: errors by code, the same everywhere."""

from __future__ import annotations

from typing import Any, Final

from app.web.problems import MEDIA_TYPE, PROBLEMS, TYPE_PREFIX

EXAMPLE_REQUEST_ID: Final = "0192f0c1-7b8e-7c7e-9d53-0b8f3a0f2c11"

EXAMPLE_BROKER: Final = "https://broker.internal.example"
EXAMPLE_TENANT: Final = "8b1f7a52-0c52-4d1c-9f4e-2b0b3c0f6f11"

BROKER_HEADERS: Final[dict[str, Any]] = {
    "Broker-Request-Id": {"$ref": "#/components/headers/Broker-Request-Id"},
    "Broker-Decision": {"$ref": "#/components/headers/Broker-Decision"},
}

EVERYWHERE: Final = ("unauthenticated", "record-unavailable", "shutting-down", "internal-error")
"""What any address may answer to anybody."""

_DETAILS: Final = {
    "not-granted": "columns not granted on accounts: creditlimit",
    "unauthenticated": "no credential that the broker knows",
    "record-unavailable": "no audit record can be kept: the disk is full",
    "schema-unavailable": "the schema of contoso is not there yet",
    "token-unavailable": "no token for application erp-invoices: the secret has expired "
    "(AADSTS7000222, invalid_client). Add a new one and reload.",
    "upstream-unreachable": "contoso.crm4.dynamics.com could not be reached",
    "upstream-timeout": "contoso.crm4.dynamics.com did not answer within 120 seconds",
    "bad-json": "duplicate key at byte 41",
    "bad-query": "query.limit: Input should be less than or equal to 1000",
    "rate-limited": "600 requests a minute are used up",
}


def problem_answers(*codes: str) -> dict[int | str, dict[str, Any]]:
    """OpenAPI responses for these codes, several of one status in one response."""
    by_status: dict[int, list[str]] = {}
    for code in dict.fromkeys((*codes, *EVERYWHERE)):
        by_status.setdefault(PROBLEMS[code].status, []).append(code)
    return {
        status: {
            "description": "; ".join(PROBLEMS[code].title for code in named),
            "headers": problem_headers(status),
            "content": {
                MEDIA_TYPE: {
                    "schema": {"$ref": "#/components/schemas/ProblemDocument"},
                    "examples": {code: {"$ref": f"#/components/examples/{code}"} for code in named},
                }
            },
        }
        for status, named in sorted(by_status.items())
    }


def example_problem(code: str) -> dict[str, Any]:
    known = PROBLEMS[code]
    return {
        "type": TYPE_PREFIX + code,
        "title": known.title,
        "status": known.status,
        "detail": _DETAILS.get(code, known.title),
        "request_id": EXAMPLE_REQUEST_ID,
    }


def problem_headers(status: int) -> dict[str, Any]:
    """The headers that an error of this status brings, whatever form its body has."""
    headers = dict(BROKER_HEADERS)
    for name, where in _BY_STATUS.items():
        if status in where:
            headers[name] = {"$ref": f"#/components/headers/{name}"}
    return headers


_BY_STATUS: Final = {
    "WWW-Authenticate": frozenset({401}),
    "Allow": frozenset({405}),
    "Retry-After": frozenset({429, 503}),
    "RateLimit-Limit": frozenset({429}),
    "RateLimit-Remaining": frozenset({429}),
    "RateLimit-Reset": frozenset({429}),
}

HEADER_COMPONENTS: Final[dict[str, Any]] = {
    "Broker-Request-Id": {
        "description": "finds the audit record of this request",
        "schema": {"type": "string", "format": "uuid"},
        "example": EXAMPLE_REQUEST_ID,
    },
    "Broker-Decision": {
        "description": "`allowed`: the answer to what was asked; `refused` and `error`: the "
        "broker's own word",
        "schema": {"type": "string", "enum": ["allowed", "refused", "error"]},
        "example": "allowed",
    },
    "WWW-Authenticate": {
        "schema": {"type": "string"},
        "example": 'Bearer realm="dataverse-token-broker"',
    },
    "Allow": {"schema": {"type": "string"}, "example": "GET"},
    "Retry-After": {
        "description": "seconds",
        "schema": {"type": "integer"},
        "example": 5,
    },
    "RateLimit-Limit": {
        "description": "requests a minute of the grant, where its rate is used up",
        "schema": {"type": "integer"},
        "example": 600,
    },
    "RateLimit-Remaining": {"schema": {"type": "integer"}, "example": 0},
    "RateLimit-Reset": {
        "description": "seconds until there is room for a request",
        "schema": {"type": "integer"},
        "example": 12,
    },
}


def example_components() -> dict[str, Any]:
    """One example for each code, for the answers to refer to."""
    return {code: {"value": example_problem(code)} for code in PROBLEMS}
