"""Says where submitted code has asked to be called in the middle of whatever runs, the report's keeper included.

Setting a signal's handler or a callback of the garbage collector raises no audit event, and a handler is given the
frame that it interrupts. So both are looked at before the keeper does anything. Plain functions of the environment and
of test code are their own doing; what wraps another function (a closure, a partial, a method) may be anybody's.

Standard library only, CPython 3.6 and newer.
"""

import _signal
import gc
import types
from operator import is_

from path_owners import TEST, TRUSTED

_NUMBERS = tuple(range(1, _signal.NSIG))


def make_handler_check(paths, read=_signal.getsignal, numbers=_NUMBERS):
    """Return a function of nothing: names of the signals and callbacks that are newly taken by submitted code.

    Args:
        paths: Knows whose a file is.
        read: Returns the handler of a signal.
        numbers: The signals.
    """
    callbacks = gc.callbacks
    known = [list(map(read, numbers)), list(callbacks)]

    def newly_handled():
        now, called = list(map(read, numbers)), list(callbacks)
        before, called_before = known
        if all(map(is_, now, before)) and len(called) == len(called_before) and all(map(is_, called, called_before)):
            return ()
        known[:] = now, called
        changed = [place for place, handler in enumerate(now) if handler is not before[place]]
        named = ["signal:{}".format(numbers[place]) for place in changed if not _is_harmless(now[place], paths)]
        new = [one for one in called if not any(map(is_, called_before, [one] * len(called_before)))]
        strange = [one for one in new if not _is_harmless(one, paths)]
        return tuple(named + ["gc:callback"] * bool(strange))

    return newly_handled


def _is_harmless(handler, paths):
    """Say whether a handler is the system's, Python's, the environment's or of test code."""
    if handler is None or type(handler) is int or handler is _signal.default_int_handler:
        return True
    if type(handler) is not types.FunctionType:
        return False
    owner = paths.owner_of(handler.__code__.co_filename)
    return owner == TEST or (owner == TRUSTED and handler.__closure__ is None and not hasattr(handler, "__wrapped__"))
