"""The platform's own identity: App Service's endpoint, IMDS of a virtual machine, Azure Arc."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import msal

from app.tokens.answers import Obtained, read_refusal, read_token
from app.tokens.failure import Cause, Failure
from app.tokens.forgetful import ForgetfulCache
from app.tokens.wire import Unanswered, Wire

_EXCHANGE = "api://AzureADTokenExchange"
_EXCHANGE_BY_AUTHORITY = {
    "login.microsoftonline.us": "api://AzureADTokenExchangeUSGov",
    "login.partner.microsoftonline.cn": "api://AzureADTokenExchangeChina",
    "login.chinacloudapi.cn": "api://AzureADTokenExchangeChina",
}

REMEDY = (
    "Check that this machine or pod has the managed identity, and that client_id names it; "
    "where it has several, client_id is needed."
)

ANSWER_WITHIN_S = 15.0
"""The endpoint is on this machine or its host: what takes longer is not there."""


class ManagedIdentity:
    """One managed identity; without a client id, the system-assigned one. Blocking.

    MSAL finds the endpoint by the platform's own variables (IDENTITY_ENDPOINT and the like).
    Service Fabric's is not supported: MSAL wants a client of its own making there.
    """

    def __init__(self, *, client_id: str | None) -> None:
        self.client_id = client_id

    @property
    def name(self) -> str:
        return self.client_id or "system-assigned"

    def exchange_audience(self, authority: str) -> str:
        """For whom a token is that proves this identity to Entra itself, cloud by cloud."""
        return _EXCHANGE_BY_AUTHORITY.get(urlsplit(authority).hostname or "", _EXCHANGE)

    def assertion(self, audience: str) -> str:
        """A token of this identity, as client assertion. Raises `Unanswered`."""
        token = read_token(self.obtain(audience))
        if not isinstance(token, Obtained):
            raise Unanswered(_ours(token))
        return token.token.open()

    def obtain(self, resource: str) -> dict[str, Any]:
        """The endpoint's token answer for a resource. Raises `Unanswered`."""
        wanted = (
            msal.UserAssignedManagedIdentity(client_id=self.client_id)
            if self.client_id
            else msal.SystemAssignedManagedIdentity()
        )
        # Never through a proxy: the header that opens App Service's endpoint would go with it.
        wire = Wire(
            None,
            names="the managed identity endpoint",
            read_timeout_s=ANSWER_WITHIN_S,
            challenges=True,  # Azure Arc answers one first, and MSAL knows how to meet it.
        )
        try:
            answer: dict[str, Any] = msal.ManagedIdentityClient(
                wanted, http_client=wire, token_cache=ForgetfulCache()
            ).acquire_token_for_client(resource=resource)
        except Unanswered as unanswered:
            raise Unanswered(_ours(unanswered.failure)) from None
        except ValueError as error:
            # MSAL's own complaints, and numbers in an answer that are none. Their messages may
            # quote the answer.
            raise Unanswered(
                Failure(
                    cause=Cause.CREDENTIAL_UNREADABLE,
                    meaning="the managed identity cannot be used "
                    f"({type(error).__name__} from MSAL)",
                    remedy=REMEDY,
                )
            ) from None
        finally:
            wire.close()
        if "access_token" not in answer:
            raise Unanswered(_ours(read_refusal(answer, status=None)))
        return answer


def _ours(failure: Failure) -> Failure:
    """Whatever happens at that endpoint is about this credential, not about Entra: the next
    credential is worth a try.
    """
    return replace(
        failure,
        cause=Cause.CREDENTIAL_UNREADABLE,
        meaning=f"the managed identity gave no token: {failure.meaning}",
        remedy=REMEDY,
    )
