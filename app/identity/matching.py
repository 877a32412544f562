"""Pure: which caller a verified token belongs to. Decided for each request, never remembered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from app.config.model import JwtIdentity
from app.identity.refusal import Unrecognised

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.config.model import Caller, JwtMatch
    from app.identity.uses import Use, Uses

_SHARPEST: Final = ("sub", "oid", "azp", "appid")
"""Claims that name one party; looked up first, so that a thousand callers cost as one does."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One JWT identity of a caller."""

    name: str
    config: Caller
    claims: tuple[tuple[str, tuple[str, ...]], ...]
    use: Use

    def matches(self, claims: Mapping[str, Any]) -> bool:
        return all(
            all(_holds(claims.get(claim), value) for value in values)
            for claim, values in self.claims
        )


class Matching:
    """The callers that tokens of one issuer can belong to."""

    def __init__(self, callers: Mapping[str, Caller], issuer_name: str, uses: Uses) -> None:
        self._index: dict[str, dict[str, list[Candidate]]] = {}
        claims: set[str] = set()
        for name, config in callers.items():
            for identity in config.identities:
                if isinstance(identity, JwtIdentity) and identity.jwt.issuer == issuer_name:
                    use = uses.of(name, identity)
                    candidate = Candidate(name, config, _claims(identity.jwt), use)
                    claim, values = _sharpest(candidate)
                    self._index.setdefault(claim, {}).setdefault(values[0], []).append(candidate)
                    claims |= {claim for claim, _ in candidate.claims}
        self.claims = frozenset(claims)
        """The claims that decide: no other needs to be remembered."""

    def caller(self, claims: Mapping[str, Any]) -> Candidate:
        """Raises `Unrecognised` for a token of nobody, or of two callers."""
        found: Candidate | None = None
        for claim, by_value in self._index.items():
            for value in _values(claims.get(claim)):
                for candidate in by_value.get(value, ()):
                    if candidate.matches(claims):
                        if found is not None and found.name != candidate.name:
                            raise Unrecognised("jwt-matches-several")
                        found = found or candidate
        if found is None:
            raise Unrecognised("jwt-matches-nobody")
        if found.config.disabled:
            raise Unrecognised("caller-disabled", caller=found.name)
        return found


def _claims(match: JwtMatch) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return tuple(
        (claim, (value,) if isinstance(value, str) else value)
        for claim, value in match.claims.items()
    )


def _sharpest(candidate: Candidate) -> tuple[str, tuple[str, ...]]:
    named = dict(candidate.claims)
    claim = next((claim for claim in _SHARPEST if claim in named), candidate.claims[0][0])
    return claim, named[claim]


def _values(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return [item for item in value if isinstance(item, str)]
    return []


def _holds(value: Any, wanted: str) -> bool:
    """Text must be equal, a list must contain it; true, 1 and null are no texts."""
    return value == wanted if isinstance(value, str) else wanted in _values(value)
