"""How a removed, altered, reordered or inserted entry shows: a hash chain for each writer.

A writer is one process between its start and its stop. Its first entry is an *opening* that
names it and the heads of the chains that the store held then, so that a chain cannot vanish
whole. *Checkpoints* are signed: whoever recomputes hashes from some point on meets the next
one. A *tombstone* is signed too, and stands for what retention removed.

    hash 0 = 32 zero bytes        hash n = SHA-256(hash n-1 ‖ body n)
"""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Protocol

import msgspec
from msgspec.structs import replace

if TYPE_CHECKING:
    from collections.abc import Iterable

GENESIS: Final = bytes(32)

_CONTEXT: Final = b"dataverse-token-broker audit v1\n"
"""Keeps these signatures from being taken for anything else that the same key may sign."""


class Entry(NamedTuple):
    """A link of a chain, as stored: `seq` counts from 1, `body` is hashed as it is."""

    writer: str
    seq: int
    body: bytes
    hash: bytes


class Head(NamedTuple):
    """Where a chain has got to: its last entry."""

    writer: str
    seq: int
    hash: bytes


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """Another chain's head, as an opening names it; `head` is in hexadecimal."""

    writer: str
    count: int
    head: str


class Opening(msgspec.Struct, frozen=True, kw_only=True, tag_field="phase", tag="opening"):
    """The first entry of a chain."""

    writer: str
    time: str
    program: str
    follows: tuple[Link, ...] = ()


class Checkpoint(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    tag_field="phase",
    tag="checkpoint",
    omit_defaults=True,
):
    """The chain's head before this entry, signed. The final one says that nothing follows."""

    writer: str
    time: str
    count: int
    head: str
    final: bool = False
    kid: str = ""
    signature: str = ""


class Tombstone(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    tag_field="phase",
    tag="tombstone",
    omit_defaults=True,
):
    """Entries 1 to `through` were removed by retention; `head` is the hash of the last."""

    writer: str
    time: str
    through: int
    head: str
    before: str
    kid: str = ""
    signature: str = ""


class Signer(Protocol):
    """A private key for checkpoints and tombstones."""

    def sign(self, data: bytes) -> tuple[str, bytes]:
        """The key's id, and the signature."""
        ...


class SignatureCheck(Protocol):
    """The public keys of the past and the present."""

    def verify(self, kid: str, data: bytes, signature: bytes) -> bool:
        """False for a wrong signature; raises `KeyError` for a key that is not known."""
        ...


Statement = Checkpoint | Tombstone

_encode = msgspec.json.Encoder().encode
_notes: msgspec.json.Decoder[Opening | Checkpoint | Tombstone] = msgspec.json.Decoder(
    Opening | Checkpoint | Tombstone
)


def encode_note(note: Opening | Checkpoint | Tombstone) -> bytes:
    """The canonical bytes of what the chain says about itself."""
    return _encode(note)


def decode_note(body: bytes) -> Opening | Checkpoint | Tombstone:
    """Raises `ValueError` for bytes that are none."""
    return _notes.decode(body)


def link(before: bytes, body: bytes) -> bytes:
    """The hash of an entry, from the hash of the one before it."""
    return hashlib.sha256(before + body).digest()


def extend(head: Head, bodies: Iterable[bytes]) -> tuple[list[Entry], Head]:
    """The entries that follow `head`, and the head after them. Nothing is changed in place.

    So that a batch that was not stored leaves no trace in the chain.
    """
    writer, seq, last = head
    entries = []
    for body in bodies:
        seq += 1
        last = hashlib.sha256(last + body).digest()
        entries.append(Entry(writer, seq, body, last))
    return entries, Head(writer, seq, last)


def open_chain(
    *, writer: str, time: str, program: str, follows: Iterable[Head]
) -> tuple[Entry, Head]:
    """A new chain's first entry."""
    opening = Opening(
        writer=writer,
        time=time,
        program=program,
        follows=tuple(
            Link(writer=head.writer, count=head.seq, head=head.hash.hex()) for head in follows
        ),
    )
    entries, head = extend(Head(writer, 0, GENESIS), [_encode(opening)])
    return entries[0], head


def checkpoint(head: Head, *, time: str, signer: Signer, final: bool = False) -> Checkpoint:
    """A signed statement of where the chain is."""
    bare = Checkpoint(
        writer=head.writer, time=time, count=head.seq, head=head.hash.hex(), final=final
    )
    kid, signature = signer.sign(_signed_bytes(bare))
    return replace(bare, kid=kid, signature=base64.b64encode(signature).decode())


def tombstone(last_removed: Head, *, time: str, before: str, signer: Signer) -> Tombstone:
    """A signed statement of what retention removed."""
    bare = Tombstone(
        writer=last_removed.writer,
        time=time,
        through=last_removed.seq,
        head=last_removed.hash.hex(),
        before=before,
    )
    kid, signature = signer.sign(_signed_bytes(bare))
    return replace(bare, kid=kid, signature=base64.b64encode(signature).decode())


def check_signature(statement: Statement, keys: SignatureCheck) -> Literal["ok", "bad", "unknown"]:
    """Whether a statement was signed by a key that we know."""
    try:
        signature = base64.b64decode(statement.signature, validate=True)
        good = keys.verify(
            statement.kid, _signed_bytes(replace(statement, kid="", signature="")), signature
        )
    except KeyError:
        return "unknown"
    except ValueError:
        return "bad"
    return "ok" if good else "bad"


def _signed_bytes(bare: Statement) -> bytes:
    return _CONTEXT + _encode(bare)
