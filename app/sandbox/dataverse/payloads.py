"""A body's values as columns keep them, or the 400 that Dataverse gives."""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Any

import msgspec

from app.sandbox.dataverse.failures import Failed, bad_payload
from app.sandbox.dataverse.terms import instant

if TYPE_CHECKING:
    from app.sandbox.dataverse.messages import Request
    from app.sandbox.dataverse.schema import Column, Table

_GUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_INT32 = 2**31


def read_json(request: Request, about: str) -> dict[str, Any]:
    """The object in the body. `about`: the set or operation that an error names."""
    kind = (request.header("content-type") or "").lower()
    if request.body and not kind.startswith("application/json"):
        raise Failed(
            415, "0x80060888", "The request body must be JSON with Content-Type application/json."
        )
    try:
        content = msgspec.json.decode(request.body) if request.body else {}
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise bad_payload(about, f"Microsoft.OData.ODataException : Invalid JSON. {error}") from (
            error
        )
    if not isinstance(content, dict):
        raise bad_payload(about, "Microsoft.OData.ODataException : An object was expected.")
    return content


def stored_value(table: Table, column: Column, value: Any) -> Any:
    if value is None:
        return None
    match column.kind:
        case "string" | "memo" | "choices":
            return _text(table, column, value)
        case "int" | "bigint" | "choice" | "state" | "status":
            return _integer(table, column, value)
        case "decimal" | "money":
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise _wrong(table, column, value)
            return value
        case "bool":
            if not isinstance(value, bool):
                raise _wrong(table, column, value)
            return int(value)
        case "id" | "guid":
            if not isinstance(value, str) or not _GUID.fullmatch(value):
                raise _wrong(table, column, value)
            return value.lower()
        case "datetime":
            try:
                return instant(str(value))
            except Failed as error:
                raise _wrong(table, column, value) from error
        case "date":
            if not isinstance(value, str) or not re.fullmatch(r"\d{4}-\d\d-\d\d", value):
                raise _wrong(table, column, value)
            return value
        case "image":
            try:
                base64.b64decode(str(value), validate=True)
            except (ValueError, binascii.Error) as error:
                raise _wrong(table, column, value) from error
            return value
    raise _wrong(table, column, value)


def _text(table: Table, column: Column, value: Any) -> str:
    if not isinstance(value, str):
        raise _wrong(table, column, value)
    if column.max_length and len(value) > column.max_length:
        raise Failed(
            400,
            "0x80044331",
            f"A validation error occurred.  The length of the '{column.name}' attribute of the "
            f"'{table.logical}' entity exceeded the maximum allowed length of "
            f"'{column.max_length}'.",
        )
    return value


def _integer(table: Table, column: Column, value: Any) -> int:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or (column.kind != "bigint" and not -_INT32 <= value < _INT32):
        raise _wrong(table, column, value)
    if column.options and value not in dict(column.options):
        accepted = ",".join(str(v) for v, _ in column.options)
        raise Failed(
            400,
            "0x8004431a",
            f"A validation error occurred. The value {value} of '{column.name}' on record of type "
            f"'{table.logical}' is outside the valid range. Accepted Values: {accepted}",
        )
    return int(value)


def _wrong(table: Table, column: Column, value: Any) -> Failed:
    return bad_payload(
        table.set_name,
        f"Microsoft.OData.ODataException : Cannot convert the literal '{value}' to the expected "
        f"type '{column.edm}'.",
    )
