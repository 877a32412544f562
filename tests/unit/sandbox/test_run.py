"""The sandbox on real sockets, and unmodified clients of Microsoft's in front of it."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx2
import msal
import pytest

from app.sandbox.credentials import MANAGED_IDENTITY_CLIENT_ID
from app.sandbox.entra import faults
from app.sandbox.run import Sandbox, SandboxOptions, running_sandbox, sandbox_in_thread

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    options = SandboxOptions(
        state_dir=tmp_path_factory.mktemp("sandbox"),
        environment_ports={"contoso": 0, "fabrikam": 0},
    )
    with sandbox_in_thread(options) as sandbox:
        yield sandbox


@pytest.fixture(autouse=True)
def only_the_sandboxs_ca(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """requests prefers these variables to what it is told."""
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(sandbox.ca_file))
    yield
    sandbox.entra.faults.clear()


def who_am_i(sandbox: Sandbox, token: str) -> httpx2.Response:
    return httpx2.get(
        f"{sandbox.environment_url}/api/data/v9.2/WhoAmI",
        headers={"authorization": f"Bearer {token}"},
        verify=ssl.create_default_context(cafile=str(sandbox.ca_file)),
    )


Credential = Callable[[Sandbox], "tuple[str, Any]"]


def by_secret(sandbox: Sandbox) -> tuple[str, Any]:
    held = sandbox.applications["erp-invoices"]
    return held.client_id, held.client_secret


def by_certificate(sandbox: Sandbox, *, pfx: bool = False, **more: bool) -> tuple[str, Any]:
    """`thumbprint` and `public`: which of the two MSAL is told, and so how it signs."""
    held = sandbox.applications["erp-reporting"]
    files = held.certificate
    assert files is not None
    pem = files.pem_file.read_text()
    credential: dict[str, Any] = {"private_key": pem}
    if pfx:
        credential = {
            "private_key_pfx_path": str(files.pfx_file),
            "passphrase": files.pfx_passphrase,
        }
    if more.get("thumbprint"):
        credential["thumbprint"] = files.thumbprint
    if more.get("public"):
        credential["public_certificate"] = True if pfx else pem
    return held.client_id, credential


def msal_application(sandbox: Sandbox, client_id: str, credential: Any) -> Any:
    return msal.ConfidentialClientApplication(
        client_id,
        client_credential=credential,
        authority=f"{sandbox.entra_url}/{sandbox.tenant_id}",
        verify=str(sandbox.ca_file),
        instance_discovery=False,
    )


@pytest.mark.parametrize(
    "credential",
    [
        pytest.param(by_secret, id="secret"),
        pytest.param(
            lambda s: by_certificate(s, thumbprint=True), id="PEM and thumbprint: RS256, x5t"
        ),
        pytest.param(lambda s: by_certificate(s, public=True), id="PEM: PS256, x5t#S256"),
        pytest.param(
            lambda s: by_certificate(s, thumbprint=True, public=True), id="both: RS256, x5c"
        ),
        pytest.param(lambda s: by_certificate(s, pfx=True), id="PFX: PS256"),
        pytest.param(lambda s: by_certificate(s, pfx=True, public=True), id="PFX: PS256, x5c"),
    ],
)
def test_stock_msal_gets_a_token_that_the_environment_takes(
    sandbox: Sandbox, credential: Credential
) -> None:
    client_id, proof = credential(sandbox)
    application = msal_application(sandbox, client_id, proof)
    scope = [f"{sandbox.environment_url}/.default"]
    result = application.acquire_token_for_client(scope)
    assert result["token_source"] == "identity_provider"
    assert application.acquire_token_for_client(scope)["token_source"] == "cache"
    assert who_am_i(sandbox, result["access_token"]).status_code == 200


def test_stock_msal_reads_a_refusal(sandbox: Sandbox) -> None:
    client_id, _ = by_secret(sandbox)
    application = msal_application(sandbox, client_id, "wrong")
    result = application.acquire_token_for_client([f"{sandbox.environment_url}/.default"])
    assert (result["error"], result["error_codes"]) == ("invalid_client", [7000215])


def test_a_token_for_one_environment_is_not_good_in_another(sandbox: Sandbox) -> None:
    application = msal_application(sandbox, *by_secret(sandbox))
    fabrikam = sandbox.environments["fabrikam"].url
    token = application.acquire_token_for_client([f"{fabrikam}/.default"])["access_token"]
    assert who_am_i(sandbox, token).status_code == 401


def test_azure_identity_gets_tokens_by_secret_and_certificate(sandbox: Sandbox) -> None:
    identity = pytest.importorskip("azure.identity")
    held, with_certificate = (
        sandbox.applications[name] for name in ("erp-invoices", "erp-reporting")
    )
    assert with_certificate.certificate is not None
    common = {"authority": sandbox.entra_url, "disable_instance_discovery": True}
    credentials = (
        identity.ClientSecretCredential(
            held.tenant_id, held.client_id, held.client_secret, **common
        ),
        identity.CertificateCredential(
            with_certificate.tenant_id,
            with_certificate.client_id,
            str(with_certificate.certificate.pem_file),
            **common,
        ),
    )
    for credential in credentials:
        with credential:
            token = credential.get_token(f"{sandbox.environment_url}/.default").token
        assert who_am_i(sandbox, token).status_code == 200


def test_azure_identity_gets_tokens_of_a_managed_identity(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = pytest.importorskip("azure.identity")
    scope = f"{sandbox.environment_url}/.default"
    for endpoint in (sandbox.managed_identity_url, sandbox.entra_url):
        with monkeypatch.context() as environment:
            environment.setenv("IDENTITY_ENDPOINT", f"{endpoint}/msi/token")
            environment.setenv("IDENTITY_HEADER", sandbox.managed_identity.identity_header)
            with identity.ManagedIdentityCredential() as credential:
                token = credential.get_token(scope).token
        assert who_am_i(sandbox, token).status_code == 200
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", sandbox.managed_identity_url)
    with identity.ManagedIdentityCredential(client_id=MANAGED_IDENTITY_CLIENT_ID) as credential:
        token = credential.get_token(scope).token
    assert who_am_i(sandbox, token).status_code == 200


def test_microsofts_vault_client_reads_and_signs(sandbox: Sandbox) -> None:
    identity = pytest.importorskip("azure.identity")
    secrets = pytest.importorskip("azure.keyvault.secrets")
    held = sandbox.applications["erp-invoices"]
    certificate = sandbox.applications["erp-reporting"].certificate
    assert certificate is not None
    sandbox.key_vault.put_secret("erp", "hunter2")
    sandbox.key_vault.put_certificate("signer", certificate.pem_file.read_bytes())
    with (
        identity.ClientSecretCredential(
            held.tenant_id,
            held.client_id,
            held.client_secret,
            authority=sandbox.entra_url,
            disable_instance_discovery=True,
        ) as credential,
        secrets.SecretClient(sandbox.key_vault_url, credential) as client,
    ):
        assert client.get_secret("erp").value == "hunter2"
        assert client.get_secret("signer").properties.content_type == "application/x-pkcs12"
        crypto = pytest.importorskip("azure.keyvault.keys.crypto")
        key = f"{sandbox.key_vault_url}/keys/signer"
        with crypto.CryptographyClient(key, credential) as signer:
            signed = signer.sign("PS256", b"\0" * 32)
    assert len(signed.signature) == 256


def test_a_test_may_look_into_the_environment_between_requests(sandbox: Sandbox) -> None:
    users = sandbox.between_requests(
        lambda: sandbox.dataverse.store.all("SELECT applicationid FROM systemuser")
    )
    client_ids = {held.client_id for held in sandbox.applications.values()}
    assert client_ids <= {client_id for (client_id,) in users}


def test_a_dropped_connection_is_reset(sandbox: Sandbox) -> None:
    sandbox.entra.faults.add(faults.dropped(times=1))
    context = ssl.create_default_context(cafile=str(sandbox.ca_file))
    address = f"{sandbox.entra_url}/{sandbox.tenant_id}/oauth2/v2.0/token"
    with httpx2.Client(verify=context) as client:
        with pytest.raises(httpx2.TransportError):
            client.post(address, data={"grant_type": "client_credentials"})
        answer = client.post(address, data={"grant_type": "client_credentials"})
    assert answer.status_code == 400


def test_a_client_without_the_ca_is_not_served(sandbox: Sandbox) -> None:
    strict = ssl.create_default_context(cafile=None)
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(sandbox.entra_url, verify=strict)


def test_a_stopped_sandbox_leaves_nothing_behind() -> None:
    before = set(threading.enumerate())
    with sandbox_in_thread() as sandbox:
        directory = sandbox.state_dir
        context = ssl.create_default_context(cafile=str(sandbox.ca_file))
        # An idle connection must not hold it up.
        client = httpx2.Client(verify=context)
        metadata = f"{sandbox.tenant_id}/v2.0/.well-known/openid-configuration"
        assert client.get(f"{sandbox.entra_url}/{metadata}").status_code == 200
        stopped_at = time.monotonic()
    assert time.monotonic() - stopped_at < 2
    client.close()
    assert not directory.exists()
    assert set(threading.enumerate()) == before
    for url in (sandbox.entra_url, sandbox.environment_url, sandbox.managed_identity_url):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", urlsplit(url).port or 0), timeout=1)


def test_a_slow_request_does_not_hold_up_the_stop() -> None:
    with sandbox_in_thread() as sandbox:
        sandbox.entra.faults.add(faults.slow(60))
        context = ssl.create_default_context(cafile=str(sandbox.ca_file))
        address = f"{sandbox.entra_url}/{sandbox.tenant_id}/oauth2/v2.0/token"

        def ask() -> None:
            with pytest.raises(httpx2.TransportError):
                httpx2.post(address, data={"a": "b"}, verify=context, timeout=30)

        asking = threading.Thread(target=ask)
        asking.start()
        while not sandbox.entra.token_requests:
            time.sleep(0.01)
        stopped_at = time.monotonic()
    asking.join()
    assert time.monotonic() - stopped_at < 4


def test_a_port_that_is_taken_is_an_error_at_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        options = SandboxOptions(state_dir=tmp_path, entra_port=taken.getsockname()[1])
        with pytest.raises(OSError, match="in use"), sandbox_in_thread(options):
            pass


@pytest.mark.anyio
async def test_a_cancelled_sandbox_stops(tmp_path: Path) -> None:
    started = asyncio.Event()
    addresses: list[str] = []

    async def run() -> None:
        async with running_sandbox(SandboxOptions(state_dir=tmp_path)) as sandbox:
            addresses.append(sandbox.entra_url)
            started.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(run())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", urlsplit(addresses[0]).port)


def test_credentials_do_not_show(sandbox: Sandbox) -> None:
    shown = repr(sandbox.applications)
    for held in sandbox.applications.values():
        if held.client_secret is not None:
            assert held.client_secret not in shown
        if held.certificate is not None:
            assert held.certificate.pfx_passphrase not in shown
