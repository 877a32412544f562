"""The token endpoint beside a FastAPI route that does nothing.

    python benchmarks/tokens.py                 at 16 and 64 connections

The route: FastAPI, a response_model, a dependency that compares an HMAC; no tokens, no policy, no
record. The broker: an API key, the right to the raw token, limits, metrics, a durable record.
"""

from __future__ import annotations

import argparse
import contextlib
import hmac
import sys
import tempfile
from hashlib import sha256
from pathlib import Path

from benchmarks import peers
from benchmarks.load import TEST_CORE, Request, Round, median, run_round
from benchmarks.peers import free_port
from benchmarks.setting import HOLDER, prepared

KEY = b"k" * 32


def serve_route(port: int) -> None:
    import uvicorn
    from fastapi import Depends, FastAPI, Header, HTTPException
    from pydantic import BaseModel

    class Token(BaseModel):
        access_token: str
        token_type: str
        expires_in: int
        expires_on: int
        resource: str
        application: str

    app = FastAPI()
    known = hmac.new(KEY, b"caller", sha256).hexdigest()

    def caller(authorization: str = Header()) -> str:
        if not hmac.compare_digest(hmac.new(KEY, b"caller", sha256).hexdigest(), known):
            raise HTTPException(401)
        return authorization

    @app.post("/environments/contoso/token", response_model=Token)
    def token(name: str = Depends(caller)) -> Token:  # noqa: FAST002 - as people write it
        del name
        return Token(
            access_token="e" * 1200,
            token_type="Bearer",  # noqa: S106 - the word itself
            expires_in=3599,
            expires_on=1_900_000_000,
            resource="https://contoso.crm4.dynamics.com",
            application="erp",
        )

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", access_log=False)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--route", type=int, help="serve the route on this port")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2)
    wanted = parser.parse_args()
    if wanted.route:
        serve_route(wanted.route)
        return
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tokens-")))
        setting = stack.enter_context(
            prepared(folder, upstream_port=free_port(), upstream_tls_port=free_port())
        )
        script = folder / "post.lua"
        script.write_text('wrk.method = "POST"\n', encoding="ascii")
        port = free_port()
        route = [sys.executable, str(Path(__file__).resolve()), "--route", str(port)]
        running = {
            "FastAPI route": stack.enter_context(
                peers.started("route", route, port, core=TEST_CORE)
            ),
            "broker, in full": stack.enter_context(peers.broker(setting, tls=False)),
            "broker, nothing on record": stack.enter_context(
                peers.broker(setting, "record", tls=False)
            ),
        }
        bearer = (("Authorization", f"Bearer {setting.keys[HOLDER]}"),)
        for connections in (16, 64):
            found: dict[str, list[Round]] = {name: [] for name in running}
            for number in range(-1, wanted.rounds):
                for name, process in running.items():
                    url = f"http://127.0.0.1:{process.port}/environments/contoso/token"
                    measured = run_round(
                        Request(url=url, headers=bearer),
                        process.pids,
                        connections=connections,
                        seconds=wanted.seconds if number >= 0 else 1,
                        script=script,
                    )
                    if number >= 0:
                        found[name].append(measured)
            print(f"\ntoken endpoint, {connections} connections")
            print(f"{'':<28}{'requests/s':>12}{'CPU us':>10}{'p50 ms':>10}{'p99 ms':>10}")
            rows = {name: median(rounds) for name, rounds in found.items()}
            for name, row in rows.items():
                print(
                    f"{name:<28}{row.per_s:>12,.0f}{row.cpu_us:>10.1f}"
                    f"{row.p50_ms:>10.2f}{row.p99_ms:>10.2f}"
                )
            ratio = rows["broker, in full"].per_s / rows["FastAPI route"].per_s
            print(f"5. {ratio:.2f} x the route's requests/s (goal at 64: >= 2.8)")


if __name__ == "__main__":
    main()
