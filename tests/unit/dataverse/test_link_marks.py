from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.dataverse.link_marks import may_name_a_link
from app.dataverse.links import _ESCAPED_NAME, _NAME_END, LINK_NAMES

_ROW = b'{"@odata.etag":"W/\\"7\\"","name":"Contoso \\u00f6","@odata.count":1,"linked":"x"}'


@pytest.mark.parametrize("name", LINK_NAMES)
def test_every_links_name_is_noticed_anywhere(name: str) -> None:
    mark = f'@odata.{name}"'.encode()
    for before in (b"", _ROW, "größe".encode(), b"\xff"):
        for after in (b"", _ROW, "größe".encode(), b"\xff"):
            assert may_name_a_link(before + mark + after)


@pytest.mark.parametrize("letter", sorted(set("".join(["@odata.", *LINK_NAMES]))))
def test_every_letter_that_is_written_as_an_escape_is_noticed(letter: str) -> None:
    for escape in (f"\\u{ord(letter):04x}", f"\\u{ord(letter):04X}"):
        assert may_name_a_link(_ROW + escape.encode() + _ROW)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(_ROW * 1000, id="rows"),
        pytest.param(_ROW + "größe € 😀".encode() + _ROW, id="UTF-8"),
        pytest.param("größe".encode()[3:] + _ROW, id="half a letter first"),
        pytest.param(_ROW + "😀".encode()[:2], id="half a letter last"),
        pytest.param(b'"@odata.nextLin', id="half a name"),
    ],
)
def test_what_names_no_link_is_denied(data: bytes) -> None:
    assert not may_name_a_link(data)


def test_what_cannot_be_read_is_never_denied() -> None:
    assert may_name_a_link(_ROW + b"\xff" + _ROW)
    assert may_name_a_link("a\ud800b".encode("utf-8", "surrogatepass"))


@given(
    st.lists(
        st.one_of(
            st.sampled_from(
                [b"@odata.", b'"', b"\\", b"\\u00", b"4", b"F", b"Link", b'k"', b"\xc3"]
            ),
            st.sampled_from([name.encode() for name in LINK_NAMES]),
            st.binary(max_size=3),
            st.text(max_size=3).map(str.encode),
        )
    ).map(b"".join)
)
def test_no_name_that_a_close_look_finds_is_denied(data: bytes) -> None:
    if _NAME_END.search(data) or _ESCAPED_NAME.search(data):
        assert may_name_a_link(data)
