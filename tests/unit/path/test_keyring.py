"""One signing key, and keys for single purposes derived from it."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from pydantic import SecretStr

from app.errors import Misconfigured
from app.main import open_keyring
from app.path.keyring import Keyring, new_key, read_keyring
from app.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST, SECOND = new_key(), new_key()


def raw(keys: Any) -> list[bytes]:
    return [key.private_bytes_raw() for key in keys]


def derived(keyring: Keyring) -> list[bytes]:
    return [
        *(seal.secret for seal in keyring.seals()),
        *raw(keyring.checkpoints()),
        *raw(keyring.broker_tokens()),
        keyring.fingerprints(),
    ]


def test_the_same_key_gives_the_same_keys_in_every_replica() -> None:
    assert derived(read_keyring(FIRST)) == derived(read_keyring(FIRST))
    assert derived(read_keyring(FIRST)) != derived(read_keyring(SECOND))


def test_no_purpose_has_anothers_key() -> None:
    found = derived(read_keyring(FIRST))
    assert len(set(found)) == len(found) == 4


def test_the_first_key_of_a_file_signs_and_the_others_are_accepted() -> None:
    both, first = read_keyring(SECOND + FIRST), read_keyring(FIRST)
    assert raw(both.broker_tokens())[1:] == raw(first.broker_tokens())
    assert raw(both.checkpoints())[1:] == raw(first.checkpoints())
    assert both.seals()[1:] == first.seals()
    assert both.fingerprints() == read_keyring(SECOND).fingerprints()


@pytest.mark.parametrize(
    "make",
    [
        lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
        lambda: ec.generate_private_key(ec.SECP256R1()),
    ],
    ids=["rsa", "ec"],
)
def test_any_private_key_will_do(make: Callable[[], rsa.RSAPrivateKey]) -> None:
    pem = make().private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    assert len(read_keyring(pem).broker_tokens()) == 1


def locked() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"hunter2"))


@pytest.mark.parametrize(
    "pem",
    [b"", b"hunter2", FIRST.replace(b"PRIVATE", b"PUBLIC"), FIRST[:60], locked()],
    ids=["empty", "text", "public", "half", "with-a-passphrase"],
)
def test_what_is_no_private_key_is_refused_without_being_quoted(pem: bytes) -> None:
    with pytest.raises(Misconfigured) as caught:
        read_keyring(pem)
    assert caught.value.code == "signing-key-invalid"
    assert "hunter2" not in caught.value.detail


def test_a_broken_key_beside_a_good_one_is_refused() -> None:
    broken = FIRST.replace(FIRST[40:60], b"A" * 20)
    with pytest.raises(Misconfigured):
        read_keyring(SECOND + broken)


def test_nothing_shows_a_key() -> None:
    assert repr(read_keyring(FIRST)) == "Keyring()"


def settings(folder: Path, **more: Any) -> Settings:
    return Settings(state_dir=folder / "state", **more)


def test_a_key_is_made_at_the_first_start_and_kept_for_its_owner_alone(tmp_path: Path) -> None:
    made = open_keyring(settings(tmp_path))
    (file,) = (tmp_path / "state").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert derived(open_keyring(settings(tmp_path))) == derived(made)


def test_a_key_that_is_given_is_used_and_none_is_made(tmp_path: Path) -> None:
    file = tmp_path / "given.pem"
    file.write_bytes(FIRST)
    opened = open_keyring(settings(tmp_path, signing_key_file=file))
    assert derived(opened) == derived(read_keyring(FIRST))
    assert not (tmp_path / "state").exists()


def test_a_key_that_is_named_and_not_there_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured) as caught:
        open_keyring(settings(tmp_path, signing_key_file=tmp_path / "missing.pem"))
    assert caught.value.code == "signing-key-invalid"


def test_workers_that_start_at_once_have_one_key(tmp_path: Path) -> None:
    """Each in a process of its own in earnest: what is shared is the folder."""
    with ThreadPoolExecutor(8) as workers:
        opened = list(workers.map(lambda _: open_keyring(settings(tmp_path)), range(8)))
    assert len({keyring.fingerprints() for keyring in opened}) == 1
    assert [file.name for file in (tmp_path / "state").iterdir()] == ["signing-key.pem"]


def test_a_share_without_hard_links_keeps_a_key_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    made = open_keyring(settings(tmp_path))
    assert derived(open_keyring(settings(tmp_path))) == derived(made)
    assert [file.name for file in (tmp_path / "state").iterdir()] == ["signing-key.pem"]


NOWHERE = Path("/proc/no-such-process/state")


def test_a_key_in_memory_is_enough_for_one_process() -> None:
    assert open_keyring(Settings(state_dir=NOWHERE)).fingerprints()


@pytest.mark.parametrize(
    "more",
    [{"workers": 2}, {"audit_url": SecretStr("postgresql://broker@db/audit")}],
    ids=["with-workers", "with-postgresql"],
)
def test_several_processes_refuse_to_start_with_a_key_in_memory(more: dict[str, Any]) -> None:
    with pytest.raises(Misconfigured) as caught:
        open_keyring(Settings(state_dir=NOWHERE, **more))
    assert caught.value.code == "signing-key-missing"
