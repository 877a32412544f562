"""The broker takes exactly one credential, from a header, or none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import BrokerError, Unreadable
from app.identity.presented import CREDENTIAL_BYTES_MAX, Presented, read_presented
from app.identity.refusal import DETAIL, Unrecognised

Header = tuple[bytes, bytes]

AUTHORIZATION = b"authorization"
X_API_KEY = b"x-api-key"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        pytest.param([], None, id="none"),
        pytest.param([(b"cookie", b"x-api-key=dvb_a_b")], None, id="a-cookie-is-none"),
        pytest.param(
            [(AUTHORIZATION, b"Bearer dvb_a_b")], Presented("api_key", b"dvb_a_b"), id="key"
        ),
        pytest.param([(X_API_KEY, b"dvb_a_b")], Presented("api_key", b"dvb_a_b"), id="x-api-key"),
        pytest.param([(AUTHORIZATION, b"Bearer a.b.c")], Presented("jwt", b"a.b.c"), id="jwt"),
        pytest.param([(AUTHORIZATION, b"bearer a.b.c")], Presented("jwt", b"a.b.c"), id="bearer"),
        pytest.param([(AUTHORIZATION, b"BEARER  a.b.c")], Presented("jwt", b"a.b.c"), id="spaces"),
        pytest.param(
            [(AUTHORIZATION, b"Bearer " + b"a" * CREDENTIAL_BYTES_MAX)],
            Presented("jwt", b"a" * CREDENTIAL_BYTES_MAX),
            id="as-long-as-may-be",
        ),
    ],
)
def test_one_credential_or_none_is_read(headers: list[Header], expected: Presented | None) -> None:
    assert read_presented(headers) == expected


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        pytest.param([(AUTHORIZATION, b"Bearer a")] * 2, "duplicate-header", id="same-twice"),
        pytest.param(
            [(AUTHORIZATION, b"Bearer a"), (AUTHORIZATION, b"")], "duplicate-header", id="and-empty"
        ),
        pytest.param([(X_API_KEY, b"a")] * 2, "duplicate-header", id="x-api-key-twice"),
        pytest.param(
            [(AUTHORIZATION, b"Bearer a"), (X_API_KEY, b"a")], "two-credentials", id="both"
        ),
        pytest.param(
            [(X_API_KEY, b"a"), (AUTHORIZATION, b"Basic a")], "two-credentials", id="both-kinds"
        ),
    ],
)
def test_two_credentials_are_unreadable(headers: list[Header], code: str) -> None:
    with pytest.raises(Unreadable) as caught:
        read_presented(headers)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        pytest.param((AUTHORIZATION, b""), "no-credential", id="empty"),
        pytest.param((AUTHORIZATION, b"Bearer"), "no-credential", id="bearer-alone"),
        pytest.param((AUTHORIZATION, b"Bearer "), "no-credential", id="bearer-and-space"),
        pytest.param((X_API_KEY, b""), "no-credential", id="empty-key"),
        pytest.param((AUTHORIZATION, b"Basic YTpi"), "malformed-credential", id="basic"),
        pytest.param((AUTHORIZATION, b"dvb_a_b"), "malformed-credential", id="no-scheme"),
        pytest.param((AUTHORIZATION, b"Bearer a b"), "malformed-credential", id="two-words"),
        pytest.param((AUTHORIZATION, b"Bearer a, Bearer b"), "malformed-credential", id="a-list"),
        pytest.param((AUTHORIZATION, b"Bearer\ta"), "malformed-credential", id="tab"),
        pytest.param((AUTHORIZATION, b'Bearer "a"'), "malformed-credential", id="quotes"),
        pytest.param((AUTHORIZATION, b"Bearer \xd0\xb0"), "malformed-credential", id="unicode"),
        pytest.param((X_API_KEY, b"dvb_a_b\x00"), "malformed-credential", id="nul"),
        pytest.param(
            (AUTHORIZATION, b"Bearer " + b"a" * 65536), "credential-too-long", id="64-kilobytes"
        ),
        pytest.param((X_API_KEY, b"a" * 65536), "credential-too-long", id="64-kilobyte-key"),
    ],
)
def test_what_is_no_credential_is_nobody(header: Header, reason: str) -> None:
    with pytest.raises(Unrecognised) as caught:
        read_presented([header])
    assert caught.value.reason == reason
    assert caught.value.detail == DETAIL


def test_a_presented_credential_is_never_shown() -> None:
    assert "hunter2" not in repr(Presented("api_key", b"hunter2"))


@given(
    st.lists(
        st.tuples(
            st.sampled_from([AUTHORIZATION, X_API_KEY, b"accept"]),
            st.one_of(st.binary(max_size=30), st.just(b"Bearer dvb_a_b")),
        ),
        max_size=4,
    )
)
def test_any_headers_give_one_credential_none_or_a_refusal(headers: list[Header]) -> None:
    try:
        presented = read_presented(headers)
    except BrokerError:
        return
    credentials = [value for name, value in headers if name != b"accept"]
    if presented is None:
        assert not credentials
    else:
        assert len(credentials) == 1
        assert presented.value in credentials[0]
