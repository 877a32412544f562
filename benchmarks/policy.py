"""What reading, deciding and writing a request costs, and what reading a schema costs.

    python benchmarks/policy.py              the figures beside what docs/performance.md promises
    python benchmarks/policy.py --rounds 9   more rounds, for a busy machine

Each figure is the best of its rounds: the machine is shared, and noise only ever adds.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.config import model
from app.odata.links import Bases
from app.odata.seals import SealKey
from app.path.judging import Judge, Judged, request_key
from app.path.standing import Place, known_names
from app.policy.compiling import compile_grant
from app.schema.compact import decode, encode
from app.schema.csdl import read_csdl

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.path.judging import Pairs
    from app.policy.grants import Grant
    from app.schema.model import Schema

TABLES = 800
"""As many as a genuine environment has; `ROWS` is the table that is asked."""
ROWS = "new_table7s"
HEADERS: Pairs = (
    (b"accept", b"application/json"),
    (b"odata-version", b"4.0"),
    (b"odata-maxversion", b"4.0"),
    (b"prefer", b'odata.include-annotations="*"'),
    (b"x-ms-client-request-id", b"3f2504e0-4f89-41d3-9a0c-0305e82c3301"),
)
BASES = Bases(
    "https://broker.example/environments/prod",
    "https://broker.example",
    "https://contoso.crm4.dynamics.com",
    "v9.2",
)
ID = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"


def csdl(tables: int = TABLES, columns: int = 30, lookups: int = 16) -> bytes:
    """A `$metadata` in Dataverse's own shape."""
    types: list[str] = []
    for number in range(tables):
        name = f"new_table{number}"
        inside = [f'<Key><PropertyRef Name="{name}id" /></Key>', _property(f"{name}id", "Guid")]
        inside += [_property(f"new_column{i}", "String") for i in range(columns)]
        for i in range(lookups):
            far, near = f"new_table{(number + i) % tables}", f"new_table{(number - i) % tables}"
            inside += [
                _property(f"_new_lookup{i}_value", "Guid"),
                f'<NavigationProperty Name="new_Lookup{i}" Type="mscrm.{far}" Nullable="false"',
                f' Partner="{name}_{i}"><ReferentialConstraint Property="_new_lookup{i}_value"',
                f' ReferencedProperty="{far}id" /></NavigationProperty>',
                f'<NavigationProperty Name="{near}_{i}" Type="Collection(mscrm.{near})"',
                f' Partner="new_Lookup{i}" />',
            ]
        types.append(
            f'<EntityType Name="{name}" BaseType="mscrm.crmbaseentity">{"".join(inside)}'
            "</EntityType>"
        )
    sets = "".join(
        f'<EntitySet Name="new_table{i}s" EntityType="Microsoft.Dynamics.CRM.new_table{i}" />'
        for i in range(tables)
    )
    return (
        '<?xml version="1.0" encoding="utf-8"?>'
        '<edmx:Edmx Version="4.0" xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx">'
        '<edmx:DataServices><Schema Namespace="Microsoft.Dynamics.CRM" Alias="mscrm"'
        ' xmlns="http://docs.oasis-open.org/odata/ns/edm">'
        '<EntityType Name="crmbaseentity" Abstract="true" />'
        f'{"".join(types)}<EntityContainer Name="System">{sets}</EntityContainer>'
        "</Schema></edmx:DataServices></edmx:Edmx>"
    ).encode()


def _property(name: str, kind: str) -> str:
    return f'<Property Name="{name}" Type="Edm.{kind}" />'


def grant_on(schema: Schema) -> Grant:
    given = model.Grant.model_validate(
        {
            "environment": "prod",
            "application": "crm-app",
            "tables": {
                ROWS: {
                    "operations": ["read", "create", "update"],
                    "columns": [f"new_column{i}" for i in range(12)] + ["new_lookup1"],
                },
                "new_table8s": {"operations": ["read"]},
            },
            "limits": {"page_size": 500},
        }
    )
    compiled = compile_grant(given, schema, caller="reporting", index=0, version="1")
    assert not compiled.problems
    return compiled.grant


@dataclass(frozen=True, slots=True)
class _Head:
    method: str
    headers: Pairs


@dataclass(frozen=True, slots=True)
class _Request:
    """What the memory's key is made of."""

    head: _Head
    target: bytes


