"""A JWT is a caller when a configured issuer signed it for the broker, and one caller matches."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.config.model import Configuration
from app.identity import jwts as jwts_module
from app.identity.caller import IdentityRef
from app.identity.jwks import Jwks
from app.identity.jwts import REMEMBERED_S, Jwts
from app.identity.refusal import DETAIL, Unrecognised
from app.identity.uses import Uses
from tests.unit.identity.issuing import (
    NOW,
    IssuerServer,
    ec_key,
    encoded,
    okp_key,
    rsa_key,
    sign,
    signed_with_public_key,
    unsigned,
)

if TYPE_CHECKING:
    from app.identity.caller import Caller

pytestmark = pytest.mark.anyio

SUBJECT = "system:serviceaccount:erp:loader"
KEY = rsa_key("one")


def configuration(
    server: IssuerServer, *, issuer: dict[str, Any] | None = None, **callers: Any
) -> Configuration:
    entries = callers or {"loader": {"sub": SUBJECT}}
    return Configuration.model_validate(
        {
            "public_url": "https://broker.example",
            "issuers": {"cluster": {"issuer": server.url, "audience": "broker", **(issuer or {})}},
            "callers": {
                name: {
                    "identities": [{"jwt": {"issuer": "cluster", "claims": claims}}],
                    "disabled": name.startswith("off"),
                }
                for name, claims in entries.items()
            },
        }
    )


def known(server: IssuerServer, *, issuer: dict[str, Any] | None = None, **callers: Any) -> Jwts:
    jwts = Jwts(Uses())
    jwts.reload(configuration(server, issuer=issuer, **callers))
    return jwts


async def accepted(jwts: Jwts, token: bytes, now: float = NOW) -> Caller:
    return await jwts.caller(token, now=now)


async def refusal(jwts: Jwts, token: bytes, now: float = NOW) -> str:
    with pytest.raises(Unrecognised) as caught:
        await jwts.caller(token, now=now)
    assert (caught.value.code, caught.value.detail) == ("unauthenticated", DETAIL)
    assert jwts.remembered(token, now=now) is None
    return caught.value.reason


async def test_a_good_token_is_its_caller(server: IssuerServer) -> None:
    caller = await accepted(known(server), server.token(KEY))
    assert (caller.name, caller.identity) == ("loader", IdentityRef("jwt", f"cluster:{SUBJECT}"))


@pytest.mark.parametrize(
    ("algorithm", "key"),
    [
        ("RS256", KEY),
        ("PS384", KEY),
        ("ES256", ec_key("p256")),
        ("ES384", ec_key("p384", "P-384")),
        ("EdDSA", okp_key("ed")),
        ("Ed25519", okp_key("ed")),
    ],
)
async def test_each_algorithm_counts_where_the_issuer_is_pinned_to_it(
    server: IssuerServer, algorithm: str, key: Any
) -> None:
    server.publish(key)
    token = server.token(key, algorithm)
    pinned = known(server, issuer={"algorithms": [algorithm]})
    assert (await accepted(pinned, token)).name == "loader"
    other = "RS512" if algorithm != "RS512" else "RS256"
    assert await refusal(known(server, issuer={"algorithms": [other]}), token) == "jwt-algorithm"


# ----------------------------------------------------------------------------- attacks


async def test_a_token_without_a_signature_is_refused(server: IssuerServer) -> None:
    payload = json.dumps(server.claims()).encode()
    for algorithm in ("none", "None", "NONE", ""):
        header = json.dumps({"alg": algorithm, "kid": "one"}).encode()
        assert await refusal(known(server), unsigned(header, payload, b"x")) == "jwt-algorithm"
        assert await refusal(known(server), unsigned(header, payload)) == "jwt-malformed"


async def test_the_public_key_is_no_hmac_secret(server: IssuerServer) -> None:
    token = signed_with_public_key(KEY, json.dumps(server.claims()).encode())
    assert await refusal(known(server), token) == "jwt-algorithm"


@pytest.mark.parametrize(
    "kid", ["../../../../dev/null", "/etc/passwd", "one' OR '1'='1", "http://evil/keys", "", "One"]
)
async def test_a_key_id_leads_nowhere_but_into_the_key_set(server: IssuerServer, kid: str) -> None:
    token = sign(rsa_key("evil"), json.dumps(server.claims()).encode(), kid=kid)
    assert await refusal(known(server), token) == "jwt-key-unknown"
    assert set(server.asked) == {"/.well-known/openid-configuration", "/keys"}


async def test_another_key_under_a_known_id_is_refused(server: IssuerServer) -> None:
    token = sign(rsa_key("evil"), json.dumps(server.claims()).encode(), kid="one")
    assert await refusal(known(server), token) == "jwt-signature"


async def test_a_token_brings_no_key_along(server: IssuerServer) -> None:
    with IssuerServer(rsa_key("evil")) as evil:
        for header in (
            {"jku": f"{evil.url}/keys"},
            {"x5u": f"{evil.url}/keys"},
            {"jwk": rsa_key("evil").as_dict(private=False)},
            {"x5c": ["MIIB"]},
        ):
            payload = json.dumps(server.claims()).encode()
            token = sign(rsa_key("evil"), payload, kid="one", **header)
            assert await refusal(known(server), token) == "jwt-malformed"
        assert evil.asked == []


@pytest.mark.parametrize(
    "header", [{"crit": ["exp"], "exp": 1}, {"b64": False, "crit": ["b64"]}, {"zip": "DEF"}]
)
async def test_an_extension_that_the_broker_does_not_know_is_refused(
    server: IssuerServer, header: dict[str, Any]
) -> None:
    payload = json.dumps(server.claims()).encode()
    head = json.dumps({"alg": "RS256", "kid": "one", **header}).encode()
    assert await refusal(known(server), unsigned(head, payload, b"x")) == "jwt-malformed"


@pytest.mark.parametrize(
    "issuer", ["https://evil.example", "", None, 7, ["x"], "https://sts.windows.net/other/"]
)
async def test_another_tenants_issuer_is_nobody(server: IssuerServer, issuer: Any) -> None:
    assert await refusal(known(server), server.token(KEY, iss=issuer)) == "jwt-issuer-unknown"
    assert server.asked == []


async def test_an_issuer_is_compared_byte_for_byte(server: IssuerServer) -> None:
    for issuer in (
        server.url + "/",
        server.url.upper(),
        server.url.replace("127.0.0.1", "localhost"),
    ):
        assert await refusal(known(server), server.token(KEY, iss=issuer)) == "jwt-issuer-unknown"


@pytest.mark.parametrize(
    "audience",
    [
        pytest.param(None, id="none"),
        pytest.param("", id="empty"),
        pytest.param("Broker", id="other-case"),
        pytest.param("broker/", id="with-slash"),
        pytest.param("https://contoso.crm4.dynamics.com", id="dataverse"),
        pytest.param("https://kubernetes.default.svc", id="api-server"),
        pytest.param([], id="empty-list"),
        pytest.param(["other", "another"], id="list-of-others"),
        pytest.param(["broker", 7], id="list-with-a-number"),
        pytest.param([["broker"]], id="list-in-a-list"),
        pytest.param({"broker": True}, id="object"),
        pytest.param(True, id="true"),
    ],
)
async def test_a_token_for_somebody_else_is_refused(server: IssuerServer, audience: Any) -> None:
    assert await refusal(known(server), server.token(KEY, aud=audience)) == "jwt-audience"


@pytest.mark.parametrize("audience", ["broker", ["broker"], ["other", "broker"]])
async def test_a_token_for_the_broker_counts(server: IssuerServer, audience: Any) -> None:
    assert (await accepted(known(server), server.token(KEY, aud=audience))).name == "loader"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        pytest.param({"exp": NOW - 60}, "jwt-expired", id="expired"),
        pytest.param({"exp": 0}, "jwt-expired", id="expired-long-ago"),
        pytest.param({"exp": None}, "jwt-claims", id="without-an-end"),
        pytest.param({"exp": "9999999999"}, "jwt-claims", id="end-as-text"),
        pytest.param({"exp": True}, "jwt-claims", id="end-as-true"),
        pytest.param({"exp": 10**400}, "jwt-claims", id="end-beyond-numbers"),
        pytest.param({"nbf": NOW + 61}, "jwt-not-yet-valid", id="not-yet"),
        pytest.param({"iat": NOW + 61}, "jwt-not-yet-valid", id="from-the-future"),
        pytest.param({"cnf": {"jkt": "x"}}, "jwt-claims", id="bound-to-a-key"),
        pytest.param({"nbf": []}, "jwt-claims", id="begin-as-list"),
        pytest.param({"scp": "user_impersonation"}, "jwt-for-a-person", id="delegated"),
        pytest.param({"scp": ""}, "jwt-for-a-person", id="delegated-for-nothing"),
        pytest.param({"idtyp": "user"}, "jwt-for-a-person", id="a-users"),
        pytest.param({"nonce": "x"}, "jwt-for-a-person", id="an-id-token"),
    ],
)
async def test_a_token_out_of_its_time_or_of_a_person_is_refused(
    server: IssuerServer, changed: dict[str, Any], reason: str
) -> None:
    assert await refusal(known(server), server.token(KEY, **changed)) == reason


@pytest.mark.parametrize(
    "changed",
    [
        {"exp": NOW - 59},
        {"nbf": NOW + 60},
        {"iat": NOW + 60},
        {"nbf": None, "iat": None},
        {"idtyp": "app"},
    ],
)
async def test_a_minutes_difference_of_clocks_is_forgiven(
    server: IssuerServer, changed: dict[str, Any]
) -> None:
    assert (await accepted(known(server), server.token(KEY, **changed))).name == "loader"


async def test_a_persons_token_counts_where_the_issuer_is_configured_so(
    server: IssuerServer,
) -> None:
    jwts = known(server, issuer={"app_only": False})
    assert (await accepted(jwts, server.token(KEY, scp="access"))).name == "loader"


async def test_entras_id_tokens_with_roles_are_no_applications() -> None:
    """They carry no `scp`, and the roles of the person who signed in."""
    tenant = "https://login.microsoftonline.com/aaaaaaaa-0000-0000-0000-000000000001/v2.0"
    with IssuerServer(KEY) as server:
        jwts = known(
            server,
            issuer={"issuer": tenant, "jwks_uri": f"{server.url}/keys"},
            loader={"roles": "Loader"},
        )
        claims: dict[str, Any] = {"iss": tenant, "roles": ["Loader"]}
        assert await refusal(jwts, server.token(KEY, **claims)) == "jwt-for-a-person"
        assert (await accepted(jwts, server.token(KEY, azp="client", **claims))).name == "loader"
        assert (await accepted(jwts, server.token(KEY, appid="client", **claims))).name == "loader"


async def test_entras_key_of_another_tenant_signs_nothing_here() -> None:
    """`common` key sets name the issuer that each key belongs to."""
    base = "https://login.microsoftonline.com"
    tenant = "aaaaaaaa-0000-0000-0000-000000000001"
    with IssuerServer(KEY) as server:
        jwts_of = {"issuer": f"{base}/{tenant}/v2.0", "jwks_uri": f"{server.url}/keys"}
        claims = {"iss": f"{base}/{tenant}/v2.0", "azp": "client", "tid": tenant}
        for issuer, expected in [
            (f"{base}/{{tenantid}}/v2.0", None),
            (f"{base}/{tenant}/v2.0", None),
            (f"{base}/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0", "jwt-key-unknown"),
        ]:
            server.publish(KEY, issuer=issuer)
            jwts = known(server, issuer=jwts_of)
            token = server.token(KEY, **claims)
            if expected is None:
                assert (await accepted(jwts, token)).name == "loader"
            else:
                assert await refusal(jwts, token) == expected


async def test_a_claim_that_stands_twice_is_refused(server: IssuerServer) -> None:
    good = json.dumps(server.claims())
    for payload in (
        good.replace('"sub":', '"sub": "system:serviceaccount:erp:admin", "sub":'),
        good.replace('"aud":', '"aud": "other", "aud":'),
        good[:-1] + ', "x": {"a": 1, "a": 2}}',
    ):
        assert await refusal(known(server), sign(KEY, payload.encode())) == "jwt-malformed"
    head = b'{"alg":"RS256","alg":"none","kid":"one"}'
    token = unsigned(head, good.encode(), b"x")
    assert await refusal(known(server), token) == "jwt-malformed"


@pytest.mark.parametrize(
    "token",
    [
        b"",
        b"a",
        b"a.b",
        b"a.b.c",
        b"a.b.c.d.e",
        b"...",
        b"e30.e30.e30",
        b"e30.e30.",
        b"e30=.e30.e30",
        b"e3+.e30.e30",
        encoded(b"[]") + b".e30.e30",
        encoded(b'{"alg":NaN}') + b".e30.e30",
        encoded(b'{"alg":7}') + b".e30.e30",
        encoded(b'{"alg":"RS256","kid":7}') + b".e30.e30",
        encoded(b'\xef\xbb\xbf{"alg":"RS256"}') + b".e30.e30",
        encoded(b"\xff") + b".e30.e30",
        encoded(b"[" * 8000) + b".e30.e30",
    ],
)
async def test_what_is_no_jwt_is_refused(server: IssuerServer, token: bytes) -> None:
    assert await refusal(known(server), token) == "jwt-malformed"


async def test_a_changed_token_is_refused(server: IssuerServer) -> None:
    token = server.token(KEY)
    header, payload, signature = token.split(b".")
    claims = server.claims(sub="system:serviceaccount:erp:admin")
    changed = encoded(json.dumps(claims).encode())
    jwts = known(server, admin={"sub": "system:serviceaccount:erp:admin"})
    for forged in (
        b".".join([header, changed, signature]),
        b".".join([header, payload, signature[:-4] + b"AAAA"]),
        b".".join([header, payload, signature + b"AAAA"]),
        b".".join([header, payload, encoded(b"\x00" * 256)]),
    ):
        assert await refusal(jwts, forged) == "jwt-signature"


# ---------------------------------------------------------------------------- matching


@pytest.mark.parametrize(
    ("claims", "wanted"),
    [
        pytest.param({}, {"sub": SUBJECT}, id="one-claim"),
        pytest.param({"azp": "a", "tid": "t"}, {"azp": "a", "tid": "t"}, id="two-claims"),
        pytest.param({"roles": ["x", "y"]}, {"roles": "x"}, id="one-of-a-list"),
        pytest.param({"roles": ["x", "y", "z"]}, {"roles": ["z", "x"]}, id="all-of-several"),
        pytest.param({"roles": "x"}, {"roles": ["x"]}, id="text-for-a-list-of-one"),
    ],
)
async def test_all_claims_that_are_named_must_match(
    server: IssuerServer, claims: dict[str, Any], wanted: dict[str, Any]
) -> None:
    jwts = known(server, loader=wanted)
    assert (await accepted(jwts, server.token(KEY, **claims))).name == "loader"


@pytest.mark.parametrize(
    ("claims", "wanted"),
    [
        pytest.param({"sub": SUBJECT + "2"}, {"sub": SUBJECT}, id="longer"),
        pytest.param({"sub": SUBJECT.upper()}, {"sub": SUBJECT}, id="other-case"),
        pytest.param({"sub": SUBJECT.replace("e", "\u0435")}, {"sub": SUBJECT}, id="look-alike"),
        pytest.param({"sub": None}, {"sub": SUBJECT}, id="missing"),
        pytest.param({"sub": {"x": SUBJECT}}, {"sub": SUBJECT}, id="object"),
        pytest.param({"azp": "a", "tid": "u"}, {"azp": "a", "tid": "t"}, id="one-of-two-differs"),
        pytest.param({"azp": "a"}, {"azp": "a", "tid": "t"}, id="one-of-two-is-missing"),
        pytest.param({"roles": ["x", "y"]}, {"roles": ["x", "z"]}, id="not-all-of-several"),
        pytest.param({"roles": ["xy"]}, {"roles": "x"}, id="part-of-an-item"),
        pytest.param({"roles": "x y"}, {"roles": "x"}, id="part-of-a-text"),
        pytest.param({"roles": [["x"]]}, {"roles": "x"}, id="nested-list"),
        pytest.param({"oid": 1}, {"oid": "1"}, id="number"),
        pytest.param({"oid": True}, {"oid": "True"}, id="true"),
    ],
)
async def test_a_valid_signature_alone_is_nobody(
    server: IssuerServer, claims: dict[str, Any], wanted: dict[str, Any]
) -> None:
    token = server.token(KEY, **claims)
    assert await refusal(known(server, loader=wanted), token) == "jwt-matches-nobody"


async def test_a_token_that_two_callers_match_is_refused(server: IssuerServer) -> None:
    """Loading sees it only where one match covers the other."""
    jwts = known(server, one={"sub": SUBJECT}, two={"roles": "x"})
    assert (await accepted(jwts, server.token(KEY))).name == "one"
    assert await refusal(jwts, server.token(KEY, roles=["x"])) == "jwt-matches-several"


async def test_a_disabled_caller_is_refused(server: IssuerServer) -> None:
    jwts = known(server, off={"sub": SUBJECT})
    assert await refusal(jwts, server.token(KEY)) == "caller-disabled"


async def test_an_issuer_vouches_for_its_own_callers_only(server: IssuerServer) -> None:
    with IssuerServer(rsa_key("two")) as other:
        jwts = Jwts(Uses())
        jwts.reload(
            Configuration.model_validate(
                {
                    "public_url": "https://broker.example",
                    "issuers": {
                        "one": {"issuer": server.url, "audience": "broker"},
                        "two": {"issuer": other.url, "audience": "broker"},
                    },
                    "callers": {
                        name: {
                            "identities": [{"jwt": {"issuer": name, "claims": {"sub": SUBJECT}}}]
                        }
                        for name in ("one", "two")
                    },
                }
            )
        )
        assert (await accepted(jwts, server.token(KEY))).name == "one"
        assert (await accepted(jwts, other.token(rsa_key("two")))).name == "two"
        forged = sign(rsa_key("two"), json.dumps(server.claims()).encode())
        assert await refusal(jwts, forged) == "jwt-key-unknown"


async def test_what_an_issuer_calls_its_subject_cannot_deface_a_record(
    server: IssuerServer,
) -> None:
    jwts = known(server, loader={"azp": "a"})
    token = server.token(KEY, azp="a", sub="x\r\n\x1b[31m" + "y" * 500)
    shown = (await accepted(jwts, token)).identity.id
    assert shown == "cluster:x\ufffd\ufffd\ufffd[31m" + "y" * 192 + "…"


# -------------------------------------------------------------------------- remembering


async def test_a_verified_token_is_remembered_until_its_end(server: IssuerServer) -> None:
    jwts = known(server)
    token = server.token(KEY)
    assert jwts.remembered(token, now=NOW) is None
    await accepted(jwts, token)
    for now, expected in [(NOW, True), (NOW + 659, True), (NOW + 660, False)]:
        assert (jwts.remembered(token, now=now) is not None) is expected
    assert await refusal(jwts, token, now=NOW + 660) == "jwt-expired"


async def test_a_year_long_token_is_verified_again_within_the_hour(server: IssuerServer) -> None:
    jwts = known(server)
    token = server.token(KEY, exp=NOW + 365 * 86400)
    await accepted(jwts, token)
    assert jwts.remembered(token, now=NOW + REMEMBERED_S - 1) is not None
    assert jwts.remembered(token, now=NOW + REMEMBERED_S) is None


async def test_whose_a_remembered_token_is_is_decided_each_time(server: IssuerServer) -> None:
    jwts = known(server)
    token = server.token(KEY)
    await accepted(jwts, token)
    server.fail()

    jwts.reload(configuration(server, other={"sub": SUBJECT}))
    caller = jwts.remembered(token, now=NOW)
    assert caller is not None
    assert caller.name == "other"

    jwts.reload(configuration(server, off={"sub": SUBJECT}))
    with pytest.raises(Unrecognised) as caught:
        jwts.remembered(token, now=NOW)
    assert caught.value.reason == "caller-disabled"

    jwts.reload(configuration(server, other={"sub": "somebody else"}))
    with pytest.raises(Unrecognised):
        jwts.remembered(token, now=NOW)


@pytest.mark.parametrize(
    "changed",
    [
        {"issuer": {"audience": "another"}},
        {"issuer": {"algorithms": ["PS256"]}},
        {"loader": {"sub": SUBJECT, "ns": "erp"}},
    ],
)
async def test_a_change_of_the_issuer_forgets_its_tokens(
    server: IssuerServer, changed: dict[str, Any]
) -> None:
    jwts = known(server)
    token = server.token(KEY)
    await accepted(jwts, token)
    jwts.reload(configuration(server, **changed))
    assert jwts.remembered(token, now=NOW) is None


async def test_an_issuer_that_is_gone_takes_its_tokens_along(server: IssuerServer) -> None:
    jwts = known(server)
    token = server.token(KEY)
    await accepted(jwts, token)
    jwts.reload(Configuration(public_url="https://broker.example"))
    assert jwts.remembered(token, now=NOW) is None
    assert await refusal(jwts, token) == "jwt-issuer-unknown"


async def test_no_more_than_a_bound_is_remembered(
    server: IssuerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwts_module, "REMEMBERED_MAX", 2)
    jwts = known(server)
    tokens = [server.token(KEY, jti=str(i)) for i in range(3)]
    for token in tokens:
        await accepted(jwts, token)
    found = [jwts.remembered(token, now=NOW) is not None for token in tokens]
    assert found == [False, True, True]


async def test_a_reload_while_keys_are_fetched_decides_by_the_new_rules(
    server: IssuerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    jwts = known(server)
    fetched = Jwks.find

    async def find(self: Any, kid: str | None, algorithm: str) -> Any:
        key = await fetched(self, kid, algorithm)
        monkeypatch.setattr(Jwks, "find", fetched)
        jwts.reload(configuration(server, issuer={"audience": "another"}))
        return key

    monkeypatch.setattr(Jwks, "find", find)
    assert await refusal(jwts, server.token(KEY)) == "jwt-audience"


async def test_a_remembered_token_is_not_shown(server: IssuerServer) -> None:
    jwts = known(server)
    token = server.token(KEY)
    await accepted(jwts, token)
    (verified,) = jwts._verified.values()
    assert SUBJECT not in repr(verified).replace(f"cluster:{SUBJECT}", "")
    assert token.decode() not in repr(verified)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(
    token=st.one_of(
        st.binary(max_size=80),
        st.from_regex(rb"[A-Za-z0-9_-]{0,40}(\.[A-Za-z0-9_-]{0,40}){2}", fullmatch=True),
    )
)
async def test_any_bytes_are_nobody(server: IssuerServer, token: bytes) -> None:
    with pytest.raises(Unrecognised):
        await known(server).caller(token, now=NOW)
