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

NOON = datetime(2027, 1, 1, 12, tzinfo=UTC).timestamp()
KEY = "dvb_loader-1_" + "0123456789abcdef" * 4


def config(key: str = KEY, **options: Any) -> CallerConfig:
    expires = options.pop("expires", None)
    return CallerConfig.model_validate(
        {"identities": [{"api_key": {"sha256": digest(key), "expires": expires}}], **options}
    )


def reason(keys: Keys, key: bytes, now: float = NOON) -> str:
    with pytest.raises(Unrecognised) as caught:
        keys.caller(key, now=now)
    assert caught.value.code == "unauthenticated"
    assert caught.value.detail == DETAIL
    return caught.value.reason


def test_a_key_is_its_caller_shown_by_its_id_only() -> None:
    entry = config()
    caller = Keys({"loader": entry}).caller(KEY.encode(), now=NOON)
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
        pytest.param(generate()[0], id="another-key"),
    ],
)
def test_what_is_not_the_key_is_nobody(key: str) -> None:
    assert reason(Keys({"loader": config()}), key.encode()) == "unknown-key"


def test_a_key_works_through_its_last_day_in_utc_and_not_after() -> None:
    keys = Keys({"loader": config(expires=date(2027, 6, 30))})
    midnight = datetime(2027, 7, 1, tzinfo=UTC).timestamp()
    assert keys.caller(KEY.encode(), now=midnight - 1).name == "loader"
    assert reason(keys, KEY.encode(), now=midnight) == "expired-key"


def test_a_disabled_caller_is_refused_in_the_same_words() -> None:
    assert reason(Keys({"loader": config(disabled=True)}), KEY.encode()) == "caller-disabled"


@pytest.mark.parametrize("key", ["hunter2", "dvb_x_0123", f"dvb__{'0' * 64}", f"dvb_a_{'G' * 64}"])
def test_a_configured_digest_of_something_weaker_opens_nothing(key: str) -> None:
    assert reason(Keys({"loader": config(key)}), key.encode()) == "malformed-credential"


def test_a_generated_key_has_the_documented_form_and_works() -> None:
    key, sha256 = generate()
    assert re.fullmatch(r"dvb_[a-z2-9]{10}_[0-9a-f]{64}", key)
    assert sha256 == digest(key)
    assert (
        Keys({"new": config(key)}).caller(key.encode(), now=NOON).identity.id == key.split("_")[1]
    )
    assert generate()[0] != key


def test_a_reload_keeps_the_last_use_and_takes_the_new_rights() -> None:
    before = Keys({"loader": config()})
    before.caller(KEY.encode(), now=NOON)
    changed = config(description="changed")
    after = Keys({"loader": changed}, previous=before)
    assert [(k.caller_name, k.last_used_at) for k in after] == [("loader", NOON)]
    assert after.caller(KEY.encode(), now=NOON).config is changed


def test_a_reload_that_gives_a_key_to_another_caller_forgets_the_first() -> None:
    before = Keys({"loader": config()})
    before.caller(KEY.encode(), now=NOON)
    after = Keys({"other": config()}, previous=before)
    assert [k.last_used_at for k in after] == [None]
    assert after.caller(KEY.encode(), now=NOON).name == "other"


def test_a_refused_key_counts_as_no_use() -> None:
    keys = Keys({"loader": config(disabled=True)})
    reason(keys, KEY.encode())
    assert [k.last_used_at for k in keys] == [None]


@given(st.binary(max_size=100))
def test_any_other_bytes_are_nobody(key: bytes) -> None:
    assert reason(Keys({"loader": config()}), key) == "unknown-key"
