from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import Unreadable
from app.odata.segments import Key, Segment, read_segment
from app.odata.tree import Alias, Entry, Listed, Literal
from tests.unit.odata.grammar import EXPRESSIONS

ID = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"


def test_a_segment_is_a_name_perhaps_with_arguments() -> None:
    assert read_segment("accounts") == Segment("accounts")
    assert read_segment("WhoAmI()") == Segment("WhoAmI", ())
    assert read_segment(f"accounts( {ID} )") == Segment("accounts", ((None, Literal(ID)),))
    assert read_segment("Fn(A=@p,B=['x'],C={'@odata.id':'y'})") == Segment(
        "Fn",
        (
            ("A", Alias("@p")),
            ("B", Listed((Literal("'x'"),))),
            ("C", Entry(((Literal("'@odata.id'"), Literal("'y'")),))),
        ),
    )


def test_a_key_is_one_id_or_pairs() -> None:
    assert read_segment(f"a({ID.upper()})").key().guid == ID
    by_name = read_segment(f"a(accountid={ID})").key()
    assert by_name.guid is None
    assert by_name.id_in("accountid") == ID
    assert by_name.id_in("contactid") is None
    assert read_segment("a(b='x',c=1)").key() == Key((("b", Literal("'x'")), ("c", Literal("1"))))
    assert read_segment("a('x')").key().guid is None


@pytest.mark.parametrize(
    "source",
    [
        "", "1a", "a b", "a-b", "a.", "a(", "a)", "a(1", "a(1))", "a(1)(2)", "a(1,)", "a(b=1,b=2)",
        "a('b'=1)", "a(b.c=1)", "a(b=)", "a(=1)", "$1a", "$a-b", "é", "a(b=1 add 2)", "a(b eq 1)",
    ],
)  # fmt: skip
def test_what_is_no_segment_is_refused(source: str) -> None:
    with pytest.raises(Unreadable):
        read_segment(source)


@pytest.mark.parametrize("source", ["a()", "a(1,2)", "a(b=@p)", "a(b=c)", 'a("x")', "a(b=['x'])"])
def test_what_is_no_key_is_refused(source: str) -> None:
    with pytest.raises(Unreadable) as caught:
        read_segment(source).key()
    assert caught.value.code == "bad-path"


@given(
    st.lists(
        st.tuples(st.sampled_from(["A", "B", "C"]), EXPRESSIONS),
        max_size=3,
        unique_by=lambda p: p[0],
    )
)
def test_what_is_written_reads_back(arguments: list[tuple[str, str]]) -> None:
    segment = read_segment(f"Fn({','.join(f'{n}=({v})' for n, v in arguments)})")
    assert read_segment(segment.text()) == segment


@given(st.text(max_size=20))
def test_nothing_else_is_raised(source: str) -> None:
    for text in (source, f"a({source})"):
        try:
            read_segment(text)
        except Unreadable:
            continue
