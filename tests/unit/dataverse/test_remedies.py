"""What Dataverse refuses is explained, by its code where it has one, and never quoted."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.dataverse.remedies import BY_STATUS, OTHERWISE, REMEDIES, read_refusal

CODES = """
0x80040220 0x80072560 0x80095ffc 0x80048306 0x80040217 0x80060888 0x80040265 0x80044331 0x80044a02
0x80090017 0x80072553 0x80090487 0x80040333 0x80060882 0x80072322 0x80072321 0x80072326
"""
"""All that the reference lists."""


def error(code: str, message: str = "") -> bytes:
    return json.dumps({"error": {"code": code, "message": message}}).encode()


@pytest.mark.parametrize("code", CODES.split())
def test_every_code_of_the_reference_has_a_remedy(code: str) -> None:
    known = REMEDIES[code]
    assert not known.meaning.endswith(".")
    assert known.remedy.endswith(".")
    refusal = read_refusal(403, error(code.upper().replace("0X", "0x")))
    assert (refusal.code, refusal.meaning, refusal.remedy) == (code, *known)
    assert refusal.says == f"{known.meaning} ({code})"


LACKS = (
    "Principal user (Id=a, type=8, roleCount=1, privilegeCount=3, accessMode=4), is missing "
    "prvReadAccount privilege (Id=b) on OTC=1 for entity 'account'. context.Caller=a"
)
FAILS = (
    "SecLib::CheckPrivilege failed. User: a, PrivilegeName: prvReadEntity, PrivilegeId: b, "
    "Required Depth: Basic, BusinessUnitId: c"
)


@pytest.mark.parametrize(
    ("message", "privilege", "table"),
    [
        (LACKS, "prvReadAccount", "account"),
        (FAILS, "prvReadEntity", None),
        ("something else about hunter2", None, None),
    ],
    ids=["as-a-principal-lacks-it", "as-a-check-fails", "neither"],
)
def test_a_missing_privilege_is_named(
    message: str, privilege: str | None, table: str | None
) -> None:
    refusal = read_refusal(403, error("0x80040220", message))
    assert (refusal.privilege, refusal.table) == (privilege, table)
    assert (privilege or "0x80040220") in refusal.says
    assert "hunter2" not in repr(refusal)


@pytest.mark.parametrize(
    ("status", "body", "meaning"),
    [
        (401, b"", BY_STATUS[401].meaning),
        (403, b"<html>", BY_STATUS[403].meaning),
        (403, error("", "x"), BY_STATUS[403].meaning),
        (429, error("0x00000001"), BY_STATUS[429].meaning),
        (500, b"[]", OTHERWISE.meaning),
        (503, b'{"error": "x"}', OTHERWISE.meaning),
    ],
)
def test_what_has_no_known_code_is_explained_by_its_status(
    status: int, body: bytes, meaning: str
) -> None:
    assert read_refusal(status, body).meaning == meaning


@given(st.integers(100, 599), st.binary(max_size=300))
def test_reading_never_raises(status: int, body: bytes) -> None:
    read_refusal(status, body)
