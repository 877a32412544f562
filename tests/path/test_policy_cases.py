"""Every policy case through the whole service, over a socket, byte for byte."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.path.policy_case import Surroundings, check, raw_request, upstream_answers
from tests.path.staging import CASES

if TYPE_CHECKING:
    from tests.path.policy_case import Case
    from tests.path.staging import Staged


def _cases() -> list[Case]:
    lines = [
        line
        for file in sorted(CASES.glob("*.jsonl"))
        for line in file.read_text(encoding="utf-8").splitlines()
    ]
    return [json.loads(line) for line in lines if line.strip()]


@pytest.mark.parametrize("case", _cases(), ids=lambda case: case["id"])
def test_the_service_does_as_the_case_says(staged: Staged, case: Case) -> None:
    environment = staged.environment_of(case["caller"])
    upstream = staged.environments[environment]
    around = Surroundings(
        public=staged.broker.url,
        environment=environment,
        upstream=upstream.url,
        key=staged.broker.keys[case["caller"]],
    )
    case = around.filled(case)
    upstream.answer = upstream_answers(case)
    with staged.broker.connect() as connection:
        connection.send(raw_request(case, around))
        answer = connection.answer(to_head=case["method"] == "HEAD")
    check(case, answer, upstream.arrived)
    records = staged.broker.records_of(answer.header("broker-request-id"))
    assert [r.phase for r in records].count("outcome") == 1
    assert all(not s.arrived for n, s in staged.environments.items() if n != environment)
