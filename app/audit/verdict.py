"""What a verification says: what was found, and what is wrong with it where."""

from __future__ import annotations

from typing import Literal

import msgspec

Kind = Literal["removed", "altered", "reordered", "inserted", "forged", "unknown_key"]


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with entries `first` to `last` of a writer's chain."""

    kind: Kind
    writer: str
    first: int
    last: int
    detail: str


class ChainSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One chain as it was found. `sealed` is the last entry that a good checkpoint covers."""

    writer: str
    first: int
    last: int
    sealed: int
    closed: bool


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """`signatures_checked` is false when no keys were given: then only hashes were compared."""

    entries: int
    chains: tuple[ChainSummary, ...]
    faults: tuple[Fault, ...]
    signatures_checked: bool

    @property
    def good(self) -> bool:
        return not self.faults
