"""Whether entries are as they were written: nothing removed, altered, reordered or inserted.

Pure, and streams: it needs the entries once, each writer's in their order, and remembers
little of them. What it cannot know by itself is what was cut off at a chain's end after the
last thing that names it: a later opening, a final checkpoint, or an *anchor*, a checkpoint
that was kept somewhere else.
"""

from __future__ import annotations

import hashlib
from collections import deque
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from app.audit.chain import (
    GENESIS,
    Checkpoint,
    Entry,
    Opening,
    Tombstone,
    check_signature,
    decode_note,
    link,
)
from app.audit.record import is_record
from app.audit.verdict import ChainSummary, Fault, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from app.audit.chain import SignatureCheck
    from app.audit.verdict import Kind

FAULTS_MAX: Final = 1000
PROGRESS_EVERY: Final = 50_000

_REMEMBERED: Final = 4096
"""Hashes of each chain that are kept, for openings that name it as it was a moment ago."""


def verify(
    entries: Iterable[Entry],
    *,
    keys: SignatureCheck | None = None,
    tombstones: Iterable[Tombstone] = (),
    anchors: Iterable[Checkpoint] = (),
    progress: Callable[[int], None] | None = None,
) -> Verdict:
    """Read all entries and say what is wrong with them, and where.

    `progress` is told the number of entries read, now and then.
    """
    verifier = _Verifier(keys)
    for tombstone in tombstones:
        verifier.removed_by_retention(tombstone)
    for anchor in anchors:
        verifier.anchored(anchor)
    count = 0
    for count, entry in enumerate(entries, 1):
        verifier.read(entry)
        if progress is not None and count % PROGRESS_EVERY == 0:
            progress(count)
    return verifier.verdict(count)


class _Chain:
    """One writer's chain, as far as it was read. `last` is None after a gap."""

    def __init__(self, seq: int, last: bytes) -> None:
        self.first = seq + 1
        self.seq = seq
        self.last: bytes | None = last
        self.before: bytes | None = None
        # The entry that did not fit, and the hash it should have had: what comes next tells
        # what was done to it.
        self.doubted = -1
        self.computed = b""
        self.sealed = seq
        self.closed = False
        self.recent: deque[bytes] = deque([last], _REMEMBERED)

    def hash_at(self, seq: int) -> bytes | None:
        back = self.seq - seq
        return self.recent[-1 - back] if 0 <= back < len(self.recent) else None


