from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from app.web.asgi import Answer, send_answer
from app.web.late import Late

if TYPE_CHECKING:
    from app.web.asgi import App, Receive, Scope, Send

pytestmark = pytest.mark.anyio


async def hello(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send_answer(send, Answer(status=200, headers=(), body=b"hello"))


async def test_an_app_is_made_once_for_all_who_ask_at_the_same_time(call: Any) -> None:
    made: list[int] = []

    def make() -> App:
        made.append(threading.get_ident())
        return hello

    app = Late(make)
    assert made == []
    answers = await asyncio.gather(*(call(app) for _ in range(5)))
    assert {answer.body for answer in (*answers, await call(app))} == {b"hello"}
    assert len(made) == 1
    assert made[0] != threading.get_ident(), "others were not answered meanwhile"


async def test_an_app_that_could_not_be_made_is_tried_again(call: Any) -> None:
    failures = [MemoryError()]

    def make() -> App:
        if failures:
            raise failures.pop()
        return hello

    app = Late(make)
    with pytest.raises(MemoryError):
        await call(app)
    assert (await call(app)).body == b"hello"
