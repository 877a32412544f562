from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from app.errors import PreconditionFailed, UpstreamFailed
from app.odata.reading import Batch
from app.policy.decision import Allow
from app.policy.looking import found, look_up_target, read_look_up
from tests.unit.policy.granting import A, B, granting
from tests.unit.policy.trying import Request, attempt, decoded

if TYPE_CHECKING:
    from app.policy.grants import Grant

GRANT = granting(
    {
        "accounts": {
            "operations": ["read", "update", "delete", "append_to"],
            "row_filter": "statecode eq 0 or statecode eq 1",
        },
        "contacts": {"operations": ["read", "create", "update", "append_to"]},
    }
)
JSON = [("Content-Type", "application/json")]


def allowed(request: Request, grant: Grant = GRANT) -> Allow:
    decision = attempt(grant, request).decision
    assert isinstance(decision, Allow)
    return decision


def test_a_look_up_asks_for_the_filter_and_the_key() -> None:
    (look_up,) = allowed(Request("GET", f"accounts({A})?$select=name")).look_ups
    assert decoded(look_up_target(look_up, GRANT.schema)) == (
        "accounts?$select=accountid&$filter=(statecode eq 0 or statecode eq 1) and"
        f" accountid eq {A}&$top=2"
    )


def test_a_look_up_by_an_alternate_key_asks_for_its_columns() -> None:
    (look_up,) = allowed(Request("GET", "accounts(accountnumber='O''Neil')")).look_ups
    assert decoded(look_up_target(look_up, GRANT.schema)).endswith(
        " and accountnumber eq 'O''Neil'&$top=2"
    )


def test_a_row_that_is_not_there_is_no_row_of_this_caller() -> None:
    allow = allowed(Request("GET", f"accounts({A})"))
    with pytest.raises(PreconditionFailed) as caught:
        found(allow.reading, dict.fromkeys(allow.look_ups))
    assert caught.value.code == "no-such-row"
    assert A not in caught.value.detail


@pytest.mark.parametrize(
    ("brought", "met"),
    [
        (None, True),
        ("*", True),
        ('W/"1"', True),
        ('W/"0", W/"1"', True),
        ('W/"2"', False),
        ('"1"', False),
    ],
)
def test_the_callers_etag_must_be_the_rows(brought: str | None, met: bool) -> None:  # noqa: FBT001
    headers = JSON if brought is None else [*JSON, ("If-Match", brought)]
    allow = allowed(Request("PATCH", f"accounts({A})", headers, b'{"name":"x"}'))
    etags = dict.fromkeys(allow.look_ups, 'W/"1"')
    if not met:
        with pytest.raises(PreconditionFailed) as caught:
            found(allow.reading, etags)
        assert caught.value.code == "etag-mismatch"
        return
    assert found(allow.reading, etags).headers.if_match == 'W/"1"'


def test_a_read_and_a_bound_row_carry_no_precondition() -> None:
    body = f'{{"parentcustomerid_account@odata.bind":"/accounts({A})"}}'.encode()
    for request in (
        Request("GET", f"accounts({A})"),
        Request("PATCH", f"contacts({B})", [*JSON, ("If-Match", "*")], body),
    ):
        allow = allowed(request)
        (look_up,) = allow.look_ups
        assert not look_up.applies_precondition
        assert found(allow.reading, {look_up: 'W/"1"'}) is allow.reading


def test_each_part_of_a_batch_gets_its_own_rows_etag() -> None:
    parts = "".join(
        f"--b\r\nContent-Type: application/http\r\n\r\nDELETE accounts({row}) HTTP/1.1\r\n\r\n"
        for row in (A, B)
    )
    headers = [("Content-Type", "multipart/mixed; boundary=b")]
    allow = allowed(Request("POST", "$batch", headers, f"{parts}--b--".encode()))
    etags = {look_up: f'W/"{look_up.part}"' for look_up in allow.look_ups}
    batch = found(allow.reading, dict(etags)).body
    assert isinstance(batch, Batch)
    assert [p.reading.headers.if_match for p in batch.parts()] == ['W/"1"', 'W/"2"']


def test_an_answer_is_a_row_or_none() -> None:
    assert read_look_up(b'{"value":[{"@odata.etag":"W/\\"1\\""}]}') == 'W/"1"'
    assert read_look_up(b'{"value":[]}') is None
    row = b'{"@odata.etag":"W/\\"1\\""}'
    assert read_look_up(b'{"value":[%b,%b]}' % (row, row)) is None


@pytest.mark.parametrize(
    "body", [b"", b"x", b"[]", b"{}", b'{"value":1}', b'{"value":[{}]}', b'{"value":[1]}']
)
def test_another_answer_is_nonsense(body: bytes) -> None:
    with pytest.raises(UpstreamFailed) as caught:
        read_look_up(body)
    assert caught.value.code == "upstream-malformed"
