"""Says who told the report of an event, where it is not the runner itself in the launcher's main thread.

The plug-in's hooks are called by pluggy, for one function of pytest each; nothing of the submission is below them on
the stack. Whoever calls a hook or the report himself, from a function, a thread or a finalizer, is told by his frames.
Plug-ins that run tests again have functions of their own there: the true fix's run shows them as well.

Standard library only, CPython 3.6 and newer.
"""

import os
import sys

from path_owners import SUBMITTED

WORKSPACE = os.environ.get("ENVFARM_WORKSPACE", "/workspace")
EXPECTED = {
    "items": (("main.py", "perform_collect"), ("main.py", "_perform_collect")),
    "raised": (("runner.py", "call_and_report"), ("unittest.py", "addSubTest"), ("subtests.py", "__exit__")),
    "end": (("main.py", "wrap_session"),),
}
"""By event, the files of pytest and their functions that have it told; without these three no test passes."""
_REPORT, _LAUNCHER, _HOOKS, _STRANGER, _OTHER = range(5)


def make_caller_check(report_file, launch_file, paths):
    """Return a function of an event and the frame that told of it: who that is, or None where it is who should.

    Args:
        report_file: The file of the reporting plug-in.
        launch_file: The file of the program that was started.
        paths: Knows whose a file is.
    """
    runner = os.path.dirname(sys.modules["_pytest"].__file__) + os.sep
    hooks = os.path.dirname(sys.modules["pluggy"].__file__) + os.sep
    expected = {step: frozenset((runner + name, code) for name, code in places) for step, places in EXPECTED.items()}
    kinds = _Kinds(report_file, launch_file, hooks, paths)
    stranger_below = _make_stack_check(kinds, runner + "main.py")

    def unexpected(step, frame):
        if step not in expected:
            return None
        called = frame
        while called is not None and kinds[called.f_code.co_filename] == _REPORT:
            called = called.f_back
        if called is None or called is frame:
            return _named(step, frame)
        if step == "end" and kinds[called.f_code.co_filename] == _LAUNCHER:
            return None
        caller = called
        while caller is not None and kinds[caller.f_code.co_filename] == _HOOKS:
            caller = caller.f_back
        if caller is None or caller is called:
            return _named(step, called)
        stranger = stranger_below(caller)
        if stranger is not None:
            return _named(step, stranger)
        code = caller.f_code
        return None if (code.co_filename, code.co_name) in expected[step] else _named(step, caller)

    return unexpected


class _Kinds(dict):
    """What a file is to the check, by its name; found out once for each."""

    def __init__(self, report_file, launch_file, hooks, paths):
        super().__init__({report_file: _REPORT, launch_file: _LAUNCHER})
        self.hooks, self.paths = hooks, paths

    def __missing__(self, name):
        kind = _HOOKS if name.startswith(self.hooks) else _OTHER
        self[name] = _STRANGER if self.paths.owner_of(name) == SUBMITTED else kind
        return self[name]


def _make_stack_check(kinds, main_file):
    """Return a function of a frame: the first one below it that is the submission's, or no thread's but another's.

    What is below a frame stays as long as it runs, so the stack below the session's loop is looked at once.
    """
    known = [None]

    def stranger_below(frame):
        loop, last = None, known[0]
        while frame is not last:
            code = frame.f_code
            if kinds[code.co_filename] == _STRANGER:
                return frame
            if code.co_name == "pytest_runtestloop" and code.co_filename == main_file:
                loop = frame
            if frame.f_back is None:
                if kinds[code.co_filename] != _LAUNCHER:
                    return frame
                break
            frame = frame.f_back
        if loop is not None:
            known[0] = loop
        return None

    return stranger_below


def _named(step, frame):
    name = frame.f_code.co_filename
    shown = name[len(WORKSPACE) + 1 :] if name.startswith(WORKSPACE + os.sep) else "/".join(name.split(os.sep)[-2:])
    return "caller:{}:{}:{}".format(step, shown, frame.f_code.co_name)
