"""Tells what of the runner is not any more what it was before anything of the workspace was imported.

Taken are the functions, classes, descriptors and modules that the runner's modules and their classes hold, with each
function's code, defaults and the functions in its closure; and which plug-ins implement the hooks that decide. All of
it is held and compared by identity, which is stricter than a hash and costs less: code objects cannot be changed, only
exchanged (but by foreign memory access, which is an audit finding). Ordinary state, such as counters and caches, is
not looked at.

Standard library only, CPython 3.6 and newer, pytest 4 and newer.

Covered: what is still changed when the session ends, and what of the modules that decide is changed when a test's call
has ended. Not covered: what was changed and put back between two of these moments.
"""

import os
import sys
import types
from functools import partial
from operator import is_, itemgetter

from report_plugin import functions_of

WORKSPACE = os.environ.get("ENVFARM_WORKSPACE", "/workspace")
MOST_RECORDS = 200
PACKAGES = ("pytest", "_pytest", "pluggy", "unittest", "importlib")
MODULES = (
    "_frozen_importlib",
    "_frozen_importlib_external",
    "builtins",
    "inspect",
    "json",
    "json.decoder",
    "json.encoder",
    "json.scanner",
    "os",
    "posixpath",
    "signal",
    "sys",
    "threading",
    "traceback",
)
DECIDING = frozenset(
    ("_pytest.runner", "_pytest.runner.CallInfo", "_pytest.reports.BaseReport", "_pytest.reports.TestReport")
    + ("_pytest.python.Function", "_pytest.unittest.TestCaseFunction", "_pytest.raises.RaisesExc")
    + ("_pytest.python_api.RaisesContext", "_pytest.outcomes", "unittest.case.TestCase")
    + ("pluggy._hooks.HookCaller", "pluggy._hooks._HookCaller", "pluggy._caller.HookCaller", "pluggy.hooks._HookCaller")
)
"""Modules and classes that are compared after each test's call as well: what is put back would be missed."""
HOOKS = (
    "pytest_assertrepr_compare",
    "pytest_assertion_pass",
    "pytest_collection_modifyitems",
    "pytest_collection_finish",
    "pytest_deselected",
    "pytest_exception_interact",
    "pytest_fixture_setup",
    "pytest_itemcollected",
    "pytest_make_collect_report",
    "pytest_pycollect_makeitem",
    "pytest_pyfunc_call",
    "pytest_report_teststatus",
    "pytest_runtest_call",
    "pytest_runtest_logreport",
    "pytest_runtest_makereport",
    "pytest_runtest_protocol",
    "pytest_runtest_setup",
    "pytest_runtest_teardown",
    "pytest_runtestloop",
    "pytest_sessionfinish",
)
_FREE_NAMES = frozenset(
    ("sys.excepthook", "sys.displayhook", "sys.breakpointhook", "sys.unraisablehook", "sys.__interactivehook__")
    + (
        "sys.stdin",
        "sys.stdout",
        "sys.stderr",
        "sys.last_exc",
        "sys.last_type",
        "sys.last_value",
        "threading.excepthook",
    )
    + ("builtins._",)
)
"""Made to be replaced; pytest itself does."""
_ITEM_METHODS = ("runtest", "setup", "teardown", "repr_failure", "reportinfo")
_MISSING = object()
_DESCRIPTORS = (
    staticmethod,
    classmethod,
    property,
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
    types.ModuleType,
)

_OWN_DOING = {
    "_getini_unknown_type": "_pytest.legacypath.",
    "fspath": "_pytest.legacypath.",
    "inifile": "_pytest.legacypath.",
    "invocation_dir": "_pytest.legacypath.",
    "makedir": "_pytest.legacypath.",
    "rootdir": "_pytest.legacypath.",
    "startdir": "_pytest.legacypath.",
    "ensuretemp": "_pytest.tmpdir.",
}
"""What pytest adds to its own classes while it starts, and the module whose functions these are."""
_PLAIN = (types.FunctionType, types.MethodType, property)


def _watched(value, callable_=callable, kind=type, members=_DESCRIPTORS):
    return callable_(value) or issubclass(kind(value), members)


def _function_of(value):
    """Return the Python functions behind a value of a namespace."""
    if isinstance(value, (staticmethod, classmethod, types.MethodType)):
        value = value.__func__
    if isinstance(value, partial):
        value = value.func
    if isinstance(value, property):
        return [part for part in (value.fget, value.fset, value.fdel) if isinstance(part, types.FunctionType)]
    inner = getattr(value, "__wrapped__", None) if type(value).__name__ == "_lru_cache_wrapper" else None
    return [part for part in (value, inner) if type(part) is types.FunctionType]


