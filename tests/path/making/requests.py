"""Requests of every kind, and batches of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.path.making.names import SERVICE
from tests.path.making.writes import Writes
from tests.path.second_reader import ENVIRONMENT, PUBLIC, Asking

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Author(Writes):
    """Writes whole requests."""

    def request(self) -> Asking:
        makers: Sequence[tuple[int, Callable[[], Asking]]] = (
            (24, self.read),
            (10, self.fetched),
            (4, self.property_read),
            (4, self.counted_or_referenced),
            (3, self.called),
            (3, self.definitions),
            (8, self.created),
            (9, self.patched),
            (3, self.deleted),
            (4, self.property_written),
            (7, self.joined),
            (5, self.bulk),
            (3, self.acted),
            (8, self.batch),
        )
        at = self.dice.number(0, sum(weight for weight, _ in makers) - 1)
        for weight, maker in makers:
            if at < weight:
                return maker()
            at -= weight
        raise AssertionError

    def batch(self) -> Asking:
        dice = self.dice
        newline = "\r\n" if dice.chance(0.8) else "\n"
        items = []
        number = 0
        for _ in range(dice.number(1, 3)):
            if dice.chance(0.5):
                parts = [self._part_request() for _ in range(dice.number(1, 2))]
                items.append((True, parts))
            else:
                items.append((False, [self._part_request(get=dice.chance(0.7))]))
        lines: list[str] = []
        for is_set, parts in items:
            lines.append("--b")
            if is_set:
                number += 1
                lines += [f"Content-Type: multipart/mixed; boundary=c{number}", ""]
            for index, part in enumerate(parts, 1):
                if is_set:
                    lines.append(f"--c{number}")
                lines += self._part(part, content_id=str(number * 10 + index) if is_set else None)
            if is_set:
                lines.append(f"--c{number}--")
        lines += ["--b--", ""]
        body = newline.join(lines).encode("utf-8")
        kind = dice.pick(("multipart/mixed; boundary=b", 'multipart/mixed;boundary="b"'))
        headers: tuple[tuple[str, str], ...] = (("Content-Type", kind),)
        if dice.chance(0.2):
            headers = (*headers, ("Prefer", "odata.continue-on-error"))
        return Asking("POST", "$batch", headers, body)

    def _part_request(self, *, get: bool = False) -> Asking:
        makers: tuple[Callable[[], Asking], ...] = (
            (self.read, self.fetched, self.counted_or_referenced)
            if get
            else (self.created, self.patched, self.deleted, self.joined, self.property_written)
        )
        return self.dice.pick(makers)()

    def _part(self, asking: Asking, *, content_id: str | None) -> list[str]:
        dice = self.dice
        target = asking.target
        body = "" if asking.body is None else asking.body.decode("utf-8")
        if content_id is not None and content_id[-1] != "1" and dice.chance(0.4):
            first = f"${content_id[:-1]}1"
            if dice.chance(0.5):
                _, slash, rest = target.partition("/")
                target = first + slash + rest
            elif "@odata." in body:
                value = json.loads(body)
                for name in value:
                    if name.endswith("@odata.bind") or name == "@odata.id":
                        value[name] = first
                body = json.dumps(value)
        base = dice.pick(("", SERVICE, f"{ENVIRONMENT}{SERVICE}", f"{PUBLIC}{SERVICE}",
                          f"{PUBLIC}/environments/prod{SERVICE}"))  # fmt: skip
        if target.startswith("$"):
            base = ""
        lines = ["Content-Type: application/http", "Content-Transfer-Encoding:binary"]
        if content_id is not None and dice.chance(0.9):
            lines.append(f"Content-ID: {content_id}")
        lines += ["", f"{asking.method} {base}{target} HTTP/1.1"]
        lines += [f"{n}: {v}" for n, v in asking.headers]
        return [*lines, "", *([body] if body else []), ""]