@dataclass(slots=True)
class Bench:
    """One grant's requests, through the same `Judge` as the broker's."""

    grant: Grant
    place: Place
    judge: Judge

    def judged(self, method: str, target: bytes, headers: Pairs, body: bytes | None) -> Judged:
        head = self.judge.head(self.grant, BASES, method, target, headers)
        return self.judge.judge(self.grant, self.place, BASES, head.finish(body))

    def again(self, request: _Request) -> Judged:
        """As `Broker` asks: the memory first."""
        key = request_key(1, "reporting", "prod", "v9.2", request, rooted=False)
        known = self.judge.remembered(key)
        if known is None:
            known = self.judged(request.head.method, request.target, request.head.headers, None)
            self.judge.remember(key, known)
        return known


def bench_on(schema: Schema) -> Bench:
    environment = model.Environment(url=BASES.environment)
    place = Place("prod", environment, schema, known_names(schema))
    return Bench(grant_on(schema), place, Judge(lambda: (SealKey("k1", b"0" * 32),)))


def batch_of(parts: int) -> tuple[Pairs, bytes]:
    pieces = [
        b"--batch_1\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n"
        b"GET /api/data/v9.2/%b?$select=new_column1&$filter=new_column2%%20eq%%20'%d' HTTP/1.1\r\n"
        b"Accept: application/json\r\n\r\n" % (ROWS.encode(), number)
        for number in range(parts)
    ]
    headers = ((b"content-type", b"multipart/mixed; boundary=batch_1"),)
    return headers, b"\r\n".join([*pieces, b"--batch_1--\r\n"])


def best(work: Callable[[], object], *, times: int, rounds: int) -> float:
    """Seconds for one, in the best round."""
    found = float("inf")
    for _ in range(rounds):
        began = time.perf_counter()
        for _ in range(times):
            work()
        found = min(found, (time.perf_counter() - began) / times)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    document = csdl()
    schema = read_csdl(document)
    kept = encode(schema)
    bench = bench_on(schema)
    table = ROWS.encode()
    listed = table + b"?$select=new_column1,new_column2&$filter=new_column3%20eq%20'x'&$top=50"
    whole = table
    row = b"%b(%b)" % (table, ID.encode())
    rich = table + (
        b"?$select=new_column1&$expand=new_Lookup1($select=new_column2)"
        b"&$filter=new_column3%20eq%20'x'%20and%20(new_column4%20ne%20null%20or%20"
        b"contains(new_column5,'y'))&$orderby=new_column6%20desc&$count=true"
    )
    json: Pairs = (*HEADERS, (b"content-type", b"application/json"))
    body = b'{"new_column1":"Contoso","new_column2":"A-1","new_column3":"x"}'
    repeated = _Request(_Head("GET", HEADERS), listed)
    batch_headers, batch_body = batch_of(100)

    def once(
        method: str, target: bytes, headers: Pairs = HEADERS, content: bytes | None = None
    ) -> Callable[[], object]:
        return lambda: bench.judged(method, target, headers, content)

    figures: list[tuple[str, float, float | None]] = [
        (
            "a plain read, the first time",
            best(once("GET", listed), times=500, rounds=rounds),
            60e-6,
        ),
        (
            "a row by its id",
            best(once("GET", row + b"?$select=new_column1"), times=500, rounds=rounds),
            60e-6,
        ),
        ("rows without $select", best(once("GET", whole), times=500, rounds=rounds), 60e-6),
        (
            "a read with expand, filter and order",
            best(once("GET", rich), times=300, rounds=rounds),
            None,
        ),
        (
            "a create of three columns",
            best(once("POST", table, json, body), times=500, rounds=rounds),
            None,
        ),
        (
            "the same read again",
            best(lambda: bench.again(repeated), times=5000, rounds=rounds),
            5e-6,
        ),
        (
            "a $batch of 100 reads",
            best(once("POST", b"$batch", batch_headers, batch_body), times=5, rounds=rounds),
            5e-3,
        ),
        (
            f"$metadata of {len(document) / 1e6:.1f} MB",
            best(lambda: read_csdl(document), times=1, rounds=min(rounds, 3)),
            3.0,
        ),
        (
            f"the schema from {len(kept) / 1e3:.0f} kB kept",
            best(lambda: decode(kept), times=1, rounds=min(rounds, 3)),
            None,
        ),
    ]
    print(f"{'what':40}  {'took':>12}  {'promised':>12}")
    for name, took, promised in figures:
        said = "" if promised is None else shown(promised)
        late = "  too slow" if promised is not None and took > promised else ""
        print(f"{name:40}  {shown(took):>12}  {said:>12}{late}")


def shown(seconds: float) -> str:
    if seconds < 1e-3:
        return f"{seconds * 1e6:.1f} µs"
    return f"{seconds * 1e3:.2f} ms" if seconds < 1 else f"{seconds:.2f} s"


if __name__ == "__main__":
    main()
