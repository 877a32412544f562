from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.dataverse.failures import ExchangeFailed
from app.dataverse.link_bases import LinkBases, LinkKind
from app.dataverse.links import (
    LINK_MAX_BYTES,
    LINK_NAMES,
    NAME_MAX_BYTES,
    WINDOW_BYTES,
    LinkRewriter,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

HERE = "https://contoso.crm4.dynamics.com"
BROKER = "https://broker.example/environments/contoso"
BASES = LinkBases(environment=HERE, broker=BROKER)


class Seals:
    """Seals everything that does not say `unsealable`, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str]] = []

    def __call__(self, kind: LinkKind, owner: str, url: str) -> str | None:
        self.asked.append((kind, owner, url))
        if "unsealable" in url:
            return None
        return BROKER + "/sealed?" + kind + owner


def rewritten(*chunks: bytes, seals: Seals | None = None) -> bytes:
    rewriter = LinkRewriter(BASES, seals or Seals())
    return b"".join([rewriter.feed(chunk) for chunk in chunks]) + rewriter.finish()


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    edges = [0, *sorted(places), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


# ---------------------------------------------------------------- what is rewritten


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(
            rb'{"@odata.context":"%s/api/data/v9.2/$metadata#accounts","value":[]}',
            rb'{"@odata.context":"%b/api/data/v9.2/$metadata#accounts","value":[]}',
            id="context",
        ),
        pytest.param(rb'{"@odata.id":"%s/a(1)"}', rb'{"@odata.id":"%b/a(1)"}', id="id"),
        pytest.param(rb'{"x@odata.id" : "%s/a(1)"}', rb'{"x@odata.id" : "%b/a(1)"}', id="spaces"),
        pytest.param(
            b'{"x@odata.navigationLink"\r\n:\t"%s/a(1)/x"\n}',
            b'{"x@odata.navigationLink"\r\n:\t"%b/a(1)/x"\n}',
            id="white space",
        ),
        pytest.param(
            rb'{"@odata.nextLink":"%s/a?$skiptoken=1"}',
            rb'{"@odata.nextLink":"%b/sealed?nextLink"}',
            id="sealed",
        ),
        pytest.param(
            rb'{"c@odata.nextLink":"%s/a?$skiptoken=1"}',
            rb'{"c@odata.nextLink":"%b/sealed?nextLinkc"}',
            id="sealed for its collection",
        ),
        pytest.param(
            rb'{"@odata.deltaLink":"%s/a?$deltatoken=1"}',
            rb'{"@odata.deltaLink":"%b/sealed?deltaLink"}',
            id="delta",
        ),
        pytest.param(
            rb'{"@odata.id":"https:\/\/contoso.crm4.dynamics.com\/a(1)"}',
            rb'{"@odata.id":"%b/a(1)"}',
            id="escaped slashes",
        ),
        pytest.param(
            rb'{"\u0040odata.nextLink":"\u0068ttps://contoso.crm4.dynamics.com/a"}',
            rb'{"\u0040odata.nextLink":"%b/sealed?nextLink"}',
            id="escaped name and value",
        ),
        pytest.param(
            rb'{"@odata\u002Enext\u004cink":"%s/a"}',
            rb'{"@odata\u002Enext\u004cink":"%b/sealed?nextLink"}',
            id="escapes inside the name",
        ),
        pytest.param(
            rb'{"na\u006de@odata.nextLink":"%s/a"}',
            rb'{"na\u006de@odata.nextLink":"%b/sealed?nextLinkname"}',
            id="escaped owner",
        ),
        pytest.param(
            rb'{"a\"b@odata.nextLink":"%s/a"}',
            rb'{"a\"b@odata.nextLink":"%b/sealed?nextLinka\"b"}',
            id="quote in the owner",
        ),
        pytest.param(
            rb'{"@odata.id":"%s/a(k=\u0027\u00e4\u0027)"}',
            rb'{"@odata.id":"%b/a(k=' + b"'\\u00e4')" + b'"}',
            id="escaped value stays ASCII",
        ),
    ],
)
def test_a_link_to_the_environment_is_turned_to_the_broker(before: bytes, after: bytes) -> None:
    data = before.replace(b"%s", HERE.encode())
    assert rewritten(data) == after.replace(b"%b", BROKER.encode())
    assert [rewritten(*cut(data, [at])) for at in range(len(data))] == [rewritten(data)] * len(data)


@pytest.mark.parametrize("name", LINK_NAMES)
def test_every_link_name_is_known(name: str) -> None:
    assert HERE.encode() not in rewritten(json.dumps({f"@odata.{name}": HERE + "/x"}).encode())


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(rb'{"name":"see https://contoso.crm4.dynamics.com/a"}', id="URL in data"),
        pytest.param(
            rb'{"name":"\"@odata.nextLink\":\"https://contoso.crm4.dynamics.com/a\""}',
            id="a link spelled out in data",
        ),
        pytest.param(rb'{"name":"@odata.nextLink","x":"https://elsewhere.example"}', id="as value"),
        pytest.param(
            rb'{"@odata.etag":"W/\"1\"","@odata.count":3,"@odata.type":"#x"}', id="others"
        ),
        pytest.param(
            rb'{"@odata.nextLink":null,"@odata.id":7,"@odata.context":{}}', id="no string"
        ),
        pytest.param(rb'{"@odata.nextlink":"https://elsewhere.example"}', id="another case"),
        pytest.param(rb'{"odata.id":"https://elsewhere.example"}', id="no annotation"),
        pytest.param(rb'{"@odata.id":"accounts(1)"}', id="relative"),
        pytest.param(
            rb'{"a":"\\u0040odata.id","\\u0040odata.id":"https://elsewhere.example"}',
            id="a backslash, not an escape",
        ),
        pytest.param(b'["@odata.id" , "https://elsewhere.example"]', id="strings in an array"),
        pytest.param(b'"@odata.id"', id="a lone string"),
        pytest.param('{"näme":"größe \u2028"}'.encode(), id="UTF-8"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"1234", id="a number"),
    ],
)
def test_everything_else_stays_byte_for_byte(data: bytes) -> None:
    assert rewritten(data) == data
    assert all(rewritten(*cut(data, [at])) == data for at in range(len(data)))


DROPPED = rb'"@odata.nextLink":"https://elsewhere.example/"'
NOT_SEALED = rb'"@odata.nextLink" : "https://contoso.crm4.dynamics.com/unsealable"'


@pytest.mark.parametrize("link", [DROPPED, NOT_SEALED], ids=["elsewhere", "not sealed"])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"{%}", b"{}"),
        (b'{%,"a":1}', b'{"a":1}'),
        (b'{ % , "a":1}', b'{  "a":1}'),
        (b'{"a":1,%}', b'{"a":1}'),
        (b'{"a":1 , % }', b'{"a":1  }'),
        (b'{"a":1,%,"b":2}', b'{"a":1,"b":2}'),
        (b"{%,%}", b"{}"),
        (b"{%,%,%}", b"{}"),
        (b'{%,%,"a":1}', b'{"a":1}'),
        (b'{"a":1,%,%}', b'{"a":1}'),
        (b'{"a":{%},"b":[{%},{"c":1,\n%}]}', b'{"a":{},"b":[{},{"c":1}]}'),
    ],
)
def test_a_link_that_may_not_be_handed_out_leaves_valid_json(
    link: bytes, before: bytes, after: bytes
) -> None:
    data = before.replace(b"%", link)
    assert rewritten(data) == after
    assert all(rewritten(*cut(data, [at])) == after for at in range(len(data)))
    assert rewritten(*[data[i : i + 1] for i in range(len(data))]) == after


def test_the_seal_is_asked_once_with_the_collection_that_goes_on() -> None:
    seals = Seals()
    data = json.dumps(
        {
            "value": [{"c@odata.nextLink": HERE + "/c?1"}, {"c@odata.nextLink": "//else.where/"}],
            "@odata.nextLink": HERE + "/a?2",
        }
    ).encode()
    rewritten(*[data[i : i + 1] for i in range(len(data))], seals=seals)
    assert seals.asked == [("nextLink", "c", HERE + "/c?1"), ("nextLink", "", HERE + "/a?2")]


@pytest.mark.parametrize("filler", [b"a", "ö".encode()], ids=["ASCII", "UTF-8"])
@pytest.mark.parametrize(
    "name",
    [b"@odata.associationLink", b"@odata.id", b"a@odata.ne\\u0078tLink"],
    ids=["long", "short", "escaped"],
)
def test_a_link_is_found_wherever_it_stands_in_a_long_answer(name: bytes, filler: bytes) -> None:
    link = b'"%b":"https://elsewhere.example","@odata.id":null,' % name
    for at in range(-60, 20):
        before = b'{"x":"' + filler * ((WINDOW_BYTES + at) // len(filler)) + b'",'
        after = b'"y":"' + filler * WINDOW_BYTES + b'"}'
        data = before + link * 2 + after
        kept = b'"@odata.id":null,' * 2
        assert LinkRewriter(BASES, Seals()).whole(data) == before + kept + after


# ---------------------------------------------------------------- bounds


def test_a_link_of_64_kib_passes_and_a_longer_one_is_refused() -> None:
    fits = b'{"@odata.id":"' + b"a" * LINK_MAX_BYTES + b'"}'
    assert rewritten(fits) == fits
    assert rewritten(*cut(fits, range(0, len(fits), 1000))) == fits
    longer = fits.replace(b'"}', b'a"}')
    for chunks in ([longer], cut(longer, range(0, len(longer), 1000))):
        with pytest.raises(ExchangeFailed, match="a link of more than") as caught:
            rewritten(*chunks)
        assert caught.value.code == "upstream-malformed"


def test_an_endless_link_is_refused_before_it_fills_the_memory() -> None:
    rewriter = LinkRewriter(BASES, Seals())
    rewriter.feed(b'{"@odata.id":"')

    def go_on() -> None:
        for _ in range(100):
            rewriter.feed(b"a" * 4096)

    with pytest.raises(ExchangeFailed):
        go_on()
    assert len(rewriter._carry) <= 2 * LINK_MAX_BYTES


def test_an_endless_string_is_not_held_back() -> None:
    rewriter = LinkRewriter(BASES, Seals())
    rewriter.feed(b'{"documentbody":"')
    held = [len(rewriter._carry) for _ in range(50) if rewriter.feed(b"QUJD" * 4096)]
    assert max(held) <= 2 * NAME_MAX_BYTES


def test_a_name_too_long_to_be_one_is_refused_however_it_is_cut() -> None:
    data = b'{"' + b"x" * NAME_MAX_BYTES + b'@odata.id":"https://elsewhere.example"}'
    for step in (1, 7, 100, 10_000):
        with pytest.raises(ExchangeFailed, match="a property name"):
            rewritten(*cut(data, range(0, len(data), step)))
    value = data.replace(b":", b",", 1)
    for step in (1, 7, 100, 10_000):
        assert rewritten(*cut(value, range(0, len(value), step))) == value


def test_an_answer_that_ends_inside_a_link_is_refused() -> None:
    with pytest.raises(ExchangeFailed, match="an end in the middle"):
        rewritten(b'{"@odata.nextLink":"https://contoso.crm4.dy')


# ---------------------------------------------------------------- properties

_LINK_VALUES = st.sampled_from(
    [
        HERE + "/api/data/v9.2/accounts(1)",
        HERE + "/unsealable",
        "https://elsewhere.example/",
        "accounts(1)",
        '"@odata.id":"https://elsewhere.example"',
        "",
        'ä\u2028\\"/',
    ]
)
_NAMES = st.one_of(
    st.builds(
        lambda owner, name: f"{owner}@odata.{name}",
        st.sampled_from(["", "c", "a_b", 'q"', "\\", "größe", ","]),
        st.sampled_from([*LINK_NAMES, "etag", "count", "type"]),
    ),
    st.sampled_from(["name", "value", "@odata.nextLink ", "x,", ":"]),
)
_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(_LINK_VALUES, st.none(), st.integers(), st.booleans(), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(_NAMES, inner, max_size=4)
    ),
    max_leaves=20,
)


def _reference(value: Any) -> Any:
    """What the rewriter does, on parsed JSON."""
    if isinstance(value, list):
        return [_reference(item) for item in value]
    if not isinstance(value, dict):
        return value
    result = {}
    for name, member in value.items():
        owner, at, annotation = name.rpartition("@odata.")
        if not at or annotation not in LINK_NAMES or not isinstance(member, str):
            result[name] = _reference(member)
            continue
        link = BASES.to_broker(member)
        if link is not None and annotation in {"nextLink", "deltaLink"}:
            link = Seals()(annotation, owner, member)
        if link is not None:
            result[name] = link
    return result


def _spelled(value: Any, draw: st.DrawFn) -> str:
    """One of the many ways to write this JSON: white space and needless escapes."""
    white = st.sampled_from(["", "", "", " ", "\n", "\t \r\n"])
    if isinstance(value, str):
        plain = json.dumps(value, ensure_ascii=draw(st.booleans()))
        if draw(st.integers(0, 4)) == 0:
            plain = plain.replace("/", "\\/")
        if draw(st.integers(0, 4)) == 0 and "\\" not in plain:
            letter = draw(st.sampled_from("@.odatkLid"))
            plain = plain.replace(letter, f"\\u{ord(letter):04x}")
        return plain
    if isinstance(value, dict):
        members = [
            draw(white) + _spelled(k, draw) + draw(white) + ":" + draw(white) + _spelled(v, draw)
            for k, v in value.items()
        ]
        return "{" + (draw(white) + ",").join(members) + draw(white) + "}"
    if isinstance(value, list):
        return "[" + ",".join(draw(white) + _spelled(v, draw) + draw(white) for v in value) + "]"
    return json.dumps(value)


@st.composite
def documents(draw: st.DrawFn) -> tuple[Any, bytes]:
    value = draw(_VALUES)
    return value, _spelled(value, draw).encode()


@settings(max_examples=300)
@given(documents(), st.lists(st.floats(0, 1), max_size=12))
def test_the_stream_is_what_the_parsed_document_would_be(
    document: tuple[Any, bytes], places: Sequence[float]
) -> None:
    value, data = document
    whole = rewritten(data)
    assert json.loads(whole) == _reference(value)
    assert rewritten(*cut(data, [int(place * len(data)) for place in places])) == whole
    assert LinkRewriter(BASES, Seals()).whole(data) == whole


_AFTER_CONTEXT = st.sampled_from(
    [
        '","value":[]}',
        '" ,"@odata.nextLink":"' + HERE + '/api/data/v9.2/accounts?$skiptoken=1"}',
        '"}',
        '","x":"\\"@odata.id\\":\\"y\\""}',
        "",
    ]
)


@given(
    st.sampled_from([HERE, HERE + "/", "https://elsewhere.example", "", "/api/data", "\\u0041"]),
    st.text(max_size=20),
    _AFTER_CONTEXT,
)
def test_an_answer_that_is_whole_is_rewritten_as_one_that_streams(
    base: str, path: str, after: str
) -> None:
    data = ('{"@odata.context":"' + base + path + after).encode("utf-8", "replace")

    def outcome(rewrite: Callable[[bytes], bytes]) -> bytes | None:
        try:
            return rewrite(data)
        except ExchangeFailed:
            return None

    assert outcome(LinkRewriter(BASES, Seals()).whole) == outcome(rewritten)


@given(st.binary(max_size=200), st.integers(0, 200))
def test_noise_is_passed_on_or_refused_but_never_cut_differently(data: bytes, at: int) -> None:
    noise = data.replace(b"x", b'"@odata.id":').replace(b"y", b'"https://elsewhere.example"')

    def outcome(*chunks: bytes) -> bytes | None:
        try:
            return rewritten(*chunks)
        except ExchangeFailed:
            return None

    assert outcome(noise) == outcome(noise[:at], noise[at:])


def test_the_last_chunk_may_come_with_the_end() -> None:
    data = b'{"@odata.context":"%s/api/data/v9.2/$metadata#accounts","value":[]}' % HERE.encode()
    for at in range(len(data) + 1):
        rewriter = LinkRewriter(BASES, Seals())

        assert rewriter.feed(data[:at]) + rewriter.finish(data[at:]) == rewritten(data)
