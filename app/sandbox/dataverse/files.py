"""File and image columns: uploads whole or in chunks, downloads whole, by range or as JSON."""

from __future__ import annotations

import base64
import mimetypes
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote
from uuid import uuid4

from app.sandbox.dataverse.failures import Failed, bad_request, no_row, not_allowed
from app.sandbox.dataverse.messages import Answer, Request, json_answer, no_content

if TYPE_CHECKING:
    from app.sandbox.dataverse.resources import Property
    from app.sandbox.dataverse.store import Store
    from app.sandbox.dataverse.targets import Query

CHUNK_BYTES = 4 * 1024 * 1024
"""What `x-ms-chunk-size` says."""
FILE_BYTES_MAX = 128 * 1024 * 1024

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
_SESSIONS_MAX = 1000


@dataclass(slots=True)
class _Session:
    """A chunked upload that is under way; whoever knows its token may go on with it."""

    table: str
    row_id: str
    column: str
    name: str
    content: bytearray = field(default_factory=bytearray, repr=False)


@dataclass(frozen=True, slots=True)
class _Stored:
    id: str
    name: str
    mimetype: str
    content: bytes = field(repr=False)


class Files:
    """All files of an environment, and the uploads that are not finished."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._sessions: dict[str, _Session] = {}

    def holds(self, found: Property) -> bool:
        return found.column.kind in {"file", "image"}

    def answer(self, request: Request, found: Property, query: Query) -> Answer | None:
        """None where the request is about the column's value, not about its file."""
        table, column = found.row.table, found.column
        row_id = found.row.existing()
        if self._store.version_of(table, row_id) is None:
            raise no_row(table.logical, row_id)
        match request.method:
            case "PATCH":
                request.user.need("Write", table)
                request.user.touch("Write", table, column.name)
                return self._upload(request, found, query)
            case "PUT" if column.kind == "file":
                request.user.need("Write", table)
                request.user.touch("Write", table, column.name)
                return self._whole(request, found, query)
            case "DELETE" if column.kind == "file":
                request.user.need("Write", table)
                request.user.touch("Write", table, column.name)
                self._remove(found)
                return no_content()
            case "GET" if found.raw or query.get("size") is not None or request.header("range"):
                request.user.need("Read", table)
                request.user.touch("Read", table, column.name)
                return self._download(request, found)
            case "GET" | "PUT" | "DELETE":
                return None
        raise not_allowed(request.method)

    # ------------------------------------------------------------ uploads

    def _upload(self, request: Request, found: Property, query: Query) -> Answer:
        token = query.get("sessiontoken")
        if token is not None:
            return self._chunk(request, found, token)
        if (request.header("x-ms-transfer-mode") or "").lower() == "chunked":
            return self._begin(request, found, query)
        return self._whole(request, found, query)

    def _name(self, request: Request, query: Query) -> str:
        """The header beats the query option (dataverse-reference 3.14)."""
        name = request.header("x-ms-file-name") or query.get("x-ms-file-name")
        if not name:
            raise bad_request("The x-ms-file-name header or query option is missing.", "0x80048d19")
        return unquote(name)

    def _whole(self, request: Request, found: Property, query: Query) -> Answer:
        image = found.column.kind == "image"
        name = "image" if image else self._name(request, query)
        self._keep(found, name, request.body)
        return no_content()

    def _begin(self, request: Request, found: Property, query: Query) -> Answer:
        token = base64.urlsafe_b64encode(uuid4().bytes + uuid4().bytes).decode().rstrip("=")
        while len(self._sessions) >= _SESSIONS_MAX:
            del self._sessions[next(iter(self._sessions))]
        table, row_id = found.row.table, found.row.existing()
        self._sessions[token] = _Session(
            table.logical, row_id, found.column.name, self._name(request, query)
        )
        where = (
            f"{request.base}/{table.set_name}({row_id})/{found.column.name}?sessiontoken={token}"
        )
        return Answer(
            status=200,
            headers=(
                ("OData-Version", "4.0"),
                ("Location", where),
                ("x-ms-chunk-size", str(CHUNK_BYTES)),
                ("Accept-Ranges", "bytes"),
            ),
        )

    def _chunk(self, request: Request, found: Property, token: str) -> Answer:
        session = self._sessions.get(token)
        place = (found.row.table.logical, found.row.existing(), found.column.name)
        if session is None or (session.table, session.row_id, session.column) != place:
            raise bad_request("The session token is not valid.", "0x80048d19")
        match = _CONTENT_RANGE.fullmatch((request.header("content-range") or "").strip())
        if match is None:
            raise bad_request("The Content-Range header is missing or not valid.", "0x80048d19")
        first, last, total = (int(n) for n in match.groups())
        # dynamics-web-api sends one empty chunk more, `bytes 8-7/8`, where the size is a
        # multiple of the chunk's.
        fits = first == len(session.content) and last - first + 1 == len(request.body)
        if not fits or first + len(request.body) > total:
            raise bad_request(
                f"The chunk does not continue at byte {len(session.content)}.", "0x80048d19"
            )
        if len(request.body) > CHUNK_BYTES:
            raise Failed(413, "0x80044a02", "The chunk is larger than x-ms-chunk-size.")
        if not request.body and first == total:
            del self._sessions[token]
            return no_content()
        session.content += request.body
        if len(session.content) < total:
            return Answer(
                status=206,
                headers=(("OData-Version", "4.0"), ("x-ms-chunk-size", str(CHUNK_BYTES))),
            )
        self._keep(found, session.name, bytes(session.content))
        # The session stays for the empty chunk that may follow.
        return no_content()

    def _keep(self, found: Property, name: str, content: bytes) -> None:
        table, row_id, column = found.row.table, found.row.existing(), found.column
        if len(content) > FILE_BYTES_MAX:
            raise Failed(400, "0x80044a02", "Attachment file size is too big.")
        file_id = str(uuid4())
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        store = self._store
        with store.transaction():
            store.execute(
                "INSERT OR REPLACE INTO _files VALUES (?, ?, ?, ?, ?, ?, ?)",
                (file_id, table.logical, row_id, column.name, name, kind, content),
            )
            if column.kind == "image":
                store.update(table, row_id, {column.name: base64.b64encode(content).decode()})
                return
            store.update(table, row_id, {column.name: file_id, f"{column.name}_name": name})
            attachments = store.schema["fileattachment"]
            self._forget_attachment(found)
            store.insert(
                attachments,
                {
                    "fileattachmentid": file_id,
                    "filename": name,
                    "mimetype": kind,
                    "filesizeinbytes": len(content),
                    "regardingfieldname": column.name,
                    "objectid": row_id,
                },
            )

    def _remove(self, found: Property) -> None:
        table, row_id, column = found.row.table, found.row.existing(), found.column
        store = self._store
        with store.transaction():
            store.execute(
                "DELETE FROM _files WHERE tbl = ? AND row = ? AND col = ?",
                (table.logical, row_id, column.name),
            )
            self._forget_attachment(found)
            store.update(table, row_id, {column.name: None, f"{column.name}_name": None})

    def _forget_attachment(self, found: Property) -> None:
        self._store.execute(
            "DELETE FROM fileattachment WHERE objectid = ? AND regardingfieldname = ?",
            (found.row.existing(), found.column.name),
        )

    # ------------------------------------------------------------ downloads

    def _download(self, request: Request, found: Property) -> Answer:
        stored = self._read(found)
        if stored is None:
            if found.column.kind == "image":
                return no_content()
            raise Failed(404, "0x80060888", "No file attachment found for attribute.")
        total = len(stored.content)
        about: tuple[tuple[str, str], ...] = (
            ("x-ms-file-name", quote(stored.name, safe=" ()[]!@#$&'+,;=~.")),
            ("x-ms-file-size", str(total)),
            ("mimetype", stored.mimetype),
            ("Content-Disposition", f'attachment; filename="{quote(stored.name, safe=" ")}"'),
        )
        span = _span(request.header("range"), total)
        content = stored.content if span is None else stored.content[span[0] : span[1] + 1]
        status = 200
        if span is not None:
            status = 206
            about = (
                *about,
                ("x-ms-chunk-size", str(CHUNK_BYTES)),
                ("Content-Range", f"bytes {span[0]}-{span[1]}/{total}"),
                ("Accept-Ranges", "bytes"),
            )
        if not found.raw:
            # As dynamics-web-api reads it: JSON with the bytes in base64.
            path = f"{found.row.table.set_name}({found.row.existing()})/{found.column.name}"
            where = f"{request.base}/{path}"
            return json_answer(
                {
                    "@odata.context": f"{request.base}/$metadata#{path}",
                    "value": base64.b64encode(content).decode(),
                },
                status=status,
                headers=(*about, ("Location", where)),
            )
        return Answer(
            status=status,
            headers=(
                ("Content-Type", "application/octet-stream"),
                ("OData-Version", "4.0"),
                *about,
            ),
            body=content,
        )

    def _read(self, found: Property) -> _Stored | None:
        row = self._store.one(
            "SELECT id, name, mimetype, content FROM _files WHERE tbl = ? AND row = ? AND col = ?",
            (found.row.table.logical, found.row.existing(), found.column.name),
        )
        if row is not None:
            return _Stored(*row)
        if found.column.kind != "image":
            return None
        kept = self._store.row(found.row.table, found.row.existing())
        image = kept.get(found.column.name) if kept else None
        if not image:
            return None
        return _Stored("", "image", "application/octet-stream", base64.b64decode(image))


def _span(header: str | None, total: int) -> tuple[int, int] | None:
    """First and last byte that a Range asks for; the last one is cut to what there is."""
    if header is None:
        return None
    match = _RANGE.fullmatch(header.strip())
    if match is None:
        return None
    first = int(match[1])
    last = min(int(match[2]) if match[2] else total - 1, total - 1)
    if first > last:
        raise Failed(
            416,
            "0x80060888",
            "The requested range is not satisfiable.",
            headers=(("Content-Range", f"bytes */{total}"),),
        )
    return first, last
