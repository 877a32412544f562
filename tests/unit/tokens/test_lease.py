from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from fastapi.encoders import jsonable_encoder
from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError

from app.tokens.lease import SAFETY_MARGIN, Lease, fingerprint_of
from tests.unit.tokens.fakes import CONTOSO, NOON


def lease(token: str = "hunter2", *, key: bytes = b"") -> Lease:
    return Lease.of(
        token, expires_on=NOON, resource=CONTOSO, application="erp", fingerprint_key=key
    )


def test_a_lease_opens_its_token_when_it_is_sent() -> None:
    assert lease().authorization() == b"Bearer hunter2"
    assert lease().access_token() == "hunter2"


def test_a_lease_never_shows_its_token() -> None:
    for shown in (repr(lease()), str(lease()), f"{lease()}", repr(dataclasses.fields(lease()))):
        assert "hunter2" not in shown


def test_a_lease_is_not_pickled_copied_or_taken_apart() -> None:
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(lease())
    with pytest.raises(TypeError, match="not pickled"):
        copy.deepcopy(lease())
    with pytest.raises(TypeError, match="not pickled"):
        dataclasses.asdict(lease())


def test_a_lease_does_not_become_json() -> None:
    with pytest.raises(TypeError):
        json.dumps(lease())
    with pytest.raises(TypeError):
        msgspec.json.encode(lease())
    assert "hunter2" not in json.dumps(lease(), default=str)
    assert "hunter2" not in json.dumps(lease(), default=repr)
    try:
        encoded = json.dumps(jsonable_encoder(lease()), default=str)
    except (TypeError, ValueError):
        encoded = ""
    assert "hunter2" not in encoded


def test_a_lease_is_no_model_of_pydantic() -> None:
    with pytest.raises((PydanticSchemaGenerationError, ValidationError)):
        TypeAdapter(Lease).dump_json(lease())


def test_a_lease_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        lease().application = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("before_end", "good"),
    [
        (SAFETY_MARGIN + timedelta(microseconds=1), True),
        (SAFETY_MARGIN, False),
        (timedelta(0), False),
        (timedelta(hours=-1), False),
    ],
    ids=["just-outside-the-margin", "at-the-margin", "at-its-end", "after-its-end"],
)
def test_a_lease_is_good_until_the_margin(before_end: timedelta, *, good: bool) -> None:
    assert lease().is_good(NOON - before_end) is good


def test_a_lease_knows_its_end_in_utc() -> None:
    cet = timezone(timedelta(hours=1))
    lent = Lease.of(
        "t", expires_on=datetime(2026, 11, 24, 13, tzinfo=cet), resource=CONTOSO, application="erp"
    )
    assert lent.expires_on == NOON
    assert lent.expires_on.tzinfo is UTC


def test_a_lease_refuses_an_end_without_a_zone() -> None:
    with pytest.raises(ValueError, match="aware"):
        Lease.of("t", expires_on=NOON.replace(tzinfo=None), resource=CONTOSO, application="erp")


def test_a_fingerprint_tells_tokens_apart_and_shows_none() -> None:
    assert len(lease().fingerprint) == 16
    assert lease().fingerprint == lease().fingerprint
    assert lease().fingerprint != lease("hunter3").fingerprint
    assert fingerprint_of("hunter2", b"k1") != fingerprint_of("hunter2", b"k2")
    assert fingerprint_of("hunter2") == lease().fingerprint


def test_a_lease_under_another_name_is_the_same_token() -> None:
    other = lease().named("crm")
    assert other.application == "crm"
    assert other.authorization() == lease().authorization()
    assert other.fingerprint == lease().fingerprint
