"""An API key opens its caller's door, until its last day; nothing like it does."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.config.model import Caller as CallerConfig
from app.identity.caller import Caller, IdentityRef
from app.identity.keys import Keys, digest, generate
from app.identity.refusal import DETAIL, Unrecognised
from app.identity.uses import IdentityStatus, Uses

NOON = datetime(2027, 1, 1, 12, tzinfo=UTC).timestamp()
KEY = "dvb_loader-1_" + "0123456789abcdef" * 4


def config(key: str = KEY, **options: Any) -> CallerConfig:
    expires = options.pop("expires", None)
    return CallerConfig.model_validate(
        {"identities": [{"api_key": {"sha256": digest(key), "expires": expires}}], **options}
    )


def known(callers: dict[str, CallerConfig], uses: Uses | None = None) -> Keys:
    return Keys(callers, uses or Uses())


def reason(keys: Keys, key: bytes, now: float = NOON) -> str:
    with pytest.raises(Unrecognised) as caught:
        keys.caller(key, now=now)
    assert caught.value.code == "unauthenticated"
    assert caught.value.detail == DETAIL
    return caught.value.reason


def test_a_key_is_its_caller_shown_by_its_id_only() -> None:
    entry = config()
    caller = known({"loader": entry}).caller(KEY.encode(), now=NOON)
    assert caller == Caller("loader", IdentityRef("api_key", "loader-1"), entry)


@pytest.mark.parametrize(
    "key",
    [
        pytest.param("", id="empty"),
        pytest.param(KEY[:-1], id="a-prefix"),
        pytest.param(KEY + "0", id="longer"),
        pytest.param(KEY.upper(), id="upper-case"),
        pytest.param(KEY.replace("a", "\u0430", 1), id="cyrillic-a"),
        pytest.param(KEY.replace("d", "\uff44", 1), id="full-width-d"),
        pytest.param(digest(KEY), id="its-digest"),
        pytest.param("dvb_loader-1_", id="its-id"),
        pytest.param(generate("loader")[0], id="another-key"),
    ],
)
def test_what_is_not_the_key_is_nobody(key: str) -> None:
    assert reason(known({"loader": config()}), key.encode()) == "unknown-key"


def test_a_key_works_through_its_last_day_in_utc_and_not_after() -> None:
    keys = known({"loader": config(expires=date(2027, 6, 30))})
    midnight = datetime(2027, 7, 1, tzinfo=UTC).timestamp()
    assert keys.caller(KEY.encode(), now=midnight - 1).name == "loader"
    assert reason(keys, KEY.encode(), now=midnight) == "expired-key"


def test_a_disabled_caller_is_refused_in_the_same_words() -> None:
    assert reason(known({"loader": config(disabled=True)}), KEY.encode()) == "caller-disabled"


@pytest.mark.parametrize("key", ["hunter2", "dvb_x_0123", f"dvb__{'0' * 64}", f"dvb_a_{'G' * 64}"])
def test_a_configured_digest_of_something_weaker_opens_nothing(key: str) -> None:
    assert reason(known({"loader": config(key)}), key.encode()) == "malformed-credential"


@pytest.mark.parametrize(
    ("caller", "begin"),
    [("invoice-loader", "invoiceloade"), ("A.b_1", "ab1"), ("\u00e9", "key")],
)
def test_a_generated_key_has_the_documented_form_and_works(caller: str, begin: str) -> None:
    key, sha256 = generate(caller)
    assert re.fullmatch(rf"dvb_{begin}-[a-z2-9]{{6}}_[0-9a-f]{{64}}", key)
    assert sha256 == digest(key)
    found = known({"new": config(key)}).caller(key.encode(), now=NOON)
    assert found.identity.id == key.split("_")[1]
    assert generate(caller)[0] != key


def test_a_use_is_noted_with_the_id_of_the_key() -> None:
    uses, entry = Uses(), config(expires=date(2027, 6, 30))
    keys = known({"loader": entry}, uses)
    before = uses.statuses("loader", entry)
    keys.caller(KEY.encode(), now=NOON)
    after = uses.statuses("loader", entry)
    end = datetime(2027, 7, 1, tzinfo=UTC)
    assert before == (IdentityStatus("api_key", f"sha256:{digest(KEY)[:8]}", end, None),)
    assert after == (IdentityStatus("api_key", "loader-1", end, datetime.fromtimestamp(NOON, UTC)),)


def test_a_refused_key_counts_as_no_use() -> None:
    uses, entry = Uses(), config(disabled=True)
    reason(known({"loader": entry}, uses), KEY.encode())
    assert uses.statuses("loader", entry)[0].last_used is None


@given(st.binary(max_size=100))
def test_any_other_bytes_are_nobody(key: bytes) -> None:
    assert reason(known({"loader": config()}), key) == "unknown-key"
