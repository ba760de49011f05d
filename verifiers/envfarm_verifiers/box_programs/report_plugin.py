"""The pytest plug-in that tells what happens in a session, inside a box; the record of it is kept elsewhere.

Standard library only, CPython 3.6 and newer, pytest 4 and newer. It holds no state that decides: each hook tells of one
event, and `session_record.py` makes of them what goes out.
"""

import hashlib
import os
import random
import signal
import threading
import time
from types import CodeType

WORKSPACE = os.environ.get("ENVFARM_WORKSPACE", "/workspace")
MESSAGE_LIMIT = 4000
_LAST_SECONDS = 2.0
_SOON_SECONDS = 0.01
_PRINTED_LINES = 30
_PRINTED_WIDTH = 200
_MOST_WRAPPERS = 20
_OWN_FOLDER = os.path.dirname(os.path.abspath(__file__)) + os.sep


class TestTimeoutError(BaseException):
    """A test took longer than it may; no test catches it by catching Exception."""

    __test__ = False


class Reporter:
    """Tells of one session; also shuffles, selects, limits times and stops early as the job asks."""

    def __init__(self, job, tell):
        """Take the job, and what is told of events."""
        self.tell = tell
        self.limit = float(job.get("test_timeout_seconds") or 0)
        self.seed = job.get("order_seed")
        self.only = frozenset(job.get("only_ids") or ())
        self.definitions = frozenset(job.get("only_definitions") or ())
        self.neutral = bool(job.get("light"))
        self.owner = os.getpid()
        self.session = None

    def end(self, status):
        """Tell of the session's end, once; the process does not outlive it by much."""
        if self.tell(("end", int(status))) and os.getpid() == self.owner:
            leaver = threading.Thread(target=_leave, args=(int(status),))
            leaver.daemon = True
            leaver.start()

    def pytest_plugin_registered(self, plugin, manager):
        """Let the snapshot see who implements hooks before anything of the workspace can."""
        self.tell(("registered", manager))

    def pytest_make_parametrize_id(self, config, val, argname):
        """Name parameter sets by their place in a small run: an id made of values would tell what was altered."""
        return argname if self.neutral else None

    def pytest_collection_modifyitems(self, session, config, items):
        """Select and shuffle: files, then classes in files, then functions in classes."""
        self.session = session
        if self.only:
            chosen = [item for item in items if item.nodeid in self.only]
            items[:] = chosen
        if self.definitions:
            items[:] = [item for item in items if definition_of(item.nodeid) in self.definitions]
        if self.seed is not None:
            _shuffle(items, random.Random(self.seed))
        self.tell(("items", list(items), [(item.nodeid, origin_of(item)) for item in items]))

    def pytest_collectreport(self, report):
        """Tell of a file that could not be collected, or was skipped whole."""
        if report.failed:
            self.tell(("uncollected", "collect_error", report.nodeid, _tail(report.longrepr)))
        elif report.skipped:
            self.tell(("uncollected", "collect_skip", report.nodeid, ""))

    def pytest_runtest_logstart(self, nodeid, location):
        """Tell that a test begins."""
        self.tell(("begin", nodeid))

    def pytest_runtest_setup(self, item):
        """Start the clock of a test: set-up counts."""
        if self.limit and hasattr(signal, "SIGALRM"):
            signal.signal(signal.SIGALRM, _raise_timeout)
            signal.setitimer(signal.ITIMER_REAL, self.limit)

    def pytest_runtest_makereport(self, item, call):
        """Tell what a phase raised, and the code of the test's function as it is now; makes no report."""
        error = _name_of(call.excinfo.type) if call.excinfo is not None else None
        self.tell(("raised", item.nodeid, call.when, error, code_of(item) if call.when != "teardown" else None))

    def pytest_runtest_logreport(self, report):
        """Tell how a phase ended."""
        outcome = _outcome(report)
        text = _told(report) if outcome not in ("passed", "xfailed") else ""
        self.tell(("reported", report.nodeid, report.when, outcome, text))

    def pytest_runtest_logfinish(self, nodeid, location):
        """Tell that a test has ended."""
        if hasattr(signal, "SIGALRM"):
            signal.setitimer(signal.ITIMER_REAL, 0)
        if self.tell(("finished", nodeid)) and self.session is not None:
            self.session.shouldstop = "a test that decides did not pass"

    def pytest_sessionfinish(self, session, exitstatus):
        """End the report: what comes after is not ours."""
        self.end(exitstatus)


def definition_of(nodeid):
    """Return a node id without its parameters."""
    path, mark, rest = nodeid.partition("::")
    return path + mark + rest.partition("[")[0]


