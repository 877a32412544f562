from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from app.tokens.failure import Cause
from app.tokens.wire import Unanswered, Wire
from tests.unit.tokens.servers import Told, told_server

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def told() -> Iterator[Told]:
    with told_server() as told:
        yield told


@pytest.fixture
def wire() -> Iterator[Wire]:
    wire = Wire(None, read_timeout_s=0.3)
    yield wire
    wire.close()


def test_a_json_object_gets_through(told: Told, wire: Wire) -> None:
    told.answer({"access_token": "t"})
    assert wire.post(told.url, data={"a": "b"}).json() == {"access_token": "t"}
    assert told.asked[0][3] == b"a=b"


@pytest.mark.parametrize(
    ("status", "body", "cause"),
    [
        (200, b"", Cause.ENTRA_MALFORMED),
        (200, b"<html>", Cause.ENTRA_MALFORMED),
        (200, b"[1]", Cause.ENTRA_MALFORMED),
        (200, b"\xff", Cause.ENTRA_MALFORMED),
        (204, b"", Cause.ENTRA_MALFORMED),
        (400, b"<html>", Cause.APPLICATION_REFUSED),
        (401, b'{"error":"invalid_client","error_codes":[7000215]}', Cause.CREDENTIAL_REFUSED),
        (401, b"", Cause.CREDENTIAL_REFUSED),
        (429, b"slow down", Cause.ENTRA_THROTTLED),
        (500, b"", Cause.ENTRA_UNREACHABLE),
        (503, b"<html>", Cause.ENTRA_UNREACHABLE),
    ],
)
def test_nothing_else_does(told: Told, wire: Wire, status: int, body: bytes, cause: Cause) -> None:
    told.answer(body, status=status)
    for ask in (wire.get, wire.post):
        with pytest.raises(Unanswered) as caught:
            ask(told.url)
        assert caught.value.failure.cause is cause


def test_a_challenge_gets_through_only_where_it_is_wanted(told: Told, wire: Wire) -> None:
    told.answer({}, status=401, WWW_Authenticate="Basic realm=/var/opt/key")
    with pytest.raises(Unanswered):
        wire.get(told.url)
    answering = Wire(None, challenges=True)
    assert answering.get(told.url).headers["WWW-Authenticate"] == "Basic realm=/var/opt/key"
    told.answer({}, status=401)
    with pytest.raises(Unanswered):
        answering.get(told.url)
    answering.close()


def test_a_redirect_is_not_followed(told: Told, wire: Wire) -> None:
    told.answer({}, status=307, Location=f"{told.url}/elsewhere")
    with pytest.raises(Unanswered, match="HTTP 307"):
        wire.post(told.url, data={"client_secret": "hunter2"}, allow_redirects=True)
    assert len(told.asked) == 1


def test_a_cookie_is_not_kept(told: Told, wire: Wire) -> None:
    told.answer({}, Set_Cookie="fpc=1; Path=/")
    wire.get(told.url)
    wire.get(told.url)
    assert "Cookie" not in told.asked[1][2]


def test_a_retry_after_is_passed_on(told: Told, wire: Wire) -> None:
    told.answer(b"", status=503, Retry_After="17")
    with pytest.raises(Unanswered) as caught:
        wire.get(told.url)
    assert caught.value.failure.retry_after_s == 17


def test_a_slow_answer_is_not_waited_for(told: Told, wire: Wire) -> None:
    told.wait = threading.Event()
    with pytest.raises(Unanswered, match="does not answer in time") as caught:
        wire.get(told.url)
    assert caught.value.failure.cause is Cause.ENTRA_UNREACHABLE
    assert len(told.asked) == 1, "what may have arrived is not sent again"


def test_nobody_there_is_explained() -> None:
    wire = Wire(None, names="the managed identity endpoint")
    with pytest.raises(Unanswered, match="the managed identity endpoint cannot be reached"):
        wire.get("http://127.0.0.1:9/")
    wire.close()


def test_a_netrc_and_a_proxy_are_not_picked_up(
    told: Told, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    netrc = tmp_path_factory.mktemp("home") / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    told.answer({})
    direct = Wire(None)
    direct.get(told.url)
    direct.close()
    assert "Authorization" not in told.asked[0][2]


def test_a_proxy_of_the_environment_is_used_where_there_is_one(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", told.url)
    monkeypatch.setenv("no_proxy", "direct.example")
    told.answer({})
    through = Wire("http://entra.example")
    through.get("http://entra.example/a")
    through.close()
    assert told.asked[0][1] == "http://entra.example/a"
    assert not Wire("http://direct.example")._session.proxies.get("http")
