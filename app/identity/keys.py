"""API keys: `dvb_<id>_<secret>`. The broker knows only the SHA-256 of the whole."""

from __future__ import annotations

import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from app.config.model import ApiKeyIdentity
from app.identity.caller import Caller, IdentityRef
from app.identity.refusal import Unrecognised

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from app.config.model import ApiKey
    from app.config.model import Caller as CallerConfig

PREFIX: Final = "dvb_"
KEY_BYTES_MAX: Final = 256

_SHAPE: Final = re.compile(r"dvb_([A-Za-z0-9-]{1,64})_([0-9a-f]{32,128})")
_ID_ALPHABET: Final = "abcdefghijkmnpqrstuvwxyz23456789"
"""No l, o, 0 and 1: people read ids to each other."""


def generate() -> tuple[str, str]:
    """A new key, to be shown once, and its digest for the configuration.

    32 random bytes need no slow hash and no salt: there is nothing to guess.
    """
    identifier = "".join(secrets.choice(_ID_ALPHABET) for _ in range(10))
    key = f"{PREFIX}{identifier}_{secrets.token_hex(32)}"
    return key, digest(key)


def digest(key: str) -> str:
    """Lower-case hexadecimal SHA-256, as the configuration holds it."""
    return sha256(key.encode()).hexdigest()


@dataclass(slots=True)
class KnownKey:
    """One key of the configuration, and when it last opened something."""

    digest: bytes
    caller_name: str
    config: CallerConfig
    expires_at: float
    """Seconds since 1970; infinity for a key without an end."""
    caller: Caller | None = None
    """Known from the first use on: the id is part of the key, and only its digest is stored."""
    last_used_at: float | None = None


class Keys:
    """All API keys of one configuration. A new configuration makes a new one."""

    def __init__(
        self, callers: Mapping[str, CallerConfig], *, previous: Keys | None = None
    ) -> None:
        self._known: dict[bytes, KnownKey] = {}
        for name, config in callers.items():
            for identity in config.identities:
                if isinstance(identity, ApiKeyIdentity):
                    key = _known(name, config, identity.api_key)
                    if previous is not None and (old := previous._known.get(key.digest)):  # noqa: SLF001
                        _carry_over(old, key)
                    self._known[key.digest] = key

    def __iter__(self) -> Iterator[KnownKey]:
        return iter(self._known.values())

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
        known.last_used_at = now
        return caller


def _known(name: str, config: CallerConfig, key: ApiKey) -> KnownKey:
    expires_at = float("inf")
    if key.expires is not None:
        # Good through its last day.
        end = datetime.combine(key.expires + timedelta(days=1), time.min, tzinfo=UTC)
        expires_at = end.timestamp()
    return KnownKey(bytes.fromhex(key.sha256), name, config, expires_at)


def _carry_over(old: KnownKey, new: KnownKey) -> None:
    if old.caller_name == new.caller_name:
        new.last_used_at = old.last_used_at
        if old.caller is not None:
            new.caller = Caller(new.caller_name, old.caller.identity, new.config)


def _caller(known: KnownKey, key: bytes) -> Caller:
    shape = _SHAPE.fullmatch(key.decode("ascii", "replace"))
    if shape is None:
        # Its digest is configured, but so short a secret can be guessed from the digest.
        raise Unrecognised("malformed-credential", caller=known.caller_name)
    return Caller(known.caller_name, IdentityRef("api_key", shape[1]), known.config)
