"""Tells what submitted code does to the process that runs the tests, from CPython's audit events (3.8 and newer).

An event counts when the innermost frame that is not of the environment is submitted source, not test code. Where the
stack is all the environment's, it counts in threads only (a library's function as a thread's target).

| finding | what was done |
|---|---|
| code_replaced | a function's ``__code__`` set; code or function objects made by hand while no module is imported; source compiled under the name of a file of the tests or the environment |
| threads_read | ``sys._current_frames``, and frames of generators: what runs elsewhere, or later |
| report_read | the frame of a generator of ours, which holds the report, or any frame while one runs |
| trace_set | ``sys.settrace``, ``sys.setprofile``, ``threading.settrace``, ``sys.monitoring`` |
| frames_walked | ``sys._getframe`` and what gives frames, called by the source itself or through inspect |
| objects_listed | ``gc.get_objects``, ``gc.get_referrers``, ``gc.get_referents`` |
| ctypes_used | foreign functions or memory |
| process_started | fork, exec, spawn, ``os.system``, ``subprocess`` |
| signal_sent | ``os.kill`` and the like |
| descriptor_opened | a process's own files in /proc, or /dev/fd |
| written_outside | something written, moved or removed outside workspace and temporary folders, or of the tests |
| runner_imported | an import of pytest, pluggy, unittest or of our own modules in submitted source |
| socket_used | an address looked up, bound, connected or sent to |
| audit_hook_added | ``sys.addaudithook`` |

Not counted, since honest code does it all the time: compile, exec, opening files to read, writing in the workspace.

Covered: the hook cannot be removed, and what it needs is held by its closures. A finding is written at once.
Not covered: what raises no event (frames through generators, closure cells, ``os.write``), library functions that the
runner or the garbage collector calls back in the main thread, code that native extensions run.

Standard library only. Does nothing before CPython 3.8.
"""  # noqa: E501 -- a table

import _frozen_importlib_external
import dis
import os
import sys
import threading
from _thread import get_ident
from types import CodeType, GeneratorType

from path_owners import GENERATED, SUBMITTED, TEST, TRUSTED, Paths, text_path

WORKSPACE = os.environ.get("ENVFARM_WORKSPACE", "/workspace")
MOST_RECORDS = 200
MOST_TOLD = 120
INDIRECT, DIRECT, OUTSIDE_IMPORTS = range(3)
"""Whose event counts: that of the innermost frame of the workspace, of the very caller, of the caller but at import."""
_RUNNER = frozenset(("pytest", "_pytest", "pluggy", "unittest"))
_OWN = (
    "report_plugin record_pipe session_record callers handlers audit_hook snapshot ask place_files path_owners launch"
)
_INSIDE = frozenset(("_pytest", "pluggy", "report_plugin", "record_pipe", "session_record", "audit_hook"))
"""Whose names as texts in submitted source count as an import."""
_WRITING_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_BRIDGES = frozenset(
    ("<lambda>", "currentframe", "stack", "trace", "getouterframes", "getinnerframes", "walk_stack", "walk_tb")
)
"""Functions of inspect, logging and traceback that hand frames to their caller."""
_PROCESS_FILE_PARTS = 4
_GENERATOR = 0x20 | 0x80 | 0x200
"""Flags of generators', coroutines' and asynchronous generators' code."""
_FRAMES = frozenset(("tb_frame", "f_code", "gi_frame", "cr_frame", "ag_frame"))
_OF_GENERATORS = frozenset(("gi_frame", "cr_frame", "ag_frame"))
_OWN_FOLDER = os.path.dirname(os.path.abspath(__file__)) + os.sep
_HARMLESS = frozenset(("cgroup", "mountinfo", "mounts", "stat", "statm", "status"))
"""Files of a process in /proc that hold figures only; libraries count processors by them."""


def _always(arguments):
    return ""


def _attribute_set(arguments):
    return "" if arguments[1] == "__code__" else None


def _frame_read(arguments):
    """Return the finding; a generator of ours holds the report."""
    read, name = arguments[:2]
    if name == "gi_frame" and type(read) is GeneratorType and read.gi_code.co_filename.startswith(_OWN_FOLDER):
        return "report_read", name, INDIRECT
    if name == "tb_frame" and read.tb_frame.f_code.co_filename.startswith(_OWN_FOLDER):
        return "report_read", name, INDIRECT
    if name in _OF_GENERATORS:
        return "threads_read", name
    return ("frames_walked", arguments[1]) if arguments[1] in _FRAMES else None


