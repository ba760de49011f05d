"""The pytest plug-in that reports from inside a box: one JSON line per event, down a descriptor of its own.

Standard library only, CPython 3.6 and newer, pytest 4 and newer. Every line carries the run's nonce, which comes on
standard input and stands in no variable, argument or file: it and the descriptor are held by one closure. The last line
is the end of the session, with its status.

What a record is made of is captured when this is imported, before anything of the workspace can be: modules and
builtins that the submission patches later change nothing of what is written.
"""

import hashlib
import os
import random
import signal
import threading
import time
from json.encoder import encode_basestring_ascii
from types import CodeType

WORKSPACE = os.environ.get("ENVFARM_WORKSPACE", "/workspace")
MESSAGE_LIMIT = 4000
_LAST_SECONDS = 2.0
_PRINTED_LINES = 30
_PRINTED_WIDTH = 200
_PRIVATE_DESCRIPTOR = 700
_MOST_WRAPPERS = 20


class TestTimeoutError(BaseException):
    """A test took longer than it may; no test catches it by catching Exception."""

    __test__ = False


def _move_descriptor():
    """Move the report's descriptor away from where programs look for it; children do not inherit it."""
    number = int(os.environ.pop("ENVFARM_REPORT_FD"))
    try:
        moved = os.dup2(number, _PRIVATE_DESCRIPTOR, inheritable=False) or _PRIVATE_DESCRIPTOR
    except OSError:
        os.set_inheritable(number, False)  # noqa: FBT003 -- the parameter is positional only
        return number
    os.close(number)
    return moved


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


def make_writer(descriptor, nonce):
    """Return the function that writes one record; a forked child writes nothing, and nobody after the end."""
    write, process_of, text_of = os.write, os.getpid, json_text
    process = process_of()
    tail = (',"nonce":' + text_of(nonce) + "}\n").encode("ascii")

    ended = []

    def write_record(record):
        if ended or process_of() != process:
            return
        if record["kind"] == "end":
            ended.append(record)
        data = text_of(record)[:-1].encode("ascii") + tail
        while data:
            data = data[write(descriptor, data) :]

    return write_record


