"""Whether bytes hold what a link's name ends in: the question that most of an answer denies.

`re` looks at every byte in turn. Rust's regex, which pydantic-core brings, looks for all of these
marks at once, many bytes at a time: 17 µs where `re` takes 140 for 200 KB. It only tells whether
there is one, so what it finds is looked at again.
"""

from __future__ import annotations

from typing import Final

from pydantic_core import SchemaValidator, ValidationError, core_schema

LONGEST_MARK: Final = len('@odata.context"')

# Every other link's name ends in `Link`. The shorter the alternatives, the quicker the search.
_MARKS: Final = SchemaValidator(
    core_schema.str_schema(
        pattern=r'Link"|@odata\.id"|@odata\.context"'
        r"|\\u00(?:2[eE]|40|[46][1-9a-fA-F]|[57][0-9aA])",
        regex_engine="rust-regex",
    )
)
_NOT_ASCII: Final = bytes(range(0x80, 0x100))


def may_name_a_link(data: bytes) -> bool:
    """False only where no link's name ends and no letter of one is written as an escape."""
    if data.isascii():
        return _MARKS.isinstance_python(data)
    try:
        # Where a piece ends is chance: half a letter at its ends says nothing about the rest.
        _MARKS.validate_python(data.strip(_NOT_ASCII))
    except ValidationError as e:
        # Anything else, as bytes that are no UTF-8, means that nothing was looked at.
        return e.errors(include_url=False, include_input=False)[0]["type"] != (
            "string_pattern_mismatch"
        )
    return True
