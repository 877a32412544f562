"""The Prefer header: what the caller would like, and what of it was done."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.sandbox.dataverse.failures import bad_request
from app.sandbox.dataverse.options import PAGE_ROWS_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable

FORMATTED = "OData.Community.Display.V1.FormattedValue"
LOOKUP_TABLE = "Microsoft.Dynamics.CRM.lookuplogicalname"
LOOKUP_NAV = "Microsoft.Dynamics.CRM.associatednavigationproperty"

_ITEM = re.compile(r'\s*([^\s=,;"]+)\s*(?:=\s*("(?:[^"\\]|\\.)*"|[^,;\s]*))?\s*(?:;[^,]*)?(?:,|$)')


@dataclass(frozen=True, slots=True, kw_only=True)
class Preferences:
    representation: bool = False
    page_rows: int | None = None
    annotations: tuple[str, ...] = ()
    track_changes: bool = False
    continue_on_error: bool = False
    applied: tuple[str, ...] = ()

    def annotates(self, name: str) -> bool:
        return any(
            pattern in {"*", name}
            or (pattern.endswith("*") and name.startswith(pattern.removesuffix("*")))
            for pattern in self.annotations
        )


NONE = Preferences()


def read_preferences(lines: Iterable[str]) -> Preferences:
    representation = track = go_on = False
    rows: int | None = None
    annotations: tuple[str, ...] = ()
    applied: list[str] = []
    for line in lines:
        at = 0
        while at < len(line):
            match = _ITEM.match(line, at)
            if match is None:
                break
            at = match.end()
            name = match[1].lower()
            value = (match[2] or "").strip('"')
            match name:
                case "return" if value == "representation":
                    representation = True
                case "odata.maxpagesize":
                    if not value.isdigit() or not int(value):
                        raise bad_request("The odata.maxpagesize preference is not a number.")
                    rows = min(int(value), PAGE_ROWS_MAX)
                case "odata.include-annotations":
                    annotations = tuple(a.strip() for a in value.split(",") if a.strip())
                case "odata.track-changes":
                    track = True
                case "odata.continue-on-error":
                    go_on = value.lower() != "false"
                case _:
                    continue
            applied.append(match[0].strip().rstrip(",").strip())
    return Preferences(
        representation=representation,
        page_rows=rows,
        annotations=annotations,
        track_changes=track,
        continue_on_error=go_on,
        applied=tuple(applied),
    )
