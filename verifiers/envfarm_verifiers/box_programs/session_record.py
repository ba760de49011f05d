"""Keeps what a session has shown so far, and says it: in a suspended generator, where nobody changes it.

The reporting plug-in tells of events; who told is looked at (callers.py) where the run is watched. A test has passed
when each of its phases was seen to raise nothing and was reported as passed: what is left out or made to look otherwise
on the way is a change that the report names.

Standard library only, CPython 3.6 and newer.
"""

import sys
import time

PHASES = frozenset(("setup", "call", "teardown"))
RANK = {"passed": 0, "xpassed": 1, "xfailed": 1, "skipped": 2, "failed": 3, "error": 4, "timeout": 5}
"""Outcomes of a phase, mildest first: a test's outcome is its worst phase's."""
KINDS = ("collected", "collect_error", "collect_skip", "begin", "test", "changed", "stopped", "end")
"""What a session's pipe writes."""
_STEPS = ("registered", "items", "uncollected", "begin", "raised", "reported", "finished", "end")


def keep_session(write, running, stop_ids=(), snapshot=None, unexpected=None, handled=None):
    """Return the function that is told of events, as (step, argument, ...).

    Args:
        write: Writes a record.
        running: A list whose one entry is kept the id of the running test; empty between tests.
        stop_ids: Tests without whose passing the session need not go on.
        snapshot: Compares the runner with what it was; None where the run is not watched.
        handled: Returns what of signals and callbacks submitted code has newly taken; None as above.
        unexpected: Returns, given a step and the frame that told of it, who it is where nobody expects it; or None.
    """
    session = _Session(write, running, frozenset(stop_ids), snapshot)
    kept = _keep(session, write, unexpected, handled)
    next(kept)
    return kept.send


def _keep(session, write, unexpected, handled, frame_at=sys._getframe):  # noqa: SLF001 -- the one way to know who tells
    steps = {name: getattr(session, name) for name in _STEPS}
    told, named = None, set()
    while True:
        told, event = None, (yield from _exactly(told, write))
        for name in handled() if handled is not None else ():
            write({"kind": "changed", "name": name, "how": "taken"})
        asked = unexpected is not None and (event[0] in ("items", "end") or event[0:3:2] == ("raised", "call"))
        who = unexpected(event[0], frame_at(1)) if asked else None
        if who is not None and who not in named:
            named.add(who)
            write({"kind": "changed", "name": who, "how": "unexpected"})
        told = steps[event[0]](*event[1:])


def _exactly(told, write):
    """Give the answer to the last event and take the next one; what is no event, and what is thrown, is a change.

    An event is a tuple of a step and of texts or nothing, and of those exactly: methods of their own would be run here.
    """
    while True:
        try:
            event = yield told
        except GeneratorExit:
            raise
        except BaseException:  # noqa: BLE001 -- whatever it is, nobody honest throws
            event = None
        if type(event) is tuple and event and _is_event(event):
            return event
        told = None
        write({"kind": "changed", "name": "report:event", "how": "forged"})


def _is_event(event):
    if type(event[0]) is not str or event[0] not in _STEPS:
        return False
    if event[0] in ("registered", "items"):
        return True
    return all(part is None or type(part) is str or type(part) is int for part in event[1:])


class _Test:
    __slots__ = ("code", "error", "outcome", "raised", "reported", "started", "text")

    def __init__(self, started):
        self.outcome, self.text, self.error, self.code = "passed", "", None, None
        self.started, self.raised, self.reported = started, {}, set()

    def is_seamless(self):
        """Say whether each phase was seen to raise nothing, and reported."""
        return not any(self.raised.values()) and self.reported >= PHASES and set(self.raised) >= PHASES


class _Session:
    def __init__(self, write, running, stop, snapshot, clock=time.time):
        self.write, self.running, self.stop, self.snapshot, self.clock = write, running, stop, snapshot, clock
        self.tests, self.seen, self.ended, self.rank = {}, {}, False, dict(RANK)

    def registered(self, manager):
        if self.snapshot is not None:
            self.snapshot.plugin_registered(manager)

    def items(self, chosen, origins):
        if self.snapshot is not None:
            self.snapshot.collected(chosen)
        for item, origin in origins:
            self.write({"kind": "collected", "id": item, "at": origin})

    def uncollected(self, kind, path, text):
        if kind in ("collect_error", "collect_skip"):
            self.write({"kind": kind, "path": path, "text": text})

    def begin(self, nodeid):
        self.running[0] = nodeid
        self.tests[nodeid] = _Test(self.clock())
        self.write({"kind": "begin", "id": nodeid})

    def raised(self, nodeid, when, error, code):
        test = self.tests.get(nodeid)
        if self.snapshot is not None and when == "call":
            self.snapshot.after_call()
        if test is not None:
            test.raised[when] = error
            test.code = code if when != "teardown" else test.code

    def reported(self, nodeid, when, outcome, text):
        test = self.tests.get(nodeid)
        if test is None:
            return
        test.reported.add(when)
        if self.rank[outcome] > self.rank[test.outcome]:
            test.outcome, test.error, test.text = outcome, test.raised.get(when), text

    def finished(self, nodeid):
        """Return whether the session may stop here."""
        self.running[0] = ""
        test = self.tests.pop(nodeid, None)
        if test is None:
            return False
        if self.snapshot is not None and test.outcome == "passed" and not test.is_seamless():
            self.write({"kind": "changed", "name": "outcome:" + nodeid, "how": "replaced"})
        self.seen[nodeid] = test.outcome
        record = {"kind": "test", "id": nodeid, "outcome": test.outcome, "text": test.text}
        record.update(seconds=round(self.clock() - test.started, 4), error=test.error, code=test.code)
        self.write(record)
        return nodeid in self.stop and test.outcome != "passed"

    def end(self, status):
        """Return whether it is the first end."""
        if self.ended:
            return False
        self.ended = True
        if self.snapshot is not None:
            self.snapshot.finish()
        if any(self.seen.get(name) not in (None, "passed") for name in self.stop):
            self.write({"kind": "stopped"})
        self.write({"kind": "end", "status": status})
        return True
