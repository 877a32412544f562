"""What an application user holds is compared with what is needed: too little, and too much."""

from __future__ import annotations

from typing import Any

import pytest

from app.doctor.finding import About, Finding
from app.doctor.needs import Need, Needs, Privilege
from app.doctor.privileges import judge_privileges, judge_roles

ABOUT = About("erp in prod")
READ = "prvReadAccount"


def need(name: str, *, depth: str = "Global", named: bool = True) -> Need:
    return Need(Privilege(name, "id"), depth, ("loader",), named)


def judged(held: dict[str, str], *needs: Need, mighty: bool = False, **rest: Any) -> list[Finding]:
    by_name = {one.privilege.name: one for one in needs}
    whole = Needs(by_name, rest.get("unseen", ()), rest.get("untold", ()))
    return list(judge_privileges(ABOUT, held, whole, mighty=mighty))


def levels(findings: list[Finding]) -> list[str]:
    return [finding.level.value for finding in findings]


def test_exactly_what_is_needed_is_well() -> None:
    findings = judged({READ: "Global", "prvReadUser": "Global"}, need(READ))
    assert levels(findings) == ["ok", "ok"]


def test_a_missing_privilege_fails_with_those_who_need_it() -> None:
    failure, _ = judged({}, need(READ), need("prvWriteAccount"))
    assert failure.level.value == "failure"
    assert failure.names == (READ, "prvWriteAccount")
    assert "the grants of loader" in failure.text


def test_what_only_a_star_asks_for_may_be_missing() -> None:
    assert levels(judged({}, need(READ, named=False))) == ["ok", "advice", "ok"]


def test_a_shallow_privilege_is_told_and_may_be_meant() -> None:
    findings = judged({READ: "Local"}, need(READ))
    assert levels(findings) == ["ok", "advice", "ok"]
    assert f"{READ} (Local)" in findings[1].text
    assert levels(judged({READ: "RecordFilter"}, need(READ))) == ["ok", "ok"]


def test_what_nobody_needs_is_warned_of_the_worst_first() -> None:
    held = {READ: "Global", "prvDeleteAccount": "Global", "prvGoOffline": "Global"}
    (warning,) = judged(held)
    assert warning.level.value == "warning"
    assert warning.names == ("prvGoOffline", "prvDeleteAccount", READ)


def test_a_mighty_role_is_warned_of_elsewhere() -> None:
    assert judged({"prvDeleteAccount": "Global"}, mighty=True) == []


def test_what_is_too_much_cannot_be_told_where_the_grants_do_not_tell_all() -> None:
    findings = judged({"prvDeleteAccount": "Global"}, untold=("job",), unseen=("Merge",))
    assert levels(findings) == ["advice", "advice"]
    assert "Merge" in findings[0].text
    assert "job" in findings[1].text


@pytest.mark.parametrize(
    ("roles", "level"),
    [
        ((), "warning"),
        (("Invoices",), "ok"),
        (("Invoices", "System Administrator"), "warning"),
        (("System Customizer",), "warning"),
    ],
)
def test_roles_are_judged_by_their_names(roles: tuple[str, ...], level: str) -> None:
    assert levels(list(judge_roles(ABOUT, roles))) == [level]
