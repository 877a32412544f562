"""The broker reads YAML with lines, without surprises, and within bounds."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.config import documents
from app.config.documents import parse_document
from app.config.problems import ConfigurationError

FILE = Path("/etc/broker/broker.yaml")


def parse(text: str | bytes) -> documents.Node:
    return parse_document(text if isinstance(text, bytes) else text.encode(), FILE)


def refusal(text: str | bytes) -> tuple[int | None, str]:
    with pytest.raises(ConfigurationError) as caught:
        parse(text)
    problem = caught.value.problems[0]
    assert problem.file == FILE
    return problem.line, problem.message


def test_values_keep_their_lines_and_types() -> None:
    root = parse("a: 1\nb:\n  - true\n  - 2027-06-30\n  - '3'\nc: ~\nd: 1.5\n")
    assert root.plain() == {
        "a": 1,
        "b": [True, date(2027, 6, 30), "3"],
        "c": None,
        "d": 1.5,
    }
    assert root.line_of(("b", 1)) == 4
    assert root.line_of(("c",)) == 6
    assert root.line_of(("b", 7)) == 3  # what is not there is reported where it would be


def test_an_empty_document_is_an_empty_mapping() -> None:
    assert parse("# nothing\n").plain() == {}


def test_an_anchor_can_be_repeated() -> None:
    assert parse("a: &x [1, 2]\nb: *x\n").plain() == {"a": [1, 2], "b": [1, 2]}


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        pytest.param(
            "a: 1\nb: 2\na: 3\n", 3, "'a' stands twice: here and in line 1", id="key-twice"
        ),
        pytest.param(
            "a: {b: 1, 'b': 2}\n", 1, "'b' stands twice: here and in line 1", id="quoted-too"
        ),
        pytest.param("on: 1\n", 1, "a key must be text", id="yaml-1.1-boolean-key"),
        pytest.param("[a]: 1\n", 1, "a key must be text", id="list-as-key"),
        pytest.param("a: !!python/name:os.system x\n", 1, "has a tag", id="python-tag"),
        pytest.param("a: !!binary aGk=\n", 1, "has a tag", id="binary-tag"),
        pytest.param("a: &x {b: 1}\nc:\n  <<: *x\n", 3, "merge keys", id="merge-key"),
        pytest.param("a: *x\n", 1, "names an anchor", id="unknown-anchor"),
        pytest.param("a: &x [*x]\n", 1, "names an anchor", id="anchor-in-itself"),
        pytest.param("a: 1\n---\nb: 2\n", 2, "holds a second document", id="second-document"),
        pytest.param("- a\n", 1, "must be a mapping", id="list"),
        pytest.param("a: 'x\n", 2, "is no YAML", id="open-quote"),
        pytest.param("a:\n\t- b\n", 2, "is no YAML", id="tab"),
        pytest.param("a: \x01\n", None, "is no YAML", id="control-character"),
        pytest.param(b"a: 1\nb: \xff\n", 2, "is not UTF-8", id="latin-1"),
        pytest.param("a: 2027-13-01\n", 1, "is no number or day", id="no-such-month"),
        pytest.param("a: " + "[" * 40 + "]" * 40, 1, "nested deeper", id="too-deep"),
        pytest.param("a: " + "[" * 100_000, 1, "nested deeper", id="far-too-deep"),
        pytest.param(
            "a: &a " + "[" * 20 + "]" * 20 + "\nb: " + "[" * 20 + "*a" + "]" * 20,
            2,
            "nested deeper",
            id="too-deep-by-an-alias",
        ),
    ],
)
def test_what_could_surprise_is_refused_with_its_line(
    text: str | bytes, line: int | None, message: str
) -> None:
    found_line, found = refusal(text)
    assert found_line == line
    assert message in found


def test_a_few_aliases_cannot_stand_for_a_billion_values() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
    assert "values, aliases included" in refusal("\n".join(lines))[1]


def test_a_file_above_the_bound_is_not_parsed() -> None:
    assert "is larger than" in refusal(b" " * (documents.DOCUMENT_BYTES_MAX + 1))[1]


def test_an_error_never_quotes_the_text_around_it() -> None:
    line, message = refusal("client_secret: 'hunter2\nx: y\n")
    assert line is not None
    assert "hunter2" not in message


@given(st.text(alphabet=st.sampled_from("ab:,[]{}&*!|>'\"%@`#-?~ \n\t\r\x00é1<="), max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        root = parse(text)
    except ConfigurationError:
        return
    assert isinstance(root.plain(), dict)


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    try:
        root = parse(content)
    except ConfigurationError:
        return
    assert isinstance(root.plain(), dict)