class _Verifier:
    def __init__(self, keys: SignatureCheck | None) -> None:
        self._keys = keys
        self._chains: dict[str, _Chain] = {}
        self._tombstones: dict[str, Tombstone] = {}
        self._faults: list[Fault] = []
        # Heads that something names and that were not read yet: writer → count → (hash, who).
        self._expected: dict[str, dict[int, tuple[str, str]]] = {}

    # ---------------------------------------------------------------- what is known beforehand

    def removed_by_retention(self, tombstone: Tombstone) -> None:
        if self._signed(tombstone, tombstone.writer, tombstone.through):
            self._tombstones[tombstone.writer] = tombstone

    def anchored(self, anchor: Checkpoint) -> None:
        if self._signed(anchor, anchor.writer, anchor.count):
            self._expect(anchor.writer, anchor.count, anchor.head, "an anchored checkpoint")

    # ------------------------------------------------------------------------------ an entry

    def read(self, entry: Entry) -> None:
        writer, seq, body, stored = entry
        chain = self._chains.get(writer)
        if chain is None:
            chain = self._chains[writer] = self._begin(writer)
        if seq != chain.seq + 1 and not self._out_of_place(chain, entry):
            return
        if chain.last is not None and hashlib.sha256(chain.last + body).digest() != stored:
            self._misfit(chain, chain.last, entry)
        chain.before = chain.last
        chain.seq = seq
        chain.last = stored
        chain.recent.append(stored)
        if chain.closed:
            self._fault("inserted", writer, seq, seq, "after the final checkpoint")
        expected = self._expected.get(writer)
        if expected and seq in expected:
            self._compare(writer, seq, stored, *expected.pop(seq))
        if not is_record(body):
            self._read_note(chain, entry)
        elif seq == 1:
            self._fault("altered", writer, 1, 1, "no opening, with which every chain begins")

    def _begin(self, writer: str) -> _Chain:
        tombstone = self._tombstones.get(writer)
        if tombstone is None:
            return _Chain(0, GENESIS)
        last = _from_hex(tombstone.head)
        chain = _Chain(tombstone.through, last)
        expected = self._expected.get(writer, {})
        for count in [count for count in expected if count <= tombstone.through]:
            head, who = expected.pop(count)
            if count == tombstone.through:
                self._compare(writer, count, last, head, who)
        return chain

    def _out_of_place(self, chain: _Chain, entry: Entry) -> bool:
        """An entry that is not the next of its chain: whether the chain goes on from it."""
        writer, seq, body, stored = entry
        if seq > chain.seq + 1:
            self._fault("removed", writer, chain.seq + 1, seq - 1, "missing")
            # What this one followed is not there to be compared with.
            chain.last = None
            chain.recent.clear()
            return True
        gap = self._find(writer, seq, "removed")
        if gap is not None:
            self._rename(gap, "reordered", "after entries that it precedes")
        elif seq == chain.doubted == chain.seq and self._follows(chain.before, body, stored):
            self._rename(self._find(writer, seq, "altered"), "inserted", "beside the true one")
            chain.last = chain.recent[-1] = stored
            chain.doubted = -1
        else:
            self._fault("inserted", writer, seq, seq, "where a later entry belongs")
        return False

    def _misfit(self, chain: _Chain, last: bytes, entry: Entry) -> None:
        """An entry whose hash does not follow from the one before it."""
        writer, seq, body, stored = entry
        if seq - 1 == chain.doubted:
            if self._follows(chain.computed, body, stored):
                # The entry before was as it should be, but for the hash beside it.
                return
            if self._follows(chain.before, body, stored):
                doubted = self._find(writer, seq - 1, "altered")
                self._rename(doubted, "inserted", "between two entries that fit each other")
                return
        detail = "does not follow from the entry before: altered, or one between them removed"
        self._fault("altered", writer, seq, seq, detail)
        chain.doubted = seq
        chain.computed = link(last, body)

    def _follows(self, before: bytes | None, body: bytes, stored: bytes) -> bool:
        return before is not None and link(before, body) == stored

    def _find(self, writer: str, seq: int, kind: Kind) -> int | None:
        for place in range(len(self._faults) - 1, -1, -1):
            fault = self._faults[place]
            if fault.kind == kind and fault.writer == writer and fault.first <= seq <= fault.last:
                return place
        return None

    def _rename(self, place: int | None, kind: Kind, detail: str) -> None:
        if place is not None:
            self._faults[place] = replace(self._faults[place], kind=kind, detail=detail)

    # ---------------------------------------------------------------------------------- notes

    def _read_note(self, chain: _Chain, entry: Entry) -> None:
        writer, seq, body, _ = entry
        try:
            note = decode_note(body)
        except ValueError:
            self._fault("altered", writer, seq, seq, "neither a record nor a checkpoint")
            return
        if (
            note.writer != writer
            or isinstance(note, Tombstone)
            or (isinstance(note, Opening) != (seq == 1))
        ):
            self._fault("inserted", writer, seq, seq, "belongs elsewhere")
        elif isinstance(note, Opening):
            for other in note.follows:
                self._expect(other.writer, other.count, other.head, f"the opening of {writer}")
        else:
            self._read_checkpoint(chain, seq, note)

    def _read_checkpoint(self, chain: _Chain, seq: int, checkpoint: Checkpoint) -> None:
        before = chain.hash_at(seq - 1)
        good = self._signed(checkpoint, checkpoint.writer, seq)
        if good and (
            checkpoint.count != seq - 1 or (before is not None and checkpoint.head != before.hex())
        ):
            self._fault(
                "altered",
                checkpoint.writer,
                chain.sealed + 1,
                seq - 1,
                "not what the next checkpoint signs",
            )
        elif good:
            chain.sealed = seq
            chain.closed = checkpoint.final

    def _signed(self, statement: Checkpoint | Tombstone, writer: str, seq: int) -> bool:
        if self._keys is None:
            return True
        match check_signature(statement, self._keys):
            case "ok":
                return True
            case "bad":
                self._fault("forged", writer, seq, seq, "the signature is not the broker's")
            case "unknown":
                detail = f"signed with a key that was not given: {statement.kid}"
                self._fault("unknown_key", writer, seq, seq, detail)
        return False

    # ---------------------------------------------------------------------- heads that are named

    def _expect(self, writer: str, count: int, head: str, who: str) -> None:
        """Something says that a chain had this head when it had `count` entries."""
        chain = self._chains.get(writer)
        if chain is None or chain.seq < count:
            self._expected.setdefault(writer, {})[count] = (head, who)
            return
        found = chain.hash_at(count)
        if found is not None:
            self._compare(writer, count, found, head, who)
        elif count >= chain.first:
            self._fault(
                "reordered", writer, count, count, f"{who} names it, and stands far from its place"
            )

    def _compare(self, writer: str, count: int, found: bytes, head: str, who: str) -> None:
        if found.hex() != head:
            self._fault("altered", writer, count, count, f"not the entry that {who} names")

    # ------------------------------------------------------------------------------- the end

    def verdict(self, entries: int) -> Verdict:
        for writer, expected in self._expected.items():
            if not expected:
                continue
            chain = self._chains.get(writer) or self._begin(writer)
            missing = [count for count in expected if count > chain.seq]
            if missing:
                who = expected[max(missing)][1]
                detail = f"missing, and {who} names the last"
                self._fault("removed", writer, chain.seq + 1, max(missing), detail)
        return Verdict(
            entries=entries,
            chains=tuple(
                ChainSummary(
                    writer=writer,
                    first=chain.first,
                    last=chain.seq,
                    sealed=chain.sealed,
                    closed=chain.closed,
                )
                for writer, chain in self._chains.items()
            ),
            faults=tuple(self._faults),
            signatures_checked=self._keys is not None,
        )

    def _fault(self, kind: Kind, writer: str, first: int, last: int, detail: str) -> None:
        if len(self._faults) < FAULTS_MAX:
            self._faults.append(
                Fault(kind=kind, writer=writer, first=first, last=last, detail=detail)
            )


def _from_hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""
