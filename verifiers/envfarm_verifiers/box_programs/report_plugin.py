"""The pytest plug-in that reports from inside a box: one JSON line per event, down a descriptor of its own.

Standard library only, CPython 3.6 and newer, pytest 4 and newer. Every line carries the run's nonce, which comes on
standard input and stands in no variable, argument or file. The last line is the end of the session, with its status.
"""

import json
import os
import random
import signal
import threading
import time

MESSAGE_LIMIT = 4000
_PRIVATE_DESCRIPTOR = 700
_LAST_SECONDS = 2.0
_PRINTED_LINES = 30
_PRINTED_WIDTH = 200


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


class Reporter:
    """Reports one session; also shuffles, selects, limits times and stops early as the job asks."""

    def __init__(self, job):
        """Take the job, and the descriptor from the environment."""
        self.nonce = job["nonce"]
        self.limit = float(job.get("test_timeout_seconds") or 0)
        self.seed = job.get("order_seed")
        self.only = frozenset(job.get("only_ids") or ())
        self.stop = frozenset(job.get("stop_ids") or ())
        self.descriptor = _move_descriptor()
        self.process = os.getpid()
        self.phases = {}
        self.seen = {}
        self.ended = False
        self.session = None
        self.write({"kind": "start"})

    def write(self, record):
        """Write one record; a forked child writes nothing."""
        if os.getpid() != self.process:
            return
        record["nonce"] = self.nonce
        data = json.dumps(record).encode("utf-8", "replace") + b"\n"
        while data:
            data = data[os.write(self.descriptor, data) :]

    def end(self, status):
        """Write the end of the session, once."""
        if not self.ended:
            self.ended = True
            self.write({"kind": "end", "status": int(status)})
            if os.getpid() == self.process:
                leaver = threading.Thread(target=_leave, args=(int(status),))
                leaver.daemon = True
                leaver.start()

    def pytest_collection_modifyitems(self, session, config, items):
        """Select and shuffle: files, then classes in files, then functions in classes."""
        self.session = session
        if self.only:
            chosen = [item for item in items if item.nodeid in self.only]
            items[:] = chosen
        if self.seed is not None:
            _shuffle(items, random.Random(self.seed))
        for item in items:
            self.write({"kind": "collected", "id": item.nodeid})

    def pytest_collectreport(self, report):
        """Report a file that could not be collected, or was skipped whole."""
        if report.failed:
            self.write({"kind": "collect_error", "path": report.nodeid, "text": _tail(report.longrepr)})
        elif report.skipped:
            self.write({"kind": "collect_skip", "path": report.nodeid})

    def pytest_runtest_logstart(self, nodeid, location):
        """Note that a test begins."""
        self.phases[nodeid] = {"outcome": "passed", "text": "", "started": time.time()}
        self.write({"kind": "begin", "id": nodeid})

    def pytest_runtest_setup(self, item):
        """Start the clock of a test: set-up counts."""
        if self.limit and hasattr(signal, "SIGALRM"):
            signal.signal(signal.SIGALRM, _raise_timeout)
            signal.setitimer(signal.ITIMER_REAL, self.limit)

    def pytest_runtest_logreport(self, report):
        """Take one phase of a test into its outcome."""
        phase = self.phases.get(report.nodeid)
        if phase is None:
            return
        outcome = _outcome(report)
        if _RANK[outcome] > _RANK[phase["outcome"]]:
            phase["outcome"] = outcome
            phase["text"] = _told(report) if outcome not in ("passed", "xfailed") else ""

    def pytest_runtest_logfinish(self, nodeid, location):
        """Report a test that has ended."""
        if hasattr(signal, "SIGALRM"):
            signal.setitimer(signal.ITIMER_REAL, 0)
        phase = self.phases.pop(nodeid, None)
        if phase is None:
            return
        record = {"kind": "test", "id": nodeid, "outcome": phase["outcome"], "text": phase["text"]}
        record["seconds"] = round(time.time() - phase["started"], 4)
        self.seen[nodeid] = phase["outcome"]
        self.write(record)
        if nodeid in self.stop and phase["outcome"] != "passed" and self.session is not None:
            self.session.shouldstop = "a test that decides did not pass"

    def pytest_sessionfinish(self, session, exitstatus):
        """End the report: what comes after is not ours."""
        if self.stop and any(self.seen.get(name) not in (None, "passed") for name in self.stop):
            self.write({"kind": "stopped"})
        self.end(exitstatus)


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
