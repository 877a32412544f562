"""Seal what Dataverse hands out, follow it, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

import pytest

from app.odata.reading import Batch
from app.odata.seals import Sealer, SealKey, sealed_link
from tests.unit.policy.granting import A, granting
from tests.unit.policy.trying import Request, attempt, bases_of, decoded

if TYPE_CHECKING:
    from app.policy.grants import Grant
    from tests.unit.policy.trying import Tried

KEYS = (SealKey("k2", b"2" * 32), SealKey("k1", b"1" * 32))
NARROW = granting(
    {
        "accounts": {"operations": ["read"], "columns": ["accountid", "name"]},
        "contacts": {
            "operations": ["read"],
            "columns": ["contactid", "fullname", "parentcustomerid"],
        },
    }
)
FILES = granting(
    {"accounts": {"operations": ["read", "update"], "columns": ["accountid", "new_contractfile"]}}
)


def sealer(
    grant: Grant = NARROW,
    *,
    keys: tuple[SealKey, ...] = KEYS,
    caller: str = "tester",
    environment: str = "prod",
    applications: tuple[str, ...] | None = None,
) -> Sealer:
    return Sealer(keys, caller, environment, applications or grant.applications)


def ask(target: str, *, method: str = "GET", grant: Grant = NARROW, **headers: str) -> Tried:
    pairs = [(n.replace("_", "-"), v) for n, v in headers.items()]
    return attempt(grant, Request(method, target, pairs), check_seal=sealer(grant).check)


def handed_out(
    target: str, link: str, *, grant: Grant = NARROW, method: str = "GET", **headers: str
) -> str | None:
    """Below the broker's service root, as the caller sees it."""
    tried = ask(target, method=method, grant=grant, **headers)
    assert tried.allowed, tried.detail
    assert tried.decision is not None
    bases = bases_of(grant)
    sealed = sealed_link(
        bases.service + link,
        tried.decision.reading,  # type: ignore[union-attr]
        bases=bases,
        schema=grant.schema,
        sealer=sealer(grant),
        application="crm-app",
    )
    if sealed is None:
        return None
    base = f"{bases.public}/api/data/v9.2/"
    assert sealed.startswith(base)
    return sealed.removeprefix(base)


LINK = "accounts?$select=accountid,name&$skiptoken=%3Ccookie%20pagenumber=%222%22%20/%3E"


def test_a_next_link_is_sealed_and_followed() -> None:
    link = handed_out("accounts", LINK)
    assert link is not None
    assert "broker-seal=k2." in link
    tried = ask(link)
    assert tried.allowed
    assert decoded(tried.last.target) == (
        '/api/data/v9.2/accounts?$select=accountid,name&$skiptoken=<cookie pagenumber="2" />'
    )
    assert tried.reading is not None
    assert tried.reading.sealed_by == "crm-app"


def test_a_delta_link_is_sealed_and_followed() -> None:
    link = handed_out(
        "accounts?$select=name",
        "accounts?$select=name&$deltatoken=9190%2108",
        prefer="odata.track-changes",
    )
    assert link is not None
    assert "$deltatoken=9190!08" in decoded(ask(link).last.target)


def test_clients_may_encode_a_link_anew() -> None:
    link = handed_out("accounts", LINK)
    assert link is not None
    path, _, query = link.partition("?")
    again = "&".join(
        f"{quote(n, safe='')}={quote(unquote(v), safe='').replace('%20', '+')}"
        for n, _, v in (option.partition("=") for option in reversed(query.split("&")))
    )
    assert ask(f"{path}?{again}").allowed


