from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.sandbox.dataverse.expressions import (
    Call,
    Compare,
    Counted,
    Every,
    Items,
    Literal,
    Member,
    NamedCall,
    Negated,
    Quantified,
    Some,
    plain,
)
from app.sandbox.dataverse.failures import Failed
from app.sandbox.dataverse.grammar import parse_arguments, parse_expression
from app.sandbox.dataverse.tokens import split

NAME = Member(("name",))
X = Literal("x", "string")


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("name eq 'x'", Compare("eq", NAME, X)),
        ("name  eq\n'x'", Compare("eq", NAME, X)),
        ("(name eq 'x')", Compare("eq", NAME, X)),
        ("name eq 'O''Brian'", Compare("eq", NAME, Literal("O'Brian", "string"))),
        ("revenue gt -1.5", Compare("gt", Member(("revenue",)), Literal(-1.5, "number"))),
        ("name eq null", Compare("eq", NAME, Literal(None, "null"))),
        ("name eq @p1", Compare("eq", NAME, X)),
        (
            "accountid eq 11111111-1111-1111-1111-11111111111A",
            Compare(
                "eq",
                Member(("accountid",)),
                Literal("11111111-1111-1111-1111-11111111111a", "guid"),
            ),
        ),
        (
            "createdon ge 2024-01-01T00:00:00Z",
            Compare("ge", Member(("createdon",)), Literal("2024-01-01T00:00:00Z", "datetime")),
        ),
        (
            "a eq 1 and b eq 2 or c eq 3",
            Some(
                (
                    Every(
                        (
                            Compare("eq", Member(("a",)), Literal(1, "number")),
                            Compare("eq", Member(("b",)), Literal(2, "number")),
                        )
                    ),
                    Compare("eq", Member(("c",)), Literal(3, "number")),
                )
            ),
        ),
        ("not contains(name,'x')", Negated(Call("contains", (NAME, X)))),
        (
            "primarycontactid/createdby/fullname eq 'x'",
            Compare("eq", Member(("primarycontactid", "createdby", "fullname")), X),
        ),
        ("Account_Tasks/any()", Quantified(("Account_Tasks",), "any", None, None)),
        (
            "Account_Tasks/all(t:t/subject eq 'x')",
            Quantified(("Account_Tasks",), "all", "t", Compare("eq", Member(("t", "subject")), X)),
        ),
        (
            "Account_Tasks/$count gt 1",
            Compare("gt", Counted(("Account_Tasks",)), Literal(1, "number")),
        ),
        (
            "Microsoft.Dynamics.CRM.In(PropertyName='name',PropertyValues=['x',\"O'B\"])",
            NamedCall(
                "Microsoft.Dynamics.CRM.In",
                {
                    "PropertyName": Literal("name", "string"),
                    "PropertyValues": Items((X, Literal("O'B", "string"))),
                },
            ),
        ),
    ],
)
def test_an_expression_is_read(text: str, tree: object) -> None:
    assert parse_expression(text, {"@p1": "'x'"}) == tree


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lastname eq 'O'Bryan'", "There is an unterminated literal at position 21"),
        ("name eq", "Syntax error at position 7"),
        ("name eq 'x' name", "Syntax error at position 12"),
        ("revenue add 1 eq 2", "The query node BinaryOperator is not supported."),
        ("Account_Tasks/all()", "needs an expression"),
        ("(" * 200 + "1", "Recursion depth exceeded allowed limit."),
        ("not " * 200 + "1", "Recursion depth exceeded allowed limit."),
        ("name eq @a", "refers to itself"),
        ("Microsoft.Dynamics.CRM.In('x')", "must be named"),
        ("x in [1 2]", "The query node BinaryOperator is not supported."),
        ("f([1 2])", "Invalid JSON. A comma character ',' was expected in scope 'Array'."),
    ],
)
def test_an_expression_is_refused_in_dataverses_words(text: str, message: str) -> None:
    with pytest.raises(Failed) as failed:
        parse_expression(text, {"@a": "@b", "@b": "@a"})
    assert message in failed.value.message
    assert failed.value.status == 400


def test_arguments_may_be_objects_and_lists() -> None:
    (found,) = parse_arguments("Target=@t", {"@t": "{'@odata.id':'accounts(1)',\"n\":[1,null]}"})
    assert found[0] == "Target"
    assert plain(found[1]) == {"@odata.id": "accounts(1)", "n": [1, None]}


def test_an_enum_member_is_a_literal() -> None:
    ((_, node),) = parse_arguments("A=Microsoft.Dynamics.CRM.EndpointAccessType'Default'", {})
    assert node == Literal("Default", "enum")


@given(st.text(max_size=80))
@settings(max_examples=300)
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(Failed):
        parse_expression(text, {})


@given(st.lists(st.text(alphabet="ab c", min_size=1).map(str.strip), min_size=1))
def test_splitting_undoes_joining(pieces: list[str]) -> None:
    assert split(",".join(pieces), ",") == pieces


def test_splitting_heeds_quotes_and_brackets() -> None:
    assert split("a($select=b;$filter=c eq ',)'),d", ",") == ["a($select=b;$filter=c eq ',)')", "d"]
