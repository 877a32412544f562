"""A place in a text of tokens, and the bounds that every grammar over it keeps."""

from __future__ import annotations

from app.errors import Unreadable
from app.odata.lexer import tokens

TERMS_MAX = 500
"""Conditions, sort keys and figures in one expression."""
LEVELS_MAX = 40
"""Parentheses, calls, lambdas and chained operators within one another."""


class Cursor:
    """One text under one set of bounds. `where` names it in errors: `$filter`, `@p1`, …"""

    __slots__ = ("_at", "_kinds", "_levels", "_starts", "_texts", "_where", "terms")

    def __init__(self, source: str, where: str) -> None:
        self._where = where
        self._kinds, self._texts, self._starts = tokens(source, where)
        self._at = 0
        self._levels = 0
        self.terms = 0

    @property
    def where(self) -> str:
        return self._where

    @property
    def kind(self) -> str:
        return self._kinds[self._at]

    @property
    def text(self) -> str:
        return self._texts[self._at]

    def advance(self) -> str:
        """Step over the token; its text."""
        text = self._texts[self._at]
        self._at += 1
        return text

    def back(self) -> None:
        self._at -= 1

    def peek(self, mark: str) -> bool:
        return self._texts[self._at] == mark and self._kinds[self._at] == "mark"

    def peek_name(self, *names: str) -> bool:
        return self._texts[self._at] in names and self._kinds[self._at] == "name"

    def take(self, mark: str) -> bool:
        if self.peek(mark):
            self._at += 1
            return True
        return False

    def expect(self, mark: str) -> None:
        if not self.take(mark):
            raise self.bad(f"expected '{mark}'")

    def name(self, what: str) -> str:
        if self._kinds[self._at] != "name":
            raise self.bad(f"expected {what}")
        return self.advance()

    def end(self) -> None:
        if self._kinds[self._at] != "end":
            raise self.bad("something is left over")

    def touches_previous(self) -> bool:
        """Whether nothing stands between the token before and this one."""
        before = self._at - 1
        return self._starts[before] + len(self._texts[before]) == self._starts[self._at]

    def bad(self, what: str) -> Unreadable:
        return Unreadable(
            "bad-expression", f"{self._where}: {what} at position {self._starts[self._at] + 1}"
        )

    # -------------------------------------------------------------- bounds

    def deeper(self) -> None:
        self._levels += 1
        if self._levels > LEVELS_MAX:
            raise Unreadable(
                "limit-exceeded",
                f"{self._where}: more than {LEVELS_MAX} levels; simplify the expression",
            )

    def shallower(self, levels: int = 1) -> None:
        self._levels -= levels

    def term(self) -> None:
        self.terms += 1
        if self.terms > TERMS_MAX:
            raise Unreadable(
                "limit-exceeded",
                f"{self._where}: more than {TERMS_MAX} terms; use In(…), or several requests",
            )
