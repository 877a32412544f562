"""Entra, through MSAL: asks for one token, with one credential, without blocking the loop."""

from __future__ import annotations

import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Protocol

import msal

from app.errors import BrokerError
from app.tokens.answers import Obtained, malformed, read_refusal, read_token
from app.tokens.failure import Cause, Failure
from app.tokens.forgetful import ForgetfulCache
from app.tokens.loopback import LoopbackWire, is_plain_loopback
from app.tokens.wire import Unanswered, Wire
from app.tokens.workers import Workers

if TYPE_CHECKING:
    from pathlib import Path

    from app.config.model import Application, Credential
    from app.tokens.credentials import CredentialReader
    from app.tokens.material import Material, Registration

REQUEST_TIMEOUT_S = 60.0
"""For everything that one token takes: discovery, a signature in a vault, the request."""


class Entra(Protocol):
    """What the cache and the order of credentials need of it."""

    async def read(
        self, reader: CredentialReader, application: Application, credential: Credential
    ) -> Material | Failure:
        """A configured credential as it is now."""
        ...

    async def request(
        self, registration: Registration, material: Material, resource: str, /
    ) -> Obtained | Failure:
        """A new token, from Entra and never from a memory of MSAL's."""
        ...

    async def aclose(self) -> None: ...


class MsalEntra:
    """Entra as MSAL speaks to it."""

    def __init__(self, *, request_timeout_s: float = REQUEST_TIMEOUT_S) -> None:
        self._timeout_s = request_timeout_s
        self._workers = Workers()
        self._lock = threading.Lock()
        self._wires: dict[tuple[str, Path | None], Wire | LoopbackWire] = {}
        # A client costs a request (discovery), so it is kept; it holds the secret, so it goes
        # with the material that it was made from.
        self._clients: weakref.WeakKeyDictionary[Material, tuple[Registration, Any]] = (
            weakref.WeakKeyDictionary()
        )

    async def read(
        self, reader: CredentialReader, application: Application, credential: Credential
    ) -> Material | Failure:
        try:
            return await self._workers.run(
                lambda: reader.read(application, credential), timeout_s=self._timeout_s
            )
        except Unanswered as unanswered:
            return unanswered.failure
        except TimeoutError:
            meaning = f"the credential could not be fetched within {self._timeout_s:.0f} s"
        except Exception as error:  # noqa: BLE001 - foreign libraries raise what they like, and the next credential may do
            meaning = f"the credential could not be read ({type(error).__name__})"
        return Failure(
            cause=Cause.CREDENTIAL_UNREADABLE,
            meaning=meaning,
            remedy="Check the credential's reference in the configuration.",
        )

    async def request(
        self, registration: Registration, material: Material, resource: str
    ) -> Obtained | Failure:
        try:
            result = await self._workers.run(
                lambda: self._request(registration, material, resource), timeout_s=self._timeout_s
            )
        except TimeoutError:
            result = Failure(
                cause=Cause.ENTRA_UNREACHABLE,
                meaning=f"Entra gave no token within {self._timeout_s:.0f} s",
                remedy="It is tried again by itself.",
            )
        if isinstance(result, Failure):
            # The next try begins anew, discovery included: what was repaired is seen.
            with self._lock:
                self._clients.pop(material, None)
        return result

    async def aclose(self) -> None:
        with self._lock:
            wires, self._wires = list(self._wires.values()), {}
            self._clients.clear()
        for wire in wires:
            wire.close()

    # ------------------------------------------------- in a thread from here on

    def _request(
        self, registration: Registration, material: Material, resource: str
    ) -> Obtained | Failure:
        try:
            if material.obtain is not None:
                answer: Any = material.obtain(resource)
            else:
                answer = self._client(registration, material).acquire_token_for_client(
                    scopes=[f"{resource}/.default"]
                )
        except Unanswered as unanswered:
            return unanswered.failure
        except BrokerError as error:
            # A vault that was to sign: says nothing about Entra, and another credential may do.
            return Failure(
                cause=Cause.CREDENTIAL_UNREADABLE,
                meaning=error.detail,
                remedy=f"Check the credential {material.id}, and that its vault can be reached.",
            )
        except Exception as error:  # noqa: BLE001 - MSAL raises what it likes: ValueError, KeyError, AttributeError, by what Entra sent
            return malformed(f"MSAL failed with {type(error).__name__}")
        if "access_token" not in answer and "error" in answer:
            return read_refusal(answer, status=None)
        if "refresh_on" in answer:
            # MSAL turned Entra's `refresh_in` into a moment.
            answer["refresh_in"] = int(answer["refresh_on"] - time.time())
        return read_token(answer)

    def _client(self, registration: Registration, material: Material) -> Any:
        with self._lock:
            kept = self._clients.get(material)
        if kept is not None and kept[0] == registration:
            return kept[1]
        client = self._new_client(registration, material)
        with self._lock:
            self._clients[material] = (registration, client)
        return client

    def _new_client(self, registration: Registration, material: Material) -> Any:
        authority, tenant_id, client_id = registration.identity
        plain = is_plain_loopback(authority)
        if not plain and not authority.startswith("https://"):
            raise Unanswered(
                Failure(
                    cause=Cause.APPLICATION_REFUSED,
                    meaning="its authority is not https, and a secret is not sent in the clear",
                    remedy="Name the authority with https://.",
                )
            )
        assert material.msal_credential is not None
        return msal.ConfidentialClientApplication(
            client_id,
            client_credential=material.msal_credential.open(),
            authority=f"{_as_https(authority) if plain else authority}/{tenant_id}",
            # The configuration says which hosts are Entra; asking login.microsoftonline.com
            # whether it knows them would send every sandbox and closed network to the Internet.
            instance_discovery=False,
            # Regional endpoints are for Microsoft's own services (AADSTS100007), whatever a
            # variable of the environment says.
            azure_region=msal.ConfidentialClientApplication.DISABLE_MSAL_FORCE_REGION,
            http_client=self._wire(authority, None if plain else registration.ca_file),
            token_cache=ForgetfulCache(),
        )

    def _wire(self, authority: str, ca_file: Path | None) -> Wire | LoopbackWire:
        with self._lock:
            wire = self._wires.get((authority, ca_file))
            if wire is None:
                if ca_file is not None and not ca_file.is_file():
                    raise Unanswered(
                        Failure(
                            cause=Cause.ENTRA_UNREACHABLE,
                            meaning=f"the CA file {ca_file} is not there",
                            remedy="Mount it, or correct the application's ca_file.",
                        )
                    )
                wire = self._wires[authority, ca_file] = (
                    LoopbackWire(authority)
                    if is_plain_loopback(authority)
                    else Wire(authority, ca_file=ca_file)
                )
            return wire


def _as_https(authority: str) -> str:
    return "https://" + authority.removeprefix("http://")
