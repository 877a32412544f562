from __future__ import annotations

import pytest
from hypothesis import given

from app.errors import Unreadable
from app.odata.cursor import LEVELS_MAX, TERMS_MAX
from app.odata.expression import LIST_MAX, parse, parse_orderby
from app.odata.query import write_orderby
from app.odata.tree import (
    Binary,
    Function,
    Lambda,
    Listed,
    Literal,
    Logical,
    Member,
    Named,
    Unary,
    both,
    text,
)
from tests.unit.odata.grammar import EXPRESSIONS, orders


def read(source: str) -> object:
    return parse(source, "$filter")


def test_a_comparison_has_two_sides() -> None:
    assert read("name eq 'O''Neil'") == Binary("eq", Member(("name",)), Literal("'O''Neil'"))


def test_and_binds_tighter_than_or() -> None:
    a, b, c = (Member((n,)) for n in "abc")
    assert read("a or b and c") == Logical("or", (a, Logical("and", (b, c))))
    assert read("(a or b) and c") == Logical("and", (Logical("or", (a, b)), c))


def test_parentheses_that_change_nothing_are_forgotten() -> None:
    assert read("(((a) and ((b and c))))") == read("a and b and c")


def test_not_binds_tighter_than_a_comparison() -> None:
    assert read("not a eq b") == Binary("eq", Unary("not", Member(("a",))), Member(("b",)))


def test_arithmetic_leans_to_the_left() -> None:
    assert text(parse("a sub (b sub c)", "x")) == "a sub (b sub c)"
    assert text(parse("(a sub b) sub c", "x")) == "a sub b sub c"


def test_a_number_takes_its_sign() -> None:
    assert read("a gt - 5") == read("a gt -5")
    assert read("-a gt 0") == Binary("gt", Unary("-", Member(("a",))), Literal("0"))


def test_functions_lambdas_and_lists_are_told_apart() -> None:
    assert read("contains(name,'x')") == Function("contains", (Member(("name",)), Literal("'x'")))
    assert read("a/any(t:t/b)") == Lambda(("a",), "any", "t", Member(("t", "b")))
    assert read("a in (1,2)") == Binary(
        "in", Member(("a",)), Listed((Literal("1"), Literal("2")), "(")
    )
    assert read("Microsoft.Dynamics.CRM.Today(PropertyName='x')") == Named(
        "Microsoft.Dynamics.CRM.Today", (("PropertyName", Literal("'x'")),)
    )


def test_joining_keeps_what_each_side_meant() -> None:
    joined = both(parse("a eq 1", "f"), parse("b eq 2 or c eq 3", "f"))
    assert text(joined) == "a eq 1 and (b eq 2 or c eq 3)"
    assert text(both(parse("a or b", "f"), parse("c or d", "f"))) == "(a or b) and (c or d)"
    assert both(None, Member(("a",))) == Member(("a",))


@pytest.mark.parametrize(
    "source",
    [
        "", "name eq", "eq", "name eq 'x", "a and", "f(x)", "a/", "a/b(1)", "a eq b eq c", "(a",
        "a)", "a in ()", "{'a':1,'a':2}", "{'a':1,}", "[1,]", "a/all()", "- 'x'", "- null",
        "$it/name", "a/any(1:a)", "a/any(and:a)", "Other.In(PropertyName='x')", "X.F(A=1,A=2)",
        "a.b.(c)", "5L", "1.", "a'b", "\x00",
    ],
)  # fmt: skip
def test_what_is_no_expression_is_refused(source: str) -> None:
    with pytest.raises(Unreadable) as caught:
        read(source)
    assert caught.value.code == "bad-expression"


def test_an_error_says_where_and_quotes_nothing() -> None:
    with pytest.raises(Unreadable) as caught:
        read("name eq 'hunter2' hunter3")
    assert caught.value.detail == "$filter: something is left over at position 19"


@pytest.mark.parametrize("parenthesised", [False, True], ids=["bare", "in parentheses"])
def test_terms_are_bounded(parenthesised: bool) -> None:  # noqa: FBT001
    term = "(a eq 1)" if parenthesised else "a eq 1"
    read(" or ".join([term] * TERMS_MAX))
    with pytest.raises(Unreadable, match="terms") as caught:
        read(" or ".join([term] * (TERMS_MAX + 1)))
    assert caught.value.code == "limit-exceeded"


@pytest.mark.parametrize(
    ("before", "after"),
    [("(", ")"), ("not ", ""), ("contains(a,", ")"), ("a/any(v:", ")"), ("[", "]")],
)
def test_levels_are_bounded(before: str, after: str) -> None:
    read(before * LEVELS_MAX + "a" + after * LEVELS_MAX)
    with pytest.raises(Unreadable, match="levels") as caught:
        read(before * (LEVELS_MAX + 1) + "a" + after * (LEVELS_MAX + 1))
    assert caught.value.code == "limit-exceeded"


def test_chained_operators_are_levels() -> None:
    read(" add ".join(["a"] * (LEVELS_MAX + 1)))
    with pytest.raises(Unreadable, match="levels"):
        read(" add ".join(["a"] * (LEVELS_MAX + 2)))


def test_lists_are_bounded() -> None:
    read(f"a in ({','.join(['1'] * LIST_MAX)})")
    with pytest.raises(Unreadable, match="items"):
        read(f"a in ({','.join(['1'] * (LIST_MAX + 1))})")


@given(EXPRESSIONS)
def test_what_is_written_reads_back(source: str) -> None:
    tree = parse(source, "x")
    assert parse(text(tree), "x") == tree


@given(orders())
def test_an_order_that_is_written_reads_back(source: str) -> None:
    keys = parse_orderby(source, "x")
    assert parse_orderby(write_orderby(keys), "x") == keys


def test_a_tree_does_not_show_its_values() -> None:
    assert "hunter2" not in repr(read("name eq 'hunter2' and contains(a,'hunter2')"))
