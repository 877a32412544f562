"""`$batch` bodies: read as sloppily as real clients write them, written as Dataverse does."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING

from app.sandbox.dataverse.failures import bad_request

if TYPE_CHECKING:
    from app.sandbox.dataverse.messages import Answer

_BOUNDARY = re.compile(r'boundary\s*=\s*("([^"]+)"|[^\s;,"]+)', re.IGNORECASE)
_BLANK = re.compile(rb"\r?\n[ \t]*\r?\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    """One request inside a batch; `target` as it stands in its request line."""

    method: str
    target: str
    headers: dict[str, list[str]] = field(repr=False)
    body: bytes = field(repr=False)
    content_id: str | None = None


@dataclass(frozen=True, slots=True)
class ChangeSet:
    requests: tuple[Inner, ...]


def read_batch(content_type: str, body: bytes) -> list[Inner | ChangeSet]:
    """Bare line feeds, blank lines too many, no last line end: all of it is in use."""
    found: list[Inner | ChangeSet] = []
    for headers, content in _parts(content_type, body):
        kind = headers.get("content-type", [""])[0]
        if kind.lower().startswith("multipart/mixed"):
            found.append(ChangeSet(tuple(_inner(h, c) for h, c in _parts(kind, content))))
        else:
            found.append(_inner(headers, content))
    return found


def _parts(content_type: str, body: bytes) -> list[tuple[dict[str, list[str]], bytes]]:
    match = _BOUNDARY.search(content_type)
    if match is None:
        raise bad_request(
            "Invalid header value for 'Content-Type': the boundary of the batch is missing."
        )
    boundary = re.escape((match[2] or match[1]).encode())
    line = re.compile(rb"(?:^|\r?\n)--" + boundary + rb"(--)?[ \t]*(?=\r?\n|$)")
    delimiters = list(line.finditer(body))
    if not delimiters:
        raise bad_request("The batch has no part with the boundary that its Content-Type names.")
    found: list[tuple[dict[str, list[str]], bytes]] = []
    for here, after in zip(delimiters, [*delimiters[1:], None], strict=True):
        if here[1]:
            break
        content = body[here.end() : after.start() if after is not None else len(body)]
        found.append(_head(re.sub(rb"^\r?\n", b"", content, count=1)))
    return found


def _head(content: bytes) -> tuple[dict[str, list[str]], bytes]:
    """Header lines up to the first blank one, and what follows."""
    if re.match(rb"\r?\n", content):
        return {}, content
    match = _BLANK.search(content)
    head, rest = (
        (content, b"") if match is None else (content[: match.start()], content[match.end() :])
    )
    headers: dict[str, list[str]] = {}
    for line in head.decode("latin-1").splitlines():
        name, colon, value = line.partition(":")
        if colon:
            headers.setdefault(name.strip().lower(), []).append(value.strip())
    return headers, rest


def _inner(headers: dict[str, list[str]], content: bytes) -> Inner:
    kind = headers.get("content-type", [""])[0].lower()
    if not kind.startswith("application/http"):
        raise bad_request(
            f"The content type '{kind}' is not valid for a part of a batch; 'application/http' "
            "was expected."
        )
    lines = content.lstrip(b"\r\n")
    first, _, rest = lines.partition(b"\n")
    words = first.decode("latin-1").strip().split(" ")
    if len(words) < 2:
        raise bad_request("The request line of a part of the batch cannot be read.")
    if words[-1].upper().startswith("HTTP/"):
        words.pop()
    # Microsoft's Python client leaves spaces of a filter as they are.
    target = " ".join(words[1:]).strip()
    inside, body = _head(rest) if rest.strip() else ({}, b"")
    return Inner(
        method=words[0].upper(),
        target=target,
        headers=inside,
        body=body.strip(b"\r\n") if "content-length" not in inside else body,
        content_id=headers.get("content-id", [None])[0],
    )


def write_part(answer: Answer, content_id: str | None = None) -> bytes:
    """A part without the delimiter lines around it."""
    phrase = HTTPStatus(answer.status).phrase
    lines = ["Content-Type: application/http", "Content-Transfer-Encoding: binary"]
    if content_id is not None:
        lines.append(f"Content-ID: {content_id}")
    lines += ["", f"HTTP/1.1 {answer.status} {phrase}"]
    lines += [f"{name}: {value}" for name, value in answer.headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace") + answer.body


def write_parts(parts: list[bytes], boundary: str) -> bytes:
    mark = f"--{boundary}".encode()
    inside = b"".join(mark + b"\r\n" + part + b"\r\n" for part in parts)
    return inside + mark + b"--"
