"""What MsalEntra does around MSAL; the whole of it runs in tests/path/test_tokens_entra.py."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from app.tokens.answers import Obtained
from app.tokens.credentials import CredentialReader
from app.tokens.entra import MsalEntra
from app.tokens.failure import Cause, Failure
from app.tokens.forgetful import ForgetfulCache
from app.tokens.material import Material, Registration
from app.tokens.workers import Workers
from tests.unit.tokens.fakes import CONTOSO, FakeSecrets, application, secret_credential

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

pytestmark = pytest.mark.anyio


@pytest.fixture
async def entra() -> AsyncIterator[MsalEntra]:
    entra = MsalEntra(request_timeout_s=0.2)
    yield entra
    await entra.aclose()


def material(obtain: Callable[[str], dict[str, Any]]) -> Material:
    return Material(kind="managed_identity", id="i", fingerprint="f", obtain=obtain)


def raising(error: Exception) -> Callable[[str], dict[str, Any]]:
    def obtain(_resource: str) -> dict[str, Any]:
        raise error

    return obtain


REGISTRATION = Registration.of(application())


async def test_whatever_msal_raises_is_a_failure_that_is_not_quoted(entra: MsalEntra) -> None:
    for error in (ValueError("hunter2"), KeyError("hunter2"), OSError("hunter2")):
        result = await entra.request(REGISTRATION, material(raising(error)), CONTOSO)
        assert isinstance(result, Failure)
        assert result.cause is Cause.ENTRA_MALFORMED
        assert "hunter2" not in repr(result)
        assert type(error).__name__ in result.meaning


async def test_an_error_that_msal_returns_is_explained(entra: MsalEntra) -> None:
    answer = {"error": "invalid_client", "error_codes": [7000222]}
    result = await entra.request(REGISTRATION, material(lambda _: answer), CONTOSO)
    assert isinstance(result, Failure)
    assert (result.cause, result.aadsts) == (Cause.CREDENTIAL_REFUSED, 7000222)


async def test_msals_moment_of_renewal_becomes_a_duration(entra: MsalEntra) -> None:
    answer = {"access_token": "t", "expires_in": 3600, "refresh_on": int(time.time()) + 1800}
    result = await entra.request(REGISTRATION, material(lambda _: answer), CONTOSO)
    assert isinstance(result, Obtained)
    assert result.refresh_in_s == pytest.approx(1800, abs=3)


async def test_an_entra_that_never_answers_is_not_waited_for(entra: MsalEntra) -> None:
    stop = threading.Event()

    def never(_resource: str) -> dict[str, Any]:
        stop.wait(5)
        return {}

    result = await entra.request(REGISTRATION, material(never), CONTOSO)
    stop.set()
    assert isinstance(result, Failure)
    assert result.cause is Cause.ENTRA_UNREACHABLE


async def test_a_credential_that_hangs_or_breaks_is_unreadable(entra: MsalEntra) -> None:
    stop = threading.Event()

    class Hanging(FakeSecrets):
        def data(self, _reference: object) -> Any:
            stop.wait(5)

    class Broken(FakeSecrets):
        def data(self, _reference: object) -> Any:
            raise RuntimeError("hunter2")

    for secrets in (Hanging(), Broken()):
        result = await entra.read(CredentialReader(secrets), application(), secret_credential("A"))
        assert isinstance(result, Failure)
        assert result.cause is Cause.CREDENTIAL_UNREADABLE
        assert "hunter2" not in repr(result)
    stop.set()


async def test_a_ca_file_that_is_not_there_is_explained(entra: MsalEntra) -> None:
    app = application()
    read = await entra.read(CredentialReader(FakeSecrets(A="s")), app, app.credentials[0])
    assert isinstance(read, Material)
    from pathlib import Path

    registration = REGISTRATION._replace(ca_file=Path("not-there.pem"))
    result = await entra.request(registration, read, CONTOSO)
    assert isinstance(result, Failure)
    assert "not-there.pem is not there" in result.meaning


async def test_workers_run_so_many_at_once_and_no_more() -> None:
    import asyncio

    workers, running, most = Workers(threads=3), [0], [0]
    lock = threading.Lock()

    def work() -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.01)
        with lock:
            running[0] -= 1

    await asyncio.gather(*(workers.run(work, timeout_s=5) for _ in range(12)))
    assert most[0] == 3


def test_msals_cache_keeps_nothing() -> None:
    cache = ForgetfulCache()
    cache.add({"response": {"access_token": "hunter2"}, "scope": ["s"], "client_id": "c"})
    assert list(cache.search("AccessToken")) == []
    assert cache.find("AccessToken") == []
    assert "hunter2" not in str(vars(cache))
