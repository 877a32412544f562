"""`token-broker audit verify`: whether the record is as it was written, and where it is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from rich.console import Console
from rich.text import Text

from app.audit.chain import Checkpoint, decode_note
from app.audit.keys import CheckpointKeys
from app.audit.verify import verify
from app.cli.outcome import CouldNot, ExitCode, say_json
from app.cli.progress import counted
from app.cli.settings import read_settings
from app.cli.store import kept
from app.main import SIGNING_KEY
from app.path.keyring import read_keyring

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from app.audit.keys import PublicKey
    from app.audit.verdict import Verdict


def verify_record(
    *,
    store: str | None,
    export: Path | None,
    keys: Sequence[Path],
    anchors: Sequence[Path],
    as_json: bool,
) -> ExitCode:
    """Raises `StoreFailed`, `CouldNot`, `Misconfigured`."""
    public = [key for file in keys for key in _public_keys(file)] if keys else own_keys()
    with kept(store, export) as found:
        verdict = verify(
            counted(found.entries, "entries verified"),
            keys=CheckpointKeys(public) if public else None,
            tombstones=found.tombstones,
            anchors=[anchor for file in anchors for anchor in _anchors(file)],
        )
    if as_json:
        say_json({"good": verdict.good, **msgspec.to_builtins(verdict)})
    else:
        _show(verdict)
    return ExitCode.DONE if verdict.good else ExitCode.NO


def own_keys() -> list[PublicKey]:
    """Those that this broker's checkpoints are signed with; none where it has no signing key."""
    settings = read_settings()
    file = settings.signing_key_file or settings.state_dir / SIGNING_KEY
    if not file.exists():
        return []
    return [key.public_key() for key in read_keyring(file.read_bytes()).checkpoints()]


def public_pem(keys: Iterable[PublicKey]) -> str:
    """For whoever verifies elsewhere: they tell nothing that could sign."""
    return "".join(
        key.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ).decode("ascii")
        for key in keys
    )


def _public_keys(file: Path) -> Iterator[PublicKey]:
    blocks = file.read_text(encoding="ascii", errors="replace").split("-----BEGIN PUBLIC KEY-----")
    if len(blocks) == 1:
        raise CouldNot("key-unusable", f"{file}: holds no PEM public key; 'audit keys' writes it")
    for block in blocks[1:]:
        pem = "-----BEGIN PUBLIC KEY-----" + block
        try:
            # Of another kind than checkpoints have, it verifies nothing: `verify` says so.
            yield serialization.load_pem_public_key(pem.encode())  # type: ignore[misc]
        except (ValueError, UnsupportedAlgorithm) as error:
            raise CouldNot("key-unusable", f"{file}: a public key cannot be read") from error


def _anchors(file: Path) -> list[Checkpoint]:
    """Checkpoints that were kept elsewhere: in a file of their own, or among the lines of a log."""
    found = []
    for line in file.read_bytes().splitlines():
        try:
            note = decode_note(line)
        except ValueError:
            continue
        if isinstance(note, Checkpoint):
            found.append(note)
    if not found:
        raise CouldNot("anchor-unreadable", f"{file}: holds no checkpoint")
    return found


def _show(verdict: Verdict) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for fault in verdict.faults:
        place = (
            f"entry {fault.first}"
            if fault.first == fault.last
            else f"entries {fault.first} to {fault.last}"
        )
        where = f"{place} of the chain {fault.writer}"
        console.print(Text.assemble((f"{fault.kind:<12}", "bold red"), f"{where}: {fault.detail}"))
    for chain in verdict.chains:
        unsealed = chain.last - chain.sealed
        if unsealed and verdict.good:
            text = f"chain {chain.writer}: no checkpoint covers its last {unsealed} entries yet"
            console.print(Text.assemble(("note        ", "bold blue"), text))
    if not verdict.signatures_checked:
        text = "no key: hashes were compared, signatures were not; give one with --key"
        console.print(Text.assemble(("warning     ", "bold yellow"), text))
    count = len(verdict.chains)
    counts = f"{verdict.entries} entries in {count} chain{'' if count == 1 else 's'}"
    if verdict.good:
        said = "nothing was removed, altered, reordered or inserted"
        console.print(Text.assemble(("good", "bold green"), f": {counts}, {said}"))
    else:
        faults = len(verdict.faults)
        said = f"{faults} fault{'s' if faults > 1 else ''}"
        console.print(Text.assemble(("not as it was written", "bold red"), f": {counts}, {said}"))
