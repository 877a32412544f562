"""Text that the grammar reads, drawn at random: what hypothesis tries on it."""

from __future__ import annotations

from hypothesis import strategies as st

_NAMES = ("name", "creditlimit", "new_status", "t", "primarycontactid", "contains_", "anyone")
_STRINGS = st.text(alphabet=st.characters(blacklist_categories=["Cs", "Cc"]), max_size=8).map(
    lambda s: "'" + s.replace("'", "''") + "'"
)
_LITERALS = st.one_of(
    _STRINGS,
    st.integers(-(10**12), 10**12).map(str),
    st.sampled_from(
        [
            "true", "false", "null", "1.50", "1e5", "2024-01-31", "2024-01-31T12:30:00Z",
            "2024-01-31T12:30:00.123+01:00", "12:30:00", "3f2504e0-4f89-41d3-9a0c-0305e82c3301",
            "Microsoft.Dynamics.CRM.AccessRights'Read'", "duration'PT1H'", "INF",
        ]
    ),
)  # fmt: skip
_PATHS = st.lists(st.sampled_from(_NAMES), min_size=1, max_size=3).map("/".join)
_SPACE = st.sampled_from([" ", "  ", "\n", "\t"])


def _deeper(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    operand = st.one_of(inner, inner.map(lambda s: f"({s})"))
    bracketed = inner.map(lambda s: f"({s})")
    value = st.one_of(_LITERALS, _PATHS, bracketed)
    return st.one_of(
        st.tuples(operand, _SPACE, st.sampled_from(["and", "or"]), _SPACE, operand).map("".join),
        st.tuples(
            value, _SPACE, st.sampled_from(["eq", "ne", "gt", "add", "sub", "mul"]), _SPACE, value
        ).map("".join),
        inner.map(lambda s: f"not ({s})"),
        st.tuples(_PATHS, _LITERALS).map(lambda p: f"contains({p[0]}, {p[1]})"),
        st.tuples(_PATHS, bracketed).map(lambda p: f"concat({p[0]},{p[1]})"),
        st.tuples(_PATHS, st.lists(_LITERALS, min_size=1, max_size=3)).map(
            lambda p: f"{p[0]} in ({','.join(p[1])})"
        ),
        st.tuples(_PATHS, inner).map(lambda p: f"{p[0]}/any(v:{p[1]})"),
        st.tuples(_PATHS, inner).map(lambda p: f"{p[0]}/all( v : {p[1]} )"),
        _PATHS.map(lambda p: f"{p}/any()"),
        _PATHS.map(lambda p: f"{p}/$count gt 1"),
        _PATHS.map(lambda p: f"- {p} lt 0"),
        st.tuples(_STRINGS, st.lists(_LITERALS, max_size=3)).map(
            lambda p: (
                f"Microsoft.Dynamics.CRM.In(PropertyName={p[0]},PropertyValues=[{','.join(p[1])}])"
            )
        ),
    )


EXPRESSIONS: st.SearchStrategy[str] = st.recursive(
    st.one_of(_PATHS, _LITERALS, st.just("@p1")), _deeper, max_leaves=12
)
"""Conditions, perhaps nonsense, that are read."""

COLUMNS = st.lists(st.sampled_from(_NAMES), min_size=1, max_size=4).map(",".join)


@st.composite
def expands(draw: st.DrawFn, depth: int = 2) -> str:
    items = draw(st.lists(st.sampled_from(["a", "b", "c_d"]), min_size=1, max_size=3, unique=True))
    return ",".join([draw(_expanded(name, depth)) for name in items])


@st.composite
def _expanded(draw: st.DrawFn, name: str, depth: int) -> str:
    suffix = draw(st.sampled_from(["", "", "", "/$ref", "/Microsoft.Dynamics.CRM.task"]))
    options = []
    if draw(st.booleans()):
        options.append(f"$select={draw(COLUMNS)}")
    if draw(st.booleans()):
        options.append(f"$filter={draw(EXPRESSIONS)}")
    if draw(st.booleans()):
        options.append(f"$orderby={draw(orders())}")
    if draw(st.booleans()):
        options.append(f"$top={draw(st.integers(0, 999))}")
    if depth and draw(st.booleans()):
        options.append(f"$expand={draw(expands(depth - 1))}")
    return f"{name}{suffix}({';'.join(options)})" if options else name + suffix


@st.composite
def orders(draw: st.DrawFn) -> str:
    keys = draw(
        st.lists(st.one_of(_PATHS, EXPRESSIONS.map(lambda s: f"({s})")), min_size=1, max_size=3)
    )
    return ",".join(key + draw(st.sampled_from(["", " asc", " desc"])) for key in keys)


@st.composite
def applies(draw: st.DrawFn) -> str:
    steps = []
    for _ in range(draw(st.integers(1, 3))):
        figures = ",".join(
            draw(
                st.sampled_from(["$count as n", "revenue with sum as t", "(a add 1) with max as m"])
            )
            for _ in range(draw(st.integers(1, 2)))
        )
        keys = ",".join(draw(st.lists(_PATHS, min_size=1, max_size=2)))
        steps.append(
            draw(
                st.sampled_from(
                    [f"filter({draw(EXPRESSIONS)})", f"aggregate({figures})", f"groupby(({keys}))",
                     f"groupby(({keys}),aggregate({figures}))"]
                )
            )
        )  # fmt: skip
    return "/".join(steps)
