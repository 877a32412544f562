"""How the day's services call: as Microsoft documents the Web API, and shown as it happens.

Nothing in the requests is made for a broker but the base URL and the key.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from app.demo.stage import Scene, cut, panel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import httpx2
    from rich.console import Console

ENVIRONMENT = "contoso"

ODATA = {
    "Accept": "application/json",
    "OData-MaxVersion": "4.0",
    "OData-Version": "4.0",
}
"""The headers that Microsoft's samples send with every request."""


class Ended(Exception):
    """A step failed in a way that nobody expected."""


class Calls:
    """Calls of every service; `unexpected` is what did not come out as it should."""

    def __init__(
        self,
        client: httpx2.AsyncClient,
        *,
        broker_url: str,
        dataverse_url: str,
        keys: Mapping[str, str],
        console: Console,
    ) -> None:
        self._client = client
        self._broker_url = broker_url
        self._base = f"{broker_url}/environments/{ENVIRONMENT}/api/data/v9.2"
        self._dataverse = f"{dataverse_url}/api/data/v9.2"
        self._keys = keys
        self._console = console
        self._number = 0
        self._began = datetime.now(UTC)
        self.unexpected: list[str] = []

    async def _call(
        self,
        scene: Scene,
        caller: str,
        method: str,
        url: str,
        *,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        expect: int = 200,
        shown: str = "",
    ) -> httpx2.Response:
        """Ask, show the question and the answer, and expect its status."""
        answer = await self._ask(caller, method, url, body=body, headers=headers)
        scene.asks(method, shown or self._shown(url), body=body, caller=caller)
        scene.answers(answer.status_code, decision(answer), _said(answer))
        scene.expect(
            answer.status_code == expect, f"the answer was to be {expect}: {cut(answer.text)}"
        )
        return answer

    async def _get(self, caller: str, url: str) -> httpx2.Response:
        return await self._ask(caller, "GET", url)

    async def _ask(
        self,
        caller: str,
        method: str,
        url: str,
        *,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx2.Response:
        key = {"Authorization": f"Bearer {self._keys[caller]}"}
        return await self._client.request(
            method, url, json=body, headers={**ODATA, **key, **(headers or {})}
        )

    def _shown(self, url: str) -> str:
        """Without what is the same in every line."""
        return url.removeprefix(self._base + "/").removeprefix(self._broker_url)

    @contextmanager
    def _scene(self, title: str, who: str, why: str) -> Iterator[Scene]:
        self._number += 1
        scene = Scene(self._number, title, who, why)
        try:
            yield scene
        except Exception as error:
            scene.expect(None, f"{type(error).__name__}: {error}")
            raise Ended from error
        finally:
            self.unexpected += [f"{scene.number}: {text}" for text in scene.unexpected]
            self._console.print(panel(scene))


def decision(answer: httpx2.Response) -> str | None:
    found: str | None = answer.headers.get("Broker-Decision")
    return found


def _said(answer: httpx2.Response) -> str:
    """The broker's own words, where it had some."""
    if answer.status_code < 400:
        return ""
    told = answer.json()
    return str(told.get("detail") or told.get("error_description") or "")
