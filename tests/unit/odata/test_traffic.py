"""What unmodified clients send, recorded from them: read, judged, and read again when sent.

`expect` in traffic.jsonl is what a caller gets whose grant names every operation on "*".
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.policy.granting import granting
from tests.unit.policy.trying import Request, attempt, filled

EVERYTHING = granting(
    {"*": {"operations": ["read", "create", "update", "delete", "append_to", "assign"]}},
    functions=["WhoAmI"],
    actions=["BulkDelete"],
)
RECORDED = [
    json.loads(line)
    for line in (Path(__file__).parent / "traffic.jsonl").read_text(encoding="utf-8").splitlines()
]


def request_of(recorded: dict[str, Any]) -> Request:
    asked = filled(recorded, EVERYTHING)
    body = None if asked["body"] is None else asked["body"].encode("utf-8")
    return Request(asked["method"], asked["target"], [(n, v) for n, v in asked["headers"]], body)


@pytest.mark.parametrize(
    "recorded", RECORDED, ids=lambda r: f"{r['client'].partition(' ')[0]} {r['method']}"
)
def test_the_broker_reads_what_clients_send(recorded: dict[str, Any]) -> None:
    tried = attempt(EVERYTHING, request_of(recorded))
    if tried.allowed or tried.refused:
        assert ("allow" if tried.allowed else "refuse") == recorded["expect"], tried.detail
    else:
        assert tried.error is not None
        assert tried.error.code == recorded["expect"]
