"""Decorators that do something more in each call: log, warn, take another thread, take longer, remember. PURE."""

import ast

from envfarm.audit.variants.purity import depends_on_nothing_else
from envfarm.audit.variants.source import Place, SourceFile
from envfarm.audit.variants.wrapping import Decorator

_OF_THREADS = frozenset(
    {
        "_thread",
        "asyncio",
        "contextvars",
        "curio",
        "decimal",
        "eventlet",
        "gevent",
        "greenlet",
        "multiprocessing",
        "signal",
        "sqlite3",
        "threading",
        "trio",
        "anyio",
        "tkinter",
        "twisted",
        "concurrent",
        "trace",
        "pdb",
        "bdb",
        "locale",
    }
)
"""Modules whose objects belong to a thread, or whose state does."""


def fits_a_thread(source: SourceFile, _place: Place) -> bool:
    """Return whether a module knows nothing of threads."""
    imported: set[str] = set()
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            imported.add((node.module or "").split(".")[0])
    return not imported & _OF_THREADS


LOGGED = Decorator(
    "_logged",
    '''
import functools as _functools
import logging as _logging

_call_log = _logging.getLogger("calls." + __name__)
_call_log.setLevel(_logging.DEBUG)
_call_log.propagate = False
_call_log.addHandler(_logging.NullHandler())


def _logged(function):
    """Note each call of a function in this module's log of calls."""

    @_functools.wraps(function)
    def call(*args, **kwargs):
        _call_log.debug("%s is called", function.__qualname__)
        return function(*args, **kwargs)

    return call
''',
)

WARNED = Decorator(
    "_announced",
    '''
import functools as _functools
import warnings as _warnings


def _announced(function):
    """Warn whoever calls a function that it may change, once somebody wants to hear it."""

    @_functools.wraps(function)
    def call(*args, **kwargs):
        with _warnings.catch_warnings():
            _warnings.simplefilter("ignore")
            _warnings.warn("this function may change", PendingDeprecationWarning, stacklevel=2)
        return function(*args, **kwargs)

    return call
''',
)

THREADED = Decorator(
    "_in_thread",
    '''
import concurrent.futures as _futures
import contextvars as _contextvars
import functools as _functools
import threading as _threading

_thread = _threading.local()


def _in_thread(function):
    """Run a function in a thread of its own, unless it is called from one."""

    @_functools.wraps(function)
    def call(*args, **kwargs):
        def run():
            _thread.inside = True
            return function(*args, **kwargs)

        if getattr(_thread, "inside", False):
            return function(*args, **kwargs)
        with _futures.ThreadPoolExecutor(max_workers=1) as pool:
            return pool.submit(_contextvars.copy_context().run, run).result()

    return call
''',
    fits_a_thread,
)

SLOWER = Decorator(
    "_thorough",
    '''
import functools as _functools
from time import perf_counter as _clock

_slowed = []


def _thorough(function):
    """Make a function take ten times as long, though at most five milliseconds more."""

    @_functools.wraps(function)
    def call(*args, **kwargs):
        if _slowed:
            return function(*args, **kwargs)
        _slowed.append(function)
        started = _clock()
        try:
            return function(*args, **kwargs)
        finally:
            now = _clock()
            end = now + min(9 * (now - started), 0.005)
            for _count in range(200000):
                if _clock() >= end:
                    break
            _slowed.pop()

    return call
''',
)

CACHED = Decorator(
    "_remembered",
    '''
import functools as _functools

_simple_types = (int, str, bytes, bool)


def _remembered(function):
    """Keep what a function makes of plain values, as long as that is a plain value too."""
    known = {}

    @_functools.wraps(function)
    def call(*args, **kwargs):
        given = args + tuple(kwargs.values())
        if not all(type(value) in _simple_types for value in given):
            return function(*args, **kwargs)
        key = (args, tuple(kwargs.items()), tuple(map(type, given)))
        if key not in known:
            result = function(*args, **kwargs)
            if type(result) not in _simple_types or len(known) >= 4096:
                return result
            known[key] = result
        return known[key]

    return call
''',
    depends_on_nothing_else,
)

TRACED = Decorator(
    "_traced",
    '''
import functools as _functools
import sys as _sys


def _traced(function):
    """Count the calls of a function."""

    @_functools.wraps(function)
    def call(*args, **kwargs):
        call.calls += 1
        return function(*args, **kwargs)

    call.calls = 0
    return call
''',
)
