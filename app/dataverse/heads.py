"""The heads that answers nearly always have, read without a tokenizer; pure.

For a head as Dataverse writes it this says what llhttp says, in a third of the time. Whatever is
unusual in any way is left to llhttp: reading strictly twice would be deciding twice.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from app.dataverse.message import Headers

_LEFT_TO_LLHTTP: Final = frozenset({b"transfer-encoding", b"upgrade", b"trailer"})
_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_NAMES_MAX: Final = 512
_LENGTH: Final = b"content-length"

_lower: dict[bytes, bytes] = {_LENGTH: _LENGTH}
"""Names that were read before, in lower case: the same object each time, whose hash is known."""


def plain_head(head: bytes) -> tuple[int, Headers] | None:
    """Status and headers (names in lower case) of a whole head; None: ask llhttp.

    There is at most one Content-Length, of digits, and no transfer coding.
    """
    lines = head[:-4].split(b"\r\n")
    # No control character, so none that could be taken for an end of a line.
    if not b"".join(lines).decode("latin-1").isprintable():
        return None
    first = lines[0]
    code = first[9:12]
    if not first.startswith(b"HTTP/1.1 ") or first[12:13] != b" " or not code.isdigit():
        return None
    status = int(code)
    if not 200 <= status < 600:
        return None
    headers: list[tuple[bytes, bytes]] = []
    known = _lower.get
    measured = False
    del lines[0]
    for line in lines:
        written, colon, value = line.partition(b":")
        name = known(written)
        if name is None:
            if _NAME.fullmatch(written) is None:
                return None
            name = _remembered(written)
            if name in _LEFT_TO_LLHTTP:
                return None
        if not colon:
            return None
        value = value.strip(b" ")
        if name is _LENGTH:
            if measured or not value.isdigit() or len(value) > 18:
                return None
            measured = True
        headers.append((name, value))
    return status, tuple(headers)


def _remembered(written: bytes) -> bytes:
    name = written.lower()
    if name in _LEFT_TO_LLHTTP:
        return name
    if len(_lower) < _NAMES_MAX:
        name = _lower[written] = _lower.setdefault(name, name)
    return _LENGTH if name == _LENGTH else name