def _inside_of(function):
    """Return what makes a function do what it does, for comparison by identity."""
    found = [function.__code__, function.__defaults__]
    for name, value in sorted((function.__kwdefaults__ or {}).items()):
        found += [name, value]
    for cell in function.__closure__ or ():
        try:
            value = cell.cell_contents
        except ValueError:
            continue
        if _watched(value):
            found.append(value)
    return found


def _same(now, before):
    """Say whether two sequences hold the same objects; `id` would be an audit event for each."""
    return len(now) == len(before) and all(map(is_, now, before))


def watched_modules(own):
    """Return the runner's modules by name, with our own ones."""
    found = {name: module for name, module in list(sys.modules.items()) if isinstance(module, types.ModuleType)}
    found = {name: module for name, module in found.items() if name in MODULES or name.partition(".")[0] in PACKAGES}
    found.update(own)
    return found


def _space_of(holder, of_class=type.__dict__["__dict__"].__get__):
    """Return a copy of what a module or class holds."""
    return dict(of_class(holder) if issubclass(type(holder), type) else vars(holder))


def _home_of(name, holder):
    """Return where a class is defined; a module's name is its own."""
    return holder.__module__ + "." + holder.__qualname__ if issubclass(type(holder), type) else name


def _held(holder, read, of_class=type.__dict__["__dict__"].__get__):
    """Return how many names a module or class has and what some of them hold; that is empty where one is missing."""
    space = of_class(holder) if issubclass(type(holder), type) else vars(holder)
    try:
        return len(space), read(space)
    except KeyError:
        return len(space), ()


class Snapshot:
    """The runner as it was when this was made."""

    def __init__(self, own=()):
        """Take it; ``own`` are modules that stand in no table any more, by name."""
        self.modules = watched_modules(dict(own))
        self.spaces = []
        self.functions = {}
        self.classes = {}
        self.own = frozenset(dict(own))
        self.manager = self.manager_type = self.execution = None
        self.callers, self.implementing = {}, []
        self.hooks = {}
        self.tests = []
        for name, module in self.modules.items():
            self._add_space(name, module)
        self.deciding = [
            [name, holder, watched, itemgetter(*watched), *_held(holder, itemgetter(*watched))]
            for name, holder, watched, _ in self.spaces
            if len(watched) > 1 and (_home_of(name, holder) in DECIDING or name.partition(".")[0] in self.own)
        ]

    def _add_space(self, name, holder):
        saved = _space_of(holder)
        watched = {key: value for key, value in saved.items() if _watched(value)}
        self.spaces.append((name, holder, watched, frozenset(saved)))
        for key, value in watched.items():
            for function in _function_of(value):
                if id(function) not in self.functions:
                    self.functions[id(function)] = ("{}.{}".format(name, key), function, _inside_of(function))
            if issubclass(type(value), type) and id(value) not in self.classes and value.__module__ in self.modules:
                self.classes[id(value)] = ("{}.{}".format(name, key), value, value.__mro__)
                if value.__module__ != "builtins":
                    self._add_space("{}.{}".format(name, key), value)

    def differences(self):
        """Yield (dotted name, how) of what differs now."""
        for name, module in self.modules.items():
            if name not in self.own and sys.modules.get(name) is not module:
                yield name, "replaced" if name in sys.modules else "removed"
        for name, holder, watched, _ in self.spaces:
            yield from self._space_differences(name, holder, watched)
        for name, function, inside in self.functions.values():
            now = _inside_of(function)
            if not _same(now, inside):
                yield name, "replaced"
        for name, value, order in self.classes.values():
            if type.__dict__["__mro__"].__get__(value) != order:
                yield name, "replaced"

    def deciding_differences(self):
        """Yield what differs now in the modules that decide; cheap where nothing does."""
        for entry in self.deciding:
            count, now = _held(entry[1], entry[3])
            if count != entry[4] or not _same(now, entry[5]):
                entry[4:] = count, now
                yield from self._space_differences(entry[0], entry[1], entry[2])
        implementing = [one.function for caller in self.callers.values() for one in _implementations_of(caller)]
        if not _same(implementing, self.implementing):
            self.implementing = implementing
            yield from self._implementation_differences()

    def _space_differences(self, name, holder, watched):
        now = _space_of(holder)
        for key, value in watched.items():
            if key not in now:
                yield "{}.{}".format(name, key), "removed"
            elif now[key] is value or "{}.{}".format(name, key) in _FREE_NAMES:
                continue
            elif not self._own_doing(key, now[key]):
                yield "{}.{}".format(name, key), "replaced"
        for key, value in now.items():
            if key in watched or not _watched(value) or "{}.{}".format(name, key) in _FREE_NAMES:
                continue
            late = isinstance(holder, types.ModuleType) and _late(name, key, value)
            if not late and not self._own_doing(key, value):
                yield "{}.{}".format(name, key), "added"

    def _own_doing(self, key, value):
        """Say whether pytest itself puts this there, after we have looked."""
        functions = _function_of(value) if type(value) in _PLAIN else []
        home = self.functions.get(id(functions[0]), ("",))[0] if functions else ""
        return home.startswith(_OWN_DOING.get(key, "none"))

    def plugin_registered(self, manager):
        """Take the plug-ins that implement hooks, once: before those of the workspace are registered."""
        if self.manager is None:
            self.manager, self.manager_type = manager, type(manager)
            self.execution = getattr(manager, "_inner_hookexec", None)
            self.callers = {name: getattr(manager.hook, name) for name in HOOKS if hasattr(manager.hook, name)}
            self.hooks = self._implementations()

    def _implementations(self):
        found = {}
        for hook, caller in self.callers.items():
            for one in _implementations_of(caller):
                name = one.plugin_name if not one.plugin_name.isdigit() else type(one.plugin).__name__
                name = name[len(WORKSPACE) + 1 :] if name.startswith(WORKSPACE + "/") else name
                function = getattr(one.function, "__func__", one.function)
                found["hook:{}:{}".format(hook, name)] = (function, getattr(function, "__code__", None))
        return found

    def hook_differences(self):
        """Yield what differs in who implements the hooks; what the runner's own functions implement is known."""
        if self.manager is None:
            return
        if type(self.manager) is not self.manager_type:
            yield "hook:manager", "replaced"
            return
        if getattr(self.manager, "_inner_hookexec", None) is not self.execution:
            yield "hook:execution", "replaced"
        for hook, caller in self.callers.items():
            if getattr(self.manager.hook, hook, None) is not caller:
                yield "hook:" + hook, "replaced"
        yield from self._implementation_differences()

    def _implementation_differences(self):
        now = self._implementations()
        for name, (function, code) in self.hooks.items():
            if name not in now:
                yield name, "removed"
            elif now[name][0] is not function or now[name][1] is not code:
                yield name, "replaced"
        for name, (function, _) in now.items():
            if name not in self.hooks and id(function) not in self.functions:
                yield name, "added"

    def collected(self, items):
        """Hold the code of the tests."""
        self.tests = [(item, _codes_of(item)) for item in items]

    def test_differences(self):
        """Yield the tests whose code is not any more what was collected."""
        for item, codes in self.tests:
            now = _codes_of(item)
            if codes and not _same(now, codes):
                yield "test:" + item.nodeid, "replaced"
            for name in _ITEM_METHODS:
                if name in vars(item):
                    yield "item:" + name, "replaced"


