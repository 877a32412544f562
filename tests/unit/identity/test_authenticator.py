"""The broker knows a caller by one credential, and tells a stranger nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Any

import pytest

from app.config.loaded import Loaded
from app.config.model import Configuration, Issuer
from app.config.secrets import Secrets
from app.errors import Unreadable
from app.identity.authenticator import Authenticator
from app.identity.caller import IdentityRef
from app.identity.keys import digest
from app.identity.refusal import DETAIL, Unrecognised
from app.identity.uses import IdentityStatus
from tests.unit.identity.issuing import NOW as ISSUED
from tests.unit.identity.issuing import IssuerServer, rsa_key

pytestmark = pytest.mark.anyio

NOON = datetime(2027, 1, 1, 12, tzinfo=UTC).timestamp()
KEY = "dvb_loader_" + "0" * 64
OLD_KEY = "dvb_old_" + "1" * 64
OFF_KEY = "dvb_off_" + "2" * 64
SPIFFE = "spiffe://corp/erp/loader"
XFCC = (b"x-forwarded-client-cert", f"Hash=1;URI={SPIFFE}".encode())


@dataclass(frozen=True)
class Shown:
    """What a token request presents."""

    secret: str
    name: str | None = None
    kind: str = "identity_header"


def loaded(**callers: Any) -> Loaded:
    configuration = Configuration.model_validate(
        {"public_url": "https://broker.example", "callers": callers}
    )
    return Loaded(configuration=configuration, version="1", files=(), secrets=Secrets())


def api_key(key: str, **more: Any) -> dict[str, Any]:
    return {"api_key": {"sha256": digest(key), **more}}


CALLERS: dict[str, Any] = {
    "loader": {
        "identities": [
            api_key(KEY),
            api_key(OLD_KEY, expires="2026-12-31"),
            {"certificate": {"san": SPIFFE}},
        ]
    },
    "off": {"identities": [api_key(OFF_KEY)], "disabled": True},
}


def authenticator(**callers: Any) -> Authenticator:
    made = Authenticator(trusted_proxies=(ip_network("10.0.0.0/8"),), now=lambda: NOON)
    made.reload(loaded(**(callers or CALLERS)))
    return made


def bearer(credential: str) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"broker"), (b"authorization", f"Bearer {credential}".encode())]


async def refusal(
    broker: Authenticator, headers: list[tuple[bytes, bytes]], peer: str | None = "192.0.2.1"
) -> Unrecognised:
    with pytest.raises(Unrecognised) as caught:
        await broker.authenticate(headers, peer)
    return caught.value


@pytest.mark.parametrize("headers", [bearer(KEY), [(b"x-api-key", KEY.encode())]])
async def test_a_key_is_recognised_at_once_in_either_header(
    headers: list[tuple[bytes, bytes]],
) -> None:
    broker = authenticator()
    caller = broker.authenticate_now(headers)
    assert caller is not None
    assert (caller.name, caller.identity) == ("loader", IdentityRef("api_key", "loader"))
    assert await broker.authenticate(headers, None) is caller


async def test_a_stranger_learns_the_same_from_every_refusal() -> None:
    broker = authenticator()
    refusals = [
        await refusal(broker, headers)
        for headers in (
            [],
            bearer(""),
            bearer("dvb_loader_" + "f" * 64),
            bearer(OLD_KEY),
            bearer(OFF_KEY),
            bearer("a.b.c"),
            [(b"authorization", b"Basic YTpi")],
            [(b"cookie", KEY.encode())],
        )
    ]
    assert {(type(r), r.code, r.detail, r.retry_after_s) for r in refusals} == {
        (Unrecognised, "unauthenticated", DETAIL, None)
    }
    assert [r.extra for r in refusals] == [{}] * 8
    assert [(r.reason, r.caller) for r in refusals] == [
        ("no-credential", None),
        ("no-credential", None),
        ("unknown-key", None),
        ("expired-key", "loader"),
        ("caller-disabled", "off"),
        ("jwt-issuer-unknown", None),
        ("malformed-credential", None),
        ("no-credential", None),
    ]


async def test_nobody_is_known_before_the_first_configuration() -> None:
    assert (await refusal(Authenticator(), bearer(KEY))).reason == "unknown-key"


async def test_two_credentials_are_unreadable_even_when_both_are_right() -> None:
    headers = [*bearer(KEY), (b"x-api-key", KEY.encode())]
    with pytest.raises(Unreadable):
        authenticator().authenticate_now(headers)
    with pytest.raises(Unreadable):
        await authenticator().authenticate(headers, None)


async def test_a_forwarded_certificate_counts_from_a_trusted_proxy() -> None:
    caller = await authenticator().authenticate([XFCC], "10.1.2.3")
    assert (caller.name, caller.identity) == ("loader", IdentityRef("certificate", SPIFFE))


@pytest.mark.parametrize("peer", ["192.0.2.1", "127.0.0.1", None, "not an address"])
async def test_a_forwarded_certificate_from_anybody_else_is_nothing(peer: str | None) -> None:
    assert (await refusal(authenticator(), [XFCC], peer)).reason == "no-credential"


async def test_a_credential_of_ones_own_counts_before_the_proxys_certificate() -> None:
    broker = authenticator()
    assert (await broker.authenticate([*bearer(KEY), XFCC], "10.1.2.3")).identity.kind == "api_key"
    wrong = bearer("dvb_loader_" + "f" * 64)
    assert (await refusal(broker, [*wrong, XFCC], "10.1.2.3")).reason == "unknown-key"


async def test_a_reload_counts_from_the_next_request_on() -> None:
    broker = authenticator()
    broker.reload(loaded(other=CALLERS["loader"]))
    assert (await broker.authenticate(bearer(KEY), None)).name == "other"
    broker.reload(loaded())
    assert (await refusal(broker, bearer(KEY))).reason == "unknown-key"


async def test_last_uses_outlive_a_reload_of_the_same_identity_only() -> None:
    broker = authenticator()
    broker.recognise_now(Shown(KEY))
    await broker.authenticate([XFCC], "10.1.2.3")
    noon = datetime.fromtimestamp(NOON, UTC)
    new_year = datetime(2027, 1, 1, tzinfo=UTC)
    expected = (
        IdentityStatus("api_key", "loader", None, noon),
        IdentityStatus("api_key", f"sha256:{digest(OLD_KEY)[:8]}", new_year, None),
        IdentityStatus("certificate", SPIFFE, None, noon),
    )
    assert broker.identities("loader") == expected
    broker.reload(loaded(**CALLERS))
    assert broker.identities("loader") == expected
    assert broker.identities("nobody") == ()
    broker.reload(loaded(other=CALLERS["loader"]))
    assert [status.last_used for status in broker.identities("other")] == [None] * 3


async def test_a_jwt_is_waited_for_once_and_recognised_at_once_afterwards(
    server: IssuerServer,
) -> None:
    broker = Authenticator(now=lambda: ISSUED)
    jwt = {"jwt": {"issuer": "cluster", "claims": {"sub": "system:serviceaccount:erp:loader"}}}
    whole = loaded(loader={"identities": [jwt]})
    issuers = {"cluster": Issuer(issuer=server.url, audience="broker")}
    configuration = whole.configuration.model_copy(update={"issuers": issuers})
    broker.reload(replace(whole, configuration=configuration))
    token = server.token(rsa_key("one")).decode()

    assert broker.authenticate_now(bearer(token)) is None
    caller = await broker.authenticate(bearer(token), None)
    assert broker.authenticate_now(bearer(token)) == caller
    assert await broker.recognise(Shown(token, kind="client_assertion")) == caller
    assert [status.subject for status in broker.identities("loader")] == [caller.identity.id]
    for wrong in ("", "a b", "\ud800", "x" * 65536):
        with pytest.raises(Unrecognised):
            await broker.recognise(Shown(wrong, kind="subject_token"))
    # A key's place takes keys only, and a token's place tokens only.
    assert (await refusal(broker, [(b"x-api-key", token.encode())])).reason == "unknown-key"


async def test_a_key_in_another_protocols_field_is_the_same_key() -> None:
    broker = authenticator()
    for shown in (Shown(KEY), Shown(KEY, name="loader", kind="client_secret")):
        recognised = broker.recognise_now(shown)
        assert recognised is not None
        assert recognised.name == "loader"
        assert await broker.recognise(shown) is recognised
    for wrong in ("", KEY[:-1], "\ud800", "\U0001f511"):
        with pytest.raises(Unrecognised):
            broker.recognise_now(Shown(wrong))


@pytest.mark.parametrize("name", ["other", "Loader", "loader ", "", None])
async def test_a_client_id_that_is_not_the_callers_name_refuses_a_good_secret(
    name: str | None,
) -> None:
    with pytest.raises(Unrecognised) as caught:
        authenticator().recognise_now(Shown(KEY, name=name, kind="client_secret"))
    assert (caught.value.reason, caught.value.caller) == ("caller-name", "loader")


async def test_the_keys_of_a_configuration_are_those_that_were_generated() -> None:
    """The forms that an example uses: an id without dashes, twenty bytes of secret."""
    key = "dvb_t01reporting_3b48e9f25cfb38da11ac7b561e9bfa847d0ff4bd"
    broker = authenticator(reporting={"identities": [api_key(key)]})
    caller = broker.recognise_now(Shown(key))
    assert caller is not None
    assert caller.identity == IdentityRef("api_key", "t01reporting")
