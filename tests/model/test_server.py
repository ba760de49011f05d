"""The server as a process of its own, talked to by OpenAI's own client."""

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import openai
import pytest

from envfarm.model.chat import Message, Role
from envfarm.model.chat_template import render_conversation
from envfarm.model.checkpoint_reader import load_model
from envfarm.model.engine.engine import Engine
from envfarm.model.engine.limits import EngineLimits
from envfarm.model.engine.request import Request, Sampling
from envfarm.model.tokenizer import Tokenizer

if TYPE_CHECKING:
    from tests.data.served_model import Served

HELLO: list[Any] = [{"role": "user", "content": "Hello, who are you?"}]


@pytest.fixture(scope="module")
def served(serving: ModuleType, checkpoint: Path) -> "Iterator[Served]":
    served = serving.start(checkpoint, "--running", "4", "--queue", "4", "--context", "2048")
    yield served
    assert serving.end(served) == (0, "")


def generate(checkpoint: Path, tokenizer: Tokenizer, prompt: list[int], most_tokens: int, seed: int) -> list[int]:
    """Generate in this process."""
    engine = Engine(load_model(checkpoint), EngineLimits(), tokenizer.token_bytes)
    request = Request(
        prompt=tuple(prompt), most_tokens=most_tokens, sampling=Sampling(seed=seed), stop_tokens=tokenizer.end_tokens
    )
    engine.submit(request)
    found = []
    while engine.has_work:
        found += [token.token for progress in engine.step() for token in progress.tokens]
    return found


def test_models_are_listed(served: "Served") -> None:
    (model,) = served.client.models.list().data
    assert (model.id, model.owned_by) == ("tiny", "envfarm")
    assert json.loads(served.read("/health"))["status"] == "ok"


def test_a_completion_is_the_engines(served: "Served", checkpoint: Path, tokenizer: Tokenizer) -> None:
    answer = served.client.completions.create(
        model="tiny", prompt="def main", max_tokens=20, seed=5, logprobs=2, extra_body={"return_token_ids": True}
    )
    prompt = tokenizer.encode("def main")
    expected = generate(checkpoint, tokenizer, prompt, 20, 5)
    (choice,) = answer.choices
    assert choice.model_extra is not None
    assert choice.model_extra["token_ids"] == expected
    assert choice.text == tokenizer.decode(token for token in expected if token not in tokenizer.end_tokens)
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (len(prompt), len(expected))
    assert choice.logprobs is not None
    assert choice.logprobs.token_logprobs is not None
    assert len(choice.logprobs.token_logprobs) == len(expected)
    assert all(value is not None and value <= 0 for value in choice.logprobs.token_logprobs)


def test_tokens_may_be_given_instead_of_text(served: "Served", tokenizer: Tokenizer) -> None:
    options: dict[str, Any] = {"model": "tiny", "max_tokens": 10, "temperature": 0}
    by_text = served.client.completions.create(prompt="def main", **options)
    by_tokens = served.client.completions.create(prompt=tokenizer.encode("def main"), **options)
    assert by_text.choices[0].text == by_tokens.choices[0].text


@pytest.mark.parametrize("thinking", [True, False])
def test_a_stream_joined_is_the_whole_answer(served: "Served", *, thinking: bool) -> None:
    for seed in range(6):
        options: dict[str, Any] = {
            "model": "tiny",
            "messages": HELLO,
            "seed": seed,
            "max_tokens": 40,
            "logprobs": True,
            "top_logprobs": 2,
            "extra_body": {"chat_template_kwargs": {"enable_thinking": thinking}},
        }
        whole = served.client.chat.completions.create(**options)
        chunks = list(
            served.client.chat.completions.create(stream=True, stream_options={"include_usage": True}, **options)
        )
        parts = [choice for chunk in chunks for choice in chunk.choices]
        message = whole.choices[0].message
        assert "".join(part.delta.content or "" for part in parts) == (message.content or "")
        reasoning = "".join((part.delta.model_extra or {}).get("reasoning_content", "") for part in parts)
        assert reasoning == ((message.model_extra or {})["reasoning_content"] or "")
        assert [part.finish_reason for part in parts if part.finish_reason] == [whole.choices[0].finish_reason]
        assert chunks[-1].usage == whole.usage
        logprobs = whole.choices[0].logprobs
        assert logprobs is not None
        told = [entry for part in parts if part.logprobs for entry in part.logprobs.content or ()]
        assert told == logprobs.content
        assert whole.usage is not None
        assert len(told) == whole.usage.completion_tokens


