"""Today's broker beside nginx, Envoy and what one would build in an afternoon: one run, one table.

    python benchmarks/proxy.py                   everything (some twenty minutes)
    python benchmarks/proxy.py --quick           the proxied GET of 2 KB at 64 connections only
    python benchmarks/proxy.py --only nginx,broker,httpx --connections 16,64 --tls

wrk and the upstream (nginx, a static page as Dataverse writes it) run on one core, the process
under test alone on the other. Processes take turns, the median of the rounds counts. The broker
is in full: an API key, a policy on a schema of 800 tables, metrics, and a record that is durable
before the answer. The machine is shared and noisy: compare only inside one run.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import peers
from benchmarks.load import LoadFailed, Request, Round, median, resident_kib, run_round
from benchmarks.peers import NotHere, free_port
from benchmarks.setting import CALLER, PAGES, prepared

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

    from benchmarks.peers import Running
    from benchmarks.setting import Setting

    Start = Callable[..., AbstractContextManager[Running]]

QUERY = "?$select=fullname,telephone1,emailaddress1&$top=10"
BROKER = "broker"

STARTS: dict[str, Start] = {
    "nginx": peers.nginx,
    "envoy": peers.envoy,
    BROKER: peers.broker,
    "broker -record": lambda s, *, tls: peers.broker(s, "record", tls=tls),
    "broker -record +disk": lambda s, *, tls: peers.broker(s, "disk", tls=tls),
    "broker -metrics": lambda s, *, tls: peers.broker(s, "metrics", tls=tls),
    "broker -links": lambda s, *, tls: peers.broker(s, "links", tls=tls),
    "broker -shares": lambda s, *, tls: peers.broker(s, "shares", tls=tls),
    "broker -memory": lambda s, *, tls: peers.broker(s, "memory", tls=tls),
    "aiohttp": lambda s, *, tls: peers.passthrough(s, "aiohttp", tls=tls),
    "tuned": lambda s, *, tls: peers.passthrough(s, "tuned", tls=tls),
    "httpx": lambda s, *, tls: peers.passthrough(s, "httpx", tls=tls),
}
SAID = {
    "nginx": "nginx",
    "envoy": "Envoy, credential_injector",
    BROKER: "broker, in full",
    "broker -record": "broker, nothing on record",
    "broker -record +disk": "broker, a bare append instead",
    "broker -metrics": "broker, nothing counted",
    "broker -links": "broker, links left alone",
    "broker -shares": "broker, nobody takes turns",
    "broker -memory": "broker, each decision anew",
    "aiohttp": "FastAPI + aiohttp",
    "tuned": "FastAPI + httpx, tuned",
    "httpx": "FastAPI + httpx, the obvious build",
}
SLOW = frozenset({"tuned", "httpx"})


class Bench:
    """What runs during one table."""

    def __init__(self, setting: Setting, *, tls: bool, rounds: int, seconds: int) -> None:
        self.setting = setting
        self._tls = tls
        self._rounds = rounds
        self._seconds = seconds
        self.running: dict[str, Running] = {}

    def start(self, names: Iterable[str], stack: contextlib.ExitStack) -> None:
        for name in names:
            try:
                start = functools.partial(STARTS[name], self.setting, tls=self._tls)
                self.running[name] = stack.enter_context(start())
            except (NotHere, LoadFailed) as gone:
                print(f"-- {SAID[name]} is left out: {gone}", flush=True)

    def request(self, name: str, entity_set: str) -> Request:
        path = f"/api/data/v9.2/{entity_set}{QUERY}"
        root = f"http://127.0.0.1:{self.running[name].port}"
        headers = (("Accept", "application/json"), ("OData-Version", "4.0"))
        key = self.setting.keys[CALLER]
        if name.startswith(BROKER):
            root += "/environments/contoso"
        return Request(url=root + path, headers=(*headers, ("Authorization", f"Bearer {key}")))

    def row(self, entity_set: str, connections: int) -> dict[str, Round]:
        """Every process takes its turn in every round."""
        found: dict[str, list[Round]] = {name: [] for name in self.running}
        for number in range(-1, self._rounds):
            for name, process in self.running.items():
                # The first turn only warms up.
                seconds = self._seconds if number >= 0 else 1
                measured = run_round(
                    self.request(name, entity_set),
                    process.pids,
                    connections=connections,
                    seconds=seconds,
                )
                if number >= 0:
                    found[name].append(measured)
        return {name: median(rounds) for name, rounds in found.items()}


def print_table(title: str, rows: dict[str, Round]) -> None:
    obvious, nginx = rows.get("httpx"), rows.get("nginx")
    print(f"\n{title}")
    print(
        f"{'':<36}{'requests/s':>12}{'CPU us':>10}{'p50 ms':>10}{'p99 ms':>10}"
        f"{'x obvious':>11}{'CPU/nginx':>11}"
    )
    for name, row in rows.items():
        faster = f"{row.per_s / obvious.per_s:.1f}" if obvious else ""
        dearer = f"{row.cpu_us / nginx.cpu_us:.2f}" if nginx else ""
        print(
            f"{SAID[name]:<36}{row.per_s:>12,.0f}{row.cpu_us:>10.1f}{row.p50_ms:>10.2f}"
            f"{row.p99_ms:>10.2f}{faster:>11}{dearer:>11}",
            flush=True,
        )


Rows = dict[tuple[str, int], dict[str, Round]]
DISK = "broker -record +disk"


def measure(setting: Setting, wanted: argparse.Namespace, *, tls: bool) -> Rows:
    bench = Bench(setting, tls=tls, rounds=wanted.rounds, seconds=wanted.seconds)
    table: Rows = {}
    with contextlib.ExitStack() as stack:
        bench.start(wanted.only, stack)
        way = "TLS to the upstream" if tls else "plain HTTP to the upstream"
        for size in wanted.sizes:
            for connections in wanted.connections:
                rows = bench.row(PAGES[size][0], connections)
                table[size, connections] = rows
                print_table(f"{size}, {connections} connections, {way}", rows)
        for name, process in bench.running.items():
            if name == BROKER:
                print(f"\n{SAID[name]}: {resident_kib(process.pids) / 1024:.1f} MiB resident")
    if DISK in bench.running and 1 in wanted.connections:
        # It says so when it ends.
        said = setting.brokers_folder(tls=tls) / f"disk-{bench.running[DISK].port}"
        print(f"\nan append and its fdatasync, alone, in the broker: {said.read_text()} µs")
    return table


def print_goals(plain: Rows) -> None:
    """The goals of performance.md that this table decides, where it holds what they compare."""
    print("\ngoals")
    goals: tuple[tuple[str, str, int, str, str, str, float], ...] = (
        ("1", "2 KB", 64, "per_s", BROKER, "httpx", 25.0),
        ("1", "2 KB", 64, "per_s", BROKER, "tuned", 15.0),
        ("1", "2 KB", 64, "per_s", BROKER, "aiohttp", 3.0),
        ("2", "2 KB", 64, "cpu_us", BROKER, "nginx", 3.5),
        ("2", "2 KB", 64, "cpu_us", BROKER, "envoy", 1.25),
        ("2", "2 KB", 16, "cpu_us", BROKER, "nginx", 4.5),
        ("3", "200 KB", 16, "per_s", BROKER, "httpx", 10.0),
        ("4", "2 KB", 64, "cpu_us", BROKER, "broker -record", 1.15),
        ("4", "2 KB", 16, "cpu_us", BROKER, "broker -record", 1.4),
    )
    for goal, size, connections, figure, ours, theirs, wanted in goals:
        rows = plain.get((size, connections), {})
        if ours not in rows or theirs not in rows:
            continue
        ratio = getattr(rows[ours], figure) / getattr(rows[theirs], figure)
        reached = ratio >= wanted if figure == "per_s" else ratio <= wanted
        what = "requests/s" if figure == "per_s" else "CPU"
        sign = ">=" if figure == "per_s" else "<="
        print(
            f"  {goal}. {size} at {connections}: {what} {ratio:.2f} x {SAID[theirs]}"
            f" (goal {sign} {wanted:g}){'' if reached else '   MISSED'}"
        )
    for connections in (16, 64):
        row = plain.get(("2 KB", connections), {}).get(BROKER)
        if row is not None:
            ratio = row.p99_ms / row.p50_ms
            print(
                f"  6. 2 KB at {connections}: p99 {ratio:.2f} x p50 (goal <= 2)"
                f"{'' if ratio <= 2 else '   MISSED'}"
            )
    one = plain.get(("2 KB", 1), {})
    if {BROKER, "broker -record", DISK} <= one.keys():
        nothing = one["broker -record"].p50_ms
        print(
            f"  4. one connection: p50 {one[BROKER].p50_ms - nothing:.3f} ms more than nothing on"
            f" record, with a bare append instead {one[DISK].p50_ms - nothing:.3f} ms"
            " (goal <= 1.5 x the append above)"
        )
    if BROKER in one and "nginx" in one:
        print(
            f"  6. one connection: p50 {one[BROKER].p50_ms - one['nginx'].p50_ms:.2f} ms, p99"
            f" {one[BROKER].p99_ms - one['nginx'].p99_ms:.2f} ms more than nginx"
            " (goal <= 0.5, <= 2)"
        )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", type=lambda t: t.split(","), default=list(STARTS))
    parser.add_argument(
        "--connections", type=lambda t: [int(n) for n in t.split(",")], default=[1, 16, 64]
    )
    parser.add_argument("--sizes", type=lambda t: t.split(","), default=list(PAGES))
    parser.add_argument("--tls", action="store_true", help="only over TLS")
    parser.add_argument("--plain", action="store_true", help="only over plain HTTP")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2)
    wanted = parser.parse_args()
    if wanted.quick:
        wanted.plain, wanted.sizes, wanted.connections = True, ["2 KB"], [64]
    return wanted


def main() -> None:
    wanted = arguments()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        with (
            prepared(
                Path(folder), upstream_port=free_port(), upstream_tls_port=free_port()
            ) as setting,
            peers.upstream(setting),
        ):
            plain: Rows = {}
            if not wanted.tls:
                plain = measure(setting, wanted, tls=False)
            if not wanted.plain:
                measure(setting, wanted, tls=True)
        print_goals(plain)


if __name__ == "__main__":
    main()
