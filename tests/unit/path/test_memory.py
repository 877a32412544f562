from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.path.memory import Memory


def test_a_memory_gives_what_was_put_and_nothing_else() -> None:
    memory: Memory[str, int] = Memory(4)
    memory.put("one", 1)

    assert memory.get("one") == 1
    assert memory.get("two") is None


@given(st.lists(st.integers(0, 30), max_size=200))
def test_a_memory_keeps_the_last_ones_and_at_most_twice_as_many(keys: list[int]) -> None:
    memory: Memory[int, str] = Memory(5)
    for key in keys:
        if memory.get(key) is None:
            memory.put(key, str(key))

    lately = list(dict.fromkeys(reversed(keys)))[:5]
    assert [memory.get(key) for key in lately] == [str(key) for key in lately]
    assert len(memory) <= 10


def test_what_is_asked_for_stays_when_others_come_and_go() -> None:
    memory: Memory[int, str] = Memory(3)
    memory.put(0, "kept")
    for key in range(1, 50):
        memory.put(key, "passing")
        assert memory.get(0) == "kept"
