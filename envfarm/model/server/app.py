"""The routes. A client that goes away cancels its request; a bad request is answered and hurts nobody else."""

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from http import HTTPStatus

import anyio
import anyio.to_thread
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from envfarm.errors import EngineBusyError, RequestRefusedError
from envfarm.model.engine.engine import Engine
from envfarm.model.engine.engine_thread import run_engine
from envfarm.model.server.answering import AnswerFailedError
from envfarm.model.server.bodies import Body, ChatBody, CompletionBody, parse_body
from envfarm.model.server.chat_answer import ChatAnswer
from envfarm.model.server.completion_answer import CompletionAnswer
from envfarm.model.server.conversations import Conversations
from envfarm.model.server.metrics import Metrics
from envfarm.model.server.patience import Patience
from envfarm.model.server.responses import Json, error_json
from envfarm.model.server.service import Service
from envfarm.model.tokenizer import Tokenizer

MOST_BODY_BYTES = 32 * 1024 * 1024
_RETRY_SECONDS = 1
Answer = ChatAnswer | CompletionAnswer


class _BodyTooLongError(Exception):
    """The client sends more than is read."""


class _BodyTooSlowError(Exception):
    """The client does not come to the end of its body."""


def make_app(
    engine: Engine, tokenizer: Tokenizer, name: str, *, queue_limit: int, patience_seconds: float
) -> Starlette:
    """Return the server's application; the engine runs as long as its lifespan.

    Args:
        engine: Nobody else may drive it.
        tokenizer: The model's vocabulary.
        name: What the model is called; requests have to name it.
        queue_limit: How many requests may wait beside those that generate; more are answered 429.
        patience_seconds: How long a client may take to send a request, and to take each part of an answer.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with run_engine(engine, queue_limit=queue_limit) as running:
            app.state.service = Service(name, running, tokenizer, Conversations(engine.limits.kept_conversations))
            app.state.metrics = Metrics(running)
            app.state.patience_seconds = patience_seconds
            yield

    return Starlette(
        routes=[
            Route("/v1/chat/completions", _answer_route(ChatBody, ChatAnswer), methods=["POST"]),
            Route("/v1/completions", _answer_route(CompletionBody, CompletionAnswer), methods=["POST"]),
            Route("/v1/models", _models, methods=["GET"]),
            Route("/health", _health, methods=["GET"]),
            Route("/metrics", _metrics, methods=["GET"]),
        ],
        middleware=[Middleware(Patience, patience_seconds)],
        lifespan=lifespan,
    )


def _answer_route(
    kind: type[Body], answer: Callable[[Service, Body], Answer]
) -> Callable[[Request], Awaitable[Response]]:
    async def respond(request: Request) -> Response:
        started, route = time.monotonic(), request.url.path
        metrics: Metrics = request.app.state.metrics

        def note(status: int) -> None:
            metrics.answers.labels(route, str(status)).inc()
            metrics.seconds.labels(route).observe(time.monotonic() - started)

        response = await _respond(request, kind, answer, note)
        if not isinstance(response, StreamingResponse):
            note(response.status_code)
        return response

    return respond


async def _respond(
    request: Request,
    kind: type[Body],
    answer: Callable[[Service, Body], Answer],
    note: Callable[[int], None],
) -> Response:
    service: Service = request.app.state.service
    try:
        body = parse_body(await _read_body(request), kind)
        if body.model != service.name:
            return _refusal(
                HTTPStatus.NOT_FOUND, f"model: {body.model!r} is not here, {service.name!r} is", "model_not_found"
            )
        under_way = await anyio.to_thread.run_sync(answer, service, body)  # a long prompt takes long to become tokens
        if body.stream:
            return await _stream(under_way, note)
        return await _whole(request, under_way)
    except RequestRefusedError as error:
        return _refusal(HTTPStatus.BAD_REQUEST, str(error), "invalid_request")
    except _BodyTooLongError:
        return _refusal(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body has more than {MOST_BODY_BYTES:,} bytes", "too_long"
        )
    except _BodyTooSlowError:
        return _refusal(HTTPStatus.REQUEST_TIMEOUT, "the body did not come in time", "too_slow")
    except EngineBusyError as error:
        response = _refusal(HTTPStatus.TOO_MANY_REQUESTS, str(error), "engine_busy")
        response.headers["Retry-After"] = str(_RETRY_SECONDS)
        return response
    except AnswerFailedError as error:
        return JSONResponse(error_json(str(error), "server_error"), HTTPStatus.INTERNAL_SERVER_ERROR)
    except ClientDisconnect:
        return Response(status_code=499)  # nobody reads it: the client went away


async def _read_body(request: Request) -> bytes:
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > MOST_BODY_BYTES:
        raise _BodyTooLongError
    content = bytearray()
    with anyio.move_on_after(request.app.state.patience_seconds):
        async for part in request.stream():
            content += part
            if len(content) > MOST_BODY_BYTES:
                raise _BodyTooLongError
        return bytes(content)
    raise _BodyTooSlowError


async def _whole(request: Request, answer: Answer) -> Response:
    """Return the answer; a client that goes away meanwhile cancels it."""
    found: Json | None = None
    failure: EngineBusyError | AnswerFailedError | None = None
    async with anyio.create_task_group() as tasks:

        async def watch() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                continue
            tasks.cancel_scope.cancel()

        tasks.start_soon(watch)
        try:
            found = await answer.whole()
        except (EngineBusyError, AnswerFailedError) as error:
            failure = error  # raised here it would come out in a group
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure
    if found is None:
        raise ClientDisconnect
    return JSONResponse(found)


async def _stream(answer: Answer, note: Callable[[int], None]) -> Response:
    """Return a stream that has begun: what can be refused is refused before it begins."""
    parts = answer.parts()
    first = await anext(parts)

    async def events() -> AsyncIterator[str]:
        status = 499
        try:
            async with aclosing(parts):
                yield _event(first)
                async for part in parts:
                    yield _event(part)
            status = HTTPStatus.OK
        except AnswerFailedError as error:
            status = HTTPStatus.INTERNAL_SERVER_ERROR
            yield _event(error_json(str(error), "server_error"))
        finally:
            note(int(status))
        yield "data: [DONE]\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


def _event(content: Json) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"


def _refusal(status: HTTPStatus, message: str, code: str) -> Response:
    return JSONResponse(error_json(message, "invalid_request_error", code), status)


async def _models(request: Request) -> Response:
    service: Service = request.app.state.service
    limit = service.engine.engine.context_tokens
    entry = {"id": service.name, "object": "model", "created": service.created, "owned_by": "envfarm"}
    return JSONResponse({"object": "list", "data": [{**entry, "max_model_len": limit}]})


async def _health(request: Request) -> Response:
    service: Service = request.app.state.service
    status = HTTPStatus.OK if service.engine.is_running else HTTPStatus.SERVICE_UNAVAILABLE
    word = "ok" if service.engine.is_running else "stopped"
    return JSONResponse({"status": word, "open_requests": service.engine.open_requests}, status)


async def _metrics(request: Request) -> Response:
    metrics: Metrics = request.app.state.metrics
    return Response(metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")