def _first(arguments):
    return str(arguments[0])[:MOST_TOLD] if arguments and type(arguments[0]) in (str, int, bytes) else ""


def _opened_secretly(path):
    """Return the path where it is a process's own file in /proc, or a descriptor in /dev."""
    text = text_path(path)
    if text is None or ("proc" not in text and "/fd" not in text and "/dev" not in text):
        return None
    text = os.path.abspath(text)
    parts = text.split("/")
    if parts[1] == "proc" and parts[2:]:
        own = parts[2] in ("self", "thread-self") or parts[2].isdigit()
        return text if own and not (len(parts) == _PROCESS_FILE_PARTS and parts[3] in _HARMLESS) else None
    return text if text == "/dev/fd" or text.startswith("/dev/fd/") else None


def _make_open_check(paths):
    def opened(arguments):
        path, mode, flags = arguments[:3]
        writes = flags & _WRITING_FLAGS if type(flags) is int else 0
        if not writes and type(mode) is str:
            writes = "w" in mode or "a" in mode or "x" in mode or "+" in mode
        secret = _opened_secretly(path)
        if secret is not None:
            return ("descriptor_opened", secret)
        found = paths.forbidden(path) if writes else None
        return None if found is None else ("written_outside", found)

    return opened


def _make_write_check(paths, *places, follows=False):
    """Return a check of paths at places in the arguments, each with the place of the folder that it is relative to."""

    def written(arguments):
        for path_at, folder_at in places:
            folder = arguments[folder_at] if folder_at is not None and folder_at < len(arguments) else -1
            found = paths.forbidden(arguments[path_at], folder, follows)
            if found is not None:
                return found
        return None

    return written


def _listed(arguments):
    return _opened_secretly(arguments[0])


def _make_link_check(paths):
    written = _make_write_check(paths, (1, 2))

    def linked(arguments):
        secret = _opened_secretly(arguments[0])
        if secret is not None:
            return ("descriptor_opened", secret)
        found = written(arguments)
        return None if found is None else ("written_outside", found)

    return linked


def _named(kind, way, *events, check=_always):
    return dict.fromkeys(events, (kind, way, check))


def _make_rules(paths):
    """Return, by event, the finding, whose events count, and what says whether this one does."""
    rules = {}
    rules.update(_named("code_replaced", INDIRECT, "object.__setattr__", check=_attribute_set))
    rules.update(_named("code_replaced", OUTSIDE_IMPORTS, "function.__new__"))
    rules.update(_named(None, OUTSIDE_IMPORTS, "code.__new__", check=_make_code_check(paths)))
    rules.update(_named("code_replaced", DIRECT, "compile", check=_make_compile_check(paths)))
    rules.update(_named("trace_set", INDIRECT, "sys.settrace", "sys.setprofile", "sys.monitoring.register_callback"))
    rules.update(_named("frames_walked", DIRECT, "sys._getframe"))
    rules.update(_named("threads_read", INDIRECT, "sys._current_frames", "sys._current_exceptions"))
    rules.update(_named(None, DIRECT, "object.__getattr__", check=_frame_read))
    rules.update(_named("objects_listed", INDIRECT, "gc.get_objects", "gc.get_referrers", "gc.get_referents"))
    rules.update(_named("ctypes_used", INDIRECT, *["ctypes." + name for name in _FOREIGN]))
    rules.update(_named("process_started", INDIRECT, *_STARTED, check=_first))
    signals = ["os.kill", "os.killpg", "signal.pthread_kill", "signal.raise_signal"]
    rules.update(_named("signal_sent", INDIRECT, *signals, check=_first))
    rules.update(_named("socket_used", INDIRECT, *["socket." + name for name in _ADDRESSED]))
    rules.update(_named("audit_hook_added", INDIRECT, "sys.addaudithook"))
    rules.update(_named(None, INDIRECT, "open", check=_make_open_check(paths)))
    rules.update(_named(None, INDIRECT, "os.symlink", check=_make_link_check(paths)))
    rules.update(_named("descriptor_opened", INDIRECT, "os.listdir", "os.scandir", check=_listed))
    for event, places, follows in _WRITES:
        check = _make_write_check(paths, *places, follows=follows)
        rules.update(_named("written_outside", INDIRECT, event, check=check))
    return rules


