"""How soon the broker is ready, and how much memory it takes: empty, busy, and with large files.

    python benchmarks/footprint.py                     start, memory, 100,000 requests, a file
    python benchmarks/footprint.py --requests 1000000  as goal 9 wants it (some five minutes)

One worker with the SQLite audit, a pinned schema of 800 tables, no extras.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks import peers
from benchmarks.load import TEST_CORE, Request, cpu_ns, family, resident_kib, run_round
from benchmarks.peers import free_port
from benchmarks.proxy import QUERY
from benchmarks.setting import CALLER, FILES, prepared

if TYPE_CHECKING:
    from benchmarks.peers import Running
    from benchmarks.setting import Setting

FILE_BYTES = 128 * 1024 * 1024


class Start(NamedTuple):
    """To the first 200 of readyz, and what the process holds a second later."""

    wall_s: float
    cpu_s: float
    resident_mib: float


def start(setting: Setting) -> Start:
    """`token-broker serve`, as an operator starts it."""
    port = free_port()
    folder = setting.brokers_folder(tls=False)
    environment = {
        **os.environ,
        "BROKER_CONFIG": str(folder / "broker.yaml"),
        "BROKER_PORT": str(port),
        "BROKER_STATE_DIR": str(folder / f"state-{port}"),
        "BROKER_AUDIT_URL": f"sqlite:///{folder / f'audit-{port}.db'}",
    }
    began = time.perf_counter()
    process = subprocess.Popen(
        ["taskset", "-c", str(TEST_CORE), sys.executable, "-m", "app.cli", "serve"],
        cwd=peers.HERE.parent,
        env=environment,
        stderr=subprocess.DEVNULL,
    )
    try:
        while time.perf_counter() - began < 30:
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", port), 1) as s,
            ):
                s.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                if s.recv(64).startswith(b"HTTP/1.1 200"):
                    took = time.perf_counter() - began, cpu_ns(family(process.pid)) / 1e9
                    time.sleep(1)
                    return Start(*took, resident_kib(family(process.pid)) / 1024)
            time.sleep(0.005)
        raise TimeoutError("it is not ready after 30 s")
    finally:
        process.terminate()
        process.wait(timeout=20)


def mib(running: Running) -> float:
    return resident_kib(running.pids) / 1024


def download(running: Running, key: str) -> float:
    """The most that the broker held while a file of 128 MB went through it."""
    most = 0.0
    with socket.create_connection(("127.0.0.1", running.port), 60) as s:
        s.sendall(
            b"GET /environments/contoso/api/data/v9.2/"
            b"accounts(e73ffc82-e292-ed11-aad1-000000000001)/createdon/$value HTTP/1.1\r\n"
            b"Host: x\r\nConnection: close\r\nAuthorization: Bearer " + key.encode() + b"\r\n\r\n"
        )
        size, looked = 0, 0
        while piece := s.recv(256 * 1024):
            size += len(piece)
            if size - looked > 4 * 1024 * 1024:
                looked = size
                most = max(most, mib(running))
    if size < FILE_BYTES:
        print(f"  the file came with {size} bytes only")
    return most


def upload(running: Running, key: str) -> float:
    """The same for a file that is written to Dataverse."""
    most, piece = 0.0, bytes(256 * 1024)
    with socket.create_connection(("127.0.0.1", running.port), 60) as s:
        s.sendall(
            b"PATCH /environments/contoso/api/data/v9.2/"
            + FILES.encode()
            + b"(e73ffc82-e292-ed11-aad1-000000000001)/new_file HTTP/1.1\r\n"
            b"Host: x\r\nConnection: close\r\nContent-Type: application/octet-stream\r\n"
            b"x-ms-file-name: large.bin\r\nContent-Length: %d\r\n"
            % FILE_BYTES
            + b"Authorization: Bearer "
            + key.encode()
            + b"\r\n\r\n"
        )
        for number in range(FILE_BYTES // len(piece)):
            s.sendall(piece)
            if number % 16 == 0:
                most = max(most, mib(running))
        answer = s.recv(4096)
    if not answer.startswith(b"HTTP/1.1 204"):
        print(f"  the file was not taken: {answer[:300]!r}")
    return most


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=100_000)
    wanted = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="footprint-") as folder,
        prepared(Path(folder), upstream_port=free_port(), upstream_tls_port=free_port()) as setting,
        peers.upstream(setting),
    ):
        wall_s, cpu_s, resident = (
            statistics.median(values)
            for values in zip(*(start(setting) for _ in range(5)), strict=True)
        )
        print(f"ready after {wall_s:.2f} s, of which {cpu_s:.2f} of CPU (goal 10: <= 1.0)")
        print(f"resident after the start {resident:.1f} MiB (goal 9: <= 75 MB)")
        file = (
            setting.folder
            / "pages-plain/accounts(e73ffc82-e292-ed11-aad1-000000000001)/createdon/$value"
        )
        file.parent.mkdir(parents=True)
        with file.open("wb") as sparse:
            sparse.truncate(FILE_BYTES)
        with peers.broker(setting, tls=False) as running:
            url = f"http://127.0.0.1:{running.port}/environments/contoso/api/data/v9.2/"
            bearer = (("Authorization", f"Bearer {setting.keys[CALLER]}"),)
            request = Request(url=f"{url}accounts{QUERY}", headers=bearer)
            done = 0
            told = 0
            while done < wanted.requests:
                done += run_round(request, running.pids, connections=64, seconds=5).requests
                if done >= told + wanted.requests // 4:
                    told = done
                    print(f"resident after {done:>9,} requests {mib(running):.1f} MiB", flush=True)
            before = mib(running)
            most = download(running, setting.keys[CALLER])
            print(f"a file of 128 MB down adds {most - before:.1f} MiB (goal 9: <= 10 MB)")
            before = mib(running)
            most = upload(running, setting.keys[CALLER])
            print(f"a file of 128 MB up adds {most - before:.1f} MiB (goal 9: <= 10 MB)")


if __name__ == "__main__":
    main()
