from __future__ import annotations

import pytest

from app.dataverse.proxies import HttpProxy, proxy_for
from app.errors import Misconfigured

HOST = "contoso.crm4.dynamics.com"
PROXY = HttpProxy(host="proxy.internal.example", port=3128)


def through(no_proxy: str = "", *, host: str = HOST, port: int = 443) -> bool:
    environ = {"HTTPS_PROXY": "http://proxy.internal.example:3128", "NO_PROXY": no_proxy}
    return proxy_for(host, port, environ) is not None


@pytest.mark.parametrize(
    "environ",
    [
        {"HTTPS_PROXY": "http://proxy.internal.example:3128"},
        {"https_proxy": "http://proxy.internal.example:3128/", "HTTPS_PROXY": "http://other:1"},
        {"HTTPS_PROXY": "proxy.internal.example:3128"},
    ],
)
def test_the_proxy_is_what_the_environment_names(environ: dict[str, str]) -> None:
    assert proxy_for(HOST, 443, environ) == PROXY


@pytest.mark.parametrize("environ", [{}, {"HTTPS_PROXY": ""}, {"HTTP_PROXY": "http://x:1"}])
def test_without_https_proxy_the_way_is_direct(environ: dict[str, str]) -> None:
    assert proxy_for(HOST, 443, environ) is None


def test_a_user_of_the_proxy_is_told_to_it_and_to_nobody_else() -> None:
    proxy = proxy_for(HOST, 443, {"HTTPS_PROXY": "http://us%40er:hun%3Ater2@proxy:3128"})
    assert proxy is not None
    assert proxy.authorization == b"Basic dXNAZXI6aHVuOnRlcjI="
    assert "dXNAZXI6" not in repr(proxy)


@pytest.mark.parametrize(
    "no_proxy",
    [
        "*",
        HOST,
        HOST.upper(),
        "dynamics.com",
        ".dynamics.com",
        "*.dynamics.com",
        "localhost, crm4.dynamics.com",
        "localhost dynamics.com:443",
    ],
)
def test_no_proxy_excepts_a_host(no_proxy: str) -> None:
    assert not through(no_proxy)


@pytest.mark.parametrize(
    "no_proxy",
    ["", "ynamics.com", "contoso.crm4.dynamics.com.example", "dynamics.com:8443", "10.0.0.0/8"],
)
def test_no_proxy_excepts_no_other_host(no_proxy: str) -> None:
    assert through(no_proxy)


@pytest.mark.parametrize("no_proxy", ["10.1.2.3", "10.0.0.0/8", "10.1.2.3:443"])
def test_no_proxy_excepts_addresses_and_networks(no_proxy: str) -> None:
    assert not through(no_proxy, host="10.1.2.3")
    assert through(no_proxy, host="11.1.2.3")


@pytest.mark.parametrize(
    "value",
    ["https://proxy:3128", "socks5://proxy:1080", "http://", "http://proxy:0", "http://proxy:x"],
)
def test_a_proxy_that_cannot_be_used_is_refused_without_its_password(value: str) -> None:
    with pytest.raises(Misconfigured, match="HTTPS_PROXY must be") as caught:
        proxy_for(HOST, 443, {"HTTPS_PROXY": value.replace("//", "//user:hunter2@")})
    assert "hunter2" not in str(caught.value)