class Checks:
    """Writes what a snapshot finds changed: after a test's call, and at the end of the session."""

    def __init__(self, snapshot, write):
        """Take the snapshot, and what writes a record."""
        self.snapshot, self.write, self.told = snapshot, write, set()
        self.plugin_registered, self.collected = snapshot.plugin_registered, snapshot.collected

    def after_call(self):
        """Compare what decides."""
        self._tell(self.snapshot.deciding_differences)

    def finish(self):
        """Compare everything."""
        self._tell(self.snapshot.differences, self.snapshot.hook_differences, self.snapshot.test_differences)

    def _tell(self, *searches):
        told, write = self.told, self.write
        try:
            for search in searches:
                for name, how in search():
                    if name not in told and len(told) < MOST_RECORDS:
                        told.add(name)
                        write({"kind": "changed", "name": name[:300], "how": how})
        except Exception:  # noqa: BLE001 -- what cannot be compared is not what it was
            write({"kind": "changed", "name": "snapshot", "how": "replaced"})


def _late(name, key, value):
    """Say whether a module's new entry is one of its own submodules, or what one of them defines under this name."""
    if type(value) is types.ModuleType:
        return value.__name__ == name + "." + key
    module = value.__module__ if type(value) in (type, types.FunctionType) else ""
    home = sys.modules.get(module) if module.startswith(name + ".") else None
    return home is not None and vars(home).get(key) is value


def _implementations_of(caller):
    if hasattr(caller, "get_hookimpls"):
        return list(caller.get_hookimpls())
    return list(caller._nonwrappers) + list(caller._wrappers)  # noqa: SLF001 -- pluggy before 0.8


def _codes_of(item):
    """Return the code of a test's function and of those that it wraps, without making an instance of a class."""
    try:
        function = vars(item).get("_obj")
        if function is None:
            function = getattr(item.parent.obj, getattr(item, "originalname", None) or item.name, None)
        return [part.__code__ for part in functions_of(function)]
    except Exception:  # noqa: BLE001 -- an item of a foreign kind
        return []
