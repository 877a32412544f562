from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from app.audit import chain
from app.audit.chain import Entry, Head
from app.audit.keys import CheckpointKeys, CheckpointSigner
from app.audit.record import Record, RecordIds, encode, timestamp
from app.audit.verdict import Fault, Verdict
from app.audit.verify import verify

NOON = datetime(2026, 10, 14, 12, tzinfo=UTC)
SIGNER = CheckpointSigner(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
KEYS = CheckpointKeys([SIGNER.public_key])
NOW = timestamp(NOON)

IDS = RecordIds()
EVERY = 10
"""Entries from checkpoint to checkpoint."""


@dataclass
class Written:
    entries: list[Entry]
    head: Head
    last_checkpoint: chain.Checkpoint | None = None


def body(number: int) -> bytes:
    return encode(
        Record(
            phase="outcome",
            id=IDS.next(NOON),
            time=NOW,
            action="proxy",
            decision="allowed",
            reason=f"number {number}",
        )
    )


def written(
    writer: str, count: int, *, follows: tuple[Head, ...] = (), closed: bool = True
) -> Written:
    """A chain of `count` entries as the journal makes them."""
    opening, head = chain.open_chain(writer=writer, time=NOW, program="test", follows=follows)
    made = Written([opening], head)
    while made.head.seq < count:
        last = made.head.seq == count - 1
        if (closed and last) or made.head.seq % EVERY == 0:
            made.last_checkpoint = chain.checkpoint(
                made.head, time=NOW, signer=SIGNER, final=closed and last
            )
            one = chain.encode_note(made.last_checkpoint)
        else:
            one = body(made.head.seq)
        entries, made.head = chain.extend(made.head, [one])
        made.entries += entries
    return made


FIRST = written("first", 45)
SECOND = written("second", 33, follows=(FIRST.head,))
GOOD = [*FIRST.entries, *SECOND.entries]


def check(entries: list[Entry], **options: object) -> Verdict:
    return verify(entries, keys=KEYS, **options)  # type: ignore[arg-type]


def faults(entries: list[Entry], **options: object) -> list[tuple[str, str, int, int]]:
    return [(f.kind, f.writer, f.first, f.last) for f in check(entries, **options).faults]


def place(entry: Entry) -> int:
    return GOOD.index(entry)


ENTRY = st.sampled_from(GOOD)
INNER = st.sampled_from([e for e in GOOD if 1 < e.seq < (45 if e.writer == "first" else 33)])
RECORDS = st.sampled_from([e for e in GOOD if e.body.startswith(b'{"phase":"outcome"')])


def test_what_was_written_is_good() -> None:
    verdict = check(GOOD)
    assert verdict.faults == ()
    assert verdict.good
    assert verdict.entries == 78
    assert [(c.writer, c.first, c.last, c.sealed, c.closed) for c in verdict.chains] == [
        ("first", 1, 45, 45, True),
        ("second", 1, 33, 33, True),
    ]


def test_chains_may_be_interleaved() -> None:
    live = written("live", 30, closed=False)
    # The second opens when the first has written twenty.
    then = Head("live", 20, live.entries[19].hash)
    other = written("other", 20, follows=(then,))
    mixed = itertools.chain.from_iterable(zip(live.entries[20:], other.entries[:10], strict=True))
    assert check([*live.entries[:20], *mixed, *other.entries[10:]]).good


def test_without_keys_hashes_are_still_compared() -> None:
    assert verify(GOOD).good
    assert not verify(GOOD).signatures_checked
    assert not verify(GOOD[1:]).good


@given(entry=ENTRY, at=st.integers(0), bit=st.integers(0, 7))
def test_an_altered_body_is_found_at_its_place(entry: Entry, at: int, bit: int) -> None:
    altered = bytearray(entry.body)
    altered[at % len(altered)] ^= 1 << bit
    entries = list(GOOD)
    entries[place(entry)] = entry._replace(body=bytes(altered))
    assert ("altered", entry.writer, entry.seq, entry.seq) in faults(entries)
    assert all(
        f.first <= entry.seq <= f.last for f in check(entries).faults if f.writer == entry.writer
    )


@given(entry=ENTRY, at=st.integers(0, 31), bit=st.integers(0, 7))
def test_an_altered_hash_is_found_at_its_place(entry: Entry, at: int, bit: int) -> None:
    altered = bytearray(entry.hash)
    altered[at] ^= 1 << bit
    entries = list(GOOD)
    entries[place(entry)] = entry._replace(hash=bytes(altered))
    assert ("altered", entry.writer, entry.seq, entry.seq) in faults(entries)


@given(entry=INNER, count=st.integers(1, 5))
def test_removed_entries_are_named(entry: Entry, count: int) -> None:
    own = FIRST if entry.writer == "first" else SECOND
    last = min(entry.seq + count - 1, own.head.seq - 1)
    gone = own.entries[entry.seq - 1 : last]
    rest = [e for e in GOOD if e not in gone]
    assert faults(rest) == [("removed", entry.writer, entry.seq, last)]


@given(entry=INNER)
def test_a_removed_entry_shows_when_what_follows_is_renumbered(entry: Entry) -> None:
    entries = [e for e in GOOD if e != entry]
    entries = [
        e._replace(seq=e.seq - 1) if e.writer == entry.writer and e.seq > entry.seq else e
        for e in entries
    ]
    assert faults(entries)[0][1:3] == (entry.writer, entry.seq)


@given(entry=INNER)
def test_an_entry_that_changed_places_is_reordered(entry: Entry) -> None:
    entries = list(GOOD)
    at = place(entry)
    entries[at], entries[at + 1] = entries[at + 1], entries[at]
    assert faults(entries) == [("reordered", entry.writer, entry.seq, entry.seq)]


@given(entry=INNER)
def test_entries_that_changed_places_and_numbers_are_found(entry: Entry) -> None:
    entries = list(GOOD)
    at = place(entry)
    entries[at] = entries[at + 1]._replace(seq=entry.seq)
    entries[at + 1] = entry._replace(seq=entry.seq + 1)
    assert faults(entries)[0][1:3] == (entry.writer, entry.seq)


@given(entry=INNER, before=st.booleans())
def test_an_inserted_entry_is_found(entry: Entry, *, before: bool) -> None:
    forged = chain.extend(
        Head(entry.writer, entry.seq - 1, GOOD[place(entry) - 1].hash), [body(0)]
    )[0][0]
    entries = list(GOOD)
    entries.insert(place(entry) + (not before), forged)
    found = faults(entries)
    assert found[0][1:] == (entry.writer, entry.seq, entry.seq)
    # A forgery that fits takes the true entry's place until the next one does not follow.
    assert len(found) <= 3


@given(entry=INNER)
def test_an_inserted_entry_shows_when_what_follows_is_renumbered(entry: Entry) -> None:
    forged = Entry(entry.writer, entry.seq, body(0), bytes(32))
    entries = []
    for e in GOOD:
        if e == entry:
            entries.append(forged)
        later = e.writer == entry.writer and e.seq >= entry.seq
        entries.append(e._replace(seq=e.seq + 1) if later else e)
    assert faults(entries)[0] == ("inserted", entry.writer, entry.seq, entry.seq)


@given(entry=RECORDS)
def test_a_chain_that_was_computed_anew_meets_its_next_checkpoint(entry: Entry) -> None:
    before = GOOD[: place(entry)]
    rest = [e for e in GOOD[place(entry) + 1 :] if e.writer == entry.writer]
    others = [e for e in GOOD[place(entry) + 1 :] if e.writer != entry.writer]
    head = Head(entry.writer, entry.seq - 1, before[-1].hash)
    anew, _ = chain.extend(head, [body(0), *(e.body for e in rest)])
    kind, writer, first, last = faults([*before, *anew, *others])[0]
    assert (kind, writer) == ("altered", entry.writer)
    assert first <= entry.seq <= last
    assert last - first < EVERY


@given(entry=RECORDS)
def test_new_checkpoints_need_the_key(entry: Entry) -> None:
    thief = CheckpointSigner(Ed25519PrivateKey.generate())
    entries = list(GOOD[: place(entry)])
    head = Head(entry.writer, entry.seq - 1, entries[-1].hash)
    note = chain.checkpoint(head, time=NOW, signer=thief, final=True)
    forged, _ = chain.extend(head, [chain.encode_note(note)])
    assert ("unknown_key", entry.writer, entry.seq, entry.seq) in faults([*entries, *forged])
    # With the name of the true key, the signature is wrong.
    note = chain.Checkpoint(
        **{f: getattr(note, f) for f in note.__struct_fields__} | {"kid": kid()}
    )
    forged, _ = chain.extend(head, [chain.encode_note(note)])
    assert ("forged", entry.writer, entry.seq, entry.seq) in faults([*entries, *forged])


def kid() -> str:
    return SIGNER.sign(b"")[0]


@given(count=st.integers(1, 45))
def test_a_chain_that_was_cut_short_is_found_by_the_opening_that_names_it(count: int) -> None:
    cut = [*FIRST.entries[:-count], *SECOND.entries]
    assert faults(cut) == [("removed", "first", 46 - count, 45)]


def test_a_chain_that_was_cut_short_is_found_by_an_anchor() -> None:
    assert SECOND.last_checkpoint is not None
    cut = GOOD[:-5]
    assert check(cut).good
    assert faults(cut, anchors=[SECOND.last_checkpoint]) == [("removed", "second", 29, 32)]
    assert check(GOOD, anchors=[SECOND.last_checkpoint]).good


def test_a_store_that_was_emptied_is_found_by_an_anchor() -> None:
    assert check([]).good
    assert faults([], anchors=[FIRST.last_checkpoint]) == [("removed", "first", 1, 44)]


def test_an_anchor_of_another_chain_of_that_name_is_found() -> None:
    other = written("second", 33)
    assert faults(GOOD, anchors=[other.last_checkpoint]) == [("altered", "second", 32, 32)]


def test_nothing_follows_a_final_checkpoint() -> None:
    more, _ = chain.extend(SECOND.head, [body(1)])
    assert faults([*GOOD, *more]) == [("inserted", "second", 34, 34)]


def test_an_entry_of_another_chain_is_found() -> None:
    moved = GOOD[5]._replace(writer="second", seq=6)
    entries = [e for e in GOOD if (e.writer, e.seq) != ("second", 6)]
    entries.insert(45 + 5, moved)
    assert ("altered", "second", 6, 6) in faults(entries)


@given(through=st.integers(1, 44))
def test_what_retention_removed_is_accounted_for_by_its_tombstone(through: int) -> None:
    last = FIRST.entries[through - 1]
    stone = chain.tombstone(Head("first", through, last.hash), time=NOW, before=NOW, signer=SIGNER)
    rest = GOOD[through:]
    assert check(rest, tombstones=[stone]).good
    assert ("removed", "first", 1, through) in faults(rest)
    assert ("removed", "first", through + 1, through + 1) in faults(
        GOOD[through + 1 :], tombstones=[stone]
    )[:1] or through == 44
    forged = chain.Tombstone(
        **{f: getattr(stone, f) for f in stone.__struct_fields__} | {"through": through + 1}
    )
    assert ("forged", "first", through + 1, through + 1) in faults(rest, tombstones=[forged])


def test_a_chain_that_is_gone_whole_is_accounted_for_by_its_tombstone() -> None:
    stone = chain.tombstone(FIRST.head, time=NOW, before=NOW, signer=SIGNER)
    assert check(SECOND.entries, tombstones=[stone]).good
    assert faults(SECOND.entries) == [("removed", "first", 1, 45)]


def test_a_tombstone_of_another_end_is_found() -> None:
    stone = chain.tombstone(Head("first", 45, bytes(32)), time=NOW, before=NOW, signer=SIGNER)
    assert faults(SECOND.entries, tombstones=[stone]) == [("altered", "first", 45, 45)]


def test_faults_are_counted_up_to_a_limit_and_progress_is_told() -> None:
    told: list[int] = []
    broken = [Entry("x", 1, b"{}", bytes(32))] * 60_000
    verdict = verify(broken, progress=told.append)
    assert len(verdict.faults) == 1000
    assert told == [50_000]
    assert verdict.entries == 60_000


@pytest.mark.parametrize("curve", ["ed25519", "p256"])
def test_both_kinds_of_keys_sign_and_are_checked(curve: str) -> None:
    key = (
        Ed25519PrivateKey.generate()
        if curve == "ed25519"
        else ec.generate_private_key(ec.SECP256R1())
    )
    signer = CheckpointSigner(key)
    stone = chain.tombstone(FIRST.head, time=NOW, before=NOW, signer=signer)
    assert chain.check_signature(stone, CheckpointKeys([signer.public_key])) == "ok"
    assert chain.check_signature(stone, KEYS) == "unknown"
    assert "PRIVATE" not in repr(signer)


def test_a_fault_says_what_and_where() -> None:
    assert check(GOOD[:3] + GOOD[5:]).faults[0] == Fault(
        kind="removed", writer="first", first=4, last=5, detail="missing"
    )


def test_a_chain_begins_with_an_opening_of_its_own() -> None:
    entries, _ = chain.extend(Head("other", 0, chain.GENESIS), [body(1), FIRST.entries[0].body])
    assert faults(entries) == [("altered", "other", 1, 1), ("inserted", "other", 2, 2)]


def test_a_tombstone_does_not_belong_into_a_chain() -> None:
    stone = chain.tombstone(FIRST.head, time=NOW, before=NOW, signer=SIGNER)
    more, _ = chain.extend(FIRST.head, [chain.encode_note(stone)])
    assert ("inserted", "first", 46, 46) in faults([*FIRST.entries, *more])


def test_an_opening_that_names_a_removed_beginning_is_still_checked() -> None:
    # The second chain names the first one's end; retention cut the first one off there.
    stone = chain.tombstone(
        Head("first", 20, FIRST.entries[19].hash), time=NOW, before=NOW, signer=SIGNER
    )
    third = written("third", 5, follows=(Head("first", 20, FIRST.entries[19].hash),))
    assert check([*third.entries, *FIRST.entries[20:]], tombstones=[stone]).good
    wrong = written("third", 5, follows=(Head("first", 20, bytes(32)),))
    assert ("altered", "first", 20, 20) in faults(
        [*wrong.entries, *FIRST.entries[20:]], tombstones=[stone]
    )


def test_an_opening_far_from_its_place_is_reordered() -> None:
    long = written("long", 5000, closed=False)
    late = written("late", 3, follows=(Head("long", 5, long.entries[4].hash),))
    assert faults([*long.entries, *late.entries]) == [("reordered", "long", 5, 5)]


def test_a_tombstone_that_is_no_hash_matches_nothing() -> None:
    stone = chain.Tombstone(writer="first", time=NOW, through=20, head="zz", before=NOW)
    found = verify(FIRST.entries[20:], tombstones=[stone])
    assert {(f.kind, f.first) for f in found.faults} == {("altered", 21)}
