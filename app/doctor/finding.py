"""One line of what was found: how bad, about what, in words, with what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable


class Level(Enum):
    """From the best to the worst."""

    OK = "ok"
    ADVICE = "advice"
    """It works; something would be safer."""
    SKIPPED = "skipped"
    """It could not be looked at, since something before it failed."""
    WARNING = "warning"
    """It works now. Somebody should see to it."""
    FAILURE = "failure"
    """It does not work."""


_ORDER: Final = {level: place for place, level in enumerate(Level)}

STEPS: Final = (
    "configuration",
    "secret",
    "credential",
    "dns",
    "tls",
    "token",
    "claims",
    "clock",
    "who-am-i",
    "application-user",
    "roles",
    "tables",
    "privileges",
    "throttling",
    "audit",
)
"""In the order in which the chain is walked. docs/doctor.md explains each; a test compares."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """`subject` names the application, the environment, or one in the other."""

    step: str
    subject: str
    level: Level
    text: str
    remedy: str | None = None
    code: str | None = None
    """Entra's, Dataverse's, or that of a caution."""
    names: tuple[str, ...] = ()
    """All of what the text names only the first of: privileges, tables."""

    def as_json(self) -> dict[str, Any]:
        told: dict[str, Any] = {
            "step": self.step,
            "subject": self.subject,
            "level": self.level.value,
            "text": self.text,
        }
        if self.remedy is not None:
            told["remedy"] = self.remedy
        if self.code is not None:
            told["code"] = self.code
        if self.names:
            told["names"] = list(self.names)
        return told


def worst(findings: Iterable[Finding]) -> Level:
    return max((f.level for f in findings), key=_ORDER.__getitem__, default=Level.OK)


@dataclass(frozen=True, slots=True)
class About:
    """Writes findings about one subject."""

    subject: str

    def ok(self, step: str, text: str, *, names: tuple[str, ...] = ()) -> Finding:
        return self._found(Level.OK, step, text, names=names)

    def skipped(self, step: str, text: str, remedy: str | None = None) -> Finding:
        return self._found(Level.SKIPPED, step, text, remedy)

    def advice(
        self, step: str, text: str, remedy: str | None = None, *, code: str | None = None
    ) -> Finding:
        return self._found(Level.ADVICE, step, text, remedy, code=code)

    def warning(
        self,
        step: str,
        text: str,
        remedy: str | None = None,
        *,
        code: str | None = None,
        names: tuple[str, ...] = (),
    ) -> Finding:
        return self._found(Level.WARNING, step, text, remedy, code=code, names=names)

    def failure(
        self,
        step: str,
        text: str,
        remedy: str | None = None,
        *,
        code: str | None = None,
        names: tuple[str, ...] = (),
    ) -> Finding:
        return self._found(Level.FAILURE, step, text, remedy, code=code, names=names)

    def _found(
        self,
        level: Level,
        step: str,
        text: str,
        remedy: str | None = None,
        *,
        code: str | None = None,
        names: tuple[str, ...] = (),
    ) -> Finding:
        return Finding(
            step=step,
            subject=self.subject,
            level=level,
            text=text,
            remedy=remedy,
            code=code,
            names=names,
        )


def several(names: tuple[str, ...], *, shown: int = 6) -> str:
    """The first few of them in words."""
    if len(names) <= shown:
        return ", ".join(names)
    return f"{', '.join(names[:shown])} and {len(names) - shown} more"
