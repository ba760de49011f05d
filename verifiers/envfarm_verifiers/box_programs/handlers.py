"""Says which signals submitted code has put a handler on: it may interrupt whatever runs, the report's keeper included.

Setting a handler raises no audit event, and a handler is given the frame that it interrupts. So handlers are looked at
before the keeper does anything. Those of the environment and of test code are their own doing.

Standard library only, CPython 3.6 and newer.
"""

import _signal
import types
from functools import partial
from operator import is_

from path_owners import TEST, TRUSTED

_NUMBERS = tuple(range(1, _signal.NSIG))


def make_handler_check(paths, read=_signal.getsignal, numbers=_NUMBERS):
    """Return a function of nothing: the numbers of the signals that are newly handled by submitted code.

    Args:
        paths: Knows whose a file is.
        read: Returns the handler of a signal.
        numbers: The signals.
    """
    known = [list(map(read, numbers))]

    def newly_handled():
        now = list(map(read, numbers))
        before = known[0]
        if all(map(is_, now, before)):
            return ()
        known[0] = now
        changed = [place for place, handler in enumerate(now) if handler is not before[place]]
        return tuple([numbers[place] for place in changed if not _is_harmless(now[place], paths)])

    return newly_handled


def _is_harmless(handler, paths):
    """Say whether a handler is the system's, Python's, the environment's or of test code."""
    while type(handler) is partial:
        handler = handler.func
    if type(handler) is types.MethodType:
        handler = handler.__func__
    if handler is None or type(handler) is int or handler is _signal.default_int_handler:
        return True
    return type(handler) is types.FunctionType and paths.owner_of(handler.__code__.co_filename) in (TEST, TRUSTED)
