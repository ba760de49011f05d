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
_PROTOCOL, _PHASE = ("runner.py", "pytest_runtest_protocol"), ("runner.py", "call_and_report")
_SUBTESTS = (("unittest.py", "addSubTest"), ("subtests.py", "__exit__"))
EXPECTED = {
    "items": (("main.py", "perform_collect"), ("main.py", "_perform_collect")),
    "begin": (_PROTOCOL,),
    "raised": (_PHASE, *_SUBTESTS),
    "reported": (_PHASE, *_SUBTESTS),
    "finished": (_PROTOCOL,),
    "end": (("main.py", "wrap_session"),),
}
"""By event, the files of pytest and their functions that have it told."""


class CallerCheck:
    """Knows who may tell of what.

    Args:
        report_file: The file of the reporting plug-in.
        launch_file: The file of the program that was started.
        paths: Knows whose a file is.
    """

    def __init__(self, report_file, launch_file, paths):
        """Take them; pluggy and pytest are imported."""
        runner = os.path.dirname(sys.modules["_pytest"].__file__) + os.sep
        self.hooks = os.path.dirname(sys.modules["pluggy"].__file__) + os.sep
        self.expected = {step: {(runner + name, code) for name, code in places} for step, places in EXPECTED.items()}
        self.report_file, self.launch_file, self.paths, self.submitted = report_file, launch_file, paths, {}

    def unexpected(self, step, frame):
        """Return who told of an event, given the frame that did; None where it is who should."""
        if step not in self.expected:
            return None
        called = _above(frame, lambda name: name == self.report_file)
        if called is frame or called is None:
            return _named(step, frame)
        if step == "end" and called.f_code.co_filename == self.launch_file:
            return None
        caller = _above(called, lambda name: name.startswith(self.hooks))
        if caller is called or caller is None:
            return _named(step, called)
        stranger = self._stranger_below(caller)
        if stranger is not None:
            return _named(step, stranger)
        code = caller.f_code
        return None if (code.co_filename, code.co_name) in self.expected[step] else _named(step, caller)

    def _stranger_below(self, frame):
        """Return the first frame that is the submission's, or the lowest where the launcher's is not; None for none."""
        while not self._is_submitted(frame.f_code.co_filename):
            if frame.f_back is None:
                return None if frame.f_code.co_filename == self.launch_file else frame
            frame = frame.f_back
        return frame

    def _is_submitted(self, name):
        if name not in self.submitted:
            self.submitted[name] = self.paths.owner_of(name) == SUBMITTED
        return self.submitted[name]


def _above(frame, is_inside):
    """Return the first caller whose file is not inside; None where all are."""
    while frame is not None and is_inside(frame.f_code.co_filename):
        frame = frame.f_back
    return frame


def _named(step, frame):
    name = frame.f_code.co_filename
    shown = name[len(WORKSPACE) + 1 :] if name.startswith(WORKSPACE + os.sep) else "/".join(name.split(os.sep)[-2:])
    return "caller:{}:{}:{}".format(step, shown, frame.f_code.co_name)
