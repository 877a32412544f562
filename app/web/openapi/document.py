"""One OpenAPI 3.1 document for every address, whoever answers it.

`openapi/openapi.yaml` is what `render_openapi()` gives; a test compares.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec
import yaml
from fastapi.openapi.utils import get_openapi

from app.web.management import management_app
from app.web.openapi.answers import BROKER_HEADERS, HEADER_COMPONENTS, example_components
from app.web.openapi.discovery import discovery_paths
from app.web.openapi.health import READINESS_SCHEMA, health_paths
from app.web.openapi.managed_identity import MANAGED_IDENTITY_SCHEMAS, managed_identity_paths
from app.web.openapi.oauth import OAUTH_SCHEMAS, oauth_paths
from app.web.openapi.proxy import proxy_paths, proxy_responses
from app.web.openapi.tokens import TOKEN_SCHEMAS, oauth_example_components, token_paths
from app.web.views import ProblemDocument

if TYPE_CHECKING:
    from app.web.applications import Applications
    from app.web.audit import Records
    from app.web.callers import Directory
    from app.web.policy import Explainer

API_VERSION: Final = "1"
"""Of the addresses and their answers, not of the program: it changes when callers must."""

_DESCRIPTION: Final = (
    "The one service that holds the app registrations for Microsoft Dataverse. Callers prove who "
    "they are to the broker, and then borrow a token or let the broker make the call, under a "
    "policy written for them. Every request leaves an audit record.\n\n"
    "The broker's own answers are RFC 9457 problems with a stable `type`; docs/errors.md lists "
    "them. Token endpoints answer errors as RFC 6749 says."
)

_TAGS: Final = (
    ("web api", "the proxied Dataverse Web API"),
    ("tokens", "tokens for callers that may hold one"),
    ("callers", "who the callers are, and what they may do"),
    ("policy", "what a request would do"),
    ("audit", "who touched what"),
    ("applications", "the app registrations and their credentials"),
    ("description", "what the addresses and the errors are"),
    ("health", "for orchestrators and Prometheus"),
)


def create_openapi() -> dict[str, Any]:
    """The document, the same in every installation."""
    app = management_app(
        # Only their signatures are read: nothing behind an address is called.
        directory=cast("Directory", None),
        records=cast("Records", None),
        applications=cast("Applications", None),
        explainer=cast("Explainer", None),
        openapi=lambda: b"",
    )
    described = get_openapi(
        title="Dataverse Token Broker",
        version=API_VERSION,
        openapi_version="3.1.0",
        description=_DESCRIPTION,
        routes=app.routes,
    )
    paths: dict[str, Any] = described["paths"]
    for item in paths.values():
        for operation in item.values():
            _correct(operation)
    schemas: dict[str, Any] = described["components"]["schemas"]
    # FastAPI describes its own 422, which is never answered here.
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    schemas["ProblemDocument"] = ProblemDocument.model_json_schema()
    schemas["Readiness"] = READINESS_SCHEMA
    schemas["DataverseError"] = _DATAVERSE_ERROR_SCHEMA
    schemas.update(TOKEN_SCHEMAS)
    schemas.update(OAUTH_SCHEMAS)
    schemas.update(MANAGED_IDENTITY_SCHEMAS)
    paths = {
        **proxy_paths(),
        **token_paths(),
        **oauth_paths(),
        **managed_identity_paths(),
        **discovery_paths(),
        **paths,
        **health_paths(),
    }
    responses = proxy_responses()
    examples = {**example_components(), **oauth_example_components()}
    named = _named_examples([paths, responses])
    return {
        "openapi": described["openapi"],
        "info": {
            **described["info"],
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS],
        "security": [{"bearer": []}, {"apiKey": []}],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "responses": responses,
            "headers": HEADER_COMPONENTS,
            "examples": {name: shown for name, shown in examples.items() if name in named},
            "securitySchemes": _SECURITY,
        },
    }


@functools.cache
def openapi_json() -> bytes:
    """The document as it is served. The first call takes a tenth of a second."""
    return msgspec.json.encode(create_openapi())


def render_openapi() -> str:
    """The document as it stands in openapi/openapi.yaml."""
    return yaml.dump(
        create_openapi(), Dumper=_Plain, sort_keys=False, allow_unicode=True, width=100
    )


class _Plain(yaml.SafeDumper):
    """Writes what stands in two places twice: anchors are no part of OpenAPI."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True


def _named_examples(node: Any) -> set[str]:
    """The examples that something refers to."""
    if isinstance(node, dict):
        reference = node.get("$ref")
        if isinstance(reference, str) and reference.startswith(_EXAMPLES):
            return {reference.removeprefix(_EXAMPLES)}
        node = list(node.values())
    if isinstance(node, list):
        return set().union(*map(_named_examples, node))
    return set()


_EXAMPLES: Final = "#/components/examples/"


def _correct(operation: dict[str, Any]) -> None:
    """What FastAPI does not know of these addresses."""
    operation["responses"].pop("422", None)
    for status, answer in operation["responses"].items():
        if status.startswith("2"):
            answer["headers"] = BROKER_HEADERS
    operation["responses"] = dict(sorted(operation["responses"].items()))


_SECURITY: Final[dict[str, Any]] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "an API key (`dvb_…`), a JWT of a configured issuer, or a broker token",
    },
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "basic": {
        "type": "http",
        "scheme": "basic",
        "description": "the caller's name and its API key, at the token endpoints only",
    },
    "identityHeader": {"type": "apiKey", "in": "header", "name": "X-IDENTITY-HEADER"},
}

_DATAVERSE_ERROR_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "description": "Dataverse's own error, passed through",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {"code": {"type": "string"}, "message": {"type": "string"}},
        }
    },
}