def test_offsets_of_a_stream_go_on_from_chunk_to_chunk(served: "Served") -> None:
    options: dict[str, Any] = {"model": "tiny", "prompt": "def main", "max_tokens": 30, "seed": 3, "logprobs": 1}
    whole = served.client.completions.create(**options).choices[0].logprobs
    assert whole is not None
    chunks = served.client.completions.create(stream=True, **options)
    parts = [choice.logprobs for chunk in chunks for choice in chunk.choices if choice.logprobs]
    offsets = [offset for part in parts for offset in part.text_offset or ()]
    assert offsets == whole.text_offset
    assert offsets[0] == 0
    assert offsets[-1] > 0
    assert [token for part in parts for token in part.tokens or ()] == whole.tokens


def test_an_answer_ends_with_a_stop_token_that_was_asked_for(served: "Served", tokenizer: Tokenizer) -> None:
    options: dict[str, Any] = {"model": "tiny", "prompt": "def main", "max_tokens": 20, "seed": 5}
    told = {"return_token_ids": True, "ignore_eos": True}
    (whole,) = served.client.completions.create(**options, extra_body=told).choices
    tokens = (whole.model_extra or {})["token_ids"]
    stop = next(token for token in tokens[3:] if token not in tokens[:3])
    end = tokens.index(stop)
    (choice,) = served.client.completions.create(**options, extra_body={**told, "stop_token_ids": [stop]}).choices
    assert (choice.model_extra or {})["token_ids"] == tokens[: end + 1]
    assert (choice.finish_reason, choice.text) == ("stop", tokenizer.decode(tokens[:end]))


def test_routed_experts_come_as_bytes(served: "Served") -> None:
    answer = served.client.chat.completions.create(
        model="tiny", messages=HELLO, max_tokens=7, seed=1, extra_body={"return_routed_experts": True}
    )
    assert answer.usage is not None
    assert answer.model_extra is not None
    told = answer.model_extra["sglext"]
    shape = told["routed_experts_shape"]
    assert shape == [answer.usage.total_tokens - 1, 3, 2]
    experts = base64.b64decode(told["routed_experts"])
    assert len(experts) == shape[0] * 3 * 2
    assert max(experts) == 3
    late = served.client.chat.completions.create(
        model="tiny",
        messages=HELLO,
        max_tokens=7,
        seed=1,
        extra_body={"return_routed_experts": True, "routed_experts_start_len": 10},
    )
    assert late.model_extra is not None
    assert base64.b64decode(late.model_extra["sglext"]["routed_experts"]) == experts[10 * 6 :]


def test_later_turns_go_on_from_the_tokens_of_before(served: "Served", tokenizer: Tokenizer) -> None:
    messages: list[Any] = list(HELLO)
    known: list[int] = []
    for turn in range(4):
        answer = served.client.chat.completions.create(
            model="tiny",
            messages=messages,
            max_tokens=12,
            seed=turn,
            extra_body={
                "prompt_cache_key": "talk",
                "return_token_ids": True,
                "chat_template_kwargs": {"enable_thinking": False},
            },
        )
        assert answer.model_extra is not None
        assert answer.choices[0].model_extra is not None
        assert answer.usage is not None
        assert answer.usage.prompt_tokens_details is not None
        prompt = answer.model_extra["prompt_token_ids"]
        assert prompt[: len(known)] == known
        assert answer.usage.prompt_tokens_details.cached_tokens == max(len(known) - 1, 0)
        known = prompt + answer.choices[0].model_extra["token_ids"]
        messages += [answer.choices[0].message.model_dump(), {"role": "user", "content": f"turn {turn}"}]


