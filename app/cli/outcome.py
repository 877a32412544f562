"""How a command ends: an exit code that means something, and one line for each thing wrong."""

from __future__ import annotations

import contextlib
import json
import sys
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from app.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Iterator


class ExitCode(IntEnum):
    """docs/cli.md explains them; a test compares."""

    DONE = 0
    NO = 1
    """The command did its work, and the answer is no: a problem, a case that fails."""
    CALLED_WRONGLY = 2
    """An option that there is not, a file that is not there. Click's own."""
    FAILED = 3
    """It could not do its work: the settings, the configuration, the store, the network."""
    WARNED = 4
    """The command did its work, and nothing fails, but somebody should see to something."""
    INTERRUPTED = 130


class CouldNot(BrokerError):
    """A command cannot do its work; the detail says what is wrong and what to do."""


@contextlib.contextmanager
def answering(*, as_json: bool) -> Iterator[None]:
    """Say what went wrong without a traceback, and end with the exit code for it."""
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit(ExitCode.INTERRUPTED) from None
    except BrokerError as error:
        _say(error.code, error.detail, as_json=as_json)
        raise SystemExit(ExitCode.FAILED) from None
    except Exception as error:
        detail = _known(error)
        if detail is None:
            raise
        _say(*detail, as_json=as_json)
        raise SystemExit(ExitCode.FAILED) from None


def _known(error: Exception) -> tuple[str, str] | None:
    """Failures that have a sentence of their own, and are no `BrokerError`."""
    # By name: importing their modules for every command would cost more than most commands.
    match type(error).__name__:
        case "StoreFailed":
            return "audit-unreadable", str(error)
        case "SandboxIncomplete":
            return "extra-missing", str(error)
        case _ if isinstance(error, OSError) and error.filename is not None:
            return "file-unusable", f"{error.filename}: {error.strerror}"
    return None


def _say(code: str, detail: str, *, as_json: bool) -> None:
    if as_json:
        sys.stderr.write(json.dumps({"error": code, "detail": detail}) + "\n")
        return
    for line in detail.splitlines():
        sys.stderr.write(f"error: {line}\n")


def end(code: ExitCode) -> None:
    """Leave with this code; falling off a command's end is `DONE`."""
    if code is not ExitCode.DONE:
        raise SystemExit(code)


def say_json(value: Any) -> None:
    """One document on stdout, indented where a person looks at it."""
    indent = 2 if sys.stdout.isatty() else None
    sys.stdout.write(json.dumps(value, indent=indent, ensure_ascii=False, default=str) + "\n")
