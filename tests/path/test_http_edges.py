"""What HTTP itself can be made to say: methods, targets, framing, sizes, connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.path.raw_http import RawAnswer, request_bytes
from tests.path.reaching import until
from tests.path.stand_ins import ROW_ID

if TYPE_CHECKING:
    from tests.path.staging import Staged

ROOT = "/environments/prod/api/data/v9.2"
ACCOUNTS = f"{ROOT}/accounts?$select=name"
CONTACT = f"{ROOT}/contacts({ROW_ID})"
FILE = f"{ROOT}/accounts({ROW_ID})/new_contractfile"
JSON = {"Content-Type": "application/json"}
JOB = b'{"jobtitle":"ab"}'


def bearer(staged: Staged, caller: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {staged.broker.keys[caller]}"}


def raw(staged: Staged, head: bytes, *, caller: str = "reporting", body: bytes = b"") -> RawAnswer:
    """`head` is the request line and headers, without the credential and without its end."""
    key = staged.broker.keys[caller].encode()
    with staged.broker.connect() as connection:
        connection.send(head + b"Authorization: Bearer " + key + b"\r\n\r\n" + body)
        return connection.answer(to_head=head.startswith(b"HEAD"))


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "TRACE", "PROPFIND", "MERGE", "LOCK"])
def test_a_method_of_no_web_api_is_refused_by_name(staged: Staged, method: str) -> None:
    answer = raw(staged, f"{method} {ACCOUNTS} HTTP/1.1\r\nHost: x\r\n".encode())
    assert (answer.status, answer.header("broker-decision")) == (405, "refused")
    assert answer.header("allow") == "DELETE, GET, PATCH, POST, PUT"
    assert staged.prod.arrived == []
    assert [r.reason for r in staged.broker.records_of(answer.header("broker-request-id"))] == [
        "method-not-allowed"
    ]


@pytest.mark.parametrize(
    ("method", "target", "allow"),
    [
        ("PUT", "accounts", "GET, POST"),
        ("POST", f"accounts({ROW_ID})", "GET, PATCH, DELETE"),
        ("POST", f"accounts({ROW_ID})/name", "GET, PUT, DELETE"),
        ("PATCH", f"accounts({ROW_ID})/primarycontactid/$ref", "GET, PUT, DELETE"),
        ("GET", "$batch", "POST"),
        ("POST", "$metadata", "GET"),
    ],
)
def test_a_method_that_the_place_does_not_take_is_told_of_those_that_it_does(
    staged: Staged, method: str, target: str, allow: str
) -> None:
    body = b"" if method == "GET" else JOB
    headers = {**JSON, **bearer(staged, "crm-writer")}
    with staged.broker.connect() as connection:
        connection.send(request_bytes(method, f"{ROOT}/{target}", headers, body))
        answer = connection.answer()
    assert (answer.status, answer.header("allow")) == (405, allow)
    assert staged.prod.arrived == []


@pytest.mark.parametrize(
    "line",
    [
        b"CONNECT evil.example:443 HTTP/1.1",
        b"CONNECT " + ACCOUNTS.encode() + b" HTTP/1.1",
        b"GET * HTTP/1.1",
        b"BREW " + ACCOUNTS.encode() + b" HTTP/1.1",
        b"GET " + ACCOUNTS.encode() + b"&$filter=name eq 'x' HTTP/1.1",
        b"GET " + ROOT.encode() + b"/accounts\xc3\xa9 HTTP/1.1",
        b"GET  HTTP/1.1",
    ],
)
def test_a_request_line_that_means_nothing_reaches_nobody(staged: Staged, line: bytes) -> None:
    answer = raw(staged, line + b"\r\nHost: x\r\n")
    assert answer.status in {400, 404, 405}
    assert staged.prod.arrived == []


@pytest.mark.parametrize("origin", ["http://evil.example", "http://127.0.0.1", "https://x:1"])
def test_an_absolute_target_is_its_path(staged: Staged, origin: str) -> None:
    answer = raw(staged, f"GET {origin}{ACCOUNTS} HTTP/1.1\r\nHost: x\r\n".encode())
    assert answer.status == 200
    [arrived] = staged.prod.arrived
    assert arrived.target.startswith("/api/data/v9.2/accounts?")
    assert arrived.header("host") == f"127.0.0.1:{staged.prod.port}"


@pytest.mark.parametrize(
    "framing",
    [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 0x10\r\n",
        "Transfer-Encoding: chunked, gzip\r\n",
        "Content-Length : 5\r\n",
        "Prefer: a,\r\n b\r\n",
        "Prefer: a\x01b\r\n",
    ],
)
def test_framing_that_two_readers_could_read_in_two_ways_is_refused(
    staged: Staged, framing: str
) -> None:
    head = f"PATCH {CONTACT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{framing}"
    answer = raw(staged, head.encode("latin-1"), caller="crm-writer", body=b"0\r\n\r\n")
    assert answer.status == 400
    assert staged.prod.arrived == []


def test_a_body_may_come_in_chunks(staged: Staged) -> None:
    head = f"PATCH {CONTACT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    chunks = b"5\r\n" + JOB[:5] + b"\r\n%x\r\n" % len(JOB[5:]) + JOB[5:] + b"\r\n0\r\nX: y\r\n\r\n"
    answer = raw(
        staged, f"{head}Transfer-Encoding: chunked\r\n".encode(), caller="crm-writer", body=chunks
    )
    assert answer.status == 204
    [arrived] = staged.prod.arrived
    assert arrived.body == JOB
    assert arrived.header("transfer-encoding") is None
    assert arrived.header("content-length") == str(len(JOB))


def test_a_body_is_asked_for_only_where_somebody_reads_it(staged: Staged) -> None:
    expecting = {**JSON, **bearer(staged, "crm-writer"), "Expect": "100-continue"}
    with staged.broker.connect() as connection:
        connection.send(request_bytes("PATCH", CONTACT, expecting, JOB)[: -len(JOB)])
        assert connection.head().status == 100
        connection.send(JOB)
        assert connection.answer().status == 204
    with staged.broker.connect() as connection:
        unreadable = request_bytes("PATCH", f"{ROOT}/a//b", expecting, JOB)[: -len(JOB)]
        connection.send(unreadable)
        refused = connection.answer()
        assert (refused.status, refused.interim) == (400, 0)


@pytest.mark.parametrize(
    ("target", "caller", "length"),
    [
        (CONTACT, "crm-writer", 16 * 1024 * 1024 + 1),
        (CONTACT, "crm-writer", 10**17),
        (FILE, "file-writer", 128 * 1024 * 1024 + 1),
    ],
)
def test_a_body_that_says_it_is_too_large_is_not_read(
    staged: Staged, target: str, caller: str, length: int
) -> None:
    head = f"PATCH {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n"
    answer = raw(staged, f"{head}Content-Type: application/json\r\n".encode(), caller=caller)
    assert answer.status == 413
    assert staged.prod.arrived == []
    records = staged.broker.records_of(answer.header("broker-request-id"))
    assert [(r.phase, r.status, r.reason) for r in records] == [("outcome", 413, "body-too-large")]


def test_a_body_that_turns_out_too_large_is_not_kept(staged: Staged) -> None:
    head = f"PATCH {CONTACT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    answer = raw(
        staged,
        f"{head}Transfer-Encoding: chunked\r\n".encode(),
        caller="crm-writer",
        body=chunk * 17 + b"0\r\n\r\n",
    )
    assert answer.status == 413
    assert staged.prod.arrived == []


def test_the_connection_goes_on_after_a_body_that_nobody_read(staged: Staged) -> None:
    headers = {**JSON, **bearer(staged, "crm-writer")}
    with staged.broker.connect() as connection:
        connection.send(request_bytes("PATCH", f"{ROOT}/a//b", headers, b" " * 300_000))
        assert connection.answer().status == 400
        connection.send(request_bytes("PATCH", CONTACT, headers, JOB))
        assert connection.answer().status == 204
    assert len(staged.prod.arrived) == 1


def test_a_target_has_its_limit(staged: Staged) -> None:
    room = 32 * 1024 - len(f"{ACCOUNTS}&$filter=name eq ''".replace(" ", "%20"))
    fits = f"{ACCOUNTS}&$filter=name%20eq%20'{'x' * room}'"
    assert staged.broker.ask("GET", fits, caller="reporting").status == 200
    for target in (fits.replace("'x", "'xx"), fits + "x" * 65_536):
        too_long = staged.broker.ask("GET", target, caller="reporting")
        assert (too_long.status, too_long.header("broker-decision")) == (414, "refused")
        assert len(staged.broker.records_of(too_long.header("broker-request-id"))) == 1
    assert len(staged.prod.arrived) == 1


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_a_write_without_a_body_is_unreadable(staged: Staged, method: str) -> None:
    answer = raw(
        staged, f"{method} {CONTACT} HTTP/1.1\r\nHost: x\r\n".encode(), caller="crm-writer"
    )
    assert answer.status in {400, 405, 411}
    assert staged.prod.arrived == []


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_body_where_none_belongs_is_unreadable(staged: Staged, method: str) -> None:
    target = ACCOUNTS if method == "GET" else CONTACT
    caller = "reporting" if method == "GET" else "crm-writer"
    answer = staged.broker.ask(method, target, caller=caller, body=b"{}")
    assert answer.status == 400
    assert staged.prod.arrived == []
    assert staged.broker.ask(method, target, caller=caller, body=b"").status in {200, 204}


def test_pipelined_requests_are_answered_in_turn(staged: Staged) -> None:
    reading, writing = bearer(staged, "reporting"), {**JSON, **bearer(staged, "crm-writer")}
    one = request_bytes("GET", ACCOUNTS, reading)
    two = request_bytes("PATCH", CONTACT, writing, JOB)
    three = request_bytes("GET", f"{ROOT}/systemusers", reading)
    with staged.broker.connect() as connection:
        connection.send(one + two + three + one)
        assert [connection.answer().status for _ in range(4)] == [200, 204, 403, 200]
    assert [a.method for a in staged.prod.arrived] == ["GET", "PATCH", "GET"]


def test_no_request_hides_in_the_body_of_another(staged: Staged) -> None:
    hidden = request_bytes("DELETE", CONTACT, bearer(staged, "crm-writer"))
    headers = {"Content-Type": "text/plain", **bearer(staged, "crm-writer")}
    with staged.broker.connect() as connection:
        connection.send(request_bytes("PATCH", CONTACT, headers, hidden))
        assert connection.answer().status == 415
        connection.send(request_bytes("GET", f"{ROOT}/systemusers", headers))
        assert connection.answer().status == 403
    assert staged.prod.arrived == []


def test_a_connection_that_offers_http2_is_served_on(staged: Staged) -> None:
    offer = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AA"}
    with staged.broker.connect() as connection:
        for _ in range(2):
            connection.send(
                request_bytes("GET", ACCOUNTS, {**bearer(staged, "reporting"), **offer})
            )
            assert connection.answer().status == 200


def test_hop_by_hop_headers_go_no_further(staged: Staged) -> None:
    headers = {
        "Connection": "keep-alive, Consistency",
        "Consistency": "Strong",
        "Keep-Alive": "timeout=5",
        "TE": "trailers",
        "Proxy-Authorization": "Basic eDp5",
        "Accept-Language": "de",
    }
    staged.broker.ask("GET", ACCOUNTS, caller="reporting", headers=headers)
    [arrived] = staged.prod.arrived
    for name in ("Consistency", "Keep-Alive", "TE", "Proxy-Authorization"):
        assert arrived.header(name) is None
    assert arrived.header("Accept-Language") == "de"


@pytest.mark.parametrize("slash", ["", "/"])
def test_the_service_root_may_end_in_one_slash(staged: Staged, slash: str) -> None:
    assert staged.broker.ask("GET", ROOT + slash, caller="analyst").status == 200
    assert staged.broker.ask("GET", ROOT + slash, caller="reporting").status == 403
    assert staged.broker.ask("GET", f"{ROOT}//", caller="analyst").status == 400
    assert len(staged.prod.arrived) == 1


@pytest.mark.parametrize("version", ["v9.1", "V9.2", "v9.2.1", "v9", "", "%76%39.2"])
def test_a_version_that_is_not_served_is_not_found(staged: Staged, version: str) -> None:
    target = f"/environments/prod/api/data/{version}/accounts?$select=name"
    assert staged.broker.ask("GET", target, caller="reporting").status == 404
    assert staged.prod.arrived == []


@pytest.mark.parametrize("tail", ["v9.2/accounts?$select=name", "v9.1/accounts", "v9.2/a//b?$x"])
def test_an_environment_that_is_not_granted_looks_like_one_that_is_not(
    staged: Staged, tail: str
) -> None:
    answers = []
    for name in ("dev", "nowhere", "pr%6fd", "", "prod%00", "..", "PROD"):
        answer = staged.broker.ask(
            "GET", f"/environments/{name}/api/data/{tail}", caller="reporting"
        )
        problem = answer.json()
        problem.pop("request_id")
        headers = {n for n, _ in answer.headers}
        answers.append((answer.status, problem, headers))
    assert all(answer == answers[0] for answer in answers)
    assert answers[0][0] == 403
    assert staged.prod.arrived == staged.environments["dev"].arrived == []


def test_the_root_is_the_callers_default_environment(staged: Staged) -> None:
    answer = staged.broker.ask("GET", "/api/data/v9.2/accounts?$select=name", caller="reporting")
    assert answer.status == 200
    assert len(staged.prod.arrived) == 1
    for address in ("/api%2fdata/v9.2/accounts", "/API/DATA/v9.2/accounts", "//api/data/v9.2/x"):
        assert staged.broker.ask("GET", address, caller="reporting").status == 404


def test_a_caller_who_is_not_known_learns_nothing(staged: Staged) -> None:
    told = []
    for credential in (
        {},
        {"Authorization": "Bearer dvb_t01reporting_wrong"},
        {"Authorization": "Bearer " + "x" * 5000},
        {"Authorization": "Basic eDp5"},
        {"Authorization": ""},
        {"X-API-Key": "dvb_t01reporting_3b48e9f25cfb38da11ac7b561e9bfa847d0ff4b"},
    ):
        answer = staged.broker.ask("GET", ACCOUNTS, headers=credential)
        problem = answer.json()
        problem.pop("request_id")
        told.append((answer.status, problem, answer.header("www-authenticate")))
    assert all(one == told[0] for one in told)
    assert told[0][0] == 401
    assert staged.prod.arrived == []


def test_a_slow_head_does_not_hold_the_others_up(staged: Staged) -> None:
    with staged.broker.connect() as slow:
        slow.send(b"GET " + ACCOUNTS.encode() + b" HTTP/1.1\r\nHo")
        assert staged.broker.ask("GET", ACCOUNTS, caller="reporting").status == 200


def test_nothing_stays_behind_of_a_caller_who_leaves_in_his_own_body(staged: Staged) -> None:
    headers = {**JSON, **bearer(staged, "crm-writer")}
    before = len(staged.broker.records())
    with staged.broker.connect() as connection:
        connection.send(request_bytes("PATCH", CONTACT, headers, b" " * 1000)[:-500])
    records = until(lambda: staged.broker.records()[before:] or None)
    assert [(r.phase, r.outcome, r.status) for r in records] == [("outcome", "caller_gone", None)]
    assert staged.prod.arrived == []
