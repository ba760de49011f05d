"""Small Harbor tasks of another maker with services beside the box, and a listener of this machine."""

import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

OFFLINE = '[verifier]\ntimeout_sec = 60.0\n[environment]\nnetwork_mode = "no-network"\n'
COMPOSE = "environment/docker-compose.yaml"
_SERVE = """\
import http.server, os, pathlib
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = os.environ.get("ANSWER", "mended").encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)
        with open("/var/asked", "a") as asked:
            asked.write(self.path + "\\n")
    def log_message(self, *words):
        pass
pathlib.Path("/shared/up").write_text("up")
http.server.ThreadingHTTPServer(("", 80), Answer).serve_forever()
"""
ASK = """\
import sys, urllib.request
print(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode(), end="")
"""
REACH = """\
import socket, sys
for target in sys.argv[1:]:
    host, _, port = target.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
        print("reached", target)
    except ConnectionRefusedError:
        print("reached", target)
    except OSError as error:
        print("closed")
"""


def compose_files(base: str, document: Mapping[str, Any] | None = None) -> dict[str, str | None]:
    """Return the files of a task whose answer a service knows; services of a document replace."""
    check = ["CMD", "python3", "/opt/ask.py", "http://127.0.0.1/"]
    services: dict[str, Any] = {
        "main": {"depends_on": {"db": {"condition": "service_healthy"}}, "volumes": ["shared:/shared"]},
        "db": {
            "build": "./db",
            "volumes": ["shared:/shared"],
            "healthcheck": {"test": check, "interval": "200ms", "timeout": "5s", "retries": 20},
        },
    }
    document = {"services": services, "volumes": {"shared": None}, **(document or {})}
    recipe = f"FROM {base}\nCOPY ask.py reach.py /opt/\n"
    return {
        COMPOSE: json.dumps(document),
        "environment/Dockerfile": f"{recipe}WORKDIR /app\nRUN echo broken > value.txt\n",
        "environment/ask.py": ASK,
        "environment/reach.py": REACH,
        "environment/db/Dockerfile": f'{recipe}COPY serve.py /opt/\nCMD ["python3", "/opt/serve.py"]\n',
        "environment/db/ask.py": ASK,
        "environment/db/reach.py": REACH,
        "environment/db/serve.py": _SERVE,
        "solution/solve.sh": "#!/bin/sh\npython3 /opt/ask.py http://db/answer > value.txt\n",
    }


def merged(**services: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document with the usual two services and more keys of each, or more services."""
    document: dict[str, Any] = json.loads(compose_files("")[COMPOSE] or "")
    for name, table in services.items():
        document["services"][name] = {**document["services"].get(name, {}), **table}
    return document


@contextmanager
def listener() -> Iterator[int]:
    """Listen on every address of this machine; gives the port."""
    with socket.create_server(("0.0.0.0", 0)) as server:  # noqa: S104 -- that nobody inside may reach it is the test
        threading.Thread(target=_accept, args=(server,), daemon=True).start()
        yield int(server.getsockname()[1])
        server.shutdown(socket.SHUT_RDWR)


def _accept(server: socket.socket) -> None:
    while True:
        try:
            server.accept()[0].close()
        except OSError:
            return


def write_files(folder: Path, files: Mapping[str, str | None]) -> None:
    """Write files; None leaves out."""
    for name, text in files.items():
        if text is not None:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
