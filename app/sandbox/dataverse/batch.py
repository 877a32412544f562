"""`$batch`: parts in their order, change sets as one, `$1` for what a part before created."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from uuid import uuid4

from app.sandbox.dataverse.failures import Failed, bad_request
from app.sandbox.dataverse.messages import Answer, Request, failure_answer
from app.sandbox.dataverse.multipart import ChangeSet, Inner, read_batch, write_part, write_parts
from app.sandbox.dataverse.preferences import read_preferences
from app.sandbox.dataverse.targets import VERSIONED

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.sandbox.dataverse.messages import Headers
    from app.sandbox.dataverse.rights import User
    from app.sandbox.dataverse.store import Store

OPERATIONS_MAX = 1000
_STREAMED = "application/json; odata.metadata=minimal; odata.streaming=true"


class _Undone(Exception):
    """A request of a change set failed: none of them has happened."""

    def __init__(self, answer: Answer, content_id: str | None) -> None:
        super().__init__()
        self.answer = answer
        self.content_id = content_id


class Batch:
    """Runs the parts of one `$batch` by `handle`. `act_as`: who acts, by a part's own headers."""

    def __init__(
        self,
        store: Store,
        outer: Request,
        *,
        handle: Callable[[Request], Answer],
        act_as: Callable[[User, Headers], User],
    ) -> None:
        self._store = store
        self._outer = outer
        self._handle = handle
        self._act_as = act_as

    def answer(self) -> Answer:
        parts = read_batch(self._outer.header("content-type") or "", self._outer.body)
        size = sum(len(p.requests) if isinstance(p, ChangeSet) else 1 for p in parts)
        if size > OPERATIONS_MAX:
            raise bad_request(
                f"The number of operations in the batch exceeds the limit of {OPERATIONS_MAX}."
            )
        written: list[bytes] = []
        status = 200
        for part in parts:
            try:
                text, failed = self._part(part)
            except _Undone as undone:
                text, failed = write_part(undone.answer, undone.content_id), undone.answer.status
            written.append(text)
            if failed and not self._outer.preferences.continue_on_error:
                status = failed
                break
        boundary = f"batchresponse_{uuid4()}"
        return Answer(
            status=status,
            headers=(
                ("Content-Type", f"multipart/mixed; boundary={boundary}"),
                ("OData-Version", "4.0"),
            ),
            body=write_parts(written, boundary) + b"\r\n",
        )

    def _part(self, part: Inner | ChangeSet) -> tuple[bytes, int]:
        """The part's answer as bytes, and its status where it failed, else 0."""
        if isinstance(part, ChangeSet):
            return self._change_set(part), 0
        answer = self._one(part, None)
        return write_part(answer), answer.status if answer.status >= 400 else 0

    def _change_set(self, part: ChangeSet) -> bytes:
        boundary = f"changesetresponse_{uuid4()}"
        references: dict[str, str] = {}
        written: list[bytes] = []
        with self._store.transaction():
            for inner in part.requests:
                if inner.content_id is not None and inner.content_id in references:
                    failed = bad_request(f"Content-ID '{inner.content_id}' is given twice.")
                    raise _Undone(failure_answer(failed), None)
                answer = self._one(inner, references)
                if answer.status >= 400:
                    raise _Undone(answer, None)
                if inner.content_id is not None:
                    references[inner.content_id] = self._named(inner, answer, references)
                written.append(write_part(answer, inner.content_id))
        head = f"Content-Type: multipart/mixed; boundary={boundary}\r\n\r\n".encode()
        return head + write_parts(written, boundary)

    def _named(self, inner: Inner, answer: Answer, references: dict[str, str]) -> str:
        """What `$n` stands for afterwards: the row that was made, or that the part named."""
        for name, value in answer.headers:
            if name == "OData-EntityId":
                return value.split("/api/data/", 1)[1].partition("/")[2]
        path, _, _ = self._below(inner.target)[0].partition("?")
        head, slash, rest = path.partition("/")
        return references.get(head.removeprefix("$"), head) + slash + rest

    def _one(self, inner: Inner, references: dict[str, str] | None) -> Answer:
        try:
            request = self._request(inner, references)
        except Failed as failed:
            return failure_answer(failed)
        answer = self._handle(request)
        if request.method == "GET" and answer.status == 200:
            headers = tuple(
                (k, _STREAMED if k == "Content-Type" and "json" in v else v)
                for k, v in answer.headers
            )
            answer = Answer(status=200, headers=headers, body=answer.body)
        if answer.status >= 400:
            answer = answer.with_headers(("REQ_ID", str(uuid4())))
        return answer

    def _request(self, inner: Inner, references: dict[str, str] | None) -> Request:
        in_change_set = references is not None
        if in_change_set and inner.method == "GET":
            raise bad_request("GET requests are not allowed in a change set.")
        below, base = self._below(inner.target)
        path, _, query = below.partition("?")
        if path.startswith("$batch"):
            raise bad_request("A batch cannot contain another batch.")
        return Request(
            method=inner.method,
            path=path,
            query=query,
            headers=inner.headers,
            body=inner.body,
            base=base,
            user=self._act_as(self._outer.user, inner.headers),
            preferences=read_preferences(inner.headers.get("prefer", ())),
            references=references if in_change_set else {},
            in_change_set=in_change_set,
            in_batch=True,
        )

    def _below(self, target: str) -> tuple[str, str]:
        """The target below its service root, and that root."""
        base = self._outer.base
        origin = base.split("/api/data/", 1)[0]
        if target.startswith(("http://", "https://")):
            parts = urlsplit(target)
            if f"{parts.scheme}://{parts.netloc}".lower() != origin.lower():
                raise bad_request(f"The URL of a part is not below '{base}'.")
            target = target.split(parts.netloc, 1)[1] or "/"
        if not target.startswith("/"):
            return target, base
        path, mark, query = target.partition("?")
        versioned = VERSIONED.match(path)
        if versioned is None:
            raise bad_request(f"The URL of a part is not below '{base}'.")
        return (versioned[2] or "") + mark + query, f"{origin}/api/data/{versioned[1]}"
