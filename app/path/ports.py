"""What the path asks of those around it: `web` hands requests in, `main` hands in the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from app.config import model
    from app.identity.caller import Caller
    from app.path.errand import Upstream
    from app.path.standing import Place, Standing

Headers = tuple[tuple[bytes, bytes], ...]


class Head(Protocol):
    """What `web` knows of a request before its body. Header names are in lower case."""

    @property
    def request_id(self) -> str: ...
    @property
    def method(self) -> str: ...
    @property
    def path(self) -> bytes: ...
    @property
    def target(self) -> bytes:
        """Path and query, as they were sent."""
        ...

    @property
    def headers(self) -> Headers: ...
    @property
    def peer(self) -> str | None: ...


class Incoming(Protocol):
    """A request for the proxy, its body not taken in yet.

    `environment` is as the address names it, None for the caller's default; `target` is path
    and query below the service root as they were sent; `body_bytes` is what was declared.
    """

    @property
    def head(self) -> Head: ...
    @property
    def environment(self) -> str | None: ...
    @property
    def version(self) -> str: ...
    @property
    def target(self) -> bytes: ...
    @property
    def has_body(self) -> bool: ...
    @property
    def body_bytes(self) -> int | None: ...

    async def body(self, limit: int) -> bytes:
        """The whole body; the same when asked again."""
        ...

    def stream(self, limit: int) -> AsyncIterator[bytes]: ...


class Credential(Protocol):
    """What a token request presents elsewhere than in Authorization."""

    @property
    def kind(self) -> str: ...
    @property
    def name(self) -> str | None: ...
    @property
    def secret(self) -> str: ...


class Identity(Protocol):
    def authenticate_now(self, headers: Headers) -> Caller | None: ...

    async def authenticate(self, headers: Headers, peer_address: str | None) -> Caller: ...

    def recognise_now(self, credential: Credential) -> Caller | None: ...

    async def recognise(self, credential: Credential) -> Caller: ...


class Strangers(Protocol):
    def failed(self, address: str | None) -> None:
        """Nobody was recognised there. Raises `Limited` where that happens too often."""
        ...


class Limiter(Protocol):
    def within(
        self, limits: model.Limits, *, caller: str, environment: str, application: str
    ) -> AbstractAsyncContextManager[None]: ...


class World(Protocol):
    """What counts now, and the ways out to each environment."""

    @property
    def standing(self) -> Standing: ...

    def upstream(self, environment: str) -> Upstream: ...

    async def refresh_schema(self, environment: str) -> bool:
        """Whether a newer schema was found; asks at most once a minute."""
        ...


class Surroundings(Protocol):
    """Small things that a record holds."""

    def client_address(self, peer: str | None, headers: Headers) -> str | None: ...

    def trace_id(self, headers: Headers) -> str | None: ...

    def target(self, place: Place | None, target: bytes) -> str | None: ...