@pytest.mark.parametrize(
    "link",
    [
        LINK.replace("accountid,name", "accountid,name,creditlimit"),
        LINK.replace("$select=accountid,name&", ""),
        LINK + "&$top=5",
        LINK + "&$filter=name%20eq%20'x'",
        LINK.replace("accounts?", "contacts?"),
        LINK.replace("accounts?", f"accounts({A})/account_parent_account?"),
        LINK + "&broker-seal=x",
        LINK + "&foo=1",
        LINK + "&$skiptoken=2",
        "accounts?$skiptoken=",
    ],
)
def test_nothing_else_than_what_was_sent_is_sealed(link: str) -> None:
    assert handed_out("accounts", link) is None


def test_a_link_elsewhere_is_not_handed_out() -> None:
    tried = ask("accounts")
    for link in ("https://evil.example/api/data/v9.2/" + LINK, LINK, "/x", ""):
        assert (
            sealed_link(
                link,
                tried.decision.reading,  # type: ignore[union-attr]
                bases=bases_of(NARROW),
                schema=NARROW.schema,
                sealer=sealer(),
                application="crm-app",
            )
            is None
        )


def test_a_link_without_a_token_needs_no_seal() -> None:
    link = handed_out("accounts", "accounts?$select=creditlimit")
    assert link == "accounts?$select=creditlimit"
    assert ask(link).refused


def test_an_expanded_collection_goes_on_with_its_own_options() -> None:
    asked = "accounts?$select=name&$expand=contact_customer_accounts($select=fullname;$top=2)"
    rest = f"accounts({A})/contact_customer_accounts?$select=fullname&$top=2&$skiptoken=2"
    link = handed_out(asked, rest)
    assert link is not None
    assert "broker-seal" in link
    assert ask(link).allowed
    for other in (
        rest.replace("fullname", "contactid"),
        rest.replace("&$top=2", ""),
        rest.replace("contact_customer_accounts", "account_parent_account"),
        rest.replace(f"accounts({A})", "accounts"),
        rest.replace("accounts(", "contacts("),
    ):
        assert handed_out(asked, other) is None, other


def test_a_collection_expanded_in_an_expand_goes_on_too() -> None:
    asked = (
        "contacts?$select=fullname&$expand=parentcustomerid_account($select=name;"
        "$expand=contact_customer_accounts($select=fullname))"
    )
    link = handed_out(
        asked, f"accounts({A})/contact_customer_accounts?$select=fullname&$skiptoken=2"
    )
    assert link is not None
    assert ask(link).allowed


@pytest.mark.parametrize(
    "change",
    [
        lambda link: link.replace("accountid,name", "accountid,creditlimit"),
        lambda link: link.replace("pagenumber=%222", "pagenumber=%223"),
        lambda link: link.replace("accounts?", "contacts?"),
        lambda link: link + "&$top=5",
        lambda link: link.partition("&broker-seal")[0],
        lambda link: link[:-2],
        lambda link: link + "A",
        lambda link: link.replace("k2.", "k1."),
        lambda link: link.replace("k2.", ""),
        lambda link: link.replace("$select=accountid,name&", ""),
    ],
)  # fmt: skip
def test_a_changed_link_is_refused(change: object) -> None:
    link = handed_out("accounts", LINK)
    assert link is not None
    tried = ask(change(link))  # type: ignore[operator]
    assert tried.error is not None
    assert tried.error.code == "unsealed-continuation"


@pytest.mark.parametrize(
    "other",
    [
        sealer(caller="another"),
        sealer(environment="dev"),
        sealer(applications=("other-app",)),
        sealer(keys=(SealKey("k2", b"3" * 32),)),
        sealer(keys=(SealKey("k3", b"2" * 32),)),
    ],
    ids=["caller", "environment", "application", "key", "key id"],
)
def test_a_link_is_good_for_whom_it_was_handed_to(other: Sealer) -> None:
    link = handed_out("accounts", LINK)
    assert link is not None
    tried = attempt(NARROW, Request("GET", link), check_seal=other.check)
    assert tried.error is not None
    assert tried.error.code == "unsealed-continuation"


