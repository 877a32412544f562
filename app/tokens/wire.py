"""The HTTP client that MSAL speaks through: requests, with MSAL's own handling of failures cut off.

Left alone, MSAL answers a repeated 400 from memory for a minute, raises on a 5xx without its
Retry-After, and logs the text of an answer that is not JSON, which may hold a token. So nothing
but a 200 with a JSON object gets as far as MSAL; all else is raised here, explained.
"""

from __future__ import annotations

import http.cookiejar
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import requests
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies

from app.tokens.answers import malformed, read_refusal
from app.tokens.failure import Cause, Failure
from app.tokens.retry import read_retry_after

if TYPE_CHECKING:
    from pathlib import Path

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 40.0
"""Longer than a caller waits: where Entra takes half a minute, the token still arrives, and the
caller's next try finds it.
"""


class Unanswered(Exception):
    """A request gave no usable answer; `failure` says why. Never leaves the stage."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.meaning)
        self.failure = failure


class Wire:
    """A connection pool to one host. MSAL's `http_client`: `get`, `post`, `close`.

    `url` decides about a proxy, as HTTPS_PROXY and NO_PROXY say; None: never through one.
    `names` is what errors call that host. `challenges`: let a 401 that names a challenge through.
    """

    def __init__(
        self,
        url: str | None,
        *,
        names: str = "the authority",
        ca_file: Path | None = None,
        read_timeout_s: float = READ_TIMEOUT_S,
        challenges: bool = False,
    ) -> None:
        self._names = names
        self._challenges = challenges
        self._timeout_s = (CONNECT_TIMEOUT_S, read_timeout_s)
        self._session = requests.Session()
        # With trust_env, REQUESTS_CA_BUNDLE would override `verify`, and a ~/.netrc would add
        # credentials of its own. The proxy variables are the one thing wanted of it.
        if url is not None:
            self._session.proxies.update(get_environ_proxies(url))
        self._session.trust_env = False
        self._session.verify = str(ca_file) if ca_file else True
        # Entra sets cookies that would tie app registrations to each other.
        self._session.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
        # A retry of the connection only: a POST that may have arrived is not sent twice.
        self._session.mount("https://", HTTPAdapter(max_retries=1))

    def get(self, url: str, **options: Any) -> requests.Response:
        return self._answered("GET", url, options)

    def post(self, url: str, **options: Any) -> requests.Response:
        return self._answered("POST", url, options)

    def close(self) -> None:
        self._session.close()

    def _answered(self, method: str, url: str, options: dict[str, Any]) -> requests.Response:
        options["timeout"] = self._timeout_s
        # A redirected POST would carry the secret to a host that nobody configured.
        options["allow_redirects"] = False
        try:
            response = self._session.request(method, url, **options)
        except requests.RequestException as error:
            raise Unanswered(_unreachable(error, self._names)) from None
        if response.status_code == 200:
            if not isinstance(_json_of(response), dict):
                raise Unanswered(malformed("HTTP 200 with what is no JSON object"))
            return response
        if response.status_code == 401 and self._challenges and _challenge_in(response):
            return response
        if response.status_code < 400:
            raise Unanswered(malformed(f"HTTP {response.status_code}"))
        raise Unanswered(
            read_refusal(
                _json_of(response),
                status=response.status_code,
                retry_after_s=read_retry_after(
                    response.headers.get("Retry-After"), datetime.now(UTC)
                ),
            )
        )


def _challenge_in(response: requests.Response) -> bool:
    return "WWW-Authenticate" in response.headers


def _json_of(response: requests.Response) -> Any:
    try:
        return json.loads(response.content)
    except (ValueError, RecursionError):
        return None


def _unreachable(error: requests.RequestException, names: str) -> Failure:
    remedy = "It is tried again by itself. Check DNS, the firewall and the proxy on the way to it."
    match error:
        case requests.exceptions.SSLError():
            meaning = f"the TLS certificate of {names} is not trusted"
            remedy = "Name the CA that signed it as the application's ca_file."
        case requests.exceptions.ConnectTimeout():
            meaning = f"{names} cannot be reached within {CONNECT_TIMEOUT_S:.0f} s"
        case requests.exceptions.Timeout():
            meaning = f"{names} does not answer in time"
        case requests.exceptions.ProxyError():
            meaning = f"the proxy on the way to {names} fails"
        case _:
            meaning = f"{names} cannot be reached"
    return Failure(cause=Cause.ENTRA_UNREACHABLE, meaning=meaning, remedy=remedy)
