"""What two snapshots tell apart, and what they must not."""

import functools
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import envfarm_verifiers

PROGRAMS = Path(str(envfarm_verifiers.__file__)).parent / "box_programs"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{name}_under_test", PROGRAMS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(PROGRAMS))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(PROGRAMS))
    return module


snapshot = load("snapshot")
SOURCE = """
import functools
counter, table, nothing = 0, {}, None
def outer():
    def inner(): return 1
    def used(x=1, *, y=2): return inner()
    return used
plain = outer()
cached = functools.lru_cache(maxsize=None)(plain)
class Kind:
    state = []
    def method(self): return 1
    @property
    def value(self): return 1
    @classmethod
    def make(cls): return 1
    class Inner:
        def deep(self): return 1
class Child(Kind): pass
"""
CHANGES = {
    "m.outer ": "outer.__code__ = (lambda: None).__code__",
    "m.plain ": "plain.__defaults__ = (2,)",
    "m.plain  ": "plain.__kwdefaults__['y'] = 'other'",
    "m.plain   ": "plain.__closure__[0].cell_contents = print",
    "m.outer": "outer = print",
    "m.Kind.method": "Kind.method = lambda self: 2",
    "m.Kind.value": "Kind.value = property(lambda self: 2)",
    "m.Kind.value ": "Kind.value.fget.__code__ = (lambda self: 2).__code__",
    "m.Kind.make": "Kind.make.__func__.__code__ = (lambda cls: 2).__code__",
    "m.Kind.Inner.deep": "del Kind.Inner.deep",
    "m.Child.method": "Child.method = lambda self: 2",
    "m.Child.__eq__": "Child.__eq__ = lambda self, other: True",
    "m.Child": "class Other: pass\nChild.__bases__ = (Inner2,)",
    "m.isinstance": "isinstance = lambda *a: True",
    "m.nothing": "nothing = lambda: None",
    "m.functools": "import types\nfunctools = types.ModuleType('functools')",
}
ORDINARY = (
    "counter = 5",
    "table['a'] = 1; table2 = []",
    "cached(); plain()",
    "Kind.state.append(1); Kind().value; Child().__dict__['x'] = 1",
    "Kind.__doc__ = 'x'; Kind.number = 3",
)


@pytest.fixture
def module() -> Iterator[ModuleType]:
    made = ModuleType("m")
    sys.modules["m"] = made
    exec(SOURCE, vars(made))  # noqa: S102 -- a module made of text
    vars(made)["Inner2"] = type("Inner2", (made.Kind,), {"__module__": "m"})
    yield made
    del sys.modules["m"]


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_named(name: str, module: ModuleType) -> None:
    taken = snapshot.Snapshot({"m": module})
    exec(CHANGES[name], vars(module))  # noqa: S102 -- as above
    found = {what: how for what, how in taken.differences() if what.startswith("m.")}
    assert name.strip() in found


@pytest.mark.parametrize("code", ORDINARY)
def test_ordinary_state_is_no_change(code: str, module: ModuleType) -> None:
    taken = snapshot.Snapshot({"m": module})
    exec(code, vars(module))  # noqa: S102 -- as above
    assert [name for name, _ in taken.differences() if name.startswith("m.")] == []


def test_nothing_changes_by_itself() -> None:
    taken = snapshot.Snapshot()
    assert len(taken.functions) > 1000
    assert list(taken.differences()) == []


def test_a_module_exchanged_in_the_table_is_named(module: ModuleType) -> None:
    taken = snapshot.Snapshot()
    taken.modules["m"] = module
    sys.modules["m"] = ModuleType("m")
    assert ("m", "replaced") in list(taken.differences())


def test_what_cannot_be_compared_counts_as_changed() -> None:
    records: list[dict[str, str]] = []
    taken = snapshot.Snapshot()
    taken.spaces = [("broken", None, {}, frozenset())]
    snapshot.Checks(taken, records.append).finish()
    assert records == [{"kind": "changed", "name": "snapshot", "how": "replaced"}]


def test_what_decides_is_compared_by_itself(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "DECIDING", {"m", "m.Child", "m.Kind"})
    taken = snapshot.Snapshot({"m": module})
    assert list(taken.deciding_differences()) == []
    vars(module)["Kind"].state.append(1)
    vars(module)["counter"] = 7
    assert list(taken.deciding_differences()) == []
    vars(module)["Kind"].method = print
    assert list(taken.deciding_differences()) == [("m.Kind.method", "replaced")]
    del vars(module)["Kind"].make
    assert ("m.Kind.make", "removed") in list(taken.deciding_differences())
    vars(module)["isinstance"] = print
    assert list(taken.deciding_differences()) == [("m.isinstance", "added")]


def test_at_most_200_differences_are_told(module: ModuleType) -> None:
    records: list[dict[str, str]] = []
    taken = snapshot.Snapshot({"m": module})
    vars(module).update({f"f{number}": functools.partial(print) for number in range(300)})
    snapshot.Checks(taken, records.append).finish()
    assert len(records) == snapshot.MOST_RECORDS


def test_our_own_modules_are_found_by_nobody_and_have_builtins_of_their_own() -> None:
    program = (
        "import builtins, sys, launch\nlen_ = len\n"
        "names = 'place_files path_owners record_pipe report_plugin audit_hook snapshot ask'\n"
        "own = launch.load_own(names.split())\n"
        "builtins.len = builtins.type = builtins.repr = builtins.sorted = None\n"
        "print(own['record_pipe'].json_text({'a': [1, 2.5, None, True, 'x']}), own['ask'].encode([1, 'a']))\n"
        "print(len_(own['report_plugin'].code_hash([launch.main.__code__])), own['ask'].encode({1}))\n"
        "print(list(set(own) & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(PROGRAMS)},
        capture_output=True,
        text=True,
        check=False,
    )
    expected = '{"a":[1,2.5,null,true,"x"]} ' + "['l', [['i', '1'], ['s', 'a']]]\n32 ['S', [['i', '1']]]\n[]\n"
    assert done.stdout == expected, done.stderr
