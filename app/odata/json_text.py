"""JSON read strictly and written again: RFC 8259, no key twice, numbers with all their digits."""

from __future__ import annotations

import json
import re
from itertools import accumulate
from typing import Any

import msgspec

from app.errors import Unreadable
from app.odata.media import is_json

DEPTH_MAX = 32


class Number(msgspec.Struct, frozen=True, gc=False):
    """A number as it was written: `1.10` stays `1.10`."""

    text: str

    def __repr__(self) -> str:
        return "Number(…)"


Json = str | bool | None | Number | list[Any] | dict[str, Any]

# A string without an end reaches to the end of the body: each byte is looked at once.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_DEEPER: dict[int, int] = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


class _Twice(ValueError):
    pass


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Twice
    return found


def _no_constant(_text: str) -> Any:
    raise ValueError("NaN and Infinity are not JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_pairs,
    parse_float=Number,
    parse_int=Number,
    parse_constant=_no_constant,
)


def read_json(body: bytes) -> Json:
    """Raises `Unreadable`: `bad-json`, with the position where there is one."""
    if body.startswith(b"\xef\xbb\xbf"):
        raise Unreadable("bad-json", "the body begins with a byte order mark")
    try:
        source = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Unreadable("bad-json", f"the body is not UTF-8 at byte {error.start}") from None
    _bound_depth(body)
    try:
        value: Json = _DECODER.decode(source)
    except _Twice:
        raise Unreadable("bad-json", "the body names a member twice in one object") from None
    except json.JSONDecodeError as error:
        raise Unreadable(
            "bad-json", f"the body is not JSON: {error.msg} at position {error.pos + 1}"
        ) from None
    except ValueError:
        raise Unreadable("bad-json", "the body holds NaN or Infinity") from None
    if "\\u" in source:
        _no_lone_surrogates(value)
    return value


def read_json_body(body: bytes | None, content_type: str | None) -> Json:
    """A body that has to be there. Raises `Unreadable`, `unsupported-media-type` too."""
    if not body:
        raise Unreadable("bad-json", "the request needs a JSON body")
    if not is_json(content_type):
        raise Unreadable("unsupported-media-type", "a body is application/json in UTF-8: say so")
    return read_json(body)


def _bound_depth(body: bytes) -> None:
    brackets = _STRING.sub(b"", body).translate(None, _NO_BRACKETS)
    if len(brackets) <= DEPTH_MAX:
        return
    if max(accumulate(map(_DEEPER.__getitem__, brackets))) > DEPTH_MAX:
        raise Unreadable("limit-exceeded", f"the body nests deeper than {DEPTH_MAX}")


def _no_lone_surrogates(value: Json) -> None:
    if isinstance(value, str):
        if any("\ud800" <= c <= "\udfff" for c in value):
            raise Unreadable("bad-json", "the body holds half of a surrogate pair")
    elif isinstance(value, list):
        for item in value:
            _no_lone_surrogates(item)
    elif isinstance(value, dict):
        for name, item in value.items():
            _no_lone_surrogates(name)
            _no_lone_surrogates(item)


def write_json(value: Json) -> bytes:
    pieces: list[str] = []
    _write(value, pieces.append)
    return "".join(pieces).encode("utf-8")


_string = json.encoder.encode_basestring


def _write(value: Json, put: Any) -> None:
    if isinstance(value, str):
        put(_string(value))
    elif isinstance(value, Number):
        put(value.text)
    elif value is True:
        put("true")
    elif value is False:
        put("false")
    elif value is None:
        put("null")
    elif isinstance(value, dict):
        mark = "{"
        for name, item in value.items():
            put(mark)
            put(_string(name))
            put(":")
            _write(item, put)
            mark = ","
        put("}" if value else "{}")
    else:
        assert isinstance(value, list)
        mark = "["
        for item in value:
            put(mark)
            _write(item, put)
            mark = ","
        put("]" if value else "[]")
