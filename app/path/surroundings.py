"""What the record says of a request beside the request: whose it was, and what it asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from app.audit.target import recorded_target
from app.identity.proxies import Networks, client_address
from app.path.memory import Memory
from app.telemetry.traces import parse_traceparent

if TYPE_CHECKING:
    from app.path.standing import Place

TARGETS_REMEMBERED: Final = 2048
"""As they are recorded; one has 32 KiB at most, and most have a hundred bytes."""


@dataclass(slots=True)
class RequestSurroundings:
    """Read from a request's head, and remembered where that is dear."""

    trusted_proxies: Networks
    targets: Memory[tuple[frozenset[str], bytes], str]

    def __init__(self, trusted_proxies: Networks) -> None:
        self.trusted_proxies = trusted_proxies
        # The names stand for the schema: a new one has others, or the same answers.
        self.targets = Memory(TARGETS_REMEMBERED)

    def client_address(
        self, peer: str | None, headers: tuple[tuple[bytes, bytes], ...]
    ) -> str | None:
        return client_address(peer, headers, self.trusted_proxies)

    def trace_id(self, headers: tuple[tuple[bytes, bytes], ...]) -> str | None:
        for name, value in headers:
            if name == b"traceparent":
                parent = parse_traceparent(value)
                return None if parent is None else parent.trace_id
        return None

    def target(self, place: Place | None, target: bytes) -> str | None:
        names = frozenset[str]() if place is None else place.names
        known = self.targets.get((names, target))
        if known is None:
            known = recorded_target(target.decode("latin-1"), names.__contains__)
            self.targets.put((names, target), known)
        return known
