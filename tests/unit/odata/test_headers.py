from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import Unreadable
from app.odata.headers import RequestHeaders, documented, read_headers
from app.odata.preferences import NONE, Preferences, read_preferences, write_preferences


def read(*pairs: tuple[str, str]) -> RequestHeaders:
    return read_headers([(n.encode(), v.encode("latin-1")) for n, v in pairs])


def test_nothing_asked_is_nothing_read() -> None:
    assert read() == RequestHeaders()
    assert read(("Host", "x"), ("User-Agent", "y"), ("Cookie", "z")) == RequestHeaders()


def test_names_are_read_in_any_case() -> None:
    assert read(("IF-MATCH", "*"), ("prefer", "return=minimal")) == RequestHeaders(
        if_match="*", preferences=Preferences(returning="minimal")
    )


@pytest.mark.parametrize(
    "name",
    [
        "Authorization", "Content-Type", "Content-Length", "If-Match", "If-None-Match",
        "OData-Version", "OData-MaxVersion", "OData-Anything", "CallerObjectId", "MSCRMCallerID",
        "Broker-Application", "X-API-Key", "Range", "Content-Range", "x-ms-file-name",
        "x-ms-transfer-mode", "MSCRM.MergeLabels",
    ],
)  # fmt: skip
def test_a_header_that_must_be_single_is_refused_twice(name: str) -> None:
    value = "*" if name.startswith("If-") else "1"
    read((name, value))
    with pytest.raises(Unreadable) as caught:
        read((name, value), (name.lower(), value))
    assert caught.value.code == "duplicate-header"


def test_hop_by_hop_headers_are_dropped_before_anything_is_read() -> None:
    assert read(
        ("If-Match", "x"), ("If-Match", "y"), ("MSCRM.A", "1"), ("Connection", "close, if-match"),
        ("Connection", "MSCRM.A"), ("Transfer-Encoding", "\x01"),
    ) == RequestHeaders()  # fmt: skip


@pytest.mark.parametrize("value", ["*", 'W/"1"', '"1"', 'W/"1", "2"', '""'])
def test_a_condition_is_a_star_or_etags(value: str) -> None:
    assert read(("If-Match", value)).if_match == value


@pytest.mark.parametrize("value", ["", "1", "W/1", '"', '"1" "2"', "*,*", '"1",', 'w/"1"'])
def test_what_is_no_condition_is_refused(value: str) -> None:
    with pytest.raises(Unreadable) as caught:
        read(("If-None-Match", value))
    assert caught.value.code == "bad-header"


def test_the_text_null_is_no_condition() -> None:
    assert read(("If-None-Match", "null"), ("If-Match", "null")) == RequestHeaders()


def test_a_compressed_body_is_not_read() -> None:
    for coding in ("gzip", "identity", ""):
        with pytest.raises(Unreadable) as caught:
            read(("Content-Encoding", coding))
        assert caught.value.code == "unsupported-media-type"


def test_control_characters_are_refused() -> None:
    with pytest.raises(Unreadable):
        read(("Accept-Language", "a\x00b"))


def test_lists_may_stand_in_several_lines() -> None:
    found = read(
        ("Accept", "a/b"), ("Accept", "c/d"), ("Accept-Language", "de"), ("Accept-Language", "en")
    )
    assert found.accept == "a/b, c/d"
    assert found.travelling == (("Accept-Language", "de, en"),)


def test_conditions_that_do_not_travel_are_named() -> None:
    assert read(("If-Modified-Since", "x"), ("If-Range", "y")).dropped == (
        "If-Modified-Since",
        "If-Range",
    )


def test_a_batch_part_picks_no_application() -> None:
    pair = (b"broker-application", b"crm-app")
    assert read_headers([pair]).application == "crm-app"
    assert read_headers([pair], part=True).application is None


def test_what_is_remembered_is_what_is_read() -> None:
    pairs = [(b"prefer", b"return=minimal"), (b"x", b"y" * 2000)]
    assert read_headers(pairs[:1]) is read_headers(pairs[:1])
    assert read_headers(pairs) == read_headers(pairs[:1])
    with pytest.raises(Unreadable):
        read_headers([(b"authorization", b"a"), (b"authorization", b"b")])


def test_mscrm_headers_are_written_as_documented() -> None:
    assert documented("mscrm.mergelabels") == "MSCRM.MergeLabels"
    assert documented("mscrm.other") == "mscrm.other"


# --------------------------------------------------------------------- Prefer


@pytest.mark.parametrize(
    ("lines", "wanted", "dropped"),
    [
        ((), NONE, ()), (("",), NONE, ()), ((", ,",), NONE, ()),
        (("odata.maxpagesize=5",), Preferences(max_page_size=5), ()),
        (('odata.maxpagesize="5"',), Preferences(max_page_size=5), ()),
        (("odata.maxpagesize=5", "odata.maxpagesize=6"), Preferences(max_page_size=5), ()),
        (("Return = Representation",), None, ()),
        (("return=representation; a=b",), Preferences(returning="representation"), ()),
        (("odata.continue-on-error",), Preferences(continue_on_error=True), ()),
        (("odata.continue-on-error=false",), NONE, ()),
        (("odata.track-changes,wait",), Preferences(track_changes=True), ("wait",)),
        (('wait, odata.callback; url="https://x/,;\\""',), NONE, ("wait", "odata.callback")),
        (("wait=10, wait=20",), NONE, ("wait",)),
        (('odata.include-annotations="a.b,*,-c"',), Preferences(annotations="a.b,*,-c"), ()),
        (('odata.include-annotations="a\nb"',), Preferences(annotations="a\nb"), ()),
        (('odata.include-annotations="a#b"',), None, ()), (("odata.maxpagesize=0",), None, ()),
        (("odata.maxpagesize",), None, ()), (("=",), None, ()), (('a="b',), None, ()),
    ],
)  # fmt: skip
def test_prefer_is_a_list_of_preferences(
    lines: tuple[str, ...], wanted: Preferences | None, dropped: tuple[str, ...]
) -> None:
    if wanted is None:
        with pytest.raises(Unreadable) as caught:
            read_preferences(lines)
        assert caught.value.code == "bad-header"
    else:
        assert read_preferences(lines) == (wanted, dropped)


PREFERENCES = st.builds(
    Preferences,
    max_page_size=st.none() | st.integers(1, 5000),
    annotations=st.none() | st.sampled_from(["*", "a.b,c.d"]),
    returning=st.none() | st.sampled_from(["minimal", "representation"]),
    continue_on_error=st.booleans(),
    track_changes=st.booleans(),
)


@given(PREFERENCES)
def test_preferences_that_are_written_read_back(wanted: Preferences) -> None:
    written = write_preferences(wanted, wanted.max_page_size)
    assert read_preferences(() if written is None else (written,)) == (wanted, ())


@given(st.lists(st.tuples(st.binary(max_size=12), st.binary(max_size=24)), max_size=4))
def test_nothing_else_is_raised(pairs: list[tuple[bytes, bytes]]) -> None:
    for extra in ([], [(b"prefer", pairs[0][1] if pairs else b"")]):
        try:
            read_headers([*pairs, *extra])
        except Unreadable:
            continue
