"""API keys: `dvb_<id>_<secret>`. The broker knows only the SHA-256 of the whole."""

from __future__ import annotations

import hmac
import re
import secrets
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from app.config.model import ApiKeyIdentity
from app.identity.caller import Caller, IdentityRef
from app.identity.refusal import Unrecognised
from app.identity.uses import end_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.config.model import Caller as CallerConfig
    from app.identity.uses import Use, Uses

PREFIX: Final = "dvb_"

_SHAPE: Final = re.compile(r"dvb_([A-Za-z0-9-]{1,64})_([0-9a-f]{32,128})")
_ID_ALPHABET: Final = "abcdefghijkmnpqrstuvwxyz23456789"
"""No l, o, 0 and 1: people read ids to each other."""


def generate(caller: str) -> tuple[str, str]:
    """A new key, to be shown once, and its digest for the configuration.

    The id begins like the caller's name, so that whoever finds a key knows whose it is; the rest
    tells the keys of one caller apart. 32 random bytes need no slow hash and no salt: there is
    nothing to guess.
    """
    slug = re.sub(r"[^a-z0-9]", "", caller.lower())[:12] or "key"
    suffix = "".join(secrets.choice(_ID_ALPHABET) for _ in range(6))
    key = f"{PREFIX}{slug}-{suffix}_{secrets.token_hex(32)}"
    return key, digest(key)


def digest(key: str) -> str:
    """Lower-case hexadecimal SHA-256, as the configuration holds it."""
    return sha256(key.encode()).hexdigest()


@dataclass(slots=True)
class _KnownKey:
    """One key of the configuration."""

    digest: bytes
    caller_name: str
    config: CallerConfig
    expires_at: float
    """Seconds since 1970; infinity for a key without an end."""
    use: Use
    caller: Caller | None = None
    """Known from the first use on: the id is part of the key, and only its digest is stored."""


class Keys:
    """All API keys of one configuration. A new configuration makes a new one."""

    def __init__(self, callers: Mapping[str, CallerConfig], uses: Uses) -> None:
        self._known: dict[bytes, _KnownKey] = {}
        for name, config in callers.items():
            for identity in config.identities:
                if isinstance(identity, ApiKeyIdentity):
                    key = bytes.fromhex(identity.api_key.sha256)
                    end = end_of(identity.api_key.expires)
                    self._known[key] = _KnownKey(
                        digest=key,
                        caller_name=name,
                        config=config,
                        expires_at=float("inf") if end is None else end.timestamp(),
                        use=uses.of(name, identity),
                    )

    def caller(self, key: bytes, *, now: float) -> Caller:
        """Whose key this is. Raises `Unrecognised`."""
        presented = sha256(key).digest()
        known = self._known.get(presented)
        # The look-up compares digests, which nobody can choose; the comparison in constant time
        # costs nothing and leaves no question.
        if known is None or not hmac.compare_digest(known.digest, presented):
            raise Unrecognised("unknown-key")
        if now >= known.expires_at:
            raise Unrecognised("expired-key", caller=known.caller_name)
        if known.config.disabled:
            raise Unrecognised("caller-disabled", caller=known.caller_name)
        caller = known.caller
        if caller is None:
            caller = known.caller = _caller(known, key)
            known.use.seen_as = caller.identity.id
        known.use.last_at = now
        return caller


def _caller(known: _KnownKey, key: bytes) -> Caller:
    shape = _SHAPE.fullmatch(key.decode("ascii", "replace"))
    if shape is None:
        # Its digest is configured, but so short a secret can be guessed from the digest.
        raise Unrecognised("malformed-credential", caller=known.caller_name)
    return Caller(known.caller_name, IdentityRef("api_key", shape[1]), known.config)
