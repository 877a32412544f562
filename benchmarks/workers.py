"""Two workers beside one: what a request costs when processes share the record's file.

    python benchmarks/workers.py

They take turns; CPU is of all of a broker's processes. The workers share the core that one has
alone, so that requests per second say nothing here.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from pathlib import Path

from benchmarks import peers
from benchmarks.load import Request, Round, median, run_round
from benchmarks.peers import free_port
from benchmarks.proxy import QUERY
from benchmarks.setting import CALLER, PAGES, prepared

GOAL = 1.15


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=2)
    wanted = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="workers-")))
        setting = stack.enter_context(
            prepared(folder, upstream_port=free_port(), upstream_tls_port=free_port())
        )
        stack.enter_context(peers.upstream(setting))
        running = {
            workers: stack.enter_context(peers.broker(setting, f"workers={workers}", tls=False))
            for workers in (1, 2)
        }
        headers = (
            ("Accept", "application/json"),
            ("Authorization", f"Bearer {setting.keys[CALLER]}"),
        )
        path = f"/environments/contoso/api/data/v9.2/{PAGES['2 KB'][0]}{QUERY}"
        print(f"{'2 KB, 64 connections':<24}{'requests/s':>12}{'CPU us':>10}")
        found: dict[int, list[Round]] = {workers: [] for workers in running}
        for number in range(-1, wanted.rounds):
            for workers, process in running.items():
                measured = run_round(
                    Request(url=f"http://127.0.0.1:{process.port}{path}", headers=headers),
                    process.pids,
                    connections=64,
                    seconds=wanted.seconds,
                )
                if number >= 0:
                    found[workers].append(measured)
        rows = {workers: median(rounds) for workers, rounds in found.items()}
        for workers, row in rows.items():
            name = f"{workers} worker{'s' if workers > 1 else ''}"
            print(f"{name:<24}{row.per_s:>12,.0f}{row.cpu_us:>10.1f}")
        ratio = rows[2].cpu_us / rows[1].cpu_us
        missed = "" if ratio <= GOAL else "   MISSED"
        print(f"11. CPU a request {ratio:.2f} x one worker's (goal <= {GOAL}){missed}")


if __name__ == "__main__":
    main()
