"""Small request bodies of token endpoints: forms and flat JSON, read strictly. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote_to_bytes

from app.errors import Unreadable

if TYPE_CHECKING:
    from app.web.asgi import RequestHead

FORM_BYTES_MAX: Final = 64 * 1024
"""An assertion is a JWT of a few KiB; two of them and their certificates still fit."""
FIELDS_MAX: Final = 50
BODY_WITHIN_S: Final = 10.0
"""How long such a body may take: nobody has proved who it is yet."""


def media_type(head: RequestHead) -> bytes:
    """Content-Type without its parameters, in lower case; empty where there is none."""
    return (head.single(b"content-type") or b"").partition(b";")[0].strip().lower()


def read_fields(head: RequestHead, body: bytes) -> dict[str, str]:
    """The fields of a form or of a flat JSON object of strings, by Content-Type.

    No body: no fields. Raises `Unreadable` for a field that is given twice (RFC 6749, 3.2).
    """
    if head.single(b"content-encoding") not in {None, b"identity"}:
        raise Unreadable("unsupported-media-type", "a compressed body is not read: send it plain")
    kind = media_type(head)
    if not body:
        return {}
    if kind in {b"application/x-www-form-urlencoded", b""}:
        return read_form(body)
    if kind == b"application/json":
        return _read_json(body)
    raise Unreadable(
        "unsupported-media-type",
        "the body must be application/x-www-form-urlencoded or application/json",
    )


def read_form(body: bytes) -> dict[str, str]:
    """application/x-www-form-urlencoded, UTF-8; a field without a value counts as absent."""
    fields: dict[str, str] = {}
    pairs = body.split(b"&")
    if len(pairs) > FIELDS_MAX:
        raise Unreadable("limit-exceeded", f"more than {FIELDS_MAX} fields")
    for pair in pairs:
        if not pair:
            continue
        key, _, raw = pair.partition(b"=")
        name, value = _decoded(key), _decoded(raw)
        if name in fields:
            raise Unreadable("bad-body", "a field is given twice")
        fields[name] = value
    # RFC 6749, 3.2: parameters sent without a value are treated as if they were omitted.
    return {name: value for name, value in fields.items() if value}


def _decoded(raw: bytes) -> str:
    try:
        text = unquote_to_bytes(raw.replace(b"+", b" ")).decode("utf-8")
    except UnicodeDecodeError as broken:
        raise Unreadable("bad-body", "a field is not UTF-8") from broken
    if "\x00" in text:
        raise Unreadable("bad-body", "a field holds NUL")
    return text


def _read_json(body: bytes) -> dict[str, str]:
    try:
        fields = json.loads(body.decode("utf-8"), object_pairs_hook=_without_twins)
    except (ValueError, RecursionError) as broken:
        raise _bad_json() from broken
    if not isinstance(fields, dict):
        raise _bad_json()
    if len(fields) > FIELDS_MAX:
        raise Unreadable("limit-exceeded", f"more than {FIELDS_MAX} fields")
    if not all(value is None or isinstance(value, str) for value in fields.values()):
        raise _bad_json()
    return {name: value for name, value in fields.items() if value}


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise Unreadable("bad-json", "a key is given twice")
    return fields


def _bad_json() -> Unreadable:
    return Unreadable("bad-json", "the body must be a flat JSON object of strings")