def test_keys_overlap_and_a_pool_keeps_its_application() -> None:
    link = handed_out("accounts", LINK)
    assert link is not None
    pool = sealer(keys=(SealKey("k3", b"3" * 32), *KEYS), applications=("other-app", "crm-app"))
    tried = attempt(NARROW, Request("GET", link), check_seal=pool.check)
    assert tried.reading is not None
    assert tried.reading.sealed_by == "crm-app"


@pytest.mark.parametrize(
    ("tables", "allowed"),
    [
        ({"accounts": {"operations": ["read"], "columns": ["accountid", "name"]}}, True),
        ({"accounts": {"operations": ["read"]}}, True),
        ({"accounts": {"operations": ["read"], "columns": ["accountid"]}}, False),
        ({"accounts": {"operations": []}}, False),
        ({}, False),
        ({"accounts": {"operations": ["read"], "row_filter": "statecode eq 0"}}, False),
    ],
    ids=["as it was", "wider", "fewer columns", "closed", "gone", "filtered"],
)
def test_what_was_sealed_is_judged_under_todays_policy(
    tables: dict[str, object],
    allowed: bool,  # noqa: FBT001
) -> None:
    link = handed_out("accounts", LINK)
    assert link is not None
    today = granting(tables)
    tried = attempt(today, Request("GET", link), check_seal=sealer(today).check)
    assert tried.allowed is allowed
    assert tried.refused is not allowed


def test_nothing_is_added_to_what_was_sealed() -> None:
    wide = granting({"accounts": {"operations": ["read"]}})
    link = handed_out("accounts", "accounts?$skiptoken=2", grant=wide)
    assert link is not None
    tried = attempt(NARROW, Request("GET", link), check_seal=sealer().check)
    assert tried.refused
    assert "begin again" in tried.detail


FILTER = "statecode%20eq%200"
FILTERED = granting(
    {
        "accounts": {"operations": ["read"], "columns": ["name"], "row_filter": "statecode eq 0"},
        "contacts": {"operations": ["read"], "columns": ["fullname", "parentcustomerid"]},
    }
)
"""The filter stands on a column that the caller cannot read."""


@pytest.mark.parametrize(
    ("asked", "link"),
    [
        ("accounts", f"accounts?$select=name&$filter={FILTER}"),
        (
            "accounts?$filter=name%20eq%20'x'&$orderby=name",
            f"accounts?$select=name&$filter={FILTER}%20and%20name%20eq%20'x'&$orderby=name",
        ),
        (
            "accounts?$apply=aggregate($count%20as%20n)",
            f"accounts?$apply=filter({FILTER})/aggregate($count%20as%20n)",
        ),
    ],
    ids=["alone", "beside the caller's", "$apply"],
)
def test_a_filtered_continuation_is_followed_though_its_column_is_not_granted(
    asked: str, link: str
) -> None:
    sealed = handed_out(asked, f"{link}&$skiptoken=2", grant=FILTERED)
    assert sealed is not None
    followed = ask(sealed, grant=FILTERED)
    assert followed.allowed, followed.detail
    wider = f"{link}&$skiptoken=2".replace(FILTER, "1%20eq%201")
    assert handed_out(asked, wider, grant=FILTERED) is None


def test_a_filtered_fetch_is_followed_though_its_column_is_not_granted() -> None:
    inside = (
        '<attribute name="name"/><filter type="and"><condition attribute="statecode"'
        ' operator="eq" value="0"/></filter>'
    )
    xml = f'<fetch><entity name="account">{inside}</entity></fetch>'
    asked = quote('<fetch><entity name="account"><attribute name="name"/></entity></fetch>')
    link = handed_out(
        f"accounts?fetchXml={asked}", f"accounts?fetchXml={quote(xml)}&$skiptoken=2", grant=FILTERED
    )
    assert link is not None
    assert ask(link, grant=FILTERED).allowed


