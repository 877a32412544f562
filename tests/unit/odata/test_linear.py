"""Reading takes time in proportion to the input, whatever the input.

The ratio is generous, since caches and the collector have their say: what these tests are after
grows 256-fold where it should grow sixteen.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import pytest

from app.errors import BrokerError
from app.policy.decide import decide
from tests.unit.policy.trying import grant_of, reader_for

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.slow

JSON = ((b"content-type", b"application/json"),)
BATCH = ((b"content-type", b"multipart/mixed; boundary=b"),)
ROW = (
    b'{"@odata.type":"Microsoft.Dynamics.CRM.contact","contactid":"22222222-2222-2222-2222-%012d"}'
)


def part(head: bytes, line: bytes = b"GET accounts HTTP/1.1") -> bytes:
    return (
        b"--b\r\nContent-Type: application/http\r\n\r\n" + line + b"\r\n" + head + b"\r\n\r\n--b--"
    )


BODIES: dict[str, Callable[[int], bytes]] = {
    "escaped quotes": lambda n: b'"' + b'\\"' * n,
    "quotes": lambda n: b'"' * n,
    "backslashes": lambda n: b'{"name":"' + b"\\\\" * n + b'"}',
    "brackets in a string": lambda n: b'{"name":"' + b"[" * n + b'"}',
    "numbers": lambda n: b'{"name":[' + b"1," * n + b"1]}",
    "members": lambda n: b"{" + b",".join(b'"a%d":1' % i for i in range(n // 8)) + b"}",
    "nested rows": lambda n: (
        b'{"contact_customer_accounts":[' + b",".join([b"{}"] * (n // 3)) + b"]}"
    ),
    "targets": lambda n: b'{"Targets":[' + b",".join(ROW % i for i in range(n // 90)) + b"]}",
}
BATCHES: dict[str, Callable[[int], bytes]] = {
    "spaces in a header": lambda n: part(b"X: a" + b" " * n + b"b"),
    "spaces in a media type": lambda n: part(
        b"Content-Type: application/json; a=b" + b" " * n + b"x"
    ),
    "parameters of a preference": lambda n: part(b"Prefer: " + b"a;b" * n + b"@"),
    "spaces in a preference": lambda n: part(b"Prefer: a" + b" " * n + b"@"),
    "media types": lambda n: part(b"Accept: " + b"application/json;metadata" * (n // 25)),
    "etags": lambda n: part(b"If-Match: " + b'"a", ' * (n // 5) + b"x"),
    "spaces in a request line": lambda n: part(b"", b"GET a" + b" " * n + b"b HTTP/1.1"),
    "words in a request line": lambda n: part(b"", b"GET " + b"a " * n + b"HTTP/1.0"),
    "delimiters": lambda n: b"--b\r\n" * (n // 5),
    "almost delimiters": lambda n: b"--b\r\n" + b"--bb\n" * (n // 5) + b"--b--",
    "delimiters in a line": lambda n: b"--b\r\n" + b"--b" * (n // 3),
    "blank lines": lambda n: b"--b\r\n" + b"\r\n" * n + b"--b--",
}
TARGETS: dict[str, Callable[[int], bytes]] = {
    "parentheses": lambda n: b"accounts?$filter=" + b"(" * n,
    "dotted names": lambda n: b"accounts?$filter=" + b"a." * (n // 2) + b"a",
    "a path": lambda n: b"accounts?$filter=" + b"a/" * (n // 2) + b"a",
    "quotes": lambda n: b"accounts?$filter=name%20eq%20" + b"'" * n,
    "digits": lambda n: b"accounts?$filter=" + b"1" * n + b"x",
    "signs": lambda n: b"accounts?$filter=" + b"-" * n,
    "aliases": lambda n: b"accounts?" + b"&".join(b"@p%d=1" % i for i in range(n // 10)),
    "uses of an alias": lambda n: (
        b"accounts?@p=" + b"+or+".join([b"name"] * (n // 16))
        + b"&$filter=" + b"+or+".join([b"@p"] * (n // 12))
    ),
    "escapes": lambda n: b"accounts?$filter=" + b"%20" * (n // 3),
    "segments": lambda n: b"a/" * (n // 2) + b"a",
    "a key": lambda n: b"accounts(" + b",".join(b"a%d=1" % i for i in range(n // 8)) + b")",
    "strings in a path": lambda n: b"accounts(" + b"';" * (n // 2) + b")",
    "fetchXml": lambda n: b"accounts?fetchXml=" + b"%3Cfetch%3E" * (n // 11),
}  # fmt: skip


def took(
    method: str, target: bytes, headers: tuple[tuple[bytes, bytes], ...], body: bytes | None
) -> float:
    grant = grant_of("integrator")
    began = time.perf_counter()
    with contextlib.suppress(BrokerError):
        decide(grant, reader_for(grant).head(method, target, headers).finish(body))
    return time.perf_counter() - began


def linear(work: Callable[[int], float], *, size: int, floor: float) -> None:
    """Sixteen times the input takes at most a hundred times as long."""
    small = min(work(size) for _ in range(3))
    large = min(work(16 * size) for _ in range(2))
    assert large < 100 * max(small, floor)


@pytest.mark.parametrize("made", BODIES.values(), ids=BODIES)
def test_a_body_is_read_in_linear_time(made: Callable[[int], bytes]) -> None:
    target = (
        b"contacts/Microsoft.Dynamics.CRM.UpdateMultiple" if b"Targets" in made(90) else b"accounts"
    )
    linear(lambda n: took("POST", target, JSON, made(n)), size=64 * 1024, floor=0.005)


@pytest.mark.parametrize("made", BATCHES.values(), ids=BATCHES)
def test_a_batch_is_read_in_linear_time(made: Callable[[int], bytes]) -> None:
    linear(lambda n: took("POST", b"$batch", BATCH, made(n)), size=64 * 1024, floor=0.005)


@pytest.mark.parametrize("made", TARGETS.values(), ids=TARGETS)
def test_a_target_is_read_in_linear_time(made: Callable[[int], bytes]) -> None:
    linear(lambda n: took("GET", made(n)[: 32 * 1024], (), None), size=2 * 1024 - 32, floor=0.001)
