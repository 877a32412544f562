from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import Unreadable
from app.odata.links import Bases, Reference, read_reference
from app.odata.segments import Key
from app.odata.tree import Literal

ID = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
ROW = f"accounts({ID})"
BASES = Bases(
    "https://broker.example/dv/environments/prod",
    "https://broker.example/dv",
    "https://contoso.crm4.dynamics.com",
    "v9.2",
)


@pytest.mark.parametrize(
    "base",
    [
        "", "/api/data/v9.2/", "/dv/environments/prod/api/data/v9.2/",
        "https://broker.example/dv/environments/prod/api/data/v9.2/",
        "https://broker.example/dv/api/data/v9.2/",
        "https://contoso.crm4.dynamics.com/api/data/v9.2/",
        "https://contoso.api.crm4.dynamics.com/api/data/v9.2/",
        "HTTPS://Contoso.CRM4.dynamics.com/api/data/v9.2/",
        "https://contoso.crm4.dynamics.com:443/api/data/v9.2/",
        "https://broker.example:443/dv/environments/prod/api/data/v9.2/",
    ],
)  # fmt: skip
def test_every_way_to_write_this_environment_is_read(base: str) -> None:
    assert BASES.relative(base + ROW) == ROW
    found = read_reference(base + ROW, BASES)
    assert found == Reference("accounts", Key(((None, Literal(ID)),)), absolute="://" in base)


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/api/data/v9.2/", "//contoso.crm4.dynamics.com/api/data/v9.2/",
        "http://contoso.crm4.dynamics.com/api/data/v9.2/",
        "https://contoso.crm4.dynamics.com/api/data/v9.1/",
        "https://contoso.crm4.dynamics.com:8443/api/data/v9.2/",
        "https://contoso.crm4.dynamics.com.evil.example/api/data/v9.2/",
        "https://contoso.crm4.dynamics.com@evil.example/api/data/v9.2/",
        "https://user@contoso.crm4.dynamics.com/api/data/v9.2/",
        "https://contoso.crm.dynamics.com/api/data/v9.2/",
        "https://api.crm4.dynamics.com/api/data/v9.2/",
        "https://contoso-api.crm4.dynamics.com/api/data/v9.2/",
        "https://broker.example/dv/environments/dev/api/data/v9.2/",
        "https://broker.example/environments/prod/api/data/v9.2/",
        "https://contoso.crm4.dynamics.com//api/data/v9.2/", "https:/api/data/v9.2/",
        "https:\\\\contoso.crm4.dynamics.com\\api\\data\\v9.2\\", "javascript:", "file:///",
        "/dv/environments/dev/api/data/v9.2/", "/api/data/v9.0/", "/x/",
    ],
)  # fmt: skip
def test_what_leads_elsewhere_is_refused(url: str) -> None:
    assert BASES.relative(url + ROW) is None
    with pytest.raises(Unreadable) as caught:
        read_reference(url + ROW, BASES)
    assert caught.value.code == "bad-link-target"


def test_a_reference_may_be_rooted_at_the_service() -> None:
    assert read_reference("/" + ROW, BASES) == read_reference(ROW, BASES)


@pytest.mark.parametrize(
    "url",
    [
        "", "/", "accounts", "accounts()", "accounts(1)/", f"{ROW}/name", f"{ROW}?a=b", f"{ROW}#a",
        f"{ROW} ", f" {ROW}", "accounts%2f(1)", "accounts(1", "$", "$x", "$1/name",
        "accounts(a=@p)", f"../{ROW}", f"./{ROW}", "\x00", "accounts(a='\n')", f"N.T({ROW})",
    ],
)  # fmt: skip
def test_what_is_not_one_row_is_refused(url: str) -> None:
    with pytest.raises(Unreadable) as caught:
        read_reference(url, BASES)
    assert caught.value.code == "bad-link-target"


def test_a_content_id_stands_for_a_row() -> None:
    assert read_reference("$12", BASES) == Reference(content_id="12")
    assert read_reference("$12", BASES).relative() == "$12"


@given(st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=8))
def test_a_reference_that_is_written_reads_back(value: str) -> None:
    key = value.replace("'", "''").replace("%", "%25")
    if set(value) & set("/\\?#."):
        return
    found = read_reference(f"accounts(name='{key}')", BASES)
    assert read_reference(found.relative(), BASES) == found
    assert found.relative().isascii()


@given(st.text(max_size=30))
def test_nothing_else_is_raised(url: str) -> None:
    for text in (url, f"accounts({url})"):
        try:
            read_reference(text, BASES)
        except Unreadable:
            continue
