"""RetrieveMetadataChanges: definitions by a query in JSON, as client libraries ask for columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.sandbox.dataverse import definitions
from app.sandbox.dataverse.failures import bad_request, not_emulated

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.sandbox.dataverse.schema import Schema

_STAMP = "1000001!01/08/2024 08:00:00"


def metadata_changes(schema: Schema, query: Any) -> dict[str, Any]:
    """`query`: an EntityQueryExpression, decoded. Nothing is remembered between calls."""
    if not isinstance(query, dict):
        raise bad_request("Required field 'Query' is missing")
    found: list[dict[str, Any]] = []
    for table in schema:
        whole = definitions.entity(table)
        if not _fits(whole, query.get("Criteria")):
            continue
        entity = _chosen(whole, query.get("Properties"))
        attributes = query.get("AttributeQuery")
        wanted = query.get("Properties") or {}
        if attributes is not None or "Attributes" in (wanted.get("PropertyNames") or ()):
            attributes = attributes or {}
            each = [definitions.attribute(table, column) for column in table.columns]
            entity["Attributes"] = [
                _chosen(a, attributes.get("Properties"))
                for a in each
                if _fits(a, attributes.get("Criteria"))
            ]
        found.append(entity)
    return {
        "EntityMetadata": found,
        "ServerVersionStamp": _STAMP,
        "DeletedMetadata": None,
    }


def _chosen(item: Mapping[str, Any], properties: Any) -> dict[str, Any]:
    named = properties.get("PropertyNames") if isinstance(properties, dict) else None
    if not named or (isinstance(properties, dict) and properties.get("AllProperties")):
        return dict(item)
    kept = {"@odata.type", "MetadataId", *named}
    return {k: v for k, v in item.items() if k in kept}


def _fits(item: Mapping[str, Any], criteria: Any) -> bool:
    if criteria is None:
        return True
    if not isinstance(criteria, dict):
        raise bad_request("The Criteria of the query cannot be read.")
    results = [_condition(item, c) for c in criteria.get("Conditions") or ()]
    results += [_fits(item, f) for f in criteria.get("Filters") or ()]
    if criteria.get("FilterOperator", "And") == "Or":
        return any(results)
    return all(results)


def _condition(item: Mapping[str, Any], condition: Any) -> bool:
    if not isinstance(condition, dict):
        raise bad_request("A condition of the query cannot be read.")
    value = condition.get("Value")
    value = value.get("Value") if isinstance(value, dict) else value
    found = item.get(str(condition.get("PropertyName")))
    match condition.get("ConditionOperator"):
        case "Equals":
            return _text(found) == _text(value)
        case "NotEquals":
            return _text(found) != _text(value)
        case "In" | "NotIn" as operator:
            values = value if isinstance(value, list) else str(value).strip("[]").split(",")
            wanted = {_text(v).strip("' \"") for v in values}
            return (_text(found) in wanted) is (operator == "In")
    raise not_emulated("this condition of RetrieveMetadataChanges")


def _text(value: Any) -> str:
    """JSON's true and .NET's True are one."""
    return str(value).lower() if isinstance(value, bool) else str(value)
