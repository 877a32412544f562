"""The passthroughs that one would write in an afternoon: FastAPI, and httpx or aiohttp.

    python benchmarks/passthrough.py {httpx|tuned|aiohttp} PORT UPSTREAM_URL [CA_FILE]

They forward one path with a bearer token and do nothing else: no identity, no policy, no record.
"""

from __future__ import annotations

import contextlib
import gc
import ssl
import sys
from typing import TYPE_CHECKING, Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from starlette.background import BackgroundTask

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TOKEN = "Bearer " + "e" * 1200
KEPT = ("content-type", "odata-version", "x-ms-service-request-id", "etag")


def sent_headers(request: Request) -> dict[str, str]:
    dropped = {"host", "authorization", "connection", "content-length", "accept-encoding"}
    headers = {k: v for k, v in request.headers.items() if k not in dropped}
    headers["Authorization"] = TOKEN
    return headers


def kept_headers(headers: Any) -> dict[str, str]:
    return {name: headers[name] for name in KEPT if name in headers}


def of_httpx(upstream: str, tls: Any) -> FastAPI:
    """The obvious build: one client with its defaults, the answer streamed."""
    import httpx

    client = httpx.AsyncClient(base_url=upstream, verify=tls)
    app = FastAPI()

    @app.get("/{path:path}")
    async def proxy(path: str, request: Request) -> StreamingResponse:
        url = httpx.URL(f"/{path}", query=request.url.query.encode())
        answer = await client.send(
            client.build_request("GET", url, headers=sent_headers(request)), stream=True
        )
        return StreamingResponse(
            answer.aiter_raw(),
            status_code=answer.status_code,
            headers=kept_headers(answer.headers),
            background=BackgroundTask(answer.aclose),
        )

    return app


def of_tuned_httpx(upstream: str, tls: Any) -> FastAPI:
    """As well as it goes: answers whole, the environment unread, the collector frozen.

    To be run where `sniffio` can be imported: without it httpcore tries again each time.
    """
    import httpx
    import sniffio  # type: ignore[import-not-found,unused-ignore]  # noqa: F401

    client = httpx.AsyncClient(
        base_url=upstream,
        verify=tls,
        trust_env=False,
    )

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        del app
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 50, 50)
        yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/{path:path}")
    async def proxy(path: str, request: Request) -> Response:
        url = httpx.URL(f"/{path}", query=request.url.query.encode())
        answer = await client.send(client.build_request("GET", url, headers=sent_headers(request)))
        return Response(answer.content, answer.status_code, kept_headers(answer.headers))

    return app


def of_aiohttp(upstream: str, tls: Any) -> FastAPI:
    import aiohttp
    from yarl import URL

    sessions: list[Any] = []

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        del app
        connector = aiohttp.TCPConnector(limit=0, ssl=tls)
        async with aiohttp.ClientSession(
            connector=connector, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
        ) as session:
            sessions.append(session)
            yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/{path:path}")
    async def proxy(path: str, request: Request) -> Response:
        url = URL(f"{upstream}/{path}?{request.url.query}", encoded=True)
        async with sessions[0].get(
            url, headers=sent_headers(request), allow_redirects=False
        ) as answer:
            return Response(await answer.read(), answer.status, kept_headers(answer.headers))

    return app


BUILDS = {"httpx": of_httpx, "tuned": of_tuned_httpx, "aiohttp": of_aiohttp}


def main() -> None:
    name, port, upstream = sys.argv[1:4]
    tls: Any = ssl.create_default_context(cafile=sys.argv[4]) if len(sys.argv) > 4 else True
    uvicorn.run(
        BUILDS[name](upstream, tls),
        host="127.0.0.1",
        port=int(port),
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    main()
