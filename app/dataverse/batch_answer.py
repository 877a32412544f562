"""A `multipart/mixed` batch answer on its way through: each part's headers and links put right.

Boundaries, part headers and line ends stay the bytes they were; clients compare them. What is
no batch answer (a part of another kind, a missing end) is refused, since its links could not
be found.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from enum import Enum
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from app.dataverse.answer_headers import BodyKind, body_kind, link_for_caller, travels
from app.dataverse.failures import ExchangeFailed, Stage
from app.dataverse.links import LinkRewriter

if TYPE_CHECKING:
    from app.dataverse.link_bases import LinkBases, Seal

PART_HEAD_MAX_BYTES: Final = 64 * 1024
BOUNDARY_MAX_BYTES: Final = 200

LENGTH_HELD_BYTES: Final = 128 * 1024
"""A part that states its length is held until the new one is known, up to this size. A longer
one loses the statement, which its boundary makes superfluous."""

_BOUNDARY: Final = re.compile(rb'boundary\s*=\s*(?:"([^"]+)"|([^\s;"]+))', re.IGNORECASE)
_BLANK_LINE: Final = re.compile(rb"(?:\A|\r?\n)\r?\n")
_FOLD: Final = re.compile(rb"\r?\n[ \t]+")
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] [1-5][0-9][0-9](?: [^\r\n]*)?\r?\n?")
_LINE: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([^\r\n]*?)[ \t]*(\r?\n|\Z)")

SealFor = Callable[[int], "Seal"]


class _Place(Enum):
    OUTSIDE = "outside"
    """Before a first boundary, or between the end of a change set and the next boundary."""
    PART_HEAD = "part head"
    HTTP_HEAD = "http head"
    BODY = "body"
    AFTER = "after"
    """Behind the last boundary."""


def batch_boundary(content_type: bytes) -> bytes:
    """Of a `multipart/mixed` Content-Type. Raises `ExchangeFailed` where there is none."""
    found = _BOUNDARY.search(content_type)
    boundary = (found[1] or found[2]) if found is not None else b""
    if not 0 < len(boundary) <= BOUNDARY_MAX_BYTES:
        raise _malformed("no usable boundary")
    return boundary


class BatchAnswerRewriter:
    """Bytes in, bytes out; the same bytes out however the input was cut.

    `seal_for(i)` seals the links in the answer to the i-th operation, those in change sets
    counted one by one. A change set that failed is answered by one part: `operations`, the
    number of operations in each top-level item of the request, keeps the count right then.
    `seal_for` is asked for the number after the last where there are more parts than operations.
    """

    def __init__(
        self,
        boundary: bytes,
        *,
        bases: LinkBases,
        seal_for: SealFor,
        operations: Sequence[int] | None = None,
    ) -> None:
        self._bases = bases
        self._seal_for = seal_for
        self._firsts = None if operations is None else [0, *accumulate(operations)]
        self._counts = operations
        self._buffer = b""
        self._out: list[bytes] = []
        self._boundaries = [boundary]
        self._delimiter = _Delimiter(self._boundaries)
        self._place = _Place.OUTSIDE
        self._at_line_start = True
        self._item = -1
        self._in_item = 0
        self._seen = -1
        self._links: LinkRewriter | None = None
        # A head whose Content-Length is not known yet, cut where the number goes; and its body.
        self._held_head: tuple[bytes, bytes] | None = None
        self._held_body: list[bytes] = []
        self._held_bytes = 0

    def feed(self, chunk: bytes) -> bytes:
        self._buffer += chunk
        while self._step():
            pass
        return self._taken()

    def finish(self) -> bytes:
        """What was held back. Raises `ExchangeFailed` where the last boundary has not come."""
        # The last line may do without its end.
        tail = self.feed(b"\n") if self._place is not _Place.AFTER else b"\n"
        if self._place is not _Place.AFTER:
            raise _malformed("no end")
        return tail[:-1]

    def _taken(self) -> bytes:
        out, self._out = self._out, []
        return b"".join(out)

    # ------------------------------------------------------------------ steps

    def _step(self) -> bool:
        """One step ahead; False where that takes more input."""
        if self._place is _Place.PART_HEAD or self._place is _Place.HTTP_HEAD:
            return self._step_head()
        if self._place is _Place.AFTER:
            self._out.append(self._buffer)
            self._buffer = b""
            return False
        ending = self._delimiter.find(self._buffer, at_line_start=self._at_line_start)
        if ending is None:
            free = len(self._buffer) - self._delimiter.longest
            if free > 0:
                self._content(self._buffer[:free])
                self._buffer = self._buffer[free:]
                self._at_line_start = False
            return False
        start, found = ending
        self._content(self._buffer[:start])
        self._end_of_part()
        self._out.append(self._buffer[start : found.end()])
        self._buffer = self._buffer[found.end() :]
        self._pass_boundary(found["name"], last=found["last"] is not None)
        return True

    def _pass_boundary(self, name: bytes, *, last: bool) -> None:
        if len(self._boundaries) == 2 and (last or name == self._boundaries[0]):
            inner = self._boundaries.pop()
            self._delimiter = _Delimiter(self._boundaries)
            if name == inner:
                self._go(_Place.OUTSIDE)
                return
        self._go(_Place.AFTER if last else _Place.PART_HEAD)

    def _step_head(self) -> bool:
        blank = _BLANK_LINE.search(self._buffer)
        boundary = self._delimiter.find(self._buffer, at_line_start=True)
        if boundary is not None and (blank is None or boundary[0] < blank.start()):
            end = boundary[0]
        elif blank is not None:
            end = blank.end()
        else:
            end = len(self._buffer)
        if end > PART_HEAD_MAX_BYTES:
            raise _malformed(f"a part's head of more than {PART_HEAD_MAX_BYTES} bytes")
        if boundary is None and blank is None:
            return False
        head, self._buffer = self._buffer[:end], self._buffer[end:]
        if self._place is _Place.PART_HEAD:
            self._part_head(head)
        else:
            self._http_head(head)
        return True

    def _go(self, place: _Place) -> None:
        self._place = place
        self._at_line_start = True

    # ------------------------------------------------------------------ heads

    def _part_head(self, head: bytes) -> None:
        self._out.append(head)
        headers = _headers(_FOLD.sub(b" ", head))
        media = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        nested = len(self._boundaries) == 2
        if b"content-length" in headers:
            raise _malformed("a part that states its length outside of its HTTP head")
        if media == b"multipart/mixed" and not nested:
            self._item += 1
            self._in_item = 0
            boundary = batch_boundary(headers[b"content-type"])
            if boundary in self._boundaries:
                raise _malformed("a change set with the boundary of the batch")
            self._boundaries.append(boundary)
            self._delimiter = _Delimiter(self._boundaries)
            self._go(_Place.OUTSIDE)
        elif media == b"application/http":
            self._seen += 1
            if not nested:
                self._item += 1
                self._in_item = 0
            self._go(_Place.HTTP_HEAD)
        else:
            raise _malformed("a part that is no answer to an operation")

    def _operation(self) -> int:
        """The number of the operation that the part at hand answers.

        A part too many has the number after the last: no operation's links are in it, and what
        Dataverse has done by then is done, so that its answer is passed on all the same.
        """
        if self._firsts is None or self._counts is None:
            return self._seen
        if self._item >= len(self._counts) or self._in_item >= self._counts[self._item]:
            return self._firsts[-1]
        number = self._firsts[self._item] + self._in_item
        self._in_item += 1
        return number

    def _http_head(self, head: bytes) -> None:
        status = _STATUS_LINE.match(head)
        if status is None:
            raise _malformed("a part without a status line")
        seal = self._seal_for(self._operation())
        kept = [status[0]]
        length_at: int | None = None
        content_type = b""
        position = status.end()
        while position < len(head) and (line := _LINE.match(head, position)) is not None:
            position = line.end()
            name, value, line_end = line[1].lower(), line[2], line[3]
            if name == b"content-encoding" and value.lower() != b"identity":
                raise _malformed("a part with a content coding")
            if name == b"content-length":
                if length_at is not None:
                    raise _malformed("a part with two lengths")
                if _is_held(value):
                    kept += [line[1] + b": ", line_end]
                    length_at = len(kept) - 1
            elif name in {b"location", b"odata-entityid"}:
                link = link_for_caller(value, bases=self._bases, seal=seal)
                if link is not None:
                    kept.append(b"%b: %b%b" % (line[1], link, line_end))
            elif travels(name):
                kept.append(line[0])
                if name == b"content-type":
                    if content_type:
                        raise _malformed("a part with two types")
                    content_type = value
        rest = head[position:]
        if rest.strip(b"\r\n"):
            raise _malformed("a part's header that cannot be read")
        kept.append(rest)
        if length_at is None:
            self._out += kept
        else:
            self._held_head = (b"".join(kept[:length_at]), b"".join(kept[length_at:]))
        if body_kind(((b"content-type", content_type),)) is BodyKind.JSON:
            self._links = LinkRewriter(self._bases, seal)
        self._go(_Place.BODY)

    # ------------------------------------------------------------------ bodies

    def _content(self, data: bytes) -> None:
        if self._links is not None:
            data = self._links.feed(data)
        self._pass_content(data)

    def _pass_content(self, data: bytes) -> None:
        if self._held_head is None:
            self._out.append(data)
            return
        self._held_body.append(data)
        self._held_bytes += len(data)
        if self._held_bytes > 2 * LENGTH_HELD_BYTES:
            raise _malformed("a part longer than it says")

    def _end_of_part(self) -> None:
        if self._links is not None:
            self._pass_content(self._links.finish())
            self._links = None
        if self._held_head is not None:
            before, after = self._held_head
            self._out += [before, b"%d" % self._held_bytes, after, *self._held_body]
            self._held_head, self._held_body, self._held_bytes = None, [], 0


class _Delimiter:
    """The boundaries that may end what is being read: the change set's, and the batch's."""

    def __init__(self, boundaries: Sequence[bytes]) -> None:
        names = b"|".join(re.escape(name) for name in sorted(boundaries, key=len, reverse=True))
        line = rb"--(?P<name>" + names + rb")(?P<last>--)?[ \t]{0,32}\r?\n"
        self._at_start = re.compile(line)
        # Begins with three plain bytes, by which a search is quick; a CR before is added below.
        self._after_line = re.compile(rb"\n" + line)
        self.longest = max(map(len, boundaries)) + 2 + 2 + 2 + 32 + 2

    def find(self, data: bytes, *, at_line_start: bool) -> tuple[int, re.Match[bytes]] | None:
        """The first one whose line is whole, and where its own line end before it begins."""
        if at_line_start and (found := self._at_start.match(data)):
            return 0, found
        found = self._after_line.search(data)
        if found is None:
            return None
        start = found.start()
        return (start - 1 if data[start - 1 : start] == b"\r" else start), found


def _headers(head: bytes) -> dict[bytes, bytes]:
    return {line[1].lower(): line[2] for line in _LINE.finditer(head)}


def _is_held(content_length: bytes) -> bool:
    if not content_length.isdigit():
        raise _malformed("a part with a length that is no number")
    return len(content_length) < 10 and int(content_length) <= LENGTH_HELD_BYTES


def _malformed(what: str) -> ExchangeFailed:
    return ExchangeFailed(
        "upstream-malformed", f"Dataverse's batch answer has {what}", stage=Stage.ANSWERING
    )
