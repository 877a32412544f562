from __future__ import annotations

import pytest

from app.tokens.loopback import LoopbackWire, is_plain_loopback
from app.tokens.wire import Unanswered
from tests.unit.tokens.servers import told_server


@pytest.mark.parametrize(
    ("authority", "plain"),
    [
        ("http://127.0.0.1:8443", True),
        ("http://[::1]:8443", True),
        ("http://localhost", True),
        ("https://127.0.0.1:8443", False),
        ("http://10.0.0.1", False),
        ("http://localhost.example", False),
        ("http://login.microsoftonline.com", False),
    ],
)
def test_only_loopback_does_without_tls(authority: str, plain: bool) -> None:  # noqa: FBT001
    assert is_plain_loopback(authority) is plain


def test_msal_sees_https_and_the_wire_does_not() -> None:
    with told_server() as told:
        told.answer({"token_endpoint": f"{told.url}/t/token", "elsewhere": "http://other/x"})
        wire = LoopbackWire(told.url)
        secure = told.url.replace("http:", "https:")
        answer = wire.get(f"{secure}/t/.well-known/openid-configuration")
        answer.raise_for_status()
        assert told.asked[0][:2] == ("GET", "/t/.well-known/openid-configuration")
        assert f'"token_endpoint": "{secure}/t/token"' in answer.text
        assert '"elsewhere": "http://other/x"' in answer.text
        wire.close()


def test_no_secret_goes_to_another_host_than_the_authority() -> None:
    wire = LoopbackWire("http://127.0.0.1:9")
    for url in ("https://127.0.0.1:99/token", "http://127.0.0.1:9/token", "https://evil/token"):
        with pytest.raises(Unanswered, match="another host"):
            wire.post(url, data={"client_secret": "hunter2"})


def test_an_answer_never_shows_its_token() -> None:
    with told_server() as told:
        told.answer({"access_token": "hunter2"})
        wire = LoopbackWire(told.url)
        answer = wire.post(f"{told.url.replace('http:', 'https:')}/token", data={})
        assert "hunter2" in answer.text
        assert "hunter2" not in repr(answer)
        wire.close()
