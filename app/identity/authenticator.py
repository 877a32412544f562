"""Who sends this request? An API key, a JWT or a forwarded certificate, or a refusal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from app.identity.certificates import Certificates, read_forwarded_certificate
from app.identity.keys import Keys
from app.identity.presented import Presented, checked_token, read_presented
from app.identity.proxies import is_trusted
from app.identity.refusal import Unrecognised
from app.identity.uses import Uses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from app.config.loaded import Loaded
    from app.config.model import Caller as CallerConfig
    from app.identity.caller import Caller
    from app.identity.jwts import Jwts
    from app.identity.proxies import Networks
    from app.identity.uses import IdentityStatus

    RawHeaders = Iterable[tuple[bytes, bytes]]
    """As ASGI gives them: names in lower case."""


class Authenticator:
    """Answers from the configuration that `reload` was last given; before it, knows nobody."""

    def __init__(
        self, *, trusted_proxies: Networks = (), now: Callable[[], float] = time.time
    ) -> None:
        self._trusted_proxies = trusted_proxies
        self._now = now
        self._uses = Uses()
        self._callers: Mapping[str, CallerConfig] = {}
        self._keys = Keys({}, self._uses)
        self._certificates = Certificates({}, self._uses)
        self._jwts: Jwts | None = None

    def reload(self, loaded: Loaded) -> None:
        """From the next request on, `loaded` counts. What was used last is remembered."""
        callers = loaded.configuration.callers
        self._uses.keep_only(callers)
        self._callers = callers
        self._keys = Keys(callers, self._uses)
        self._certificates = Certificates(callers, self._uses)
        if loaded.configuration.issuers or self._jwts is not None:
            self._jwts = self._jwts or _jwts(self._uses)
            self._jwts.reload(loaded.configuration)

    def authenticate_now(self, headers: RawHeaders) -> Caller | None:
        """The caller where nothing needs waiting for; None: ask `authenticate`.

        Raises `Unrecognised` or `Unreadable` where waiting would change nothing.
        """
        presented = read_presented(headers)
        if presented is None:
            return None
        if presented.kind == "api_key":
            return self._keys.caller(presented.value, now=self._now())
        if self._jwts is None:
            return None
        return self._jwts.remembered(presented.value, now=self._now())

    async def authenticate(self, headers: RawHeaders, peer_address: str | None) -> Caller:
        """The caller. Raises `Unrecognised`, `Unreadable` or `IssuerUnavailable`."""
        headers = tuple(headers)
        presented = read_presented(headers)
        if presented is not None:
            return await self._presented(presented)
        # What the caller presents itself comes first: in a mesh every request carries the
        # certificate of the machine that it runs on.
        if is_trusted(peer_address, self._trusted_proxies):
            certificate = read_forwarded_certificate(headers)
            if certificate is not None:
                return self._certificates.caller(certificate, now=self._now())
        raise Unrecognised("no-credential")

    async def _presented(self, presented: Presented) -> Caller:
        if presented.kind == "api_key":
            return self._keys.caller(presented.value, now=self._now())
        return await self._token(presented.value)

    async def _token(self, token: bytes) -> Caller:
        if self._jwts is None:
            raise Unrecognised("jwt-issuer-unknown")
        return await self._jwts.caller(token, now=self._now())

    def by_key(self, key: str) -> Caller:
        """For protocols that carry a key elsewhere: `client_secret`, `X-IDENTITY-HEADER`."""
        return self._keys.caller(key.encode("utf-8", "surrogatepass"), now=self._now())

    async def by_jwt(self, token: str) -> Caller:
        """For protocols that carry a JWT elsewhere: `client_assertion`, `subject_token`."""
        value = checked_token(token.encode("utf-8", "surrogatepass"))
        return await self._token(value)

    def identities(self, caller: str) -> tuple[IdentityStatus, ...]:
        """In the configuration's order; nothing for a caller that it does not hold."""
        config = self._callers.get(caller)
        return () if config is None else self._uses.statuses(caller, config)


def _jwts(uses: Uses) -> Jwts:
    # The JOSE and HTTP libraries behind it cost a tenth of a second of every start.
    from app.identity.jwts import Jwts  # noqa: PLC0415

    return Jwts(uses)
