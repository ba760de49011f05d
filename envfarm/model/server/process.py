"""The server's process: a model is loaded, a socket is bound, and the last answers are given before it ends."""

import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
import uvicorn

from envfarm.errors import SettingsError
from envfarm.model.checkpoint_reader import load_model
from envfarm.model.engine.engine import Engine
from envfarm.model.engine.limits import EngineLimits
from envfarm.model.server.app import make_app
from envfarm.model.tokenizer import load_tokenizer

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_DEVICES = ("cpu", "cuda")


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """How to serve.

    Attributes:
        model: A checkpoint's folder.
        tokenizer: Its vocabulary; None for the one in that folder.
        listen: `HOST:PORT`; port 0 takes a free one.
        name: What requests call the model; None for the folder's name.
        dtype: `float32` or `bfloat16`.
        device: Where the model is, `cpu` or `cuda`.
        limits: What the engine may use.
        queue_limit: How many requests may wait beside those that generate.
        drain_seconds: How long answers under way may take after the process was asked to end.
        patience_seconds: How long a client may take to send a request, and to take each part of an answer.
    """

    model: Path
    tokenizer: Path | None = None
    listen: str = "127.0.0.1:8000"
    name: str | None = None
    dtype: str = "float32"
    device: str = "cpu"
    limits: EngineLimits = field(default_factory=EngineLimits)
    queue_limit: int = 64
    drain_seconds: int = 30
    patience_seconds: int = 60


def serve_model(settings: ServerSettings, ready: Callable[[str], None]) -> None:
    """Serve until the process is asked to end (SIGTERM, SIGINT); answers under way are finished first.

    Args:
        settings: How.
        ready: Called with the address when clients may come.

    Raises:
        CheckpointError: The model or its vocabulary cannot be used.
        SettingsError: The address cannot be had, the dtype or the device is unknown, or there is no such device.
    """
    if settings.dtype not in _DTYPES:
        message = f"dtype: {settings.dtype!r} is none of {', '.join(_DTYPES)}"
        raise SettingsError(message)
    if settings.device not in _DEVICES:
        message = f"device: {settings.device!r} is none of {', '.join(_DEVICES)}"
        raise SettingsError(message)
    if settings.device == "cuda" and not torch.cuda.is_available():
        message = "device: there is no cuda device here; take cpu"
        raise SettingsError(message)
    listening = _bind(settings.listen)
    with listening:
        tokenizer = load_tokenizer(settings.tokenizer or settings.model)
        model = load_model(settings.model, dtype=_DTYPES[settings.dtype], device=settings.device)
        if tokenizer.size > model.config.vocab_size:
            message = f"the vocabulary has {tokenizer.size:,} tokens and the model {model.config.vocab_size:,}"
            raise SettingsError(message)
        engine = Engine(model, settings.limits, tokenizer.token_bytes)
        name = settings.name or settings.model.resolve().name
        app = make_app(
            engine, tokenizer, name, queue_limit=settings.queue_limit, patience_seconds=settings.patience_seconds
        )
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, timeout_graceful_shutdown=settings.drain_seconds
        )
        host, port = listening.getsockname()[:2]
        ready(f"http://{f'[{host}]' if ':' in host else host}:{port}")
        for number in (signal.SIGTERM, signal.SIGINT):
            # The server raises the signal once more when it is done; an end that was asked for is no failure.
            signal.signal(number, lambda *_: None)
        uvicorn.Server(config).run(sockets=[listening])


def _bind(listen: str) -> socket.socket:
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdecimal() or int(port) >= 1 << 16:
        message = f"listen: {listen!r} is not HOST:PORT"
        raise SettingsError(message)
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, int(port)), family=family)
    except OSError as error:
        message = f"listen: {listen} cannot be had: {error.strerror or error}"
        raise SettingsError(message) from error