def functions_of(function):
    """Return a function and those that it wraps, outermost first; none where it is no Python code."""
    found = []
    while function is not None and len(found) < _MOST_WRAPPERS:
        function = getattr(function, "__func__", function)
        if hasattr(function, "__code__"):
            found.append(function)
        function = getattr(function, "__wrapped__", None) or getattr(function, "func", None)
    return found


def origin_of(item):
    """Return file and first line of a test's own code, as far as decorators let; None where there is none."""
    try:
        return place_of(functions_of(getattr(item, "obj", None))[-1].__code__)
    except Exception:  # noqa: BLE001 -- whatever the test's function is made of, the session goes on
        return None


def place_of(code, line=None):
    """Return [path relative to the workspace, line] of code; None outside the workspace."""
    path = os.path.join(WORKSPACE, code.co_filename)
    if not path.startswith(WORKSPACE + os.sep):
        return None
    return [path[len(WORKSPACE) + 1 :], code.co_firstlineno if line is None else line]


def place_of_frame(frame):
    """Return [path relative to the workspace, line] of a frame; None outside the workspace."""
    return place_of(frame.f_code, frame.f_lineno)


def code_of(item):
    """Return the hash of a test's code, through what wraps it; None where there is none."""
    try:
        functions = functions_of(getattr(item, "obj", None))
        return code_hash([function.__code__ for function in functions]) if functions else None
    except Exception:  # noqa: BLE001 -- as above
        return None


def code_hash(codes):
    """Return a hash of what code does: instructions, constants and names, not files and lines."""
    digest = hashlib.sha256()
    for code in codes:
        digest.update(_code_text(code).encode("utf-8", "backslashreplace"))
    return digest.hexdigest()[:32]


def _code_text(value):
    """Return a text that is the same for the same code in every process."""
    if type(value) is CodeType:
        names = (value.co_names, value.co_varnames, value.co_freevars, value.co_cellvars, value.co_argcount)
        return "code({}, {}, {})".format(value.co_code.hex(), _code_text(value.co_consts), names)
    if type(value) is int:
        return "{:x}".format(value)
    if type(value) in (tuple, frozenset):
        parts = [_code_text(part) for part in value]
        return "{}({})".format(type(value).__name__, ", ".join(sorted(parts) if type(value) is frozenset else parts))
    return repr(value)


def _name_of(kind, read=type.__dict__["__name__"].__get__):
    return str.__str__(read(kind))[:200]


def _outcome(report):
    expected_to_fail = hasattr(report, "wasxfail")
    if report.passed:
        return "xpassed" if expected_to_fail and report.when == "call" else "passed"
    if report.skipped:
        return "xfailed" if expected_to_fail else "skipped"
    if "TestTimeoutError" in str(report.longrepr)[-2000:]:
        return "timeout"
    return "failed" if report.when == "call" else "error"


def _raise_timeout(number, frame, again=signal.setitimer):
    """End the test that runs; while it is a program of ours that runs, a little later: a record is written whole."""
    if frame is not None and frame.f_code.co_filename.startswith(_OWN_FOLDER):
        again(signal.ITIMER_REAL, _SOON_SECONDS)
        return
    raise TestTimeoutError("TestTimeoutError: the test's time limit has passed")


def _leave(status):
    """End the process although something hangs: its session has ended, and nothing that comes after is told.

    Where a clock that is tampered with refuses the wait, the process ends by itself: an error here would be pytest's.
    """
    try:
        time.sleep(_LAST_SECONDS)
    except (OSError, ValueError):
        return
    os._exit(status)


def _told(report):
    """Return how a test failed, and behind a ``|`` what it printed: helpers that compare often print what they saw."""
    printed = (getattr(report, "capstdout", "") or "").strip().splitlines()[-_PRINTED_LINES:]
    return _tail(report.longrepr) + "".join("\n| " + line[:_PRINTED_WIDTH] for line in printed)


def _tail(longrepr):
    return str(longrepr)[-MESSAGE_LIMIT:] if longrepr is not None else ""


def _shuffle(items, chance):
    """Shuffle files, classes within files and functions within classes; what shares a set-up stays together."""
    files = {}
    for item in items:
        path = item.nodeid.split("::")[0]
        group = item.nodeid.rsplit("[", 1)[0].rsplit("::", 1)[0]
        files.setdefault(path, {}).setdefault(group, []).append(item)
    order = sorted(files)
    chance.shuffle(order)
    items[:] = []
    for path in order:
        groups = sorted(files[path])
        chance.shuffle(groups)
        for group in groups:
            members = sorted(files[path][group], key=lambda item: item.nodeid)
            chance.shuffle(members)
            items.extend(members)
