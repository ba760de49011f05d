"""Writes records down the report's descriptor: one JSON line each, with the run's nonce.

Descriptor and nonce stand in the frames of suspended generators and nowhere else. What is handed out are their `send`
methods; whoever reads the frames behind them is told by audit_hook.py, handlers.py or the pipe itself before he can
write, and what is told cannot be taken back. Each pipe writes records of its own kinds only: who finds one can say with
it what its owner says, and no more.

Standard library only, CPython 3.6 and newer. What is needed is captured when this is imported, before anything of the
workspace can be.
"""

import os
from json.encoder import encode_basestring_ascii

_PRIVATE_DESCRIPTOR = 700
_SIDE_BY_SIDE = 8
_THROWN = '{"kind":"problem","text":"an error was thrown into what writes the report"}'
_UNWRITTEN = '{"kind":"problem","text":"a record could not be written"}'


def json_text(value, quote=encode_basestring_ascii, kind=type, whole=int.__repr__, real=float.__repr__):
    """Return the JSON text of None, flags, numbers, texts, lists, tuples and dictionaries; of all else null."""
    of = kind(value)
    if of is _TEXT:
        return quote(value)
    if value is True or value is False:
        return "true" if value else "false"
    if of is _WHOLE:
        return whole(value)
    if of is _REAL:
        return real(value) if value - value == 0.0 else "null"
    if of is _LIST or of is _TUPLE:
        return "[" + ",".join([json_text(item) for item in value]) + "]"
    if of is _DICT:
        return "{" + ",".join([quote(key) + ":" + json_text(item) for key, item in value.items()]) + "}"
    return "null"


_TEXT, _WHOLE, _REAL, _LIST, _TUPLE, _DICT = str, int, float, list, tuple, dict


def move_descriptor(number):
    """Move a descriptor away from where programs look for it; children do not inherit it. Return its new number."""
    try:
        moved = os.dup2(number, _PRIVATE_DESCRIPTOR, inheritable=False) or _PRIVATE_DESCRIPTOR
    except OSError:
        os.set_inheritable(number, False)  # noqa: FBT003 -- the parameter is positional only
        return number
    os.close(number)
    return moved


def open_report(descriptor, nonce):
    """Return a function that makes pipes: given the kinds that one may write, it returns the function of a record.

    A forked child writes nothing, and nobody anything after the end.
    """
    tail = (',"nonce":' + json_text(nonce) + "}\n").encode("ascii")
    ended = []

    def new_pipe(*kinds):
        pipe = _pipe(descriptor, tail, frozenset(kinds), ended)
        next(pipe)
        return pipe.send

    return new_pipe


def _pipe(descriptor, tail, kinds, ended, write=os.write, process_of=os.getpid, text_of=json_text):
    process = process_of()
    while True:
        try:
            record = yield
        except GeneratorExit:
            raise
        except BaseException:  # noqa: BLE001 -- nobody honest throws: the line says so, whoever has this pipe
            write(descriptor, _THROWN[:-1].encode("ascii") + tail)
            continue
        if ended or process_of() != process or type(record) is not dict or record.get("kind") not in kinds:
            continue
        if record["kind"] == "end":
            ended.append(True)
        try:
            text = text_of(record)
        except (RecursionError, MemoryError):
            text = _UNWRITTEN
        data = text[:-1].encode("ascii") + tail
        while data:
            data = data[write(descriptor, data) :]


def for_threads(new_pipe, *kinds):
    """Return a function of a record that several threads may call at once; a pipe serves one at a time."""
    pipes = tuple([new_pipe(*kinds) for _ in range(_SIDE_BY_SIDE)])

    def write(record):
        for pipe in pipes:
            try:
                return pipe(record)
            except ValueError:  # it is writing another thread's record
                continue
        raise RuntimeError("too many threads report at once")

    return write