_WRITES = (("os.remove", [(0, 1)], False), ("os.rmdir", [(0, 1)], False), ("os.mkdir", [(0, 2)], False))
_WRITES += (("os.rename", [(0, 2), (1, 3)], False), ("os.link", [(1, 3)], False), ("os.truncate", [(0, None)], True))
_WRITES += (("os.chmod", [(0, 2)], True), ("os.chown", [(0, 3)], True), ("os.utime", [(0, 3)], True))
"""Event, places of paths and of the folders that they are relative to, whether links are followed."""
_FOREIGN = "PyObj_FromPtr addressof call_function cdata cdata/buffer create_string_buffer dlopen dlsym".split()  # noqa: SIM905
_FOREIGN += ["dlsym/handle", "memoryview_at", "set_errno", "string_at", "wstring_at"]
_STARTED = "os.exec os.fork os.forkpty os.posix_spawn os.spawn os.system pty.spawn subprocess.Popen".split()  # noqa: SIM905 -- one line
_ADDRESSED = ["bind", "connect", "getaddrinfo", "gethostbyaddr", "gethostbyname", "sendmsg", "sendto"]


def _make_compile_check(paths):
    def compiled(arguments):
        name = text_path(arguments[1])
        if name is None or not name.endswith((".py", ">")) or paths.owner_of(name) in (SUBMITTED, GENERATED):
            return None
        return name[-MOST_TOLD:]

    return compiled


def _make_code_check(paths):
    """Return a check of code made by hand: never under the name of a file of the environment, whenever that is."""

    def made(arguments):
        name = str(arguments[1])
        trusted = paths.owner_of(name) == TRUSTED
        return "code_replaced", name[-MOST_TOLD:], INDIRECT if trusted else OUTSIDE_IMPORTS

    return made


def _line_of_import(code, names):
    """Return the name and the line of the first import of a runner's module in the code; None without one."""
    line = code.co_firstlineno
    for step in dis.get_instructions(code):
        line = step.starts_line if type(step.starts_line) is int else getattr(step, "line_number", None) or line
        if step.opname == "IMPORT_NAME" and step.argval.partition(".")[0] in names:
            return step.argval, line
    return None


def runner_imports(code, most=20):
    """Return (name, line) of what the code and the code in it import of the runner, or names of its inside."""
    found, waiting = [], [code]
    names = _RUNNER.union(_OWN.split())
    while waiting and len(found) < most:
        code = waiting.pop()
        if any(name.partition(".")[0] in names for name in code.co_names):
            seen = _line_of_import(code, names)
            if seen is not None:
                found.append(seen)
        for constant in code.co_consts:
            if type(constant) is str:
                if constant.partition(".")[0] in _INSIDE and " " not in constant:
                    found.append((constant[:MOST_TOLD], code.co_firstlineno))
            elif type(constant) is CodeType:
                waiting.append(constant)
    return found


