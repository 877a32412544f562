from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from app.errors import Unreadable
from app.odata.options import EXPANDED_MAX, only, read_options
from app.odata.query import (
    Aggregate,
    Expand,
    FilterStep,
    GroupStep,
    Query,
    write_options,
)
from app.odata.tree import Alias, Binary, Literal, Member
from tests.unit.odata.grammar import COLUMNS, EXPRESSIONS, applies, expands, orders


def read(*options: tuple[str, str]) -> Query:
    return read_options(options)[0]


def test_every_option_has_its_place() -> None:
    assert read(
        ("$select", "a, b"),
        ("$filter", "a eq @p"),
        ("$orderby", "a desc,b"),
        ("$top", "5"),
        ("$count", "true"),
        ("@p", "'x'"),
    ) == Query(
        select=("a", "b"),
        filter=Binary("eq", Member(("a",)), Alias("@p")),
        orderby=((Member(("a",)), True), (Member(("b",)), False)),
        top=5,
        count=True,
        aliases=(("@p", Literal("'x'")),),
    )


def test_expands_nest() -> None:
    found = read(("$expand", "a($select=b;$top=1;$expand=c/$ref),d/N.T($filter=e)")).expand
    assert found == (
        Expand("a", query=Query(select=("b",), top=1, expand=(Expand("c", suffix="$ref"),))),
        Expand("d", "N.T", None, Query(filter=Member(("e",)))),
    )


def test_apply_is_steps() -> None:
    source = (
        "filter(a)/groupby((b,c/d),aggregate($count as n,e with sum as s))/aggregate($count as m)"
    )
    assert read(("$apply", source)).apply == (
        FilterStep(Member(("a",))),
        GroupStep(
            (("b",), ("c", "d")),
            (Aggregate(None, None, "n"), Aggregate(Member(("e",)), "sum", "s")),
        ),
        GroupStep(None, (Aggregate(None, None, "m"),)),
    )


def test_a_seal_is_no_part_of_the_query() -> None:
    assert read_options((("$skiptoken", "x"), ("broker-seal", "k.mac"))) == (
        Query(skiptoken="x"),
        "k.mac",
    )


def test_fetch_xml_is_read_in_any_case_and_once() -> None:
    xml = "<fetch><entity name='account'/></fetch>"
    assert read(("FETCHXML", xml)) == read(("fetchXml", xml))
    with pytest.raises(Unreadable, match="twice"):
        read(("fetchXml", xml), ("fetchxml", xml))


@pytest.mark.parametrize(
    "name",
    [
        "$skip", "$search", "$format", "$levels", "$compute", "$Select", "select", "filter", "tag",
        "partitionId", "UnMaskedData", "savedquery", "SQL", "$inlinecount", "", " ", "x" * 500,
    ],
)  # fmt: skip
def test_what_is_no_option_is_refused_and_not_repeated_at_length(name: str) -> None:
    with pytest.raises(Unreadable) as caught:
        read((name, "x"))
    assert caught.value.code == "unknown-option"
    assert len(caught.value.detail) < 80


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("$select", ""), ("$select", "a,"), ("$select", "a b"), ("$select", "'a'"),
        ("$expand", ""), ("$expand", "*"), ("$expand", "a("), ("$expand", "a()"),
        ("$expand", "a(select=b)"), ("$expand", "a,a"), ("$expand", "a/b"),
        ("$expand", "a/N.T/N.U"), ("$expand", "a/$value"), ("$expand", "N.T"),
        ("$expand", "a($top=x)"), ("$expand", "a($select=b;$select=c)"), ("$expand", "a($skip=1)"),
        ("$expand", "a($select=b,c"), ("$orderby", "a up"), ("$orderby", "a,"), ("$top", "-1"),
        ("$top", "1e3"), ("$top", "٣"), ("$top", "1" * 10), ("$count", "True"), ("$count", ""),
        ("$apply", ""), ("$apply", "identity"), ("$apply", "groupby(a)"),
        ("$apply", "groupby((a),filter(b))"), ("$apply", "aggregate(a)"),
        ("$apply", "aggregate(a with sum)"), ("$apply", "aggregate(a with sum as b-c)"),
        ("$apply", "aggregate($count with sum as b)"), ("$skiptoken", ""), ("$deltatoken", ""),
        ("$id", ""), ("@", "1"), ("@1", "1"), ("@a.b", "1"), ("@p", ""), ("fetchXml", ""),
    ],
)  # fmt: skip
def test_an_option_that_cannot_be_read_is_refused(name: str, value: str) -> None:
    with pytest.raises(Unreadable):
        read((name, value))


def test_expanded_items_are_bounded_at_every_depth() -> None:
    items = [f"a{i}" for i in range(EXPANDED_MAX)]
    read(("$expand", ",".join(items)))
    read(("$expand", ",".join(items[:-2]) + ",b($expand=c)"))
    for more in ("z", "b($expand=c)"):
        with pytest.raises(Unreadable) as caught:
            read(("$expand", ",".join([*items[: -1 if "(" in more else None], more])))
        assert caught.value.code == "limit-exceeded"


def test_only_the_options_that_mean_something_may_stand() -> None:
    query = read(("$select", "a"), ("$top", "0"))
    only(query, frozenset({"select", "top"}), "there")
    with pytest.raises(Unreadable, match=r"\$top there"):
        only(query, frozenset({"select"}), "there")
    only(Query(), frozenset(), "there")


@st.composite
def queries(draw: st.DrawFn) -> tuple[tuple[str, str], ...]:
    options: list[tuple[str, str]] = []
    for name, value in (
        ("$select", COLUMNS),
        ("$expand", expands()),
        ("$filter", EXPRESSIONS),
        ("$orderby", orders()),
        ("$apply", applies()),
        ("$top", st.integers(0, 999).map(str)),
        ("$count", st.sampled_from(["true", "false"])),
        ("@p1", EXPRESSIONS),
        ("$skiptoken", st.text(min_size=1, max_size=5)),
        ("savedQuery", st.text(max_size=5)),
        ("size", st.just("full")),
    ):
        if draw(st.booleans()):
            options.append((name, draw(value)))
    return tuple(draw(st.permutations(options)))


@given(queries())
def test_what_is_written_reads_back(options: tuple[tuple[str, str], ...]) -> None:
    try:
        query = read_options(options)[0]
    except Unreadable:
        assume(False)
    assert read_options(write_options(query))[0] == query


@given(st.lists(st.tuples(st.text(max_size=8), st.text(max_size=12)), max_size=3))
def test_nothing_else_is_raised(options: list[tuple[str, str]]) -> None:
    for name in ("$filter", "$expand", "$apply", "$orderby", "$select", "fetchXml"):
        try:
            read_options(tuple((name if i == 0 else n, v) for i, (n, v) in enumerate(options)))
        except Unreadable:
            continue


def test_a_query_does_not_show_its_values() -> None:
    query = read(
        ("$filter", "a eq 'hunter2'"),
        ("sql", "hunter2"),
        ("$skiptoken", "hunter2"),
        ("@p", "'hunter2'"),
    )
    assert repr(query) == "Query(sql, $filter, @p, $skiptoken)"
