from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.schema.building import SchemaUnreadable
from app.schema.compact import decode, encode
from app.schema.csdl import read_csdl
from tests.unit.schema.documents import (
    collection,
    column,
    document,
    entity_set,
    key,
    lookup,
    sample,
    table,
)

if TYPE_CHECKING:
    from app.schema.model import Schema

IDS = {"3f2504e0-4f89-41d3-9a0c-0305e82c3301": "account"}
NAMES = st.sampled_from(["alpha", "beta", "gamma", "delta"])


@st.composite
def schemas(draw: st.DrawFn) -> Schema:
    names = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    types = [table("base", column("createdon", "DateTimeOffset"), abstract=True)]
    for name in names:
        inside = key(f"{name}id") + column(f"{name}id", "Guid")
        inside += "".join(column(f"c{i}") for i in range(draw(st.integers(0, 3))))
        for i, target in enumerate(draw(st.lists(st.sampled_from(names), max_size=2))):
            inside += lookup(f"To{i}", target, f"to{i}", partner=f"from_{name}{i}")
            inside += collection(f"from_{name}{i}", name, partner=f"To{i}")
        types.append(table(name, inside, base=draw(st.sampled_from(["", "base"]))))
    routines = '<Action Name="Do" IsBound="true"><Parameter Name="e" Type="mscrm.base" /></Action>'
    return read_csdl(
        document("".join(types) + routines, "".join(entity_set(f"{n}s", n) for n in names))
    )


def test_the_sample_comes_back_whole() -> None:
    schema = read_csdl(sample()).with_metadata_ids(IDS)
    found = decode(encode(schema))
    assert found == schema
    assert found.metadata_ids == IDS
    assert found.sets["accounts"] is found.tables["account"]
    assert found.sets["systemusers"].key_columns == schema.sets["systemusers"].key_columns
    assert len(encode(schema)) < len(sample()) / 10


@given(schemas(), st.dictionaries(st.uuids().map(str), NAMES, max_size=3))
def test_every_schema_comes_back_whole(schema: Schema, ids: dict[str, str]) -> None:
    schema = schema.with_metadata_ids(ids)
    assert decode(encode(schema)) == schema


def test_what_is_alike_is_written_once() -> None:
    whole = encode(read_csdl(sample()))
    assert encode(decode(whole)) == whole


@given(st.binary(max_size=30), st.integers(0, 500))
def test_damage_is_told(noise: bytes, at: int) -> None:
    whole = encode(read_csdl(sample()))
    for data in (noise, whole[:at], whole[:at] + noise + whole[at:]):
        try:
            found = decode(data)
        except SchemaUnreadable:
            continue
        assert found == read_csdl(sample())


@pytest.mark.parametrize(
    "data", [b"", b"dvb-schema-0\n", b"dvb-schema-1\n", b"dvb-schema-1\n" + zlib.compress(b"\x90")]
)
def test_another_format_is_refused(data: bytes) -> None:
    with pytest.raises(SchemaUnreadable):
        decode(data)


def test_metadata_ids_are_part_of_the_version() -> None:
    schema = read_csdl(sample())
    with_ids = schema.with_metadata_ids(IDS)
    assert with_ids.version != schema.version
    assert with_ids.version.startswith(schema.version)
    assert with_ids.with_metadata_ids(IDS).version == with_ids.version
    assert with_ids.with_metadata_ids({}).version != with_ids.version