def test_tools_reach_the_prompt(served: "Served", tokenizer: Tokenizer) -> None:
    tool = {"type": "function", "function": {"name": "bash", "parameters": {"type": "object"}}}
    answer = served.client.chat.completions.create(
        model="tiny", messages=HELLO, tools=[tool], max_tokens=3, extra_body={"return_token_ids": True}
    )
    assert answer.model_extra is not None
    assert "<name>bash</name>" in tokenizer.decode(answer.model_extra["prompt_token_ids"])
    plain = tokenizer.encode_pieces(render_conversation([Message(role=Role.USER, content=HELLO[0]["content"])]))
    answer = served.client.chat.completions.create(
        model="tiny",
        messages=HELLO,
        tools=[tool],
        tool_choice="none",
        max_tokens=3,
        extra_body={"return_token_ids": True},
    )
    assert answer.model_extra is not None
    assert answer.model_extra["prompt_token_ids"] == plain


BAD: list[tuple[dict[str, Any], str]] = [
    ({"messages": []}, "messages: there is none"),
    ({"messages": [{"role": "wizard", "content": "x"}]}, "role"),
    ({"messages": [*HELLO, {"role": "system", "content": "x"}]}, r"messages\[1\]: a system message"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "'image_url' cannot be read"),
    ({"max_tokens": 5000}, "the answer may have 5,000"),
    ({"max_tokens": 0}, "at least one token"),
    ({"n": 9}, "n has to be from 1 to 8"),
    ({"n": 0}, "n has to be from 1 to 8"),
    ({"presence_penalty": 2.5}, "presence_penalty has to be from -2 to 2"),
    ({"frequency_penalty": -3}, "frequency_penalty has to be from -2 to 2"),
    ({"extra_body": {"repetition_penalty": 0}}, "repetition_penalty has to be from 0.1 to 10"),
    ({"stop": ["x"] * 17}, "at most 1,024 characters: 17 are given"),
    ({"stop": "x" * 1_025}, "the longest with 1,025"),
    ({"extra_body": {"min_p": 0.2}}, "min_p: 0.2 is not built"),
    ({"extra_body": {"guided_json": {}}}, "guided_json: {} is not built"),
    ({"logit_bias": {"5": 101}}, "a logit_bias has to be from -100 to 100"),
    ({"logit_bias": {"400": 1}}, "logit_bias: a token is not one of the 400"),
    ({"logit_bias": {"word": 1}}, "logit_bias"),
    ({"temperature": -1}, "temperature has to be"),
    ({"top_logprobs": 3}, "it needs logprobs"),
    ({"logprobs": True, "top_logprobs": 30}, "from 0 to 20"),
    ({"tool_choice": "required"}, "tool_choice: a call is asked for, and no tools are declared"),
    ({"messages": [{"role": "user", "content": "word " * 3000}]}, "more than 2,048, the longest that fits"),
    (
        {
            "messages": [
                *HELLO,
                {
                    "role": "assistant",
                    "tool_calls": [{"id": "", "type": "function", "function": {"name": "f", "arguments": "["}}],
                },
            ]
        },
        r"messages\[1\]: the arguments of f are no JSON object",
    ),
]


@pytest.mark.parametrize(("change", "complaint"), BAD)
def test_a_bad_request_is_answered_by_what_is_wrong(served: "Served", change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(openai.BadRequestError, match=complaint):
        served.client.chat.completions.create(**{"model": "tiny", "messages": HELLO, "max_tokens": 2, **change})
    assert served.metric("open_requests") == 0


def test_another_model_is_not_here(served: "Served") -> None:
    with pytest.raises(openai.NotFoundError, match="'tiny' is"):
        served.client.completions.create(model="gpt", prompt="x")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"model": 5}', b"\xff", b'{"a":' * 100_000])
def test_a_body_that_is_no_request_is_refused(served: "Served", body: bytes) -> None:
    request = urllib.request.Request(f"{served.address}/v1/completions", data=body, method="POST")  # noqa: S310 -- our own server
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=20)  # noqa: S310 -- as above
    with caught.value as error:
        assert error.code == 400
        assert "the body cannot be read" in json.loads(error.read())["error"]["message"]


