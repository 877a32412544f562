from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from app.web.openapi.document import create_openapi, openapi_json, render_openapi
from app.web.problems import PROBLEMS

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
DOCUMENT = create_openapi()
RESPONSES = {"responses": DOCUMENT["components"]["responses"]}
METHODS = {"get", "post", "put", "patch", "delete"}


def operations() -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            if method in METHODS:
                yield f"{method} {path}", operation


OPERATIONS = dict(operations())


def test_the_file_is_what_the_app_renders() -> None:
    written = (ROOT / "openapi" / "openapi.yaml").read_text("utf-8")
    assert written == render_openapi(), "render it again: token-broker openapi"


def test_the_file_and_the_served_document_are_one() -> None:
    assert yaml.safe_load(render_openapi()) == yaml.safe_load(openapi_json())


def test_the_document_is_valid_openapi_3_1() -> None:
    assert DOCUMENT["openapi"] == "3.1.0"
    errors = [str(error) for error in OpenAPIV31SpecValidator(DOCUMENT).iter_errors()]
    assert errors == []


@pytest.mark.parametrize(
    "address",
    [
        "get /environments/{environment}/api/data/{version}/{path}",
        "patch /api/data/{version}/{path}",
        "post /environments/{environment}/token",
        "post /oauth2/v2.0/token",
        "post /{tenant}/oauth2/v2.0/token",
        "get /msi/token",
        "get /.well-known/openid-configuration",
        "get /{tenant}/v2.0/.well-known/openid-configuration",
        "get /.well-known/jwks.json",
        "get /callers/me",
        "get /callers",
        "post /policy/explain",
        "get /audit/records",
        "get /audit/records/{record_id}",
        "get /applications",
        "delete /applications/{name}/tokens",
        "get /livez",
        "get /readyz",
        "get /metrics",
    ],
)
def test_an_address_of_the_design_is_described(address: str) -> None:
    assert address in OPERATIONS


def test_operation_ids_are_unique_and_tags_are_declared() -> None:
    ids = [operation["operationId"] for operation in OPERATIONS.values()]
    assert len(ids) == len(set(ids))
    declared = {tag["name"] for tag in DOCUMENT["tags"]}
    assert {tag for operation in OPERATIONS.values() for tag in operation["tags"]} == declared


@pytest.mark.parametrize("address", OPERATIONS)
def test_an_address_has_a_summary_examples_and_error_answers(address: str) -> None:
    operation = OPERATIONS[address]
    assert operation["summary"]
    statuses = set(operation["responses"])
    assert any(status.startswith("2") for status in statuses)
    assert any(status.startswith(("4", "5")) for status in statuses)
    if operation.get("security") != []:
        assert {"401", "503"} <= statuses
        for status, reference in operation["responses"].items():
            answer = _component(reference)
            assert "Broker-Request-Id" in answer["headers"], status


def _schema_and_examples(
    node: Any, place: str = ""
) -> Iterator[tuple[str, dict[str, Any], list[Any]]]:
    """Every media type, parameter and header that has a schema, with its examples."""
    if isinstance(node, dict):
        if "schema" in node:
            examples = [_component(each)["value"] for each in node.get("examples", {}).values()]
            if "example" in node:
                examples.append(node["example"])
            yield place, node["schema"], examples
        for key, inner in node.items():
            yield from _schema_and_examples(inner, f"{place}/{key}")
    elif isinstance(node, list):
        for index, inner in enumerate(node):
            yield from _schema_and_examples(inner, f"{place}/{index}")


def _component(node: dict[str, Any]) -> dict[str, Any]:
    """The node itself, or the component that it refers to."""
    if "$ref" not in node:
        return node
    _, _, kind, name = node["$ref"].split("/")
    component: dict[str, Any] = DOCUMENT["components"][kind][name]
    return component


def _resolved(schema: Any) -> Any:
    """The schema with its components in place; ours refer to each other, but never back."""
    if isinstance(schema, dict):
        if "$ref" in schema:
            return _resolved(_component(schema))
        return {key: _resolved(value) for key, value in schema.items()}
    return [_resolved(value) for value in schema] if isinstance(schema, list) else schema


def _own_examples(schema: Any, place: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(schema, dict):
        if isinstance(schema.get("examples"), list):
            for example in schema["examples"]:
                yield place, schema, example
        for key, inner in schema.items():
            if key != "examples":
                yield from _own_examples(inner, f"{place}/{key}")
    elif isinstance(schema, list):
        for index, inner in enumerate(schema):
            yield from _own_examples(inner, f"{place}/{index}")


def test_every_answer_has_an_example_and_every_example_fits_its_schema() -> None:
    lonely = []
    wrong = []
    for place, schema, examples in _schema_and_examples([DOCUMENT["paths"], RESPONSES]):
        whole = _resolved(schema)
        inner = list(_own_examples(whole, place))
        if "/responses/" in place and not examples and not inner:
            lonely.append(place)
        pairs = [(place, whole, example) for example in examples] + inner
        wrong += [
            f"{where}: {error.message}"
            for where, against, example in pairs
            for error in OAS31Validator(against).iter_errors(example)
        ]
    assert lonely == []
    assert wrong == []


def test_examples_of_problems_are_problems_that_exist() -> None:
    for _place, schema, examples in _schema_and_examples([DOCUMENT["paths"], RESPONSES]):
        if schema.get("$ref", "").endswith("/ProblemDocument"):
            for example in examples:
                known = PROBLEMS[example["type"].removeprefix("/problems/")]
                assert (known.status, known.title) == (example["status"], example["title"])


def test_the_document_names_no_secret_and_no_host_but_examples() -> None:
    text = render_openapi()
    assert "dvb_" not in text.replace("dvb_…", "")
    assert "localhost" not in text


def test_no_component_is_left_unused() -> None:
    text = render_openapi().replace("'", "")
    unused = [
        f"{kind}/{name}"
        for kind, components in DOCUMENT["components"].items()
        for name in components
        if kind != "securitySchemes" and f"#/components/{kind}/{name}\n" not in text
    ]
    assert unused == []
