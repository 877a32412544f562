from __future__ import annotations

import re
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.audit.record import TARGET_MAX
from app.audit.target import OPTIONS, SEGMENTS, UNKNOWN, recorded_address, recorded_target

ROW = "1f3b0000-0000-4000-8000-00000000000a"
KNOWN = {"accounts", "contacts", "name", "accountnumber", "contact_customer_accounts", "WhoAmI"}


@pytest.mark.parametrize(
    ("target", "kept"),
    [
        ("accounts", "accounts"),
        (f"accounts({ROW})?$select=name", f"accounts({ROW})?$select=…"),
        (
            f"accounts({ROW})/contact_customer_accounts?$filter=name eq 'x'&$top=3",
            f"accounts({ROW})/contact_customer_accounts?$filter=…&$top=…",
        ),
        ("accounts(accountnumber='A1')", "accounts(accountnumber=…)"),
        ("accounts(accountnumber='A,1',name='a=b')", "accounts(accountnumber=…,name=…)"),
        ("accounts('a=b')", "accounts(…)"),
        ("accounts(name='a/b')/contacts", "accounts(name=…)/contacts"),
        (f"accounts(name={ROW})", f"accounts(name={ROW})"),
        (f"accounts%28{ROW}%29", f"accounts({ROW})"),
        ("WhoAmI()", "WhoAmI()"),
        ("secrets(1)/hunter2", "<unknown>(…)/<unknown>"),
        ("accounts%2Fcontacts", "<unknown>"),
        ("accounts((", "<unknown>"),
        ("accounts)(", "<unknown>"),
        ("$batch", "$batch"),
        ("EntityDefinitions(LogicalName='account')", "EntityDefinitions(LogicalName=…)"),
        ("accounts?hunter2=1&%24filter=x", "accounts?<unknown>=…&$filter=…"),
        ("WhoAmI(@hunter2)?@hunter2=1", "WhoAmI(…)?@…=…"),
        ("accounts?$count", "accounts?$count"),
        ("accounts?", "accounts?"),
        ("accounts/", "accounts/"),
        ("", ""),
    ],
)
def test_a_target_keeps_names_and_row_ids_and_no_values(target: str, kept: str) -> None:
    assert recorded_target(target, KNOWN.__contains__) == kept


def test_a_long_target_is_cut_with_a_mark() -> None:
    kept = recorded_target("/".join([f"accounts({ROW})"] * 49) + "?$filter=x", KNOWN.__contains__)
    assert len(kept) == TARGET_MAX
    assert kept.endswith("…")


def test_a_target_of_many_options_keeps_the_first_ones() -> None:
    kept = recorded_target("accounts?" + "&".join(["$top=1"] * 500), KNOWN.__contains__)
    assert kept.count("$top") == 50
    assert kept.endswith("&…")


PIECES = st.sampled_from(
    [
        *sorted(KNOWN),
        *(
            "/",
            "(",
            ")",
            "'",
            "''",
            "=",
            ",",
            "?",
            "&",
            "%2F",
            "%28",
            "%29",
            "%27",
            "%00",
            "@p",
            ";",
        ),
        *("$filter=", "$select=", "fetchXml=", f"({ROW})", "\r\n", "\x1b[31m", "%0d%0a", "é", "+"),
    ]
)
CANARY = "Zk9hunter2"


@given(
    before=st.lists(PIECES, max_size=12),
    after=st.lists(PIECES, max_size=12),
    encoded=st.booleans(),
)
def test_no_canary_survives_wherever_it_stands(
    before: list[str], after: list[str], *, encoded: bool
) -> None:
    canary = "".join(f"%{ord(c):02X}" for c in CANARY) if encoded else CANARY
    kept = recorded_target("".join(before) + canary + "".join(after), KNOWN.__contains__)
    assert CANARY not in kept
    assert canary not in kept


VOCABULARY = re.compile(
    "|".join(
        re.escape(word)
        for word in sorted({*KNOWN, *SEGMENTS, *OPTIONS.values(), UNKNOWN, "@…", "…"}, key=len)[
            ::-1
        ]
    )
    + r"|[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}|[/()=,?&]"
)


@given(target=st.text(), encoded=st.booleans())
def test_whatever_comes_only_known_words_are_kept(target: str, *, encoded: bool) -> None:
    kept = recorded_target(quote(target) if encoded else target, KNOWN.__contains__)
    assert VOCABULARY.sub("", kept) == ""


@pytest.mark.parametrize(
    ("target", "kept"),
    [
        ("/environments/contoso/token", "/environments/contoso/token"),
        ("/environments/hunter2/token", "/environments/<unknown>/token"),
        ("/oauth2/v2.0/token", "/oauth2/v2.0/token"),
        (f"/{ROW}/oauth2/v2.0/token", f"/{ROW}/oauth2/v2.0/token"),
        ("/msi/token?resource=hunter2", "/msi/token?resource=…"),
        ("/audit/records?table=hunter2&hunter2=1", "/audit/records?table=…&<unknown>=…"),
    ],
)
def test_an_address_is_kept_without_what_was_made_up(target: str, kept: str) -> None:
    assert recorded_address(target, {"contoso"}.__contains__) == kept
