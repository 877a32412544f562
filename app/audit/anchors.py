"""Signed checkpoints, out of this process: what was cut off the record is missed by them.

Each is a line of the log, and of a file where one is named; `audit verify --anchor` takes both.
"""

from __future__ import annotations

import os
import queue
import threading
from typing import TYPE_CHECKING, Final

import structlog

from app.audit.chain import encode_note

if TYPE_CHECKING:
    from pathlib import Path

    from app.audit.chain import Checkpoint

log = structlog.stdlib.get_logger(__name__)

CLOSE_S: Final = 5.0
"""How long the end of the process waits for a disk."""


class Anchors:
    """Call it with each checkpoint: it never waits. A thread of its own writes the file."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def __call__(self, checkpoint: Checkpoint) -> None:
        # With `phase` the line reads as the checkpoint itself.
        log.info(
            "audit.checkpoint",
            phase="checkpoint",
            writer=checkpoint.writer,
            time=checkpoint.time,
            count=checkpoint.count,
            head=checkpoint.head,
            final=checkpoint.final,
            kid=checkpoint.kid,
            signature=checkpoint.signature,
        )
        if self._file is None:
            return
        self._lines.put(encode_note(checkpoint) + b"\n")
        if self._thread is None:
            # A disk that hangs must not keep the process from ending.
            self._thread = threading.Thread(
                target=self._write, args=(self._file,), name="audit-anchors", daemon=True
            )
            self._thread.start()

    def close(self) -> None:
        """Blocks until the last one is on disk, or for a while."""
        if self._thread is not None:
            self._lines.put(None)
            self._thread.join(CLOSE_S)

    def _write(self, file: Path) -> None:
        waiting = b""
        while (line := self._lines.get()) is not None:
            waiting += line
            try:
                _append(file, waiting)
            except OSError as error:
                log.warning("audit.anchor_failed", error=type(error).__name__)
            else:
                waiting = b""


def _append(file: Path, lines: bytes) -> None:
    """In one write, so that several processes can share the file; opened anew each time, so that
    it can be taken away and begun again.
    """
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        if os.write(descriptor, lines) != len(lines):
            raise OSError("written in part")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
