"""The demo is a test of the whole path: every step has to come out as it should."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from app.demo import play as demo
from app.demo.day import Day
from app.demo.stage import Scene, panel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]
STEPS = 9


@pytest.fixture(autouse=True)
def _logs_as_before(logs_as_before: None) -> None:
    """The demo is a command."""
    del logs_as_before


@pytest.fixture
def shown() -> Iterator[Console]:
    with io.StringIO() as stream:
        yield Console(file=stream, width=100)


def text_of(console: Console) -> str:
    stream = console.file
    assert isinstance(stream, io.StringIO)
    return stream.getvalue()


def test_the_day_comes_out_as_it_should(shown: Console) -> None:
    code = demo.play(keep=False, console=shown)
    text = text_of(shown)
    assert code == 0, text
    assert all(f" {number} · " in text for number in range(1, STEPS + 1))
    assert "in a chain that verifies." in text
    assert "Everything came out as it should" in text
    # Output of a demo ends up in documents: no folder of a machine, no key, no token.
    assert "/tmp" not in text
    assert "dvb_" not in text
    assert "eyJ" not in text


def test_a_step_that_comes_out_otherwise_fails_the_demo(
    shown: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(day: Day) -> None:
        with day._scene("A step", "invoice-loader", "to see it fail") as scene:
            await day._call(scene, "invoice-loader", "GET", f"{day._base}/systemusers")

    monkeypatch.setattr(Day, "_steps", refused)
    assert demo.play(keep=False, console=shown) == 1
    assert "Not as it should be: step 1: the answer was to be 200" in text_of(shown)


def test_a_step_that_breaks_ends_the_day_without_a_traceback(
    shown: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(day: Day) -> None:
        with day._scene("A step", "invoice-loader", "to see it break"):
            raise KeyError("value")

    monkeypatch.setattr(Day, "_steps", broken)
    assert demo.play(keep=False, console=shown) == 1
    assert "step 1: KeyError: 'value'" in text_of(shown)


def test_a_scene_shows_what_was_not_expected(shown: Console) -> None:
    scene = Scene(1, "A step", "reporting", "why")
    scene.expect(True, "not shown")
    scene.expect(None, "this was to be there")
    shown.print(panel(scene))
    assert scene.unexpected == ["this was to be there"]
    assert "this was to be there" in text_of(shown)
    assert "not shown" not in text_of(shown)


def test_what_is_kept_can_be_tried_by_hand(
    tmp_path: Path, require_tool: Callable[[str], Path]
) -> None:
    require_tool("curl")
    process = subprocess.Popen(
        [sys.executable, "-m", "app.demo", "--keep"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    # Should it hang, its end of the pipe closes and the test fails instead of waiting.
    guard = threading.Timer(60, process.kill)
    guard.start()
    try:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            if line.strip().startswith("curl "):
                lines.append(line.strip())
            if len(lines) == 3:
                break
        answers = [
            subprocess.run(
                ["sh", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=True
            ).stdout
            for line in lines
        ]
        assert '"value":[' in answers[0]
        assert '"caller":"invoice-loader"' in answers[1]
        assert '"records":[' in answers[2]
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    finally:
        guard.cancel()
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
