"""The proxied Web API, as far as a document can say it."""

from __future__ import annotations

from typing import Any, Final

from app.web.openapi.answers import BROKER_HEADERS, problem_answers

_CODES: Final = (
    "bad-path",
    "bad-query",
    "bad-expression",
    "bad-header",
    "bad-fetchxml",
    "duplicate-header",
    "two-credentials",
    "unknown-option",
    "unsealed-continuation",
    "limit-exceeded",
    "target-too-long",
    "no-such-version",
    "method-not-allowed",
    "not-granted",
    "impersonation-refused",
    "no-such-row",
    "rate-limited",
    "too-many-concurrent",
    "issuer-unavailable",
    "schema-unavailable",
    "token-unavailable",
    "upstream-busy",
    "overloaded",
    "upstream-unreachable",
    "upstream-broke",
    "upstream-malformed",
    "upstream-refused-token",
    "upstream-timeout",
    "no-default-environment",
    "bad-body",
    "bad-json",
    "bad-batch",
    "bad-link-target",
    "body-too-slow",
    "length-required",
    "body-too-large",
    "unsupported-media-type",
    "etag-mismatch",
)

_DATA: Final[dict[str, Any]] = {
    "@odata.context": "https://broker.internal.example/environments/contoso/api/data/v9.2/"
    "$metadata#accounts(name)",
    "value": [
        {
            "@odata.etag": 'W/"3471922"',
            "name": "Fourth Coffee",
            "accountid": "8b1f7a52-0c52-4d1c-9f4e-2b0b3c0f6f11",
        }
    ],
}
_DATAVERSE_ERROR: Final[dict[str, Any]] = {
    "error": {"code": "0x80040217", "message": "account With Id = 8b1f7a52-… Does Not Exist"}
}
_CONTACT: Final = "contacts(5c2e9d10-66f1-4f7c-8f43-7f0f6f0b8d21)"
_ID: Final = (
    "https://broker.internal.example/environments/contoso/api/data/v9.2/"
    "accounts(8b1f7a52-0c52-4d1c-9f4e-2b0b3c0f6f11)"
)

_DESCRIPTION: Final = (
    "What the Dataverse Web API documents, as far as the caller's grants reach. The request is "
    "read, judged and written anew; the answer of Dataverse passes through as it is, its errors "
    "too, except that links into the environment point at the broker. `Broker-Decision: allowed` "
    "marks Dataverse's word, `refused` and `error` the broker's own."
)

_PATH_PARAMETERS: Final[tuple[dict[str, Any], ...]] = (
    {
        "name": "version",
        "in": "path",
        "required": True,
        "description": "one of the environment's `api_versions`",
        "schema": {"type": "string", "pattern": r"^v9\.[0-9]$"},
        "example": "v9.2",
    },
    {
        "name": "path",
        "in": "path",
        "required": True,
        "description": "resource path of the Web API; may hold further slashes",
        "schema": {"type": "string"},
        "example": "accounts",
    },
)
ENVIRONMENT: Final[dict[str, Any]] = {
    "name": "environment",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"},
    "example": "contoso",
}
_APPLICATION: Final[dict[str, Any]] = {
    "name": "Broker-Application",
    "in": "header",
    "description": "which of the granted applications to act as; the first one otherwise",
    "schema": {"type": "string"},
    "example": "erp-invoices",
}
_TIMEOUT: Final[dict[str, Any]] = {
    "name": "Broker-Timeout",
    "in": "header",
    "description": "seconds until an answer must have begun, waiting for a turn and other tries "
    "included; without it the broker waits for 8 seconds at most, and Dataverse may take its "
    "own two minutes",
    "schema": {"type": "string", "pattern": r"^[0-9]{1,5}(\.[0-9]{1,3})?$"},
    "example": "20",
}
_RETRY: Final[dict[str, Any]] = {
    "name": "Broker-Retry",
    "in": "header",
    "description": "`none`: one try, whatever comes of it",
    "schema": {"type": "string", "enum": ["none"]},
}
_OPTIONS: Final[dict[str, Any]] = {
    "name": "options",
    "in": "query",
    "description": "the OData query options: `$select`, `$filter`, `$expand`, `$orderby`, `$top`, "
    "`$count`, `$apply`, `fetchXml`, aliases",
    "style": "form",
    "explode": True,
    "schema": {"type": "object", "additionalProperties": {"type": "string"}},
    "example": {"$select": "name", "$filter": "statecode eq 0"},
}

