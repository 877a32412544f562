"""A real issuer on loopback: keys, a discovery document, a key set, and tokens that it signs."""

from __future__ import annotations

import base64
import hmac
import json
import time
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any, Self

from joserfc import jws
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

if TYPE_CHECKING:
    from types import TracebackType

NOW = 1_800_000_000.0


@cache
def rsa_key(kid: str, bits: int = 2048) -> RSAKey:
    return RSAKey.generate_key(bits, {"kid": kid})


@cache
def ec_key(kid: str, curve: str = "P-256") -> ECKey:
    return ECKey.generate_key(curve, {"kid": kid})


@cache
def okp_key(kid: str) -> OKPKey:
    return OKPKey.generate_key("Ed25519", {"kid": kid})


class IssuerServer:
    """Answers what `documents` holds, by path; counts what it was asked."""

    def __init__(self, *keys: Key) -> None:
        self.documents: dict[str, tuple[int, bytes]] = {}
        self.asked: list[str] = []
        self.authorization: dict[str, str | None] = {}
        self.slow_s = 0.0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                time.sleep(outer.slow_s)
                outer.authorization[self.path] = self.headers.get("Authorization")
                status, body = outer.documents.get(self.path, (404, b"{}"))
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", f"{outer.url}/keys")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.publish(*keys)

    def publish(self, *keys: Key, **changed: Any) -> None:
        """The discovery document and a key set; `changed` goes into every key."""
        self.serve(
            "/.well-known/openid-configuration",
            {"issuer": self.url, "jwks_uri": f"{self.url}/keys"},
        )
        entries = [{**key.as_dict(private=False), "use": "sig", **changed} for key in keys]
        self.serve("/keys", {"keys": entries})

    def serve(self, path: str, document: Any, status: int = 200) -> None:
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.documents[path] = (status, body)

    def fail(self) -> None:
        for path in self.documents:
            self.documents[path] = (503, b"<html>down</html>")

    def claims(self, **changed: Any) -> dict[str, Any]:
        """Of a good token; a claim that is changed to None is left out."""
        claims = {
            "iss": self.url,
            "aud": "broker",
            "sub": "system:serviceaccount:erp:loader",
            "exp": NOW + 600,
            "nbf": NOW,
            "iat": NOW,
            **changed,
        }
        return {name: value for name, value in claims.items() if value is not None}

    def token(self, key: Key, algorithm: str = "RS256", **changed: Any) -> bytes:
        return sign(key, json.dumps(self.claims(**changed)).encode(), algorithm=algorithm)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Anything(JWSRegistry):
    def get_alg(self, name: str) -> Any:
        return self.algorithms[name]


def sign(key: Key, payload: bytes, *, algorithm: str = "RS256", **header: Any) -> bytes:
    """Whatever is asked for, as an attacker would."""
    whole = {"alg": algorithm, "kid": key.kid, **header}
    whole = {name: value for name, value in whole.items() if value is not None}
    registry = _Anything(strict_check_header=False)
    return jws.serialize_compact(whole, payload, key, registry=registry).encode()


def unsigned(header: bytes, payload: bytes, signature: bytes = b"") -> bytes:
    return b".".join(encoded(part) for part in (header, payload, signature))


def encoded(content: bytes) -> bytes:
    return base64.urlsafe_b64encode(content).rstrip(b"=")


def signed_with_public_key(key: RSAKey, payload: bytes) -> bytes:
    """HS256, the public key in PEM as the secret: known to everybody."""
    header = json.dumps({"alg": "HS256", "kid": key.kid}).encode()
    signing_input = encoded(header) + b"." + encoded(payload)
    signature = hmac.new(key.as_pem(private=False), signing_input, "sha256").digest()
    return signing_input + b"." + encoded(signature)
