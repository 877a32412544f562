from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from app.sandbox.entra import jws

RS256, BOTH = frozenset({"RS256"}), frozenset({"RS256", "PS256"})


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.mark.parametrize("algorithm", ["RS256", "PS256"])
def test_a_signed_token_is_read_back_and_verified(key: rsa.RSAPrivateKey, algorithm: str) -> None:
    token = jws.read(jws.sign({"sub": "x"}, key, header={"kid": "k"}, algorithm=algorithm))
    assert token.unverified_claims == {"sub": "x"}
    assert token.header == {"typ": "JWT", "alg": algorithm, "kid": "k"}
    assert token.signed_by(key.public_key(), algorithms=BOTH)
    assert token.signed_by(key.public_key(), algorithms=RS256) is (algorithm == "RS256")


def test_a_changed_token_is_not_signed(key: rsa.RSAPrivateKey) -> None:
    head, _, signature = jws.sign({"sub": "x"}, key, header={}).split(".")
    other = jws.b64url(b'{"sub":"y"}')
    assert not jws.read(f"{head}.{other}.{signature}").signed_by(key.public_key(), algorithms=RS256)


def test_a_key_goes_into_a_jwk_and_back(key: rsa.RSAPrivateKey) -> None:
    jwk = jws.to_jwk(key.public_key(), key_id="k", alg="RS256")
    assert set(jwk) == {"kty", "use", "kid", "n", "e", "alg"}
    found = jws.from_jwk(jwk)
    assert found is not None
    assert found.public_numbers() == key.public_key().public_numbers()
    assert jws.from_jwk({"kty": "EC"}) is None


@pytest.mark.parametrize(
    "token",
    [
        "",
        "a",
        "e30.e30",
        "e30.e30.e30.e30",
        "W10.e30.",
        "e30.W10.",
        "e30.e30.!",
        "é.e30.",
        jws.b64url(b'{"crit":["b64"]}') + ".e30.",
        jws.b64url(b"[" * 100_000) + ".e30.",
    ],
    ids=lambda token: repr(token[:20]),
)
def test_a_token_that_cannot_be_read_is_malformed(token: str) -> None:
    with pytest.raises(jws.Malformed):
        jws.read(token)


@given(st.text() | st.tuples(st.text(), st.text(), st.text()).map(".".join))
def test_a_token_is_read_or_malformed_whatever_it_is(token: str) -> None:
    try:
        read = jws.read(token)
    except jws.Malformed:
        return
    assert isinstance(read.unverified_claims, dict)


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=5,
)


@given(st.dictionaries(st.text(), json_values))
def test_claims_survive_whatever_they_hold(claims: dict[str, Any]) -> None:
    assert jws.read(f"e30.{jws.b64url(jws._compact(claims))}.").unverified_claims == claims


@given(st.binary())
def test_base64url_is_read_padded_or_not(data: bytes) -> None:
    text = jws.b64url(data)
    assert jws.from_b64url(text) == jws.from_b64url(text + "=" * (-len(text) % 4)) == data
