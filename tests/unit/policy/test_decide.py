"""What the policy cases' own configuration has no grant for."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import pytest

from app.policy.decision import Allow, Refuse
from tests.unit.policy.granting import A, B, granting
from tests.unit.policy.trying import Request, attempt, decoded

if TYPE_CHECKING:
    from app.policy.grants import Grant
    from tests.unit.policy.trying import Tried

READ = {"operations": ["read"]}
EVERY = {"operations": ["read", "create", "update", "delete", "append_to", "assign"]}
OPEN = {**EVERY, "row_filter": "statecode eq 0"}


def ask(grant: Grant, method: str, target: str, body: Any = None, **headers: str) -> Tried:
    pairs = [(n.replace("_", "-"), v) for n, v in headers.items()]
    content = None
    if body is not None:
        pairs.append(("Content-Type", "application/json"))
        content = json.dumps(body).encode()
    return attempt(grant, Request(method, target.replace(" ", "%20"), pairs, content))


def get(grant: Grant, target: str, **headers: str) -> Tried:
    return ask(grant, "GET", target, **headers)


def sent_body(tried: Tried) -> Any:
    assert tried.allowed, tried.detail
    return json.loads(tried.last.body or b"null")


# ------------------------------------------------------------------- metadata


@pytest.mark.parametrize(
    ("metadata", "one", "known", "unknown", "every"),
    [
        ("none", False, False, False, False),
        ("granted", True, True, False, False),
        ("all", True, True, True, True),
    ],
)
def test_metadata_is_none_of_the_granted_tables_or_all(
    metadata: str, *, one: bool, known: bool, unknown: bool, every: bool
) -> None:
    grant = granting({"accounts": READ}, metadata=metadata)
    ids = {A: "account", B: "contact"}
    grant = dataclasses.replace(grant, schema=grant.schema.with_metadata_ids(ids))
    assert get(grant, "EntityDefinitions(LogicalName='account')").allowed is one
    assert get(grant, f"EntityDefinitions({A.upper()})/Attributes").allowed is known
    assert get(grant, f"EntityDefinitions(MetadataId={A})/Keys").allowed is known
    assert get(grant, f"EntityDefinitions?$filter=MetadataId eq {A}").allowed is known
    assert get(grant, f"EntityDefinitions({B})").allowed is every
    assert get(grant, "EntityDefinitions(99999999-9999-9999-9999-999999999999)").allowed is unknown
    assert get(grant, "EntityDefinitions(LogicalName='nosuch')").allowed is unknown
    assert get(grant, "EntityDefinitions").allowed is every
    assert get(grant, "$metadata").allowed is every


# ---------------------------------------------------------- functions and actions


def test_a_bound_routine_is_granted_on_its_table_only() -> None:
    privileges = f"systemusers({A})/Microsoft.Dynamics.CRM.RetrieveUserPrivileges()"
    note = f"contacts({A})/Microsoft.Dynamics.CRM.new_AddNoteToContact"
    bound = granting(
        {},
        functions=[{"name": "RetrieveUserPrivileges", "table": "systemusers"}],
        actions=[{"name": "new_AddNoteToContact", "table": "contacts"}],
    )
    assert get(bound, privileges).allowed
    assert ask(bound, "POST", note, {}).allowed
    bare = granting({}, functions=["RetrieveUserPrivileges"], actions=["new_AddNoteToContact"])
    assert get(bare, privileges).refused
    assert ask(bare, "POST", note, {}).refused
    other = granting({}, functions=[{"name": "RetrieveUserPrivileges", "table": "teams"}])
    assert get(other, privileges).refused


def test_a_routine_bound_to_an_abstract_type_is_granted_on_every_table_behind_it() -> None:
    access = "RetrievePrincipalAccess(Target=@t)?@t={'@odata.id':'accounts(" + A + ")'}"
    name = "RetrievePrincipalAccess"
    tables = {"contacts": READ, "systemusers": READ, "teams": READ}
    one = granting(tables, functions=[{"name": name, "table": "systemusers"}])
    assert get(one, f"systemusers({A})/Microsoft.Dynamics.CRM.{access}").allowed
    assert get(one, f"contacts({A})/ownerid/Microsoft.Dynamics.CRM.{access}").refused
    both = granting(
        tables, functions=[{"name": name, "table": t} for t in ("systemusers", "teams")]
    )
    assert get(both, f"contacts({A})/ownerid/Microsoft.Dynamics.CRM.{access}").allowed


def test_a_granted_name_that_the_schema_does_not_know_is_refused() -> None:
    grant = granting({"*": EVERY}, functions=["Nosuch"], actions=["Nosuch"])
    assert get(grant, "Nosuch()").refused
    assert ask(grant, "POST", "Nosuch", {}).refused
    assert ask(grant, "POST", f"contacts({A})/Microsoft.Dynamics.CRM.Nosuch", {}).refused


# ------------------------------------------------------------------ row filters


def test_rows_made_inside_another_get_what_their_filter_asks() -> None:
    grant = granting({"accounts": OPEN, "contacts": EVERY, "tasks": EVERY})
    nested = {"lastname": "x", "account_primary_contact": [{"name": "a"}, {"name": "b"}]}
    assert sent_body(ask(grant, "POST", "contacts", nested)) == {
        "lastname": "x",
        "account_primary_contact": [
            {"name": "a", "statecode": 0},
            {"name": "b", "statecode": 0},
        ],
    }
    single = {"lastname": "x", "parentcustomerid_account": {"name": "a"}}
    assert sent_body(ask(grant, "POST", "contacts", single))["parentcustomerid_account"] == {
        "name": "a",
        "statecode": 0,
    }
    named = {"lastname": "x", "parentcustomerid_account": {"name": "a", "statecode": 0}}
    assert ask(grant, "POST", "contacts", named).refused


def test_a_filter_on_a_lookup_is_set_by_a_bind_and_not_by_nesting() -> None:
    grant = granting(
        {
            "contacts": {**EVERY, "row_filter": f"_transactioncurrencyid_value eq {A}"},
            "accounts": EVERY,
        }
    )
    assert sent_body(ask(grant, "POST", "contacts", {"lastname": "x"})) == {
        "lastname": "x",
        "transactioncurrencyid@odata.bind": f"/transactioncurrencies({A})",
    }
    for key in ("transactioncurrencyid@odata.bind", "transactioncurrencyid"):
        assert ask(grant, "POST", "contacts", {key: None}).refused


def test_every_filtered_link_of_a_fetch_is_filtered() -> None:
    grant = granting({"accounts": OPEN, "contacts": {**READ, "row_filter": "statecode eq 0"}})
    xml = (
        "<fetch><entity name='contact'><attribute name='fullname'/>"
        "<link-entity name='account' from='accountid' to='parentcustomerid'>"
        "<link-entity name='contact' from='contactid' to='primarycontactid'/>"
        "</link-entity></entity></fetch>"
    )
    tried = get(grant, f"contacts?fetchXml={xml}".replace("<", "%3C").replace(">", "%3E"))
    assert tried.allowed, tried.detail
    assert decoded(tried.last.target).count('<condition attribute="statecode"') == 3


def test_a_filter_with_or_stays_together() -> None:
    grant = granting({"accounts": {**READ, "row_filter": "statecode eq 0 or statecode eq 1"}})
    tried = get(grant, "accounts?$select=name&$filter=name eq 'x' or name eq 'y'")
    assert decoded(tried.last.target).endswith(
        "$filter=(statecode eq 0 or statecode eq 1) and (name eq 'x' or name eq 'y')"
    )


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("GET", f"contacts({A})/parentcustomerid_account/name", None),
        ("GET", "accounts?$filter=parentaccountid/name eq 'x'", None),
        ("GET", "accounts?$expand=parentaccountid($select=name)", None),
        ("GET", "contacts?$filter=account_primary_contact/any(a:a/name eq 'x')", None),
        ("GET", "contacts?$filter=account_primary_contact/$count gt 0", None),
        ("GET", "RetrieveTotalRecordCount(EntityNames=['account'])", None),
        ("GET", f"accounts?savedQuery={A}", None),
        ("PATCH", f"accounts({A})", None),
        ("POST", "accounts/Microsoft.Dynamics.CRM.UpsertMultiple",
         {"Targets": [{"@odata.type": "Microsoft.Dynamics.CRM.account", "accountid": A}]}),
    ],
)  # fmt: skip
def test_what_cannot_be_filtered_is_refused_where_rows_are_and_only_there(
    method: str, target: str, body: Any
) -> None:
    headers = {}
    if method == "PATCH":
        body, headers = {}, {"If_None_Match": "*"}
    filtered = granting({"*": EVERY, "accounts": OPEN})
    assert ask(filtered, method, target, body, **headers).refused
    assert ask(granting({"*": EVERY}), method, target, body, **headers).allowed


def test_a_row_that_no_filter_holds_back_is_not_looked_up() -> None:
    tried = get(granting({"accounts": OPEN, "contacts": READ}), f"contacts({A})")
    assert isinstance(tried.decision, Allow)
    assert not tried.decision.look_ups


# ---------------------------------------------------------------------- limits


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_depth_bounds_every_way_to_go_on(depth: int) -> None:
    grant = granting({"*": READ}, limits={"expand_depth": depth})
    steps = ["primarycontactid", "parentcustomerid_account"] * 3
    names = {
        "primarycontactid": ("contact", "contactid"),
        "parentcustomerid_account": ("account", "accountid"),
    }
    for length in (depth, depth + 1):
        path = steps[:length]
        nested = ""
        for step in reversed(path):
            nested = f"{step}($select=createdon{';$expand=' + nested if nested else ''})"
        links = ""
        for step in reversed(path):
            name, key = names[step]
            to = step.removesuffix("_account")
            links = f"<link-entity name='{name}' from='{key}' to='{to}'>{links}</link-entity>"
        xml = f"<fetch><entity name='account'><attribute name='name'/>{links}</entity></fetch>"
        asked = [
            f"accounts({A})/{'/'.join([*path, 'createdon'])}",
            f"accounts?$filter={'/'.join([*path, 'createdon'])} ne null",
            f"accounts?$orderby={'/'.join([*path, 'createdon'])}",
            f"accounts?fetchXml={xml}".replace("<", "%3C").replace(">", "%3E"),
            *([f"accounts?$expand={nested}"] if nested else []),
        ]
        for target in asked:
            tried = get(grant, target)
            if length == depth:
                assert tried.allowed, (target, tried.detail)
            else:
                assert tried.error is not None, target
                assert tried.error.code == "limit-exceeded"


def test_parts_are_bounded_by_the_grant() -> None:
    grant = granting({"accounts": READ}, limits={"batch_parts": 2})
    for parts, allowed in ((2, True), (3, False)):
        line = "--b\r\nContent-Type: application/http\r\n\r\nGET accounts HTTP/1.1\r\n\r\n"
        headers = [("Content-Type", "multipart/mixed; boundary=b")]
        request = Request("POST", "$batch", headers, f"{line * parts}--b--".encode())
        tried = attempt(grant, request)
        assert tried.allowed is allowed
        assert allowed or (tried.error is not None and tried.error.code == "limit-exceeded")


# --------------------------------------------------------------------- enforce


def test_a_grant_that_does_not_enforce_says_what_it_would_have_refused() -> None:
    grant = granting({"accounts": {**READ, "row_filter": "statecode eq 0"}}, enforce=False)
    tried = get(grant, f"accounts({A})?$select=name&$expand=parentaccountid($select=name)")
    assert isinstance(tried.decision, Allow)
    assert not tried.decision.look_ups
    assert len(tried.sent) == 1
    (shadow,) = tried.decision.shadow
    assert shadow.says.startswith("single-valued navigation not granted on accounts: ")
    closed = get(grant, "nosuchtables?$select=a")
    assert isinstance(closed.decision, Allow)
    assert [m.says for m in closed.decision.shadow] == ["read not granted on nosuchtables"]


def test_a_grant_that_does_not_enforce_names_the_parts() -> None:
    grant = granting({"accounts": READ}, enforce=False)
    parts = "".join(
        f"--b\r\nContent-Type: application/http\r\n\r\nGET {t} HTTP/1.1\r\n\r\n"
        for t in ("accounts", "contacts")
    )
    headers = [("Content-Type", "multipart/mixed; boundary=b")]
    tried = attempt(grant, Request("POST", "$batch", headers, f"{parts}--b--".encode()))
    assert isinstance(tried.decision, Allow)
    assert [(m.part, m.says) for m in tried.decision.shadow] == [
        (2, "part 2: read not granted on contacts")
    ]


# --------------------------------------------------------------------- refusals


def test_a_refusal_names_all_that_is_missing() -> None:
    grant = granting({"accounts": {**READ, "columns": ["name"]}})
    tried = get(
        grant,
        "accounts?$select=name,creditlimit,revenue&$expand=Account_Tasks($select=subject)"
        "&$filter=telephone1 eq '1'",
    )
    assert isinstance(tried.decision, Refuse)
    assert tried.decision.code == "not-granted"
    assert tried.decision.detail == (
        "columns not granted on accounts: creditlimit, revenue, telephone1;"
        " read not granted on tasks"
    )


def test_impersonation_is_refused_by_a_code_of_its_own() -> None:
    tried = get(granting({"accounts": READ}), "accounts", CallerObjectId=A)
    assert isinstance(tried.decision, Refuse)
    assert tried.decision.code == "impersonation-refused"
    assert A not in tried.detail


def test_a_name_nobody_knows_is_shown_at_no_great_length() -> None:
    tried = get(granting({"accounts": READ}), f"accounts?$select={'x' * 5000}")
    assert tried.refused
    assert len(tried.detail) < 200