_ANSWER_HEADERS: Final[dict[str, Any]] = {
    **BROKER_HEADERS,
    "Broker-Attempts": {
        "description": "how often the request was sent to Dataverse",
        "schema": {"type": "integer", "minimum": 1},
        "example": 1,
    },
    "Broker-Waited-Ms": {
        "description": "how long it waited for its turn and between attempts",
        "schema": {"type": "integer", "minimum": 0},
        "example": 0,
    },
    "Broker-Dropped-Headers": {
        "description": "request headers that would have meant something to Dataverse, and were "
        "not passed on",
        "schema": {"type": "string"},
        "example": "MSCRM.BypassCustomPluginExecution",
    },
}


def proxy_paths() -> dict[str, Any]:
    return {
        "/environments/{environment}/api/data/{version}/{path}": _item(
            "environment", (ENVIRONMENT, *_PATH_PARAMETERS)
        ),
        "/api/data/{version}/{path}": _item("default_environment", _PATH_PARAMETERS),
    }


def _item(which: str, parameters: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    place = " in the caller's default environment" if which == "default_environment" else ""
    summaries = {
        "get": "Read",
        "post": "Create a row, associate, call an action, or send a $batch",
        "patch": "Update or upsert a row",
        "put": "Set one column or a single-valued link",
        "delete": "Delete a row, a column's value or a link",
    }
    return {
        "parameters": [*parameters, _APPLICATION, _TIMEOUT, _RETRY, _OPTIONS],
        **{
            method: _operation(method, which, summary + place)
            for method, summary in summaries.items()
        },
    }


def _operation(method: str, which: str, summary: str) -> dict[str, Any]:
    own = ("200", "206", "304") if method == "get" else ("200", "201", "204")
    operation: dict[str, Any] = {
        "operationId": f"proxy_{method}_{which}",
        "tags": ["web api"],
        "summary": summary,
        "description": _DESCRIPTION,
        "responses": {
            status: {"$ref": f"#/components/responses/WebApi{status}"}
            for status in (*own, *_errors())
        },
    }
    if method in {"post", "patch", "put"}:
        operation["requestBody"] = {
            "required": False,
            "content": {
                "application/json": {
                    "schema": {"type": "object"},
                    "example": {
                        "name": "Fourth Coffee",
                        "primarycontactid@odata.bind": _CONTACT,
                    },
                },
                "multipart/mixed": {
                    "schema": {"type": "string"},
                    "example": "--batch_1\r\nContent-Type: application/http\r\n\r\n"
                    "GET accounts?$select=name HTTP/1.1\r\n\r\n--batch_1--\r\n",
                },
                "application/octet-stream": {
                    "schema": {"type": "string", "format": "binary"},
                    "example": "the bytes of a file column",
                },
            },
        }
    return operation


def _from_dataverse(description: str, **content: Any) -> dict[str, Any]:
    return {"description": description, "headers": _ANSWER_HEADERS, **content}


def _json(example: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": {"type": "object"}, "example": example}}


def _answers() -> dict[str, Any]:
    with_id = _from_dataverse("Done; the row's address is in OData-EntityId")
    with_id["headers"] = {
        **_ANSWER_HEADERS,
        "OData-EntityId": {"schema": {"type": "string"}, "example": _ID},
    }
    return {
        "200": _from_dataverse(
            "What Dataverse answers: rows, an action's result, a batch's parts, or the row that "
            "was written where `Prefer: return=representation` asked for it",
            content=_json(_DATA),
        ),
        "201": _from_dataverse("Created, with the row", content=_json(_DATA["value"][0])),
        "204": with_id,
        "206": _from_dataverse(
            "A part of a file column",
            content={
                "application/octet-stream": {
                    "schema": {"type": "string", "format": "binary"},
                    "example": "the bytes of the part",
                }
            },
        ),
        "304": _from_dataverse("The row is as the caller knows it"),
    }


def _errors() -> dict[str, Any]:
    """The broker's problems, and beside them Dataverse's own errors of the same status."""
    answers = {str(status): answer for status, answer in problem_answers(*_CODES).items()}
    for status in ("400", "403", "404", "412", "429", "503"):
        answers[status]["content"]["application/json"] = {
            "schema": {"$ref": "#/components/schemas/DataverseError"},
            "example": _DATAVERSE_ERROR,
        }
    return answers


def proxy_responses() -> dict[str, Any]:
    """What the operations refer to."""
    return {f"WebApi{status}": answer for status, answer in {**_answers(), **_errors()}.items()}
