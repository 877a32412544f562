"""Who sends this request? An API key, a JWT or a forwarded certificate, or a refusal.

A broker token proves its caller in a request's headers, and nowhere else: with `recognise`,
which reads what token requests present, it is a JWT of an issuer that nobody knows.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

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
    from app.identity.broker_tokens import BrokerTokens
    from app.identity.caller import Caller
    from app.identity.jwts import Jwts
    from app.identity.proxies import Networks
    from app.identity.uses import IdentityStatus

    RawHeaders = Iterable[tuple[bytes, bytes]]
    """As ASGI gives them: names in lower case."""


_WITH_KEYS = frozenset({"client_secret", "identity_header"})
"""The places of other protocols where an API key stands; in all others stands a JWT."""


class Credential(Protocol):
    """What a token request presents in its body, or in a header of its own protocol."""

    @property
    def kind(self) -> str: ...
    @property
    def name(self) -> str | None:
        """Who the caller says it is."""
        ...

    @property
    def secret(self) -> str: ...


class Authenticator:
    """Answers from the configuration that `reload` was last given; before it, knows nobody."""

    def __init__(
        self,
        *,
        trusted_proxies: Networks = (),
        broker_tokens: BrokerTokens | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._trusted_proxies = trusted_proxies
        self._now = now
        self._uses = Uses()
        self._callers: Mapping[str, CallerConfig] = {}
        self._keys = Keys({}, self._uses)
        self._certificates = Certificates({}, self._uses)
        self._jwts: Jwts | None = None
        self._broker_tokens = broker_tokens

    def reload(self, loaded: Loaded) -> None:
        """From the next request on, `loaded` counts. What was used last is remembered."""
        callers = loaded.configuration.callers
        self._uses.keep_only(callers)
        self._callers = callers
        self._keys = Keys(callers, self._uses)
        self._certificates = Certificates(callers, self._uses)
        if self._broker_tokens is not None:
            self._broker_tokens.reload(loaded.configuration)
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
        own = self._broker_tokens
        if own is not None and own.are(presented.value):
            return own.remembered(presented.value, now=self._now())
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
        own = self._broker_tokens
        if own is not None and own.are(presented.value):
            return own.caller(presented.value, now=self._now())
        return await self._token(presented.value)

    async def _token(self, token: bytes) -> Caller:
        if self._jwts is None:
            raise Unrecognised("jwt-issuer-unknown")
        return await self._jwts.caller(token, now=self._now())

    def recognise_now(self, credential: Credential) -> Caller | None:
        """The caller of a token request where nothing needs waiting for; None: `recognise`.

        Raises `Unrecognised`, also where the credential is good and the name beside it is not
        its caller's.
        """
        secret = credential.secret.encode("utf-8", "surrogatepass")
        if credential.kind in _WITH_KEYS:
            caller = self._keys.caller(secret, now=self._now())
        else:
            token = checked_token(secret)
            known = self._jwts and self._jwts.remembered(token, now=self._now())
            if not known:
                return None
            caller = known
        return _named(caller, credential)

    async def recognise(self, credential: Credential) -> Caller:
        """As `recognise_now`. Raises `IssuerUnavailable` too."""
        caller = self.recognise_now(credential)
        if caller is None:
            token = checked_token(credential.secret.encode("utf-8", "surrogatepass"))
            caller = _named(await self._token(token), credential)
        return caller

    def identities(self, caller: str) -> tuple[IdentityStatus, ...]:
        """In the configuration's order; nothing for a caller that it does not hold."""
        config = self._callers.get(caller)
        return () if config is None else self._uses.statuses(caller, config)


def _named(caller: Caller, credential: Credential) -> Caller:
    """A client id is the caller's name. A secret needs one (RFC 6749, 2.3.1)."""
    name = credential.name
    if name != caller.name and (name is not None or credential.kind == "client_secret"):
        raise Unrecognised("caller-name", caller=caller.name)
    return caller


def _jwts(uses: Uses) -> Jwts:
    # The JOSE and HTTP libraries behind it cost a tenth of a second of every start.
    from app.identity.jwts import Jwts  # noqa: PLC0415

    return Jwts(uses)
