"""The keys of an issuer are fetched, kept, and asked for again within bounds."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from joserfc.jwk import OctKey

from app.config.model import Issuer
from app.identity.jwks import (
    DOCUMENT_BYTES_MAX,
    FIRST_INTERVAL_S,
    REFRESH_INTERVAL_S,
    STALE_AFTER_S,
    Jwks,
)
from app.identity.refusal import IssuerUnavailable, Unrecognised
from tests.unit.identity.issuing import IssuerServer, ec_key, okp_key, rsa_key

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

DISCOVERY = "/.well-known/openid-configuration"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def jwks(server: IssuerServer, clock: Clock | None = None, **changed: Any) -> Jwks:
    issuer = Issuer.model_validate({"issuer": server.url, "audience": "broker", **changed})
    return Jwks(issuer, monotonic=clock or Clock())


async def settled(keys: Jwks) -> None:
    if keys._renewal is not None:
        await keys._renewal


async def test_the_keys_are_found_by_discovery(server: IssuerServer) -> None:
    keys = jwks(server)
    assert (await keys.find("one", "RS256")).kid == "one"
    assert (await keys.find("one", "PS256")).kid == "one"
    assert server.asked == [DISCOVERY, "/keys"]


async def test_the_keys_are_found_at_a_given_address(server: IssuerServer) -> None:
    keys = jwks(server, issuer="urn:cluster", jwks_uri=f"{server.url}/keys")
    await keys.find("one", "RS256")
    assert server.asked == ["/keys"]


async def test_a_thousand_callers_at_once_ask_once(server: IssuerServer) -> None:
    keys = jwks(server)
    await asyncio.gather(*(keys.find("one", "RS256") for _ in range(1000)))
    assert server.asked == [DISCOVERY, "/keys"]


async def test_a_new_key_is_found_and_unknown_ones_ask_once_a_minute(
    server: IssuerServer,
) -> None:
    clock = Clock()
    keys = jwks(server, clock)
    await keys.find("one", "RS256")
    server.publish(rsa_key("one"), rsa_key("two"))
    server.asked.clear()

    async def unknown(kid: str) -> str:
        with pytest.raises(Unrecognised) as caught:
            await keys.find(kid, "RS256")
        return caught.value.reason

    clock.now += REFRESH_INTERVAL_S - 1
    assert await unknown("two") == "jwt-key-unknown"
    assert server.asked == []
    clock.now += 1
    assert (await keys.find("two", "RS256")).kid == "two"
    for i in range(20):
        assert await unknown(f"../../etc/{i}") == "jwt-key-unknown"
    assert server.asked == [DISCOVERY, "/keys"]


async def test_the_keys_are_kept_while_the_issuer_is_down(server: IssuerServer) -> None:
    clock = Clock()
    keys = jwks(server, clock)
    await keys.find("one", "RS256")
    server.fail()
    clock.now += 10 * STALE_AFTER_S
    assert (await keys.find("one", "RS256")).kid == "one"
    await settled(keys)
    clock.now += REFRESH_INTERVAL_S
    with pytest.raises(IssuerUnavailable) as caught:
        await keys.find("two", "RS256")
    assert (caught.value.code, caught.value.retry_after_s) == ("issuer-unavailable", 60)


async def test_a_withdrawn_key_ends_with_the_next_refresh(server: IssuerServer) -> None:
    clock = Clock()
    keys = jwks(server, clock)
    await keys.find("one", "RS256")
    server.publish(rsa_key("two"))
    clock.now += STALE_AFTER_S
    await keys.find("one", "RS256")
    await settled(keys)
    await keys.find("one", "RS256")
    clock.now += 1
    # Nobody waits for the refresh, so the withdrawn key counts for the request that began it.
    await keys.find("one", "RS256")
    await settled(keys)
    with pytest.raises(Unrecognised):
        await keys.find("one", "RS256")


async def test_nobody_waits_for_a_slow_issuer_while_keys_are_at_hand(
    server: IssuerServer,
) -> None:
    clock = Clock()
    keys = jwks(server, clock)
    await keys.find("one", "RS256")
    clock.now += 2 * STALE_AFTER_S
    server.slow_s = 0.2
    async with asyncio.timeout(0.1):
        for _ in range(50):
            assert (await keys.find("one", "RS256")).kid == "one"
    await settled(keys)
    assert server.asked == [DISCOVERY, "/keys"] * 2


async def test_an_address_with_a_query_is_asked_as_it_is(server: IssuerServer) -> None:
    """Entra's keys of an application with claims mapping stand at `…/keys?appid=…`."""
    server.documents["/keys/?appid=1"] = server.documents["/keys"]
    await jwks(server, jwks_uri=f"{server.url}/keys/?appid=1").find("one", "RS256")
    assert server.asked == ["/keys/?appid=1"]


async def test_without_any_key_the_issuer_is_asked_soon_again(server: IssuerServer) -> None:
    clock = Clock()
    keys = jwks(server, clock)
    server.fail()
    for _ in range(3):
        with pytest.raises(IssuerUnavailable) as caught:
            await keys.find("one", "RS256")
    assert caught.value.retry_after_s == FIRST_INTERVAL_S
    assert server.asked == [DISCOVERY]
    server.publish(rsa_key("one"))
    clock.now += FIRST_INTERVAL_S
    assert (await keys.find("one", "RS256")).kid == "one"


async def test_a_request_that_goes_away_leaves_the_next_one_free_to_ask(
    server: IssuerServer,
) -> None:
    keys = jwks(server)
    first = asyncio.create_task(keys.find("one", "RS256"))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert (await keys.find("one", "RS256")).kid == "one"


