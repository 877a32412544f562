"""A broker token says who its caller is for a quarter of an hour, and nothing outlives him."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import OKPKey

from app.config.model import Configuration
from app.identity.authenticator import Authenticator
from app.identity.broker_tokens import BrokerTokens
from app.identity.caller import Caller, IdentityRef
from app.identity.pinned import pinned
from app.identity.refusal import Unrecognised
from tests.unit.identity.issuing import encoded, okp_key, rsa_key, sign, unsigned
from tests.unit.identity.test_authenticator import Shown, bearer, loaded

pytestmark = pytest.mark.anyio

BROKER = "https://broker.example"
NOON = datetime(2027, 1, 1, 12, tzinfo=UTC)
AT_NOON = NOON.timestamp()
FIRST, SECOND = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()


def grant(environment: str) -> dict[str, Any]:
    return {"environment": environment, "application": "erp"}


def configuration(public_url: str = BROKER, **callers: Any) -> Configuration:
    loader = {"grants": [grant("contoso"), grant("fabrikam")], "roles": ["auditor"]}
    return Configuration.model_validate(
        {"public_url": public_url, "callers": callers or {"loader": loader}}
    )


def broker_tokens(*keys: Ed25519PrivateKey, config: Configuration | None = None) -> BrokerTokens:
    made = BrokerTokens(keys or (FIRST,))
    made.reload(config or configuration())
    return made


def given_by(broker: BrokerTokens, environment: str | None = None) -> bytes:
    token, _ = broker.give("loader", environment=environment, token_id="record-1", now=NOON)
    return token.encode()


def refusal(broker: BrokerTokens, token: bytes, now: float = AT_NOON) -> str:
    with pytest.raises(Unrecognised) as caught:
        broker.caller(token, now=now)
    return caught.value.reason


def test_a_token_is_a_jwt_that_others_can_verify_by_the_published_keys() -> None:
    broker = broker_tokens(FIRST, SECOND)
    token, ends = broker.give("loader", environment="contoso", token_id="record-1", now=NOON)
    keys = json.loads(broker.jwks())["keys"]
    assert [sorted(key) for key in keys] == [["alg", "crv", "kid", "kty", "use", "x"]] * 2
    read = jws.deserialize_compact(token, OKPKey.import_key(keys[0]), registry=pinned("EdDSA"))
    assert read.headers() == {"alg": "EdDSA", "kid": keys[0]["kid"], "typ": "at+jwt"}
    assert json.loads(read.payload or b"") == {
        "iss": BROKER,
        "aud": f"{BROKER}/environments/contoso",
        "sub": "loader",
        "client_id": "loader",
        "iat": AT_NOON,
        "exp": AT_NOON + 900,
        "jti": "record-1",
    }
    assert ends == NOON + timedelta(minutes=15)


def test_a_key_has_the_id_that_rfc_7638_gives_it() -> None:
    (key,) = json.loads(broker_tokens().jwks())["keys"]
    assert key["kid"] == OKPKey.import_key(key).thumbprint()


def test_the_published_keys_hold_no_private_half() -> None:
    published = broker_tokens().jwks()
    assert encoded(FIRST.private_bytes_raw()) not in published
    assert b'"d"' not in published


def test_a_token_proves_its_caller_with_the_rights_of_the_moment() -> None:
    broker = broker_tokens()
    token = given_by(broker)
    callers = configuration().callers
    expected = Caller("loader", IdentityRef("broker_token", "record-1"), callers["loader"])
    assert broker.remembered(token, now=AT_NOON) is None
    assert broker.caller(token, now=AT_NOON) == expected
    assert broker.remembered(token, now=AT_NOON) == expected
    poorer = configuration(loader={"grants": []})
    broker.reload(poorer)
    remembered = broker.remembered(token, now=AT_NOON)
    assert remembered is not None
    assert remembered.config is poorer.callers["loader"]


def test_a_token_for_one_environment_opens_no_other_and_no_address_for_roles() -> None:
    broker = broker_tokens()
    config = broker.caller(given_by(broker, "contoso"), now=AT_NOON).config
    assert [g.environment for g in config.grants] == ["contoso"]
    assert config.roles == ()
    assert broker.caller(given_by(broker), now=AT_NOON).config.roles == ("auditor",)


def test_a_token_for_an_environment_that_is_granted_no_more_opens_nothing() -> None:
    broker = broker_tokens()
    token = given_by(broker, "contoso")
    broker.reload(configuration(loader={"grants": [grant("fabrikam")]}))
    assert broker.caller(token, now=AT_NOON).config.grants == ()


def test_a_token_ends_with_its_quarter_of_an_hour_remembered_or_not() -> None:
    broker = broker_tokens()
    token = given_by(broker)
    assert broker.caller(token, now=AT_NOON + 899.9).name == "loader"
    assert broker.remembered(token, now=AT_NOON + 900) is None
    assert refusal(broker, token, AT_NOON + 900) == "jwt-expired"
    assert refusal(broker_tokens(), token, AT_NOON + 900) == "jwt-expired"


def test_a_token_of_the_future_is_refused_but_for_the_leeway() -> None:
    broker = broker_tokens()
    token = given_by(broker)
    assert refusal(broker, token, AT_NOON - 61) == "jwt-not-yet-valid"
    assert broker.caller(token, now=AT_NOON - 59).name == "loader"


def test_a_token_is_revoked_with_its_caller() -> None:
    broker = broker_tokens()
    token = given_by(broker)
    broker.caller(token, now=AT_NOON)
    broker.reload(configuration(loader={"disabled": True}))
    with pytest.raises(Unrecognised) as caught:
        broker.remembered(token, now=AT_NOON)
    assert (caught.value.reason, caught.value.caller) == ("caller-disabled", "loader")
    broker.reload(configuration(other={}))
    assert refusal(broker, token) == "caller-unknown"


def test_keys_overlap_while_they_are_changed() -> None:
    old = given_by(broker_tokens(FIRST))
    changed = broker_tokens(SECOND, FIRST)
    assert changed.caller(old, now=AT_NOON).name == "loader"
    assert broker_tokens(SECOND, FIRST).caller(given_by(changed), now=AT_NOON).name == "loader"
    only_new = broker_tokens(SECOND)
    assert not only_new.are(old)
    assert refusal(only_new, old) == "jwt-key-unknown"


def test_a_token_of_a_broker_elsewhere_is_refused_though_it_has_the_same_key() -> None:
    token = given_by(broker_tokens(config=configuration("https://other.example")))
    broker = broker_tokens()
    assert broker.are(token)
    assert refusal(broker, token) == "jwt-issuer-unknown"


def test_a_broker_that_moves_forgets_the_tokens_of_its_old_address() -> None:
    broker = broker_tokens()
    token = given_by(broker)
    broker.caller(token, now=AT_NOON)
    broker.reload(configuration("https://new.example"))
    assert broker.remembered(token, now=AT_NOON) is None
    assert refusal(broker, token) == "jwt-issuer-unknown"


def claims(**changed: Any) -> bytes:
    whole = {"iss": BROKER, "aud": BROKER, "sub": "loader", "jti": "1"}
    return json.dumps({**whole, "iat": AT_NOON, "exp": AT_NOON + 900, **changed}).encode()


def forged(**header: Any) -> bytes:
    """By whoever has seen a token and the published keys."""
    kid = json.loads(broker_tokens().jwks())["keys"][0]["kid"]
    return json.dumps({"alg": "EdDSA", "kid": kid, "typ": "at+jwt", **header}).encode()


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(unsigned(forged(alg="none"), claims()), id="no-algorithm"),
        pytest.param(unsigned(forged(), claims(), b"x" * 64), id="a-made-up-signature"),
        pytest.param(unsigned(forged(alg="HS256"), claims(), b"x" * 32), id="hs256"),
        pytest.param(unsigned(forged(kid="../../etc/passwd"), claims(), b"x" * 64), id="path"),
        pytest.param(unsigned(forged(jku="https://evil.example"), claims(), b"x" * 64), id="jku"),
        pytest.param(sign(okp_key("x"), claims(), algorithm="EdDSA"), id="another-key"),
        pytest.param(sign(rsa_key("one"), claims(), algorithm="RS256"), id="rsa"),
    ],
)
async def test_a_forged_token_is_nobodys(token: bytes) -> None:
    broker = Authenticator(broker_tokens=broker_tokens(), now=lambda: AT_NOON)
    with pytest.raises(Unrecognised):
        await broker.authenticate(bearer(token.decode()), None)


@given(st.data())
def test_a_token_that_was_changed_anywhere_is_nobodys(data: st.DataObject) -> None:
    broker = broker_tokens()
    token = given_by(broker)
    at = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda b: b != token[at]))
    changed = token[:at] + bytes([other]) + token[at + 1 :]
    try:
        caller = broker.caller(changed, now=AT_NOON)
    except Unrecognised:
        return
    # Four bits of the last character mean nothing: it is the same signature, spelt otherwise.
    assert (at, caller.name) == (len(token) - 1, "loader")


async def test_a_token_proves_nobody_where_token_requests_present_their_proof() -> None:
    own = broker_tokens()
    broker = Authenticator(broker_tokens=own, now=lambda: AT_NOON)
    whole = loaded(loader={"grants": []})
    broker.reload(whole)
    token = given_by(own).decode()
    caller = await broker.authenticate(bearer(token), None)
    assert caller.identity == IdentityRef("broker_token", "record-1")
    assert broker.authenticate_now(bearer(token)) == caller
    for kind in ("client_assertion", "subject_token", "client_secret", "identity_header"):
        with pytest.raises(Unrecognised):
            await broker.recognise(Shown(token, name="loader", kind=kind))


def test_no_more_tokens_are_remembered_than_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.identity.broker_tokens.REMEMBERED_MAX", 2)
    broker = broker_tokens()
    tokens = []
    for number in range(3):
        token, _ = broker.give("loader", environment=None, token_id=str(number), now=NOON)
        tokens.append(token.encode())
        broker.caller(tokens[-1], now=AT_NOON)
    assert [broker.remembered(t, now=AT_NOON) is None for t in tokens] == [True, False, False]


def test_nothing_shows_a_private_key() -> None:
    broker = broker_tokens()
    secret = FIRST.private_bytes_raw()
    shown = repr(broker._keys) + str(broker._keys)
    assert "private" not in shown
    assert secret.hex() not in shown
