"""Clients that are broken or mean: each gets a clear answer or none, and everybody else what is theirs."""

import json
import shutil
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from envfarm.errors import CheckpointError
from envfarm.model.server.process import ServerSettings, serve_model

if TYPE_CHECKING:
    from tests.data.served_model import Served

HELLO: list[Any] = [{"role": "user", "content": "Hello, who are you?"}]


@pytest.fixture(scope="module")
def served(serving: ModuleType, checkpoint: Path) -> "Iterator[Served]":
    limits = ["--running", "4", "--queue", "8", "--context", "2048", "--kept", "0"]
    served = serving.start(checkpoint, *limits, "--patience", "2", "--drain", "3")
    yield served
    served.wait_for("open_requests", 0)
    served.wait_for("running_requests", 0)
    assert served.metric("used_blocks") == 0
    code, complaints = serving.end(served)
    assert code == 0
    assert "Traceback" not in complaints


def post(served: "Served", body: bytes, path: str = "/v1/chat/completions") -> tuple[int, str]:
    request = urllib.request.Request(served.address + path, data=body, method="POST")  # noqa: S310 -- our own server
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 -- as above
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())["error"]["message"]


def connect(served: "Served", content: bytes, receive_buffer: int | None = None) -> socket.socket:
    connection = socket.socket()
    if receive_buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.settimeout(60)
    host, port = served.address.removeprefix("http://").split(":")
    connection.connect((host, int(port)))
    connection.sendall(content)
    return connection


def request_of(body: dict[str, Any], path: str = "/v1/completions") -> bytes:
    content = json.dumps({"model": "tiny", **body}).encode()
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content


def chat(field: str) -> bytes:
    return b'{"model": "tiny", "max_tokens": 2, "messages": [{"role": "user", "content": "x"}], %s}' % field.encode()


def deep(depth: int) -> str:
    return '{"a":' * depth + "1" + "}" * depth


BODIES: dict[str, tuple[bytes, str]] = {
    "bytes that are no UTF-8": (b'{"model": "tiny", "messages": [{"role": "user", "content": "\xff"}]}', "utf-8"),
    "half a character": (b'{"model": "tiny", "messages": [{"role": "user", "content": "\\ud800"}]}', "cannot be read"),
    "the other half": (b'{"model": "tiny", "messages": [{"role": "user", "content": "\\udc00"}]}', "cannot be read"),
    "nested tools": (chat(f'"tools": [{{"function": {{"name": "f", "parameters": {deep(3_000)}}}}}]'), "recursion"),
    "a text without end": (
        json.dumps({"model": "tiny", "messages": [{"role": "user", "content": "x y" * 5_000_000}]}).encode(),
        "characters: that is more than 2,048 tokens, the longest that fits",
    ),
    "a tool without end": (
        chat(f'"tools": [{{"function": {{"name": "f", "parameters": {{"x": "{"x y" * 5_000_000}"}}}}}}]'),
        "characters: that is more than 2,048 tokens, the longest that fits",
    ),
    "no number": (chat('"temperature": NaN'), "cannot be read"),
    "infinity": (chat('"frequency_penalty": 1e999'), "cannot be read"),
    "tokens beyond all numbers": (chat(f'"logit_bias": {{"{10**30}": 1}}'), "logit_bias: a token is not one of"),
    "an image": (
        b'{"model": "tiny", "messages": [{"role": "user", "content": [{"type": "image_url"}]}]}',
        "messages[0]: a part of type 'image_url' cannot be read",
    ),
}


@pytest.mark.parametrize("name", BODIES)
def test_bodies_that_are_no_requests_are_refused_by_name(served: "Served", name: str) -> None:
    body, complaint = BODIES[name]
    started = time.monotonic()
    status, message = post(served, body)
    assert status == 400
    assert complaint in message
    assert time.monotonic() - started < 60
    assert served.metric("open_requests") == 0


@pytest.mark.parametrize("depth", [100, 800, 900, 950, 990, 1_000, 5_000])
def test_json_of_any_depth_is_answered(served: "Served", depth: int) -> None:
    """Where it can still be read, it must be possible to write it again."""
    arguments = json.dumps(deep(depth))
    call = f'{{"role": "assistant", "tool_calls": [{{"function": {{"name": "f", "arguments": {arguments}}}}}]}}'
    bodies = [
        f'{{"model": "tiny", "max_tokens": 2, "messages": [{call}, {{"role": "user"}}]}}'.encode(),
        chat(f'"tools": [{{"function": {{"name": "f", "parameters": {deep(depth)}}}}}]'),
        chat(f'"tools": [{{"function": {{"name": "f", "parameters": {deep(depth)}}}}}], "tool_choice": "required"'),
    ]
    for body in bodies:
        status, message = post(served, body)
        assert status in {200, 400}, message


def test_a_body_that_is_too_large_is_refused_before_it_comes(served: "Served") -> None:
    head = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n"
    with closing(connect(served, head)) as connection:
        assert connection.recv(4096).startswith(b"HTTP/1.1 413")
    chunks = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    with closing(connect(served, chunks)) as connection:
        part = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
        for _ in range(33):
            connection.sendall(part)
        assert connection.recv(4096).startswith(b"HTTP/1.1 413")


