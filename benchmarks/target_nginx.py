"""nginx as a plain reverse proxy: one worker, upstream keep-alive, no buffering of what streams."""

import subprocess
from pathlib import Path

from benchmarks.process import TargetFailed, free_port, program, start, wait_until_ok
from benchmarks.target import NGINX, Endpoint, Ground, Target

_CONFIG = """
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  client_max_body_size 32m;
  keepalive_requests 1000000;
{servers}
}}
"""
_SERVER = """
  upstream {kind} {{ server 127.0.0.1:{engine_port}; keepalive 64; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://{kind};
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_buffering off;
      proxy_read_timeout 3600s;
    }}
  }}
"""


def start_nginx(ground: Ground, upstreams: dict[str, Endpoint]) -> Target:
    """Return a running nginx before every upstream. Raises TargetFailed, also where it is missing."""
    binary = program("nginx") or _install()
    folder = ground.scratch / "nginx"
    folder.mkdir()
    ports = {kind: free_port() for kind in upstreams}
    servers = "".join(
        _SERVER.format(kind=kind, engine_port=upstream.port, port=ports[kind])
        for kind, upstream in upstreams.items()
    )
    config = folder / "nginx.conf"
    config.write_text(_CONFIG.format(folder=folder, servers=servers), encoding="utf-8")
    process = start([binary, "-c", str(config), "-p", str(folder)], folder / "log")
    target = Target(NGINX, _version(binary), processes=[process])
    try:
        for kind, port in ports.items():
            wait_until_ok(process, port, "/health", 10)
            upstream = upstreams[kind]
            target.endpoints[kind] = Endpoint(
                port, upstream.model, upstream.engine_port, upstream.token_mark
            )
            target.measured[kind] = process.pid
    except TargetFailed:
        target.close()
        raise
    return target


def _install() -> str:
    """Return nginx's path after installing the distribution's package. Raises TargetFailed."""
    if program("apt-get") is not None:
        subprocess.run(["apt-get", "install", "-y", "-q", "nginx-light"], capture_output=True)
    found = program("nginx")
    if found is None:
        raise TargetFailed("not installed, and the package manager could not: install nginx")
    return found


def _version(binary: str) -> str:
    said = subprocess.run([binary, "-v"], capture_output=True, text=True).stderr
    return said.rpartition("/")[2].strip() or str(Path(binary))