class Hook:
    """What the hook knows; the hook itself is the closure that `make_hook` returns."""

    def __init__(self, write, current, sources):
        self.write, self.current = write, current
        self.paths = Paths(sources)
        self.seen = set()
        self.made = {}
        self.main = threading.main_thread().ident
        self.hooks_of_threads = threading.__dict__
        self.bridges = frozenset(
            sys.modules[name].__file__ for name in ("inspect", "traceback", "logging") if name in sys.modules
        )

    def find(self, frame, way):
        """Return where the event comes from, as path:line, if it counts; else None."""
        owners, owner_of, made = self.paths.owners, self.paths.owner_of, self.made
        while frame is not None:
            code = frame.f_code
            name = code.co_filename
            owner = owners.get(name)
            if owner is None:
                owner = owners[name] = owner_of(name)
            if id(code) in made or owner == SUBMITTED:
                if way == OUTSIDE_IMPORTS and _at_import(frame):
                    return None
                return "{}:{}".format(_shown(name), frame.f_lineno)
            if owner == TEST:
                return None
            if way != INDIRECT and not (owner == GENERATED or (code.co_name in _BRIDGES and name in self.bridges)):
                return None
            if owner == TRUSTED and code.co_name == "<module>":
                return None
            frame = frame.f_back
        return "thread" if way == INDIRECT and get_ident() != self.main else None

    def traces(self, where):
        """Say whether a tracer that was set there counts: in a thread that starts, only one of submitted code."""
        if where != "thread":
            return True
        tracer = self.hooks_of_threads.get("_trace_hook") or self.hooks_of_threads.get("_profile_hook")
        return self.paths.owner_of(getattr(getattr(tracer, "__code__", None), "co_filename", "<none>")) == SUBMITTED

    def kind_of(self, kind, event, frame):
        """Return the finding; for frames that were read, whether the keeper was among them, or a generator's was."""
        if kind != "frames_walked":
            return kind
        if event == "sys._getframe" and frame.f_code.co_flags & _GENERATOR:
            return "threads_read"
        while frame is not None:
            code = frame.f_code
            if code.co_flags & _GENERATOR and code.co_filename.startswith(_OWN_FOLDER):
                return "report_read"
            frame = frame.f_back
        return "frames_walked"

    def note(self, kind, where, what):
        """Write a finding, once for each kind and place."""
        if (kind, where) in self.seen or len(self.seen) >= MOST_RECORDS:
            return
        self.seen.add((kind, where))
        record = {"kind": "audit", "finding": kind, "where": where, "what": what[:MOST_TOLD], "id": self.current()}
        self.write(record)

    def executed(self, code, frame):
        """Note whose generated code is, and what submitted modules import."""
        if type(code) is not CodeType:
            return
        name = code.co_filename
        owner = self.paths.owner_of(name)
        caller = frame.f_code
        by = self.paths.owner_of(caller.co_filename)
        if id(caller) in self.made or by == SUBMITTED or (name[:1] == "<" and self.find(frame, INDIRECT)):
            self.adopt(code)
        if owner == SUBMITTED or id(code) in self.made:
            for imported, line in runner_imports(code):
                self.note("runner_imported", "{}:{}".format(_shown(name), line), "imports " + imported)

    def adopt(self, code):
        """Take code, and the code in it, as submitted, whatever its file name says."""
        waiting = [code]
        while waiting:
            code = waiting.pop()
            self.made[id(code)] = code
            waiting += [constant for constant in code.co_consts if type(constant) is CodeType]


def _at_import(frame):
    while frame is not None:
        if frame.f_code.co_name == "<module>" and not frame.f_code.co_filename.startswith("<"):
            return frame.f_back is not None
        frame = frame.f_back
    return False


def _shown(name):
    return name[len(WORKSPACE) + 1 :] if name.startswith(WORKSPACE + os.sep) else name


def make_hook(write, current, sources):
    """Return the audit hook.

    Args:
        write: Writes a record.
        current: Returns the id of the running test, or an empty text.
        sources: Patterns of the paths that are test code.
    """
    known = Hook(write, current, sources)
    rules = _make_rules(known.paths)
    rules["exec"] = (None, INDIRECT, _always)
    rule_of, busy, thread, frame_at = rules.get, set(), get_ident, sys._getframe  # noqa: SLF001 -- no other way
    frames = _FRAMES
    reads_bytecode = _frozen_importlib_external._compile_bytecode.__code__  # noqa: SLF001 -- no other way

    def hook(event, arguments):
        rule = rule_of(event)
        if rule is None or (event == "object.__getattr__" and arguments[1] not in frames):
            return
        if event == "code.__new__" and frame_at(1).f_code is reads_bytecode:
            return  # CPython 3.8 tells of each function that it reads from a .pyc file, whoever imports it
        me = thread()
        if me in busy:
            return
        busy.add(me)
        try:
            kind, way, check = rule
            if event == "exec":
                known.executed(arguments[0], frame_at(1))
                return
            try:
                what = check(arguments)
            except (LookupError, TypeError, ValueError, OSError):
                return
            if what is None:
                return
            if kind is None:
                kind, what, *ways = what
                way = ways[0] if ways else way
            where = known.find(frame_at(1), way)
            if where is not None and (kind != "trace_set" or known.traces(where)):
                known.note(known.kind_of(kind, event, frame_at(1)), where, (event + " " + what).strip())
        finally:
            busy.discard(me)

    return hook


def install(write, current, sources):
    """Install the hook, for good; return whether this interpreter has audit hooks."""
    if not hasattr(sys, "addaudithook"):
        return False
    sys.addaudithook(make_hook(write, current, sources))
    return True
