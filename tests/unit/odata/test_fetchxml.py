from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import Unreadable
from app.odata.fetchxml import LEVELS_MAX, NODES_MAX, Node, read_fetch

NAMES = st.sampled_from(["name", "account", "a1", "_x"])
TEXTS = st.text(
    st.characters(blacklist_categories=["Cs", "Cc"], whitelist_characters="\t\n\r"), max_size=6
).filter(lambda s: not set(s) & {"\ufffe", "\uffff"})


def entity(inside: str, attributes: str = "") -> str:
    return f"<fetch{attributes}><entity name='account'>{inside}</entity></fetch>"


def condition(inside: str, attributes: str = "") -> str:
    opening = f"<condition attribute='a' operator='eq'{attributes}>"
    return f"<filter>{opening}{inside}</condition></filter>"


CONDITIONS = st.builds(
    lambda name, value, values: Node(
        "condition",
        (("attribute", name), ("operator", "eq"), ("value", value)),
        tuple(Node("value", text=v) for v in values),
    ),
    NAMES,
    TEXTS,
    st.lists(TEXTS.filter(bool), max_size=2),
)
FILTERS: st.SearchStrategy[Node] = st.recursive(
    st.builds(lambda c: Node("filter", (("type", "or"),), tuple(c)), st.lists(CONDITIONS)),
    lambda inner: st.builds(lambda f: Node("filter", (), tuple(f)), st.lists(inner, max_size=3)),
    max_leaves=4,
)
ROWS = st.lists(
    st.one_of(
        st.builds(lambda n: Node("attribute", (("name", n),)), NAMES),
        st.builds(lambda n: Node("order", (("attribute", n), ("descending", "true"))), NAMES),
        st.just(Node("all-attributes")),
        FILTERS,
    ),
    max_size=4,
)
LINKS = st.builds(
    lambda rows: Node(
        "link-entity", (("name", "contact"), ("from", "a"), ("to", "b")), tuple(rows)
    ),
    ROWS,
)
FETCHES = st.builds(
    lambda rows, links, value: Node(
        "fetch", (("version", value),), (Node("entity", (("name", "account"),), (*rows, *links)),)
    ),
    ROWS,
    st.lists(LINKS, max_size=2),
    TEXTS,
)


@given(FETCHES)
def test_what_is_written_reads_back(root: Node) -> None:
    assert read_fetch(root.xml()).root == root


@given(st.text(max_size=30))
def test_nothing_else_is_raised(source: str) -> None:
    for text in (source, entity(source), entity("", f' paging-cookie="{source}"')):
        try:
            read_fetch(text)
        except Unreadable:
            continue


@pytest.mark.parametrize(
    "source",
    [
        "", "x", "<fetch/>", "<fetch><entity name='a'/></fetch",
        "<Fetch><entity name='a'/></Fetch>", "<fetch><entity/></fetch>",
        "<fetch><entity name='a b'/></fetch>", "<fetch>x<entity name='a'/></fetch>",
        "<fetch><entity name='a'/><entity name='b'/></fetch>",
        "<fetch><link-entity name='a'/></fetch>", entity("<foo/>"), entity("x"),
        entity("<attribute/>"), entity("<attribute name='a' foo='b'/>"),
        entity("<attribute name='a' alias='b.c'/>"),
        entity("<filter><attribute name='a'/></filter>"),
        entity("<filter><condition attribute='a'/></filter>"),
        entity("<link-entity name='a' from='b'/>"),
        entity(condition("<value><value/></value>")),
        entity("", " count='x'"), entity("", " count='-1'"), entity("", " top='1.5'"),
        entity("", " foo='1'"), "<!DOCTYPE fetch><fetch><entity name='a'/></fetch>",
        entity("&foo;"), "<a:fetch xmlns:a='b'><entity name='a'/></a:fetch>",
        "<fetch xmlns='b'><entity name='a'/></fetch>", entity("", " paging-cookie='x'"),
        entity("", " paging-cookie='&lt;a/&gt;'"), entity("", " paging-cookie='&lt;cookie'"),
        entity("", " paging-cookie='" + quote("<a/>") + "'"),
        entity("", " paging-cookie='&lt;cookie&gt;&lt;a&gt;&lt;b/&gt;&lt;/a&gt;&lt;/cookie&gt;'"),
        entity("", " paging-cookie='%2525252525253C'"),
    ],
)  # fmt: skip
def test_what_is_not_known_is_refused(source: str) -> None:
    with pytest.raises(Unreadable) as caught:
        read_fetch(source)
    assert caught.value.code == "bad-fetchxml"


@pytest.mark.parametrize("codings", [0, 1, 2, 3])
def test_a_paging_cookie_names_columns_however_it_is_encoded(codings: int) -> None:
    cookie = '<cookie page="1"><name last="50%25" first="a"/><accountid last="{1}"/></cookie>'
    for _ in range(codings):
        cookie = quote(cookie, safe="")
    root = Node("fetch", (("paging-cookie", cookie),), (Node("entity", (("name", "account"),)),))
    assert read_fetch(root.xml()).cookie_columns == ("name", "accountid")


def test_a_cookie_that_hides_a_column_behind_another_coding_hides_nothing() -> None:
    cookie = '<cookie page="1"><name last="x%22/%3E%3Csecret last=%225"/></cookie>'
    root = Node("fetch", (("paging-cookie", cookie),), (Node("entity", (("name", "account"),)),))
    assert read_fetch(root.xml()).cookie_columns == ("name", "secret")


def test_levels_and_elements_are_bounded() -> None:
    inside = LEVELS_MAX - 2
    read_fetch(entity("<filter>" * inside + "</filter>" * inside))
    with pytest.raises(Unreadable) as caught:
        read_fetch(entity("<filter>" * (inside + 1) + "</filter>" * (inside + 1)))
    assert caught.value.code == "limit-exceeded"
    read_fetch(entity("<attribute name='a'/>" * (NODES_MAX - 2)))
    with pytest.raises(Unreadable) as caught:
        read_fetch(entity("<attribute name='a'/>" * (NODES_MAX - 1)))
    assert caught.value.code == "limit-exceeded"


def test_comments_and_declarations_say_nothing() -> None:
    plain = read_fetch(entity("<attribute name='a'/>"))
    noisy = "<?xml version='1.0'?>" + entity("<!-- x --><attribute name='a'/><?pi x?>\n")
    assert read_fetch(noisy) == plain


def test_an_element_does_not_show_its_values() -> None:
    source = entity(condition("<value>hunter2</value>", " value='hunter2'"))
    assert "hunter2" not in repr(read_fetch(source))
