"""Batches of the record, posted to where they are watched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import httpx2

from app.audit.forwarder import SinkFailed
from app.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT_S: Final = 10.0
ANSWER_BYTES_MAX: Final = 64 * 1024
"""What an answer says is hardly needed; read to here, its connection can be used again."""


def address(text: str, setting: str) -> httpx2.URL:
    """Raises `Misconfigured`, which names the setting and not its value: it may hold a key."""
    try:
        url = httpx2.URL(text)
    except httpx2.InvalidURL:
        url = httpx2.URL("")
    if url.scheme not in {"http", "https"} or not url.host:
        raise Misconfigured("setting-invalid", f"{setting}: must be a URL, https://…")
    return url


class Poster:
    """One HTTP client, for one thread."""

    def __init__(self) -> None:
        self._client: httpx2.Client | None = None

    def __repr__(self) -> str:
        return "Poster()"

    def post(self, url: httpx2.URL, body: bytes, headers: Mapping[str, str]) -> bytes:
        """The answer's beginning. Raises `SinkFailed` for all but a 2xx: redirects are none."""
        if self._client is None:
            self._client = httpx2.Client(timeout=TIMEOUT_S)
        try:
            with self._client.stream("POST", url, content=body, headers=headers) as answer:
                if answer.is_success:
                    return _beginning(answer)
                raise SinkFailed(
                    f"it answered with status {answer.status_code}",
                    retry_after_s=_seconds(answer.headers.get("retry-after")),
                )
        except httpx2.HTTPError as error:
            raise SinkFailed(f"it cannot be reached: {type(error).__name__}") from error

    def close(self) -> None:
        if self._client is not None:
            self._client.close()


def _beginning(answer: httpx2.Response) -> bytes:
    body = b""
    for piece in answer.iter_bytes():
        body += piece
        if len(body) > ANSWER_BYTES_MAX:
            break
    return body


def _seconds(value: str | None) -> float | None:
    return float(value) if value is not None and value.isascii() and value.isdigit() else None
