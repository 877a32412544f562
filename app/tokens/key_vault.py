"""Azure Key Vault: secrets, certificates with their keys, and signatures whose key stays there.

The libraries come with the extra `azure`, and are imported when a vault is first asked. The
broker proves itself to a vault with what its platform gives it: AZURE_* variables, workload
identity, or a managed identity, in this order.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import SecretStr

from app.errors import Unavailable
from app.tokens.hidden import Hidden

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from app.config.model import KeyVaultKeyName, KeyVaultName

T = TypeVar("T")

CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 10
RETRIES = 1
"""Of azure-core's own: a vault that is down is asked again later, not for minutes now."""


class VaultUnavailable(Unavailable):
    """A vault could not be reached or refuses; the message says what and which permission."""

    def __init__(self, detail: str) -> None:
        super().__init__("key-vault-unavailable", detail)


@dataclass(frozen=True, slots=True)
class FoundSecret:
    value: Hidden[str] = field(repr=False)
    version: str
    expires_on: datetime | None


@dataclass(frozen=True, slots=True)
class FoundSigner:
    certificate: bytes = field(repr=False)
    """DER."""
    sign: Callable[[bytes], bytes] = field(repr=False)


class KeyVaults:
    """All vaults that a configuration names. Blocking, and safe to use from several threads.

    `credential` replaces the platform's; `ca_file` is for a vault behind a private CA, where
    azure-core would look at REQUESTS_CA_BUNDLE only.
    """

    def __init__(self, *, credential: Any = None, ca_file: Path | None = None) -> None:
        self._credential = credential
        self._options: dict[str, Any] = {
            "retry_total": RETRIES,
            "connection_timeout": CONNECT_TIMEOUT_S,
            "read_timeout": READ_TIMEOUT_S,
        }
        if ca_file is not None:
            self._options["connection_verify"] = str(ca_file)
        self._lock = threading.Lock()
        self._clients: dict[tuple[str, str], Any] = {}

    def __call__(self, name: KeyVaultName) -> SecretStr:
        """The value alone, as the loading of a configuration asks for it."""
        return SecretStr(self.secret(name).value.open())

    def secret(self, name: KeyVaultName) -> FoundSecret:
        """The named version, or the latest. A certificate's secret holds its key as well."""

        def ask() -> FoundSecret:
            found = self._client("secrets", name.vault).get_secret(name.name, name.version)
            return FoundSecret(
                value=Hidden(found.value or ""),
                version=found.properties.version or "",
                expires_on=found.properties.expires_on,
            )

        return _asked(ask, f"the secret {name.name} of {name.vault}", "secrets/get")

    def signer(self, name: KeyVaultKeyName) -> FoundSigner:
        """The latest version of a certificate, and its key as something that signs."""

        def ask() -> FoundSigner:
            from azure.core.rest import HttpRequest  # noqa: PLC0415 - the extra

            # The keys client's own pipeline: a library just for this one address would be a lot.
            response = self._client("keys", name.vault).send_request(
                HttpRequest("GET", f"/certificates/{name.certificate}/")
            )
            response.raise_for_status()
            content = response.json()
            certificate = base64.b64decode(content["cer"], validate=True)
            return FoundSigner(certificate, self._signing(name, content["kid"]))

        return _asked(
            ask,
            f"the certificate {name.certificate} of {name.vault}",
            "certificates/get",
        )

    def close(self) -> None:
        with self._lock:
            clients, self._clients = list(self._clients.values()), {}
            credential, self._credential = self._credential, None
        for client in clients:
            client.close()
        close = getattr(credential, "close", None)
        if close is not None:
            close()

    def _signing(self, name: KeyVaultKeyName, key_id: str) -> Callable[[bytes], bytes]:
        # The version that belongs to the certificate which was read: Entra is told its
        # thumbprint, and the latest key may be another by then.
        def ask(digest: bytes) -> bytes:
            from azure.keyvault.keys.crypto import SignatureAlgorithm  # noqa: PLC0415 - the extra

            client = self._client("crypto", key_id)
            signature: bytes = client.sign(SignatureAlgorithm.ps256, digest).signature
            return signature

        def sign(digest: bytes) -> bytes:
            assert len(digest) == hashlib.sha256().digest_size
            what = f"the key of the certificate {name.certificate} of {name.vault}"
            return _asked(lambda: ask(digest), what, "keys/sign")

        return sign

    def _client(self, kind: str, target: str) -> Any:
        with self._lock:
            client = self._clients.get((kind, target))
            if client is None:
                client = self._clients[kind, target] = self._new_client(kind, target)
            return client

    def _new_client(self, kind: str, target: str) -> Any:
        if self._credential is None:
            self._credential = _platform_credential()
        match kind:
            case "secrets":
                from azure.keyvault.secrets import SecretClient  # noqa: PLC0415 - the extra

                return SecretClient(target, self._credential, **self._options)
            case "keys":
                from azure.keyvault.keys import KeyClient  # noqa: PLC0415 - the extra

                return KeyClient(target, self._credential, **self._options)
            case _:
                from azure.keyvault.keys.crypto import (  # noqa: PLC0415 - the extra
                    CryptographyClient,
                )

                return CryptographyClient(target, self._credential, **self._options)


def _platform_credential() -> Any:
    from azure.identity import (  # noqa: PLC0415 - the extra
        ChainedTokenCredential,
        EnvironmentCredential,
        ManagedIdentityCredential,
        WorkloadIdentityCredential,
    )

    # Not DefaultAzureCredential: it also starts developers' command line tools.
    credentials: list[Any] = [EnvironmentCredential()]
    with contextlib.suppress(ValueError):  # Its variables are not set: there is none.
        credentials.append(WorkloadIdentityCredential())
    credentials.append(ManagedIdentityCredential())
    return ChainedTokenCredential(*credentials)


def _asked(ask: Callable[[], T], what: str, permission: str) -> T:
    """Turn what Microsoft's clients raise into what an operator can act on."""
    try:
        from azure.core.exceptions import (  # noqa: PLC0415 - the extra
            AzureError,
            ClientAuthenticationError,
            HttpResponseError,
        )
    except ImportError:
        raise VaultUnavailable(
            f"{what} cannot be read: install dataverse-token-broker[azure]"
        ) from None
    try:
        return ask()
    except ClientAuthenticationError as error:
        # A vault's 401, and an identity that cannot be had at all.
        raise VaultUnavailable(
            f"{what} cannot be read: the broker has no identity that the vault accepts; check "
            "its workload or managed identity, and the AZURE_ variables"
        ) from error
    except HttpResponseError as error:
        raise VaultUnavailable(f"{what} cannot be read: {_refusal(error, permission)}") from error
    except (AzureError, OSError) as error:
        raise VaultUnavailable(f"{what} cannot be read: the vault cannot be reached") from error
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise VaultUnavailable(
            f"{what} cannot be read: the vault's answer makes no sense"
        ) from error


def _refusal(error: Any, permission: str) -> str:
    match error.status_code:
        case 403:
            return (
                f"the vault forbids it (is it disabled, or does the broker's identity lack "
                f"{permission}, or its network the way in?)"
            )
        case 404:
            return "the vault has nothing of this name"
        case 429:
            return "the vault throttles"
        case status:
            return f"the vault answered HTTP {status}"
