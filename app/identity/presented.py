"""Pure: what a request presents as proof of who sends it. Exactly one thing, or nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import msgspec

from app.errors import Unreadable
from app.identity.refusal import Unrecognised

if TYPE_CHECKING:
    from collections.abc import Iterable

CREDENTIAL_BYTES_MAX: Final = 16 * 1024
"""Entra's largest tokens, with two hundred groups, have some 10 KB."""

_TOKEN_CHARACTERS: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/="
"""RFC 6750, 2.1: b64token. No space, comma or quote, so two values cannot pass for one."""


class Presented(msgspec.Struct, frozen=True):
    """A credential nobody has looked at yet."""

    kind: Literal["api_key", "jwt"]
    value: bytes

    def __repr__(self) -> str:
        return f"Presented({self.kind})"


def read_presented(headers: Iterable[tuple[bytes, bytes]]) -> Presented | None:
    """The one credential in the headers (names in lower case), None where there is none.

    Raises `Unreadable` where two stand there, and `Unrecognised` where one is no credential.
    Never looks at the query: what stands there ends up in everybody's logs.
    """
    authorization: bytes | None = None
    api_key: bytes | None = None
    for name, value in headers:
        if name == b"authorization":
            if authorization is not None:
                raise _twice("Authorization")
            authorization = value
        elif name == b"x-api-key":
            if api_key is not None:
                raise _twice("X-API-Key")
            api_key = value
    if authorization is None:
        if api_key is None:
            return None
        return Presented("api_key", checked_token(api_key))
    if api_key is not None:
        raise Unreadable(
            "two-credentials", "Send Authorization or X-API-Key, not both: only one can count."
        )
    return read_bearer(authorization)


def read_bearer(authorization: bytes) -> Presented:
    """An Authorization header's value. Raises `Unrecognised` for anything but one bearer token."""
    scheme, _, rest = authorization.partition(b" ")
    if scheme != b"Bearer" and scheme.lower() != b"bearer":
        raise Unrecognised("malformed-credential" if authorization.strip() else "no-credential")
    value = checked_token(rest.lstrip(b" "))
    return Presented("api_key" if value.startswith(b"dvb_") else "jwt", value)


def checked_token(value: bytes) -> bytes:
    """The same where it has the characters and the length of a token. Raises `Unrecognised`."""
    if not value:
        raise Unrecognised("no-credential")
    if len(value) > CREDENTIAL_BYTES_MAX:
        raise Unrecognised("credential-too-long")
    # translate() drops the characters that may stand there: what is left may not.
    if value.translate(None, _TOKEN_CHARACTERS):
        raise Unrecognised("malformed-credential")
    return value


def _twice(name: str) -> Unreadable:
    return Unreadable("duplicate-header", f"{name} is given twice: only one can count.")
