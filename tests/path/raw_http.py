"""HTTP by hand over a socket: what a case wants to send goes out byte for byte."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import ssl

PATIENCE_S = 30.0


class Closed(Exception):
    """The other side closed the connection before the answer was whole; `got` has come."""

    def __init__(self, got: bytes) -> None:
        super().__init__(f"closed after {len(got)} bytes: {got[:80]!r}")
        self.got = got


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """Names of headers in lower case; the body without its framing."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes = field(repr=False)
    interim: int = 0
    """How many 1xx answers came first."""

    def header(self, name: str) -> str | None:
        found = self.all(name)
        return found[0] if found else None

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name.lower()]

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        return json.loads(self.body)


class RawConnection:
    """One connection that carries whatever bytes it is given."""

    def __init__(self, port: int, *, tls: ssl.SSLContext | None = None) -> None:
        plain = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = plain if tls is None else tls.wrap_socket(plain, server_hostname="127.0.0.1")
        self._unread = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def answer(self, *, to_head: bool = False) -> RawAnswer:
        """The next answer. `to_head`: it has no body, whatever its headers say."""
        interim = 0
        while True:
            head = self._until(b"\r\n\r\n")
            line, *lines = head[:-4].decode("latin-1").split("\r\n")
            status = int(line.split(" ")[1])
            if status >= 200:
                break
            interim += 1
        pairs = [text.partition(":") for text in lines]
        headers = tuple((name.lower(), value.strip()) for name, _, value in pairs)
        answer = RawAnswer(status, headers, b"", interim)
        if to_head or status in {204, 304}:
            return answer
        return RawAnswer(status, headers, self._body(answer), interim)

    def head(self) -> RawAnswer:
        """Only the next answer's head."""
        head = self._until(b"\r\n\r\n")
        line, *lines = head[:-4].decode("latin-1").split("\r\n")
        pairs = [text.partition(":") for text in lines]
        headers = tuple((name.lower(), value.strip()) for name, _, value in pairs)
        return RawAnswer(int(line.split(" ")[1]), headers, b"")

    def rest(self) -> bytes:
        """All that comes until the other side closes."""
        while piece := self._more():
            self._unread += piece
        rest, self._unread = self._unread, b""
        return rest

    def _body(self, answer: RawAnswer) -> bytes:
        if "chunked" in (answer.header("transfer-encoding") or ""):
            return self._chunked()
        length = answer.header("content-length")
        return self.rest() if length is None else self._exactly(int(length))

    def _chunked(self) -> bytes:
        pieces = []
        while size := int(self._until(b"\r\n").split(b";")[0], 16):
            pieces.append(self._exactly(size))
            self._exactly(2)
        while self._until(b"\r\n") != b"\r\n":
            pass
        return b"".join(pieces)

    def _until(self, end: bytes) -> bytes:
        while end not in self._unread:
            piece = self._more()
            if not piece:
                raise Closed(self._unread)
            self._unread += piece
        at = self._unread.index(end) + len(end)
        found, self._unread = self._unread[:at], self._unread[at:]
        return found

    def _exactly(self, size: int) -> bytes:
        pieces, have = [self._unread], len(self._unread)
        while have < size:
            piece = self._more()
            if not piece:
                raise Closed(b"".join(pieces))
            pieces.append(piece)
            have += len(piece)
        whole = b"".join(pieces)
        self._unread = whole[size:]
        return whole[:size]

    def _more(self) -> bytes:
        try:
            return self.socket.recv(262144)
        except ConnectionResetError:
            return b""


def request_bytes(
    method: str,
    target: bytes | str,
    headers: list[tuple[str, str]] | dict[str, str],
    body: bytes | None = None,
    *,
    host: str = "127.0.0.1",
) -> bytes:
    """One request; Host and Content-Length are added where they are missing."""
    pairs = list(headers.items()) if isinstance(headers, dict) else list(headers)
    present = {name.lower() for name, _ in pairs}
    if "host" not in present:
        pairs.insert(0, ("Host", host))
    if "content-length" not in present and "transfer-encoding" not in present:
        length = 0 if body is None else len(body)
        if body is not None or method in {"POST", "PUT", "PATCH"}:
            pairs.append(("Content-Length", str(length)))
    line = target if isinstance(target, bytes) else target.encode("utf-8")
    head = b"".join(
        name.encode("latin-1") + b": " + value.encode("utf-8") + b"\r\n" for name, value in pairs
    )
    return b"%b %b HTTP/1.1\r\n%b\r\n" % (method.encode("ascii"), line, head) + (body or b"")
