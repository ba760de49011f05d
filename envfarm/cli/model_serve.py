"""`envfarm model serve`: an OpenAI-compatible endpoint from a checkpoint."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from envfarm.errors import MissingToolError
from envfarm.model.bundled_model import BUNDLED, find_checkpoint

_GUESSED_ON_CUDA = 3
SERVE_EXAMPLE = "Example: envfarm model serve --model bundled --listen 127.0.0.1:8000"


def serve_command(  # noqa: PLR0913 -- a command's options
    *,
    model: Annotated[
        str, typer.Option(metavar="PATH|bundled", help="A checkpoint's folder, or the model inside the package.")
    ] = BUNDLED,
    tokenizer: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Its vocabulary, if that is not in the folder.")
    ] = None,
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Port 0 takes a free one.")] = "127.0.0.1:8000",
    name: Annotated[str | None, typer.Option(help="What requests call the model; the folder's name if absent.")] = None,
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    running: Annotated[int, typer.Option(min=1, help="Requests that generate at the same time.")] = 32,
    queue: Annotated[int, typer.Option(min=0, help="Requests that may wait; more are answered 429.")] = 64,
    kept: Annotated[int, typer.Option(min=0, help="Conversations kept for a later turn.")] = 32,
    context: Annotated[int, typer.Option(min=1, help="Most tokens of one request, answer included.")] = 32_768,
    capacity: Annotated[int, typer.Option(min=64, help="Tokens of all requests and kept conversations.")] = 65_536,
    chunk: Annotated[int, typer.Option(min=1, help="Most tokens of prompts in one step.")] = 512,
    draft: Annotated[int | None, typer.Option(min=0, help="Guessed by MTP blocks; absent: 3 on cuda, else 0.")] = None,
    kernels: Annotated[bool, typer.Option(help="Whether our kernels may run it on a CPU; else torch does.")] = True,
    patience: Annotated[
        int, typer.Option(min=1, help="Seconds for a client to send a request, and to take each part of an answer.")
    ] = 60,
    drain: Annotated[int, typer.Option(min=0, help="Seconds for answers under way when asked to end.")] = 30,
) -> None:
    """Serve a checkpoint to OpenAI's clients, on this machine only unless --listen says otherwise.

    Routes: /v1/chat/completions, /v1/completions, /v1/models, /health, /metrics. There is no authentication. SIGTERM
    and SIGINT end it when the answers under way are given. Exit code 2: a user's mistake.
    """
    try:
        from envfarm.model.engine.limits import EngineLimits
        from envfarm.model.server.process import ServerSettings, serve_model
    except ModuleNotFoundError as error:
        message = f"{error.name} is missing: pip install envfarm[model]"
        raise MissingToolError(message) from error
    limits = EngineLimits(
        running=running,
        kept_conversations=kept,
        capacity_tokens=capacity,
        context_tokens=context,
        chunk_tokens=chunk,
        draft_tokens=(_GUESSED_ON_CUDA if device == "cuda" else 0) if draft is None else draft,
        kernels=kernels,
    )
    settings = ServerSettings(
        model=find_checkpoint(model),
        tokenizer=tokenizer,
        listen=listen,
        name=name,
        dtype=dtype,
        device=device,
        limits=limits,
        queue_limit=queue,
        drain_seconds=drain,
        patience_seconds=patience,
    )
    serve_model(settings, _tell)


def _tell(address: str) -> None:
    sys.stdout.write(f"serving at {address}/v1\n")
    sys.stdout.flush()
