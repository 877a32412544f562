from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256

import pytest
import yaml
from typer.testing import CliRunner

from app.cli.main import app
from app.config.model import ApiKeyIdentity


def run(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["keys", "new", *arguments])
    return done.exit_code, done.stdout, done.stderr


def made(*arguments: str) -> tuple[str, ApiKeyIdentity]:
    code, out, err = run("invoice-loader", "--json", *arguments)
    assert code == 0, err
    answer = json.loads(out)
    assert answer["caller"] == "invoice-loader"
    return answer["key"], ApiKeyIdentity.model_validate(answer["identity"])


def test_a_key_fits_the_line_that_is_printed_with_it() -> None:
    code, out, _ = run("invoice-loader")
    assert code == 0
    [key] = re.findall(r"dvb_[a-z0-9-]+_[0-9a-f]{64}", out)
    [line] = re.findall(r"- (api_key: .*)", out)
    identity = ApiKeyIdentity.model_validate(yaml.safe_load(line))
    assert identity.api_key.sha256 == sha256(key.encode()).hexdigest()
    assert "callers.invoice-loader.identities" in out


def test_two_keys_are_never_the_same() -> None:
    assert made()[0] != made()[0]


@pytest.mark.parametrize(
    ("option", "expires"),
    [
        ((), datetime.now(UTC).date() + timedelta(days=365)),
        (("--expires", "2999-06-30"), date(2999, 6, 30)),
        (("--expires", "never"), None),
    ],
    ids=["a year", "a day", "never"],
)
def test_a_key_ends_when_it_is_told_to(option: tuple[str, ...], expires: date | None) -> None:
    assert made(*option)[1].api_key.expires == expires


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("in valid",), "the caller's name: a name has letters"),
        (("a", "--expires", "soon"), "--expires: a day like 2027-06-30, or never"),
        (("a", "--expires", "2020-01-01"), "--expires: 2020-01-01 is over already"),
    ],
    ids=["name", "no day", "past day"],
)
def test_a_key_that_would_not_load_is_not_made(arguments: tuple[str, ...], says: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (3, "")
    assert says in err