class Reporter:
    """Reports one session; also shuffles, selects, limits times and stops early as the job asks."""

    def __init__(self, job):
        """Take the job, whose nonce goes with it, and the descriptor from the environment."""
        self.write = make_writer(_move_descriptor(), job.pop("nonce"))
        self.limit = float(job.get("test_timeout_seconds") or 0)
        self.seed = job.get("order_seed")
        self.only = frozenset(job.get("only_ids") or ())
        self.definitions = frozenset(job.get("only_definitions") or ())
        self.stop = frozenset(job.get("stop_ids") or ())
        self.snapshot = None
        self.after_call = None
        self.finish_snapshot = None
        self.running = ""
        self.phases = {}
        self.seen = {}
        self.ended = False
        self.owner = os.getpid()
        self.session = None
        self.write({"kind": "start", "pid": os.getpid()})

    def current(self):
        """Return the id of the test that runs; empty between tests."""
        return self.running

    def end(self, status):
        """Write the end of the session, once."""
        if not self.ended:
            self.ended = True
            self.write({"kind": "end", "status": int(status)})
            if os.getpid() == self.owner:
                leaver = threading.Thread(target=_leave, args=(int(status),))
                leaver.daemon = True
                leaver.start()

    def compare_with(self, snapshot, after_call, finish):
        """Have a snapshot of the runner compared, after each test's call and at the end."""
        self.snapshot, self.after_call, self.finish_snapshot = snapshot, after_call, finish

    def pytest_plugin_registered(self, plugin, manager):
        """Let the snapshot see who implements hooks before anything of the workspace can."""
        if self.snapshot is not None:
            self.snapshot.plugin_registered(manager)

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
        if self.snapshot is not None:
            self.snapshot.collected(items)
        for item in items:
            self.write({"kind": "collected", "id": item.nodeid, "at": origin_of(item)})

    def pytest_collectreport(self, report):
        """Report a file that could not be collected, or was skipped whole."""
        if report.failed:
            self.write({"kind": "collect_error", "path": report.nodeid, "text": _tail(report.longrepr)})
        elif report.skipped:
            self.write({"kind": "collect_skip", "path": report.nodeid})

    def pytest_runtest_logstart(self, nodeid, location):
        """Note that a test begins."""
        self.running = nodeid
        self.phases[nodeid] = {"outcome": "passed", "text": "", "started": _now(), "error": None, "errors": {}}
        self.write({"kind": "begin", "id": nodeid})

    def pytest_runtest_setup(self, item):
        """Start the clock of a test: set-up counts."""
        if self.limit and hasattr(signal, "SIGALRM"):
            signal.signal(signal.SIGALRM, _raise_timeout)
            signal.setitimer(signal.ITIMER_REAL, self.limit)

    def pytest_runtest_makereport(self, item, call):
        """Note what a phase raised, and the code of the test's function as it is now; makes no report."""
        phase = self.phases.get(item.nodeid)
        if self.after_call is not None and call.when == "call":
            self.after_call()
        if phase is not None:
            phase["errors"][call.when] = _name_of(call.excinfo.type) if call.excinfo is not None else None
            if call.when != "teardown":
                phase["code"] = code_of(item)

    def pytest_runtest_logreport(self, report):
        """Take one phase of a test into its outcome."""
        phase = self.phases.get(report.nodeid)
        if phase is None:
            return
        outcome = _outcome(report)
        if _RANK[outcome] > _RANK[phase["outcome"]]:
            phase["outcome"] = outcome
            phase["error"] = phase["errors"].get(report.when)
            phase["text"] = _told(report) if outcome not in ("passed", "xfailed") else ""

    def pytest_runtest_logfinish(self, nodeid, location):
        """Report a test that has ended."""
        self.running = ""
        if hasattr(signal, "SIGALRM"):
            signal.setitimer(signal.ITIMER_REAL, 0)
        phase = self.phases.pop(nodeid, None)
        if phase is None:
            return
        record = {"kind": "test", "id": nodeid, "outcome": phase["outcome"], "text": phase["text"]}
        record["seconds"] = round(_now() - phase["started"], 4)
        record["error"] = phase["error"]
        record["code"] = phase.get("code")
        if self.after_call is not None and phase["outcome"] == "passed" and any(phase["errors"].values()):
            self.write({"kind": "changed", "name": "outcome:" + nodeid, "how": "replaced"})
        self.seen[nodeid] = phase["outcome"]
        self.write(record)
        if nodeid in self.stop and phase["outcome"] != "passed" and self.session is not None:
            self.session.shouldstop = "a test that decides did not pass"

    def pytest_sessionfinish(self, session, exitstatus):
        """End the report: what comes after is not ours."""
        if self.finish_snapshot is not None:
            self.finish_snapshot()
        if self.stop and any(self.seen.get(name) not in (None, "passed") for name in self.stop):
            self.write({"kind": "stopped"})
        self.end(exitstatus)


def _now(clock=time.time):
    return clock()


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


_RANK = {"passed": 0, "xpassed": 1, "xfailed": 1, "skipped": 2, "failed": 3, "error": 4, "timeout": 5}


def _outcome(report):
    expected_to_fail = hasattr(report, "wasxfail")
    if report.passed:
        return "xpassed" if expected_to_fail and report.when == "call" else "passed"
    if report.skipped:
        return "xfailed" if expected_to_fail else "skipped"
    if "TestTimeoutError" in str(report.longrepr)[-2000:]:
        return "timeout"
    return "failed" if report.when == "call" else "error"


def _raise_timeout(number, frame):
    raise TestTimeoutError("TestTimeoutError: the test's time limit has passed")


def _leave(status):
    """End the process although something hangs: its session has ended, and nothing that comes after is told."""
    time.sleep(_LAST_SECONDS)
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