@pytest.mark.parametrize(
    ("path", "document", "status"),
    [
        pytest.param(DISCOVERY, {"issuer": "https://evil.example"}, 200, id="another-issuer"),
        pytest.param(DISCOVERY, {}, 302, id="redirect"),
        pytest.param(DISCOVERY, b"[]", 200, id="discovery-no-object"),
        pytest.param("/keys", {}, 302, id="redirected-keys"),
        pytest.param("/keys", b"<html>", 200, id="html"),
        pytest.param("/keys", {"keys": {}}, 200, id="keys-no-list"),
        pytest.param("/keys", {"keys": []}, 200, id="no-key"),
        pytest.param("/keys", {"keys": [{"kty": "RSA"}] * 101}, 200, id="too-many"),
        pytest.param("/keys", b" " * (DOCUMENT_BYTES_MAX + 1), 200, id="too-long"),
        pytest.param("/keys", b"[" * 100_000, 200, id="too-deep"),
    ],
)
async def test_an_answer_that_is_no_key_set_is_no_answer(
    server: IssuerServer, path: str, document: Any, status: int
) -> None:
    server.serve(path, document, status)
    with pytest.raises(IssuerUnavailable):
        await jwks(server).find("one", "RS256")


@pytest.mark.parametrize(
    "uri", ["http://evil.example/keys", "file:///etc/passwd", "https://user@evil.example/keys", 7]
)
async def test_a_discovery_document_chooses_no_unsafe_address(
    server: IssuerServer, uri: Any
) -> None:
    server.serve(DISCOVERY, {"issuer": server.url, "jwks_uri": uri})
    with pytest.raises(IssuerUnavailable):
        await jwks(server).find("one", "RS256")


async def test_nobody_listening_is_no_answer() -> None:
    issuer = Issuer(issuer="http://127.0.0.1:1", audience="broker")
    with pytest.raises(IssuerUnavailable):
        await Jwks(issuer).find("one", "RS256")


@pytest.mark.parametrize(
    ("algorithm", "kid"),
    [
        ("RS256", "rsa"),
        ("PS512", "rsa"),
        ("ES256", "p256"),
        ("ES384", "p384"),
        ("EdDSA", "ed"),
        ("Ed25519", "ed"),
    ],
)
async def test_a_key_is_used_with_the_algorithms_of_its_family_only(
    server: IssuerServer, algorithm: str, kid: str
) -> None:
    server.publish(rsa_key("rsa"), ec_key("p256"), ec_key("p384", "P-384"), okp_key("ed"))
    keys = jwks(server)
    assert (await keys.find(kid, algorithm)).kid == kid
    for other in {"rsa", "p256", "p384", "ed"} - {kid}:
        with pytest.raises(Unrecognised):
            await keys.find(other, algorithm)


async def test_a_key_for_one_algorithm_is_used_for_no_other(server: IssuerServer) -> None:
    server.publish(rsa_key("one"), alg="RS256")
    keys = jwks(server)
    await keys.find("one", "RS256")
    with pytest.raises(Unrecognised):
        await keys.find("one", "PS256")


async def test_a_token_without_kid_needs_a_set_in_which_one_key_suits(
    server: IssuerServer,
) -> None:
    server.publish(rsa_key("one"), ec_key("p256"))
    assert (await jwks(server).find(None, "RS256")).kid == "one"
    server.publish(rsa_key("one"), rsa_key("two"))
    with pytest.raises(Unrecognised):
        await jwks(server).find(None, "RS256")


@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")  # the test makes a short one
async def test_what_cannot_check_signatures_is_passed_over(server: IssuerServer) -> None:
    good = rsa_key("one").as_dict(private=False)
    short = rsa_key("short", 1024).as_dict(private=False)
    unusable: list[Any] = [
        short,
        OctKey.generate_key(256, {"kid": "symmetric"}).as_dict(private=True),
        rsa_key("private").as_dict(private=True),
        {**good, "kid": "encrypts", "use": "enc"},
        {**good, "kid": "signs", "key_ops": ["sign"]},
        {**good, "kid": 7},
        {**good, "kid": "garbled", "n": "!"},
        {"kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA", "kid": "off-curve"},
        {"kty": "AKP", "kid": "tomorrow"},
        "nonsense",
    ]
    server.serve("/keys", {"keys": [*unusable, good]})
    keys = jwks(server)
    assert (await keys.find("one", "RS256")).kid == "one"
    for kid in ("short", "symmetric", "private", "encrypts", "signs", "garbled", "off-curve"):
        with pytest.raises(Unrecognised):
            await keys.find(kid, "RS256")


async def test_the_own_token_goes_to_places_that_the_configuration_names(
    server: IssuerServer, tmp_path: Path
) -> None:
    token_file = tmp_path / "token"
    token_file.write_text("own-token\n")
    await jwks(server, token_file=str(token_file)).find("one", "RS256")
    assert server.authorization == {DISCOVERY: "Bearer own-token", "/keys": "Bearer own-token"}

    with IssuerServer(rsa_key("one")) as elsewhere:
        server.serve(DISCOVERY, {"issuer": server.url, "jwks_uri": f"{elsewhere.url}/keys"})
        await jwks(server, token_file=str(token_file)).find("one", "RS256")
        assert elsewhere.authorization == {"/keys": None}


async def test_a_ca_that_is_not_there_is_no_answer(server: IssuerServer, tmp_path: Path) -> None:
    with pytest.raises(IssuerUnavailable):
        await jwks(server, ca_file=str(tmp_path / "no.pem")).find("one", "RS256")
