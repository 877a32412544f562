from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import structlog

from app.audit import chain
from app.audit.anchors import Anchors
from app.audit.chain import Checkpoint, check_signature, decode_note
from app.audit.verify import verify
from app.telemetry.logs import configure

if TYPE_CHECKING:
    from pathlib import Path

    from app.audit.keys import CheckpointKeys, CheckpointSigner


def one(signer: CheckpointSigner, count: int = 3) -> Checkpoint:
    head = chain.Head("w", count, bytes([count]) * 32)
    return chain.checkpoint(head, time="2026-10-14T12:00:00.000000Z", signer=signer)


def test_a_file_of_anchors_holds_each_checkpoint(tmp_path: Path, signer: CheckpointSigner) -> None:
    file = tmp_path / "anchors.jsonl"
    first, second = one(signer, 3), one(signer, 4)
    for checkpoints in ([first], [second]):
        anchors = Anchors(file)
        for each in checkpoints:
            anchors(each)
        anchors.close()
    assert [decode_note(line) for line in file.read_bytes().splitlines()] == [first, second]
    assert file.stat().st_mode & 0o007 == 0


def test_what_could_not_be_written_goes_with_the_next(
    tmp_path: Path, signer: CheckpointSigner
) -> None:
    file = tmp_path / "later" / "anchors.jsonl"
    anchors = Anchors(file)
    with structlog.testing.capture_logs() as lines:
        anchors(one(signer, 3))
        while not any(line["event"] == "audit.anchor_failed" for line in lines):
            pass
        file.parent.mkdir()
        anchors(one(signer, 4))
        anchors.close()
    assert [json.loads(line)["count"] for line in file.read_bytes().splitlines()] == [3, 4]


def test_a_line_of_the_log_is_an_anchor_too(signer: CheckpointSigner, keys: CheckpointKeys) -> None:
    before, output = structlog.get_config(), io.StringIO()
    configure(level="INFO", form="json", stream=output)
    try:
        Anchors(None)(one(signer))
    finally:
        structlog.configure(**before)
    note = decode_note(output.getvalue().encode())
    assert note == one(signer)
    assert isinstance(note, Checkpoint)
    assert check_signature(note, keys) == "ok"


def test_a_tail_that_the_key_itself_has_forged_is_found(
    tmp_path: Path, signer: CheckpointSigner, keys: CheckpointKeys
) -> None:
    """Whoever holds the signing key can write another past, and the anchor tells."""
    entry, head = chain.open_chain(writer="w", time="now", program="test", follows=())
    true, true_head = chain.extend(head, [b'{"phase":"outcome","id":"true"}'])
    forged, forged_head = chain.extend(head, [b'{"phase":"outcome","id":"forged"}'])

    def sealed(tail: list[chain.Entry], end: chain.Head) -> list[chain.Entry]:
        note = chain.checkpoint(end, time="now", signer=signer)
        return [entry, *tail, *chain.extend(end, [chain.encode_note(note)])[0]]

    file = tmp_path / "anchors.jsonl"
    anchors = Anchors(file)
    anchors(chain.checkpoint(true_head, time="now", signer=signer))
    anchors.close()
    kept = [
        n for n in map(decode_note, file.read_bytes().splitlines()) if isinstance(n, Checkpoint)
    ]
    assert verify(sealed(true, true_head), keys=keys, anchors=kept).good
    assert verify(sealed(forged, forged_head), keys=keys).good
    faults = verify(sealed(forged, forged_head), keys=keys, anchors=kept).faults
    assert [(f.kind, f.writer, f.first) for f in faults] == [("altered", "w", 2)]
