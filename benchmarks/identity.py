"""What knowing a caller costs: an API key, a JWT for the first time, and the same one again.

    python benchmarks/identity.py

CPU of one authentication in process, the best of its rounds. The issuer's keys are there already;
a fresh token each time is what a broker without a memory would pay.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

from joserfc import jws
from joserfc.jwk import ECKey, RSAKey
from joserfc.jws import JWSRegistry

from app.config.loaded import Loaded
from app.config.model import Configuration
from app.config.secrets import Secrets
from app.identity.authenticator import Authenticator
from app.identity.keys import digest
from app.telemetry.logs import configure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from joserfc.jwk import Key

ISSUER = "https://oidc.example"
KEY = "dvb_reporting_" + "7" * 64
KEYS: dict[str, Key] = {
    "RS256": RSAKey.generate_key(2048, {"kid": "rsa"}),
    "ES256": ECKey.generate_key("P-256", {"kid": "ec"}),
}
ROUNDS, TOKENS = 7, 400
"""Fewer tokens than are remembered, so that the second time finds each of them."""


def configuration(jwks_uri: str) -> Configuration:
    return Configuration.model_validate(
        {
            "public_url": "https://broker.example",
            "issuers": {
                "cluster": {
                    "issuer": ISSUER,
                    "audience": "broker",
                    "jwks_uri": jwks_uri,
                    "algorithms": list(KEYS),
                }
            },
            "callers": {
                "reporting": {
                    "identities": [
                        {"api_key": {"sha256": digest(KEY)}},
                        {"jwt": {"issuer": "cluster", "claims": {"sub": "reporting"}}},
                    ]
                }
            },
        }
    )


def token(algorithm: str, number: int) -> bytes:
    """As Kubernetes writes one: some 900 bytes."""
    now = int(time.time())
    claims = {
        "iss": ISSUER,
        "aud": ["broker"],
        "sub": "reporting",
        "iat": now,
        "nbf": now,
        "exp": now + 3600,
        "jti": f"{number:032x}",
        "kubernetes.io": {
            "namespace": "erp",
            "node": {"name": "node-7", "uid": "5b9ad4b7-6cf1-4f43-8b2d-1f1d9b0a4c57"},
            "pod": {"name": "reporting-0", "uid": "9d2f1c3e-0b7a-4b8e-9c69-3a0c5ad5a6f1"},
        },
    }
    key = KEYS[algorithm]
    signed = jws.serialize_compact(
        {"alg": algorithm, "kid": key.kid, "typ": "JWT"},
        json.dumps(claims),
        key,
        registry=JWSRegistry(algorithms=[algorithm]),
    )
    return signed.encode()


def headers_of(credential: bytes) -> tuple[tuple[bytes, bytes], ...]:
    return ((b"accept", b"*/*"), (b"authorization", b"Bearer " + credential))


async def main() -> None:
    configure(level="WARNING", form="console")
    public = [{**key.as_dict(private=False), "use": "sig"} for key in KEYS.values()]
    with served(json.dumps({"keys": public}).encode()) as url:
        loaded = Loaded(configuration=configuration(url), version="1", files=(), secrets=Secrets())

        async def fresh() -> Authenticator:
            made = Authenticator()
            made.reload(loaded)
            for algorithm in KEYS:
                await made.authenticate(headers_of(token(algorithm, TOKENS)), None)
            return made

        print(f"{'':<28}{'CPU us':>10}")
        show("API key", await each_us([headers_of(KEY.encode())] * TOKENS, fresh))
        for algorithm in KEYS:
            requests = [headers_of(token(algorithm, number)) for number in range(TOKENS)]
            knowing = await fresh()

            async def known(knowing: Authenticator = knowing) -> Authenticator:
                return knowing

            first, again = await each_us(requests, fresh), await each_us(requests, known)
            show(f"JWT {algorithm}, verified", first)
            show(f"JWT {algorithm}, remembered", again)
            print(f"5. a remembered one: {first / again:.1f} x as many (goal >= 4)")


def show(name: str, cost_us: float) -> None:
    print(f"{name:<28}{cost_us:>10.1f}", flush=True)


@contextlib.contextmanager
def served(document: bytes) -> Iterator[str]:
    """The address of an issuer's keys."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(document)))
            self.end_headers()
            self.wfile.write(document)

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/keys"
    server.shutdown()


async def each_us(
    requests: Sequence[tuple[tuple[bytes, bytes], ...]],
    broker: Callable[[], Awaitable[Authenticator]],
) -> float:
    """Of one authentication, as the path does it."""
    best = float("inf")
    for _ in range(ROUNDS):
        authenticator = await broker()
        began = time.process_time()
        for headers in requests:
            if authenticator.authenticate_now(headers) is None:
                await authenticator.authenticate(headers, None)
        best = min(best, (time.process_time() - began) / len(requests))
    return best * 1e6


if __name__ == "__main__":
    asyncio.run(main())