@pytest.mark.parametrize("streamed", [True, False])
def test_a_client_that_goes_away_frees_its_memory(served: "Served", *, streamed: bool) -> None:
    served.wait_for("open_requests", 0)
    blocks = served.metric("used_blocks")
    body = json.dumps(
        {"model": "tiny", "prompt": "x" * 200, "max_tokens": 1500, "stream": streamed, "ignore_eos": True}
    )
    host, port = served.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall((head + body).encode())
        if streamed:
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        served.wait_for("running_requests", 1)
        generated = served.metric("generated_tokens")
    served.wait_for("open_requests", 0)
    served.wait_for("running_requests", 0)
    assert served.metric("used_blocks") == blocks
    assert served.metric("generated_tokens") - generated < 1400


def test_a_full_queue_is_told_at_once(served: "Served") -> None:
    served.wait_for("open_requests", 0)
    streams = [
        served.client.completions.create(
            model="tiny", prompt="x", max_tokens=1900, stream=True, extra_body={"ignore_eos": True}
        )
        for _ in range(8)
    ]
    with pytest.raises(openai.RateLimitError) as caught:
        served.client.completions.create(model="tiny", prompt="x", max_tokens=1)
    assert caught.value.response.headers["Retry-After"] == "1"
    for stream in streams:
        stream.close()
    served.wait_for("open_requests", 0)
    assert served.client.completions.create(model="tiny", prompt="x", max_tokens=1).choices


def test_many_clients_at_once_get_what_each_gets_alone(served: "Served") -> None:
    def ask(seed: int) -> str:
        return (
            served.client.completions.create(model="tiny", prompt="x" * seed, max_tokens=30, seed=seed).choices[0].text
        )

    alone = {seed: ask(seed) for seed in range(1, 8)}
    found: dict[int, str] = {}
    threads = [threading.Thread(target=lambda seed=seed: found.update({seed: ask(seed)})) for seed in alone]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == alone


def test_answers_under_way_are_finished_before_the_end(serving: ModuleType, checkpoint: Path) -> None:
    served = serving.start(checkpoint)
    stream = served.client.completions.create(
        model="tiny", prompt="x", max_tokens=400, stream=True, extra_body={"ignore_eos": True}
    )
    first = next(stream)
    served.process.send_signal(signal.SIGTERM)
    parts = [first, *stream]
    assert parts[-1].choices[0].finish_reason == "length"
    _, complaints = served.process.communicate(timeout=60)
    assert (served.process.returncode, complaints) == (0, "")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--listen", "nowhere"], "'nowhere' is not HOST:PORT"),
        (["--listen", "192.0.2.1:0"], "192.0.2.1:0 cannot be had"),
        (["--dtype", "int4"], "'int4' is none of float32, bfloat16"),
        (["--device", "tpu"], "'tpu' is none of cpu, cuda"),
        (["--device", "cuda:banana"], "'cuda:banana' is none of cpu, cuda"),
        (["--device", "cuda"], "device: there is no cuda device here"),
        (["--tokenizer", "missing.json"], "missing.json: cannot be read"),
        (["--model", "missing"], "missing"),
    ],
)
def test_a_server_that_cannot_start_says_why(checkpoint: Path, options: list[str], complaint: str) -> None:
    command = [sys.executable, "-c", "from envfarm.cli.main import main; main()", "model", "serve"]
    command += ["--model", str(checkpoint), "--listen", "127.0.0.1:0", *options]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=checkpoint.parent, timeout=60, env=environment
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert complaint in done.stderr
    assert done.stderr.count("\n") == 1


def test_without_the_extra_serving_says_what_to_install(checkpoint: Path) -> None:
    program = "import sys; sys.modules['torch'] = None\nfrom envfarm.cli.main import main; main()"
    command = [sys.executable, "-c", program, "model", "serve", "--model", str(checkpoint)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "envfarm: torch is missing: pip install envfarm[model]\n"
