"""What is wrong with a configuration: every place at once, so that one run of `check` is enough."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from app.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake. `line` counts from 1; None where it is not in a line (a missing file)."""

    file: Path
    line: int | None
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line is not None else str(self.file)
        return f"{where}: {self.message}"


class ConfigurationError(Misconfigured):
    """A configuration that does not load. Changes nothing: the last good one stays (law 9)."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(
            sorted(dict.fromkeys(problems), key=lambda p: (str(p.file), p.line or 0))
        )
        super().__init__("configuration-invalid", "\n".join(str(p) for p in self.problems))


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` where something known is close, else what there is, in short."""
    names = sorted(set(known))
    # Upper and lower case is the commonest slip, and difflib sees two different letters there.
    by_folded = {name.casefold(): name for name in names}
    if found := get_close_matches(word.casefold(), by_folded, n=1):
        return f"; did you mean '{by_folded[found[0]]}'?"
    if not names:
        return "; there is none"
    shown = ", ".join(names[:12])
    return f"; known here: {shown}{', …' if len(names) > 12 else ''}"
