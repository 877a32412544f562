from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import Unreadable
from app.odata.json_text import DEPTH_MAX, Number, read_json, read_json_body, write_json

NUMBERS = st.from_regex(r"\A-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,4})?\Z")
TEXTS = st.text(st.characters(blacklist_categories=["Cs"]), max_size=8)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS.map(Number), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=15,
)


@given(VALUES)
def test_what_is_written_reads_back(value: Any) -> None:
    assert read_json(write_json(value)) == value


@given(VALUES)
def test_what_is_written_is_what_others_read(value: Any) -> None:
    def plain(node: Any) -> Any:
        if isinstance(node, Number):
            return float(node.text)
        if isinstance(node, list):
            return [plain(n) for n in node]
        if isinstance(node, dict):
            return {k: plain(v) for k, v in node.items()}
        return node

    assert json.loads(write_json(value), parse_int=float) == plain(value)


def test_numbers_keep_their_digits() -> None:
    body = b"[1.10,1e400,-0,12345678901234567890.0]"
    assert write_json(read_json(body)) == body


@pytest.mark.parametrize(
    "body",
    [
        b"", b" ", b"{", b'{"a":1,}', b"[1,]", b"{'a':1}", b"{a:1}", b"nul", b"NaN", b"-Infinity",
        b"01", b"+1", b"1.", b".5", b'"a', b'"\t"', b'"\\x"', b'"\\u12"', b"[1] 2",
        b'{"a":1,"a":2}', b'{"a":1,"\\u0061":2}', b'[{"b":{"a":1,"a":1}}]', b"\xef\xbb\xbf{}",
        b'"\xff"', b'"\xc0\x80"', b'"\\ud800"', b'{"\\udc00":1}', b'["\\ud800\\u0041"]',
        b"// x\n1", b"\x00",
    ],
)  # fmt: skip
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(Unreadable) as caught:
        read_json(body)
    assert caught.value.code == "bad-json"


def test_surrogate_pairs_are_letters() -> None:
    assert read_json(b'"\\ud83d\\ude00"') == "😀"


def test_depth_is_bounded_and_strings_have_none() -> None:
    assert read_json(b"[" * DEPTH_MAX + b"]" * DEPTH_MAX)
    read_json(b'"' + b"[{" * 500 + b'\\"[["')
    with pytest.raises(Unreadable) as caught:
        read_json(b"[" * (DEPTH_MAX + 1) + b"]" * (DEPTH_MAX + 1))
    assert caught.value.code == "limit-exceeded"
    with pytest.raises(Unreadable):
        read_json(b'{"a":' * 100_000)


@given(st.binary(max_size=40))
def test_nothing_else_is_raised(body: bytes) -> None:
    try:
        read_json(body)
    except Unreadable:
        return


def test_a_body_needs_a_json_content_type() -> None:
    assert read_json_body(b"{}", "application/json; charset=utf-8") == {}
    for content_type in (None, "text/json", "application/json;charset=latin1", "application/xml"):
        with pytest.raises(Unreadable) as caught:
            read_json_body(b"{}", content_type)
        assert caught.value.code == "unsupported-media-type"
    for body in (None, b""):
        with pytest.raises(Unreadable) as caught:
            read_json_body(body, "application/json")
        assert caught.value.code == "bad-json"


def test_errors_quote_nothing() -> None:
    with pytest.raises(Unreadable) as caught:
        read_json(b'{"password":"hunter2"')
    assert "hunter2" not in caught.value.detail
    assert "hunter2" not in repr(Number("hunter2"))