def test_a_client_that_does_not_end_its_body_is_told_so(served: "Served") -> None:
    head = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"
    with closing(connect(served, head)) as connection:
        assert connection.recv(4096).startswith(b"HTTP/1.1 408")


def test_a_client_that_does_not_read_loses_its_answer_and_blocks_nobody(served: "Served") -> None:
    def dropped() -> float:
        found = [line for line in served.read("/metrics").splitlines() if 'status="499"' in line and "_total" in line]
        return sum(float(line.split()[-1]) for line in found)

    before = dropped()
    body = {"prompt": "x", "max_tokens": 1_500, "n": 4, "stream": True, "ignore_eos": True, "logprobs": 20}
    with closing(connect(served, request_of(body), receive_buffer=4_096)):
        served.wait_for("running_requests", 4)
        served.wait_for("open_requests", 0)
        served.wait_for("used_blocks", 0)
        end = time.monotonic() + 20
        while dropped() == before:
            assert time.monotonic() < end
            time.sleep(0.1)


def test_cancelled_clients_leave_nothing_and_harm_nobody(served: "Served") -> None:
    """Streams, whole answers and several choices, left at once or in the middle, beside one who stays."""
    options: dict[str, Any] = {"model": "tiny", "prompt": "stay", "max_tokens": 300, "seed": 4, "temperature": 1}
    kept = {"return_token_ids": True, "ignore_eos": True}
    alone = served.client.completions.create(**options, extra_body=kept).choices[0]
    found: list[str] = []
    is_served = threading.Event()

    def stay() -> None:
        for part in served.client.completions.create(**options, stream=True, extra_body=kept):
            found.extend(choice.text for choice in part.choices)
            is_served.set()

    staying = threading.Thread(target=stay)
    staying.start()
    assert is_served.wait(20)

    def leave(number: int) -> None:
        body = {"prompt": "x" * (1 + number * 40), "max_tokens": 800, "ignore_eos": True}
        body |= {"stream": bool(number % 2), "n": 1 + number % 3, "prompt_cache_key": f"key {number % 4}"}
        with closing(connect(served, request_of(body))):
            time.sleep(0.05 * (number % 7))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(leave, range(40)))
    staying.join()
    assert "".join(found) == alone.text
    served.wait_for("open_requests", 0)
    served.wait_for("running_requests", 0)
    assert served.metric("used_blocks") == 0
    assert json.loads(served.read("/health"))["status"] == "ok"


@pytest.mark.parametrize(
    "content",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
    ],
    ids=["no HTTP", "a negative length", "a broken chunk", "a long header"],
)
def test_what_is_no_request_is_refused(served: "Served", content: bytes) -> None:
    with closing(connect(served, content)) as connection:
        assert connection.recv(4096).startswith(b"HTTP/1.1 4")
    assert json.loads(served.read("/health"))["status"] == "ok"


def test_the_server_ends_in_time_whoever_is_still_there(serving: ModuleType, checkpoint: Path) -> None:
    served = serving.start(checkpoint, "--drain", "2", "--patience", "60")
    body = {"prompt": "x", "max_tokens": 4_000, "n": 4, "stream": True, "ignore_eos": True, "logprobs": 20}
    head = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"
    with closing(connect(served, request_of(body), 4_096)), closing(connect(served, head)):
        served.wait_for("running_requests", 4)
        started = time.monotonic()
        served.process.send_signal(signal.SIGTERM)
        served.process.communicate(timeout=60)
    assert served.process.returncode == 0
    assert time.monotonic() - started < 40


def _edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **changes}))


def _put_nan(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-4:] = b"\x00\x00\xc0\x7f"
    path.write_bytes(content)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a truncated file": (
        lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-9]),
        "model.safetensors: it is truncated",
    ),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "no weights"),
    "another shape": (lambda f: _edit(f / "config.json", intermediate_size=50), r"misshapen: .*asked \[50, 32\]"),
    "a number that is none": (lambda f: _put_nan(f / "model.safetensors"), "numbers that are not finite"),
    "another architecture": (lambda f: _edit(f / "config.json", model_type="llama"), "'llama' is no architecture"),
    "no vocabulary": (lambda f: (f / "tokenizer.json").unlink(), r"tokenizer\.json: cannot be read"),
    "a broken vocabulary": (lambda f: (f / "tokenizer.json").write_text("{"), r"tokenizer\.json: it is not JSON"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_checkpoint_is_refused_before_anybody_is_served(checkpoint: Path, tmp_path: Path, name: str) -> None:
    damage, complaint = DAMAGES[name]
    shutil.copytree(checkpoint, tmp_path / "m")
    damage(tmp_path / "m")
    with pytest.raises(CheckpointError, match=complaint):
        serve_model(ServerSettings(model=tmp_path / "m", listen="127.0.0.1:0"), pytest.fail)