@pytest.mark.parametrize(
    "more",
    [
        "$select=name,statecode",
        "$select=name&$orderby=statecode",
        "$select=name&$filter=statecode%20ne%205",
    ],
)
def test_a_filters_column_that_a_link_names_elsewhere_must_be_granted(more: str) -> None:
    before = granting(
        {
            "accounts": {
                "operations": ["read"],
                "columns": ["name", "statecode"],
                "row_filter": "statecode eq 0",
            }
        }
    )
    bare = more.replace("&$filter=statecode%20ne%205", "")
    filters = FILTER + ("%20and%20statecode%20ne%205" if "filter" in more else "")
    link = handed_out(
        f"accounts?{more}", f"accounts?{bare}&$filter={filters}&$skiptoken=2", grant=before
    )
    assert link is not None
    assert ask(link, grant=before).allowed
    tried = attempt(FILTERED, Request("GET", link), check_seal=sealer(FILTERED).check)
    assert tried.refused
    assert "statecode" in tried.detail


def test_the_filters_column_is_no_answer_to_a_question_without_a_seal() -> None:
    assert ask(f"accounts?$select=name&$filter={FILTER}", grant=FILTERED).refused


def test_an_upload_session_is_sealed_and_used() -> None:
    column = f"accounts({A})/new_contractfile"
    link = handed_out(
        f"{column}?x-ms-file-name=a.txt",
        f"{column}?sessiontoken=abc",
        grant=FILES,
        method="PATCH",
        x_ms_transfer_mode="chunked",
    )
    assert link is not None
    tried = ask(link, method="PATCH", grant=FILES, content_range="bytes 0-3/8")
    assert tried.allowed
    assert tried.last.streams
    assert decoded(tried.last.target).endswith("new_contractfile?sessiontoken=abc")
    assert ask(f"{column}?sessiontoken=abc", method="PATCH", grant=FILES).error is not None
    assert ask(link.replace("abc", "abd"), method="PATCH", grant=FILES).error is not None
    other = link.replace("new_contractfile", "entityimage")
    assert ask(other, method="PATCH", grant=FILES).error is not None


def test_a_batch_part_follows_its_seal() -> None:
    link = handed_out("accounts", LINK)
    assert link is not None
    tried = _batch(link)
    assert tried.allowed, tried.detail
    assert tried.reading is not None
    assert tried.reading.sealed_by == "crm-app"
    assert isinstance(tried.reading.body, Batch)
    assert b"broker-seal" not in (tried.last.body or b"")
    assert _batch(link + "x").error is not None


def test_a_batch_continues_what_one_application_began() -> None:
    pool = granting({"accounts": {"operations": ["read"]}}, application=["crm-app", "other-app"])
    bases = bases_of(pool)
    link = "accounts?$skiptoken=2"
    first = ask("accounts", grant=pool)
    links = [
        sealed_link(
            bases.service + link,
            first.decision.reading,  # type: ignore[union-attr]
            bases=bases,
            schema=pool.schema,
            sealer=sealer(pool),
            application=application,
        )
        for application in pool.applications
    ]
    assert None not in links
    tried = _batch(*(str(found) for found in links), grant=pool)
    assert tried.error is not None
    assert tried.error.code == "unsealed-continuation"
    assert _batch(str(links[1]), grant=pool).allowed


def _batch(*links: str, grant: Grant = NARROW) -> Tried:
    parts = "".join(
        f"--b\r\nContent-Type: application/http\r\n\r\nGET {link} HTTP/1.1\r\n\r\n"
        for link in links
    )
    headers = [("Content-Type", "multipart/mixed; boundary=b")]
    request = Request("POST", "$batch", headers, f"{parts}--b--\r\n".encode())
    return attempt(grant, request, check_seal=sealer(grant).check)


def test_a_key_does_not_show_its_secret() -> None:
    assert "hunter2" not in repr(sealer(keys=(SealKey("k", b"hunter2"),)))
