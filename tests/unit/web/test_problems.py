from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from app.errors import BrokerError, Limited, NotGranted, Unauthenticated, Unavailable, Unreadable
from app.web.problems import PROBLEMS, internal_error, problem, status_of

ROOT = Path(__file__).parents[3]
KEBAB = r"[a-z]+(-[a-z]+)+"


def headers_of(error: BrokerError) -> dict[bytes, bytes]:
    return dict(problem(error, request_id="0192-id").headers)


def test_a_refusal_says_what_is_missing() -> None:
    error = NotGranted(
        "not-granted",
        "columns not granted on accounts: creditlimit",
        extra={"accesses": [{"table": "accounts", "operation": "read"}]},
    )
    answer = problem(error, request_id="0192-id")
    assert answer.status == 403
    assert json.loads(answer.body) == {
        "type": "/problems/not-granted",
        "title": "No grant covers this",
        "status": 403,
        "detail": "columns not granted on accounts: creditlimit",
        "request_id": "0192-id",
        "accesses": [{"table": "accounts", "operation": "read"}],
    }
    assert dict(answer.headers) == {
        b"broker-request-id": b"0192-id",
        b"broker-decision": b"refused",
        b"cache-control": b"no-store",
        b"content-type": b"application/problem+json",
        b"content-length": str(len(answer.body)).encode(),
    }


def test_an_extra_member_cannot_replace_one_of_the_five() -> None:
    error = NotGranted("not-granted", "no", extra={"status": 200, "request_id": "x"})
    document = json.loads(problem(error, request_id="0192-id").body)
    assert (document["status"], document["request_id"]) == (403, "0192-id")


def test_only_a_401_challenges() -> None:
    unknown = headers_of(Unauthenticated("unauthenticated", "no known credential"))
    assert unknown[b"www-authenticate"] == b'Bearer realm="dataverse-token-broker"'
    assert b"www-authenticate" not in headers_of(NotGranted("not-granted", "no"))


def test_an_outage_is_an_error_and_a_refusal_is_not() -> None:
    assert headers_of(Unavailable("record-unavailable", "disk"))[b"broker-decision"] == b"error"
    assert headers_of(Unreadable("bad-path", "dots"))[b"broker-decision"] == b"refused"


def test_retry_after_travels_as_a_header() -> None:
    error = Limited("rate-limited", "600 a minute", retry_after_s=7)
    assert headers_of(error)[b"retry-after"] == b"7"


def test_a_405_names_what_is_allowed() -> None:
    error = Unreadable("method-not-allowed", "no HEAD here", extra={"allow": ["GET", "POST"]})
    assert headers_of(error)[b"allow"] == b"GET, POST"


def test_an_unlisted_code_is_the_brokers_own_mistake() -> None:
    error = BrokerError("never-heard-of", "hunter2", extra={"secret": "hunter2"})
    answer = problem(error, request_id="0192-id")
    assert (answer.status, status_of(error)) == (500, 500)
    assert answer == internal_error("0192-id")
    assert b"hunter2" not in answer.body


@pytest.mark.parametrize("code", PROBLEMS)
def test_a_code_is_kebab_case_and_has_an_error_status(code: str) -> None:
    assert re.fullmatch(KEBAB, code) or code in {"unauthenticated", "overloaded"}
    assert 400 <= PROBLEMS[code].status <= 599


def test_docs_list_every_code_with_its_status() -> None:
    text = (ROOT / "docs" / "errors.md").read_text("utf-8")
    listed = dict(re.findall(r"^\| `([a-z-]+)` \| (\d{3}) \|", text, re.MULTILINE))
    assert listed == {code: str(known.status) for code, known in PROBLEMS.items()}


def test_every_code_that_the_app_raises_is_listed() -> None:
    trees = [
        ast.parse(path.read_text("utf-8"))
        for path in (ROOT / "app").rglob("*.py")
        # What the command line says on a terminal is no answer to anyone.
        if not {"sandbox", "cli", "demo", "doctor"} & set(path.parts)
    ]
    classes = {
        node.name: node
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    errors = {"BrokerError"}
    while more := {n for n, node in classes.items() if _bases(node) & errors} - errors:
        errors |= more
    # Raised while loading, and told on a terminal; never an answer.
    errors -= {n for n in errors if n == "Misconfigured" or "Misconfigured" in _bases(classes[n])}
    fixed = {n for n in errors - {"BrokerError"} if _has_init(classes[n])}
    """These know their code themselves: what they are called with is something else."""
    fixed |= {n for n in errors if _bases(classes[n]) & fixed}
    raised: set[object] = set()
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in errors - fixed:
                raised |= _first_constant(node)
            elif isinstance(node, ast.ClassDef) and node.name in errors:
                for inner in ast.walk(node):
                    if (
                        isinstance(inner, ast.Call)
                        and getattr(inner.func, "attr", "") == "__init__"
                    ):
                        raised |= _first_constant(inner)
    codes = {code for code in raised if isinstance(code, str) and re.fullmatch(KEBAB, code)}
    assert "not-granted" in codes
    assert codes <= PROBLEMS.keys()


def _first_constant(call: ast.Call) -> set[object]:
    first = call.args[0] if call.args else None
    return {first.value} if isinstance(first, ast.Constant) else set()


def _bases(node: ast.ClassDef) -> set[str]:
    return {base.id for base in node.bases if isinstance(base, ast.Name)}


def _has_init(node: ast.ClassDef) -> bool:
    return any(
        isinstance(inner, ast.FunctionDef) and inner.name == "__init__" for inner in node.body
    )
