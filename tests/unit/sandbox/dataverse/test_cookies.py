from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.sandbox.dataverse.cookies import (
    Continuation,
    Mark,
    cookie_xml,
    read_cookie,
    read_skip_token,
    skip_token,
)
from app.sandbox.dataverse.failures import Failed

ROW = "49b0be2e-d01c-ed11-b83e-000d3a572421"


def test_a_skip_token_looks_like_dataverses() -> None:
    token = skip_token(1, [Mark("contactid", ROW, ROW)])
    assert token == (
        '<cookie pagenumber="2" pagingcookie="%3ccookie%20page%3d%221%22%3e%3ccontactid%20last%3d'
        "%22%7b49B0BE2E-D01C-ED11-B83E-000D3A572421%7d%22%20first%3d%22%7b49B0BE2E-D01C-ED11-B83E-"
        '000D3A572421%7d%22%20%2f%3e%3c%2fcookie%3e" istracking="False" />'
    )


@given(st.lists(st.text(alphabet=st.characters(exclude_categories=["C"])) | st.none(), min_size=1))
def test_a_skip_token_gives_back_its_values(values: list[str | None]) -> None:
    marks = [Mark(f"c{n}", value) for n, value in enumerate(values)]
    assert read_skip_token(skip_token(3, marks, since=7)) == Continuation(4, tuple(marks), 7)


def test_null_is_told_from_an_empty_text() -> None:
    marks = (Mark("a", None), Mark("b", ""))
    assert 'lastnull="1"' in cookie_xml(1, marks)
    assert read_cookie(cookie_xml(1, marks)) == marks


@pytest.mark.parametrize("token", ["", "2", "<cookie pagenumber='2' />", '<cookie pagenumber="2"'])
def test_a_token_that_is_none_is_refused(token: str) -> None:
    with pytest.raises(Failed) as failed:
        read_skip_token(token)
    assert failed.value.status == 400
