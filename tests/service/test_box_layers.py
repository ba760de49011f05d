"""What runs inside a box against submitted code, in a real jail: audit hook, snapshots, questions, selection."""

import importlib.util
import json
import marshal
import os
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from envfarm.sandbox.contract import LeaseRequest
from envfarm.sandbox.local.provider import open_local_provider
from envfarm_verifiers.test_command import PINNED_VARIABLES, TestCommand
from envfarm_verifiers.test_files import Placement
from envfarm_verifiers.test_run import place_reference, trusted_folder
from task_miner.packaging.archive import ArchiveEntry, write_archive

if TYPE_CHECKING:
    from tests.data.tiny.task import TinyTask

Records = list[dict[str, Any]]
NONCE = "n" * 32
TEST_CODE = ("tests/**", "**/conftest.py")


def run_job(task: "TinyTask", files: Mapping[str, str], **job: object) -> tuple[Records, int | None, str]:
    """Run launch.py on some files; return the records, the status and what was printed."""
    asked = {"nonce": NONCE, "paths": ["tests"], "plugins": [], "options": [], "test_timeout_seconds": 30.0} | job
    archive = write_archive((ArchiveEntry(path, text.encode()) for path, text in files.items()), modified_at=0)
    lease = LeaseRequest(image=task.image, folders=(trusted_folder(),))

    async def run() -> tuple[Records, int | None, str]:
        async with open_local_provider({}) as provider, provider.lease(lease) as sandbox:
            assert await place_reference(sandbox, Placement(archive=archive, protected=("tests/**",)))
            result = await sandbox.exec(
                TestCommand(paths=()).argv(),
                env=dict(PINNED_VARIABLES),
                stdin=marshal.dumps(asked, 2),
                timeout_seconds=120,
                report_limit_bytes=1 << 24,
            )
        records = [json.loads(line) for line in result.report.splitlines()]
        assert {record.pop("nonce") for record in records} <= {NONCE}
        return records, result.exit_code, (result.stdout + result.stderr).decode("utf-8", "replace")

    return anyio.run(run)


def of_kind(records: Records, kind: str) -> Records:
    return [record for record in records if record["kind"] == kind]


def load_tables() -> ModuleType:
    path = Path(__file__).parents[1] / "data" / "box_cheats.py"
    spec = importlib.util.spec_from_file_location("box_cheats_of_tests", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TABLES = load_tables()
CHEATS: Mapping[str, tuple[str, str]] = TABLES.CHEATS
HONEST: Mapping[str, str] = TABLES.HONEST


def module_of(name: str) -> str:
    return "".join(character if character.isalnum() else "_" for character in name)


@pytest.fixture(scope="module")
def audited(tiny_task: "TinyTask") -> Records:
    files = {f"src/tiny/cheat_{module_of(name)}.py": code for name, (_, code) in CHEATS.items()}
    files |= {f"src/tiny/honest_{module_of(name)}.py": code for name, code in HONEST.items()}
    calls = [
        f"def test_{name}():\n    expected = 5\n    from tiny import {name}\n    {name}.do()\n"
        for name in (path.rpartition("/")[2][:-3] for path in files)
    ]
    files |= {"tests/test_all.py": "\n".join(calls), "tests/test_honest.py": TABLES.HONEST_TESTS}
    files |= {"tests/victim.txt": "", "tests/other.txt": ""}
    records, status, printed = run_job(tiny_task, files, watch=True, sources=TEST_CODE)
    outcomes = {record["id"]: record["outcome"] for record in of_kind(records, "test")}
    assert (set(outcomes.values()), status) == ({"passed"}, 0), printed[-3000:]
    assert len(outcomes) == len(CHEATS) + len(HONEST) + 1
    return of_kind(records, "audit")


@pytest.mark.skipif(sys.version_info < (3, 8), reason="audit hooks came with 3.8")
@pytest.mark.parametrize("name", CHEATS)
def test_what_submitted_code_does_is_found(name: str, audited: Records) -> None:
    path = f"src/tiny/cheat_{module_of(name)}.py"
    test = f"tests/test_all.py::test_cheat_{module_of(name)}"
    found = [record for record in audited if record["where"].startswith(path) or record["id"] == test]
    assert {record["finding"] for record in found} >= {CHEATS[name][0]}
    assert all(record["where"].rpartition(":")[2].isdigit() or record["where"] == "thread" for record in found)


@pytest.mark.parametrize("name", HONEST)
def test_honest_code_is_silent(name: str, audited: Records) -> None:
    path, test = f"src/tiny/honest_{module_of(name)}.py", f"tests/test_all.py::test_honest_{module_of(name)}"
    assert [record for record in audited if record["where"].startswith(path) or record["id"] == test] == []


def test_test_code_is_silent(audited: Records) -> None:
    assert [record for record in audited if "test_honest.py" in record["where"] + record["id"]] == []


PATCHES = {
    "_pytest.runner.call_and_report": "import _pytest.runner as m; m.call_and_report = wrap(m.call_and_report)",
    "_pytest.runner.isinstance": "import _pytest.runner as m; m.isinstance = isinstance",
    "_pytest.reports.TestReport.from_item_and_call": "import _pytest.reports as m\n"
    "m.TestReport.from_item_and_call = classmethod(m.TestReport.from_item_and_call.__func__)",
    "_pytest.python.Function.runtest": "import _pytest.python as m\nm.Function.runtest = wrap(m.Function.runtest)",
    "_pytest.python.Function.__getattribute__": "import _pytest.python as m\n"
    "m.Function.__getattribute__ = lambda self, name: object.__getattribute__(self, name)",
    "pluggy.HookimplMarker": "import pluggy as m; m.HookimplMarker = wrap(m.HookimplMarker)",
    "pytest.raises": "import pytest as m; m.raises = wrap(m.raises)",
    "unittest.case.TestCase.assertEqual": "import unittest as m\nm.TestCase.assertEqual = wrap(m.TestCase.assertEqual)",
    "unittest.case.TestCase.assertIn": "import unittest as m\n"
    "def same(self, member, container, msg=None): pass\nm.TestCase.assertIn.__code__ = same.__code__",
    "builtins.sorted": "import builtins as m; m.sorted = wrap(sorted)",
    "builtins.__envfarm_ask__": "import builtins as m; m.__envfarm_ask__ = lambda *a: True",
    "os.write": "import os as m; m.write = wrap(m.write)",
    "json.dumps": "import json as m; m.dumps = lambda *a, **k: 'forged'",
    "json.decoder": "import sys, types; sys.modules['json.decoder'] = types.ModuleType('json.decoder')",
    "report_plugin.Reporter.pytest_runtest_logfinish": "import gc\ngc.unfreeze()\n"
    "kind = [k for k in gc.get_objects() if isinstance(k, type) and k.__name__ == 'Reporter'][0]\n"
    "kind.pytest_runtest_logfinish = wrap(kind.pytest_runtest_logfinish)",
    "threading._trace_hook": "import threading as m; m._trace_hook = lambda *a: None",
}
PATCHER = """
def wrap(function):
    def wrapped(*arguments, **named):
        return function(*arguments, **named)
    return wrapped

"""
CHANGES_TESTS = """
import unittest
from tiny import patcher

def test_one():
    patcher.patch()

def test_victim():
    assert True

class TestMore(unittest.TestCase):
    def test_more(self):
        self.assertEqual(1, 1)

def test_cheat():
    global test_one
    patcher.replace(test_victim)
"""


@pytest.fixture(scope="module")
def changed(tiny_task: "TinyTask") -> dict[str, str]:
    body = "".join(
        f"def patch{number}():\n" + "".join(f"    {line}\n" for line in code.replace("; ", "\n").splitlines())
        for number, code in enumerate(PATCHES.values())
    )
    body += "def patch():\n" + "".join(f"    patch{number}()\n" for number in range(len(PATCHES)))
    body += "def replace(test):\n    test.__code__ = (lambda: None).__code__\n"
    files = {"src/tiny/patcher.py": PATCHER + body, "tests/test_changes.py": CHANGES_TESTS}
    records, status, printed = run_job(tiny_task, files, watch=True, asks=True, sources=TEST_CODE)
    assert status == 0, printed[-3000:]
    assert [record["outcome"] for record in of_kind(records, "test")] == ["passed"] * 4, printed[-3000:]
    assert records[-1] == {"kind": "end", "status": 0}
    return {record["name"]: record["how"] for record in of_kind(records, "changed")}


@pytest.mark.parametrize("name", PATCHES)
def test_what_is_patched_is_named(name: str, changed: dict[str, str]) -> None:
    assert name in changed, changed


def test_a_test_whose_code_was_replaced_is_named_and_nothing_else(changed: dict[str, str]) -> None:
    assert [name for name in changed if name.startswith("test:")] == ["test:tests/test_changes.py::test_victim"]
    assert "_pytest.runner.runtestprotocol" not in changed


ORDINARY = """
import contextlib, functools, unittest, warnings
from unittest import mock
import pytest
import tiny
import tiny.early

@pytest.fixture(params=[1, 2], scope="module")
def number(request):
    yield request.param

@pytest.fixture(autouse=True)
def patched(monkeypatch):
    monkeypatch.setattr(tiny, "greet", lambda name: name)
    monkeypatch.setattr("os.getcwd", lambda: "/")

@pytest.mark.parametrize("x", range(100))
def test_many(x, number, tmp_path, capsys, caplog):
    with mock.patch("json.dumps"), mock.patch.object(tiny, "add", return_value=3) as add:
        assert tiny.add(1, 2) == 3
    with pytest.raises(ZeroDivisionError), warnings.catch_warnings():
        1 / 0
    assert tiny.greet("a") == pytest.approx("a")

class TestClass:
    @pytest.mark.parametrize("x", [1, 2])
    def test_method(self, x, record_property): record_property("a", 1)
    @functools.lru_cache
    def helper(self): return 1
    @pytest.mark.xfail
    def test_fails(self): assert {1: 2} == {1: 3}

class TestUnit(unittest.TestCase):
    def setUp(self): self.addCleanup(lambda: None)
    def test_equal(self):
        with self.subTest(a=1), self.assertRaises(ValueError): raise ValueError
        self.assertEqual([1], [1])
    @unittest.skip("later")
    def test_later(self): pass

class TestAsync(unittest.IsolatedAsyncioTestCase):
    async def test_async(self): self.assertTrue(True)

@mock.patch("tiny.add", new=None)
def test_decorated(): assert tiny.add is None

def test_fails(): assert "a\\nb" == "a\\nc"
"""


def test_an_ordinary_run_shows_no_change_and_no_finding(tiny_task: "TinyTask") -> None:
    files = {"tests/test_ordinary.py": ORDINARY, "tests/conftest.py": "import pytest\n"}
    files["src/tiny/early.py"] = "import ctypes  # loads a library, which is not what this file does\n"
    records, status, printed = run_job(tiny_task, files, watch=True, asks=True, sources=TEST_CODE)
    assert (len(of_kind(records, "test")), status) == (208, 1), printed[-3000:]
    assert of_kind(records, "changed") == []
    assert of_kind(records, "audit") == []


def test_a_hook_that_the_submission_adds_to_a_conftest_is_named(tiny_task: "TinyTask") -> None:
    files = {
        "tests/conftest.py": "import tiny\n",
        "src/tiny/__init__.py": "import sys\nf = sys.modules.get('conftest') or sys.modules.get('tests.conftest')\n"
        "if f: f.pytest_runtest_makereport = lambda item, call: None\n",
        "tests/test_one.py": "def test_one(): pass\n",
    }
    records, _, printed = run_job(tiny_task, files, watch=True, sources=TEST_CODE)
    names = [record["name"] for record in of_kind(records, "changed")]
    assert names == ["hook:pytest_runtest_makereport:tests/conftest.py"], printed[-2000:]


PUT_BACK = """
import sys
def add(a, b):
    kind = sys.modules["_py" + chr(116) + "est.reports"].TestReport
    old = kind.__dict__["from_item_and_call"]
    def forged(cls, item, call):
        kind.from_item_and_call = old
        call.excinfo = None
        return old.__get__(None, cls)(item, call)
    kind.from_item_and_call = classmethod(forged)
"""


def test_a_patch_that_takes_itself_back_is_named_and_so_is_the_outcome(tiny_task: "TinyTask") -> None:
    test = "from tiny import add\ndef test_add(): assert add(1, 1) == 2\n"
    files = {"src/tiny/__init__.py": PUT_BACK, "tests/test_one.py": test}
    records, _, printed = run_job(tiny_task, files, watch=True, sources=TEST_CODE)
    assert [record["outcome"] for record in of_kind(records, "test")] == ["passed"], printed[-2000:]
    names = {record["name"] for record in of_kind(records, "changed")}
    assert names == {"_pytest.reports.TestReport.from_item_and_call", "outcome:tests/test_one.py::test_add"}


TOLD_BY_OTHERS = {
    "a function": "list(map(found.tell, EVENTS))",
    "a filter": "old = found.tell\nfound.tell = lambda event: old(event)",
    "a hook of its own": "found.pytest_runtest_makereport(ITEM, CALL)",
    "pluggy": "config.hook.pytest_runtest_makereport(item=ITEM, call=CALL)",
    "a finalizer": "import weakref\nclass A: pass\nfor event in EVENTS: weakref.finalize(A(), found.tell, event)",
    "a thread": "import threading\nt = threading.Thread(target=found.end, args=(0,)); t.start(); t.join()",
}
REACHES = """
import sys
from types import SimpleNamespace
EVENTS = [("raised", "tests/test_one.py::test_one", "call", None, None)]
ITEM, CALL = SimpleNamespace(nodeid=EVENTS[0][1], obj=None), SimpleNamespace(when="call", excinfo=None)
config = next(finder.config for finder in sys.meta_path if hasattr(finder, "config"))
found = next(plugin for plugin in config.pluginmanager.get_plugins() if hasattr(plugin, "tell"))
"""


@pytest.mark.parametrize("who", TOLD_BY_OTHERS)
def test_who_tells_the_report_and_is_not_the_runner_is_named(who: str, tiny_task: "TinyTask") -> None:
    files = {"src/tiny/__init__.py": REACHES + TOLD_BY_OTHERS[who] + "\n", "tests/conftest.py": ""}
    files["tests/test_one.py"] = "import tiny\ndef test_one(): pass\n"
    records, _, printed = run_job(tiny_task, files, watch=True, sources=TEST_CODE)
    names = [record["name"] for record in of_kind(records, "changed")]
    assert any(name.startswith("caller:") for name in names), (names, printed[-2000:])


READS = {
    "throws": "tell.__self__.throw(ValueError)",
    "throws into a pipe": "ask = __envfarm_ask__; write = dict(zip(ask.__code__.co_freevars, ask.__closure__))['write']"
    "; write.cell_contents.__closure__[0].cell_contents[0].__self__.throw(ValueError)",
    "hands in an event of its own kind": "tell(type('T', (tuple,), {})(('begin', 'a')))",
    "hands in a text of its own kind": "tell(('begin', type('S', (str,), {})('a')))",
    "compiles under a frozen name": "exec(compile('def h(): pass', '<frozen os>', 'exec'), {})",
    "makes code under a frozen name": "(lambda: 1).__code__.replace(co_filename='<frozen os>')",
    "keeps a generator's frame": "g = (x for x in [1]); g.gi_frame",
    "keeps a generator's own frame": "g = (sys._getframe() for x in [1]); next(g)",
}


@pytest.mark.skipif(sys.version_info < (3, 8), reason="audit hooks came with 3.8")
@pytest.mark.parametrize("how", READS)
def test_who_reaches_for_the_report_s_keeper_is_named(how: str, tiny_task: "TinyTask") -> None:
    code = f"{REACHES}tell = found.tell\ntry:\n    {READS[how]}\nexcept Exception as error:\n    print(repr(error))\n"
    files = {"src/tiny/__init__.py": code, "tests/conftest.py": ""}
    files["tests/test_one.py"] = "import tiny\ndef test_one(): pass\n"
    records, status, printed = run_job(tiny_task, files, watch=True, asks=True, sources=TEST_CODE)
    alarms = {record["finding"] for record in of_kind(records, "audit")} - {"frames_walked", "runner_imported"}
    assert alarms or of_kind(records, "changed") or of_kind(records, "problem"), (records, printed[-2000:])
    assert [record["outcome"] for record in of_kind(records, "test")] == ["passed"]
    assert status == 0


HANDLERS = """
import asyncio, functools, signal
def mine(number, frame): pass
{0}
"""


@pytest.mark.parametrize(
    ("code", "named"),
    [
        ("signal.signal(signal.SIGUSR1, mine)", ["signal:10"]),
        ("signal.signal(signal.SIGUSR1, functools.partial(mine)); signal.signal(signal.SIGUSR2, print)", [10, 12]),
        ("signal.signal(signal.SIGUSR1, functools.singledispatch(mine))", [10]),
        (
            "import gc, types; gc.callbacks.append(mine); signal.signal(10, types.MethodType(asyncio.run, 1))",
            [10, "gc"],
        ),
        ("signal.signal(signal.SIGUSR1, signal.SIG_IGN)", []),
        ("signal.signal(signal.SIGTERM, signal.default_int_handler)", []),
        ("asyncio.run(asyncio.sleep(0))", []),
    ],
)
def test_who_handles_signals_is_named(code: str, named: list[str | int], tiny_task: "TinyTask") -> None:
    files = {"src/tiny/__init__.py": HANDLERS.format(code), "tests/test_one.py": "import tiny\ndef test_one(): pass\n"}
    records, _, printed = run_job(tiny_task, files, watch=True, sources=TEST_CODE)
    names = [record["name"] for record in of_kind(records, "changed")]
    spelled = {"gc": "gc:callback"}
    assert names == [spelled.get(str(name), name if isinstance(name, str) else f"signal:{name}") for name in named], (
        printed
    )


def test_who_finds_a_pipe_can_say_with_it_what_its_owner_says_and_no_more() -> None:
    reading, writing = os.pipe()
    pipes = load_program("record_pipe")
    new_pipe = pipes.open_report(writing, NONCE)
    audit, session = pipes.for_threads(new_pipe, "audit"), new_pipe("test", "end")
    for record in ({"kind": "test", "id": "a"}, {"kind": "audit", "finding": "x"}, {"kind": "end"}):
        audit(record)
    for record in ({"kind": "audit"}, {"kind": "test", "id": "b"}, {"kind": "end"}, {"kind": "test", "id": "c"}):
        session(record)
    audit({"kind": "audit", "finding": "late"})
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        told = [json.loads(line) for line in file]
    assert {record.pop("nonce") for record in told} == {NONCE}
    assert told == [{"kind": "audit", "finding": "x"}, {"kind": "test", "id": "b"}, {"kind": "end"}]


def test_threads_that_report_at_once_lose_nothing() -> None:
    reading, writing = os.pipe()
    write = load_program("record_pipe").for_threads(load_program("record_pipe").open_report(writing, NONCE), "ask")

    def ask(number: int) -> None:
        for _ in range(50):
            write({"kind": "ask", "check": number})

    with ThreadPoolExecutor(8) as pool, os.fdopen(reading, "rb") as file:
        done = [pool.submit(ask, number) for number in range(6)]
        told = [json.loads(file.readline())["check"] for _ in range(300)]
        for one in done:
            one.result()
    os.close(writing)
    assert sorted(told) == [number for number in range(6) for _ in range(50)]


def load_program(name: str) -> ModuleType:
    path = trusted_folder().source
    spec = importlib.util.spec_from_file_location(f"{name}_of_tests", f"{path}/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ASKING = """
import pytest
from tiny import answer

def test_asks():
    assert __envfarm_ask__(7, answer())

@pytest.mark.parametrize("expected", [__envfarm_token__(3), __envfarm_token__(4)])
def test_tokens(expected):
    assert expected != expected and repr(expected) == "<expected>"
    assert __envfarm_ask__(8, [1], expected)

class TestMore:
    def test_rest(self): pass
"""
ANSWER = "class A(str):\n    def __eq__(self, other): return True\n    __hash__ = None\ndef answer(): return A('x')\n"


def test_values_go_out_and_only_chosen_definitions_run(tiny_task: "TinyTask") -> None:
    files = {"tests/test_ask.py": ASKING, "src/tiny/__init__.py": ANSWER}
    chosen = ["tests/test_ask.py::test_asks", "tests/test_ask.py::test_tokens"]
    records, status, printed = run_job(tiny_task, files, asks=True, only_definitions=chosen, light=True)
    assert status == 0, printed[-2000:]
    collected = {record["id"]: record["at"] for record in of_kind(records, "collected")}
    assert list(collected) == [f"tests/test_ask.py::{name}" for name in ("test_asks", *TOKEN_TESTS)]
    assert collected["tests/test_ask.py::test_asks"] == ["tests/test_ask.py", 5]
    found = [[record[key] for key in ("id", "check", "token", "value", "type", "at")] for record in asks_of(records)]
    assert found == [
        ["tests/test_ask.py::test_asks", 7, None, ["s", "x"], "A", ["tests/test_ask.py", 6]],
        *(
            [f"tests/test_ask.py::{name}", 8, token, ["l", [["i", "1"]]], "list", ["tests/test_ask.py", 11]]
            for name, token in zip(TOKEN_TESTS, (3, 4), strict=True)
        ),
    ]


TOKEN_TESTS = ("test_tokens[expected0]", "test_tokens[expected1]")


def asks_of(records: Records) -> Records:
    return of_kind(records, "ask")


SETS = """
import pytest
@pytest.mark.parametrize(("value", "expected"), [(1, "one"), ("x", "two"), pytest.param(3, "three", id="third")])
def test_sets(value, expected): pass
"""


def test_ids_of_a_small_run_tell_no_values(tiny_task: "TinyTask") -> None:
    ids = {}
    for light in (False, True):
        records, status, printed = run_job(tiny_task, {"tests/test_sets.py": SETS}, light=light)
        assert status == 0, printed[-2000:]
        ids[light] = [record["id"].partition("::")[2] for record in of_kind(records, "collected")]
    assert ids[False] == ["test_sets[1-one]", "test_sets[x-two]", "test_sets[third]"]
    assert ids[True] == ["test_sets[value-expected0]", "test_sets[value-expected1]", "test_sets[third]"]


PATCHED_WRITER = """
import json, os, time

def test_one():
    json.dumps = json.encoder.encode_basestring_ascii = lambda *a, **k: "forged"
    os.getpid = lambda: 0
    os.write = lambda *a: 1 / 0
    time.time = lambda: 0
    raise ValueError
"""


def test_the_report_is_written_though_what_it_needs_is_patched(tiny_task: "TinyTask") -> None:
    records, _, printed = run_job(tiny_task, {"tests/test_one.py": PATCHED_WRITER})
    assert [record["kind"] for record in records] == ["start", "collected", "begin", "test", "end"], printed[-2000:]
    assert records[0]["pid"] > 0
    assert (records[3]["error"], records[3]["outcome"]) == ("ValueError", "failed")
    assert 0 <= records[3]["seconds"] < 30


def test_every_placed_file_has_one_and_the_same_time(tiny_task: "TinyTask") -> None:
    test = "import os\ndef test_one(): assert {os.stat(p).st_mtime for p in ('tests/a', __file__)} == {1577836800}"
    records, _, printed = run_job(tiny_task, {"tests/test_one.py": test, "tests/a": ""})
    assert [record["outcome"] for record in of_kind(records, "test")] == ["passed"], printed[-2000:]


FAILING: tuple[tuple[str, str, str], ...] = (
    ("def test_it(): assert 1 == 2", "failed", "AssertionError"),
    ("import pytest\ndef test_it():\n with pytest.raises(ValueError): pass", "failed", "Failed"),
    ("import pytest\n@pytest.fixture\ndef f(): raise KeyError\ndef test_it(f): pass", "error", "KeyError"),
    (
        "import unittest\nclass T(unittest.TestCase):\n def test_it(self): self.assertEqual(1, 2)",
        "failed",
        "AssertionError",
    ),
    ("import pytest\ndef test_it(): pytest.skip('x')", "skipped", "Skipped"),
)


@pytest.mark.parametrize(("code", "outcome", "error"), FAILING)
def test_the_exception_that_decided_is_named(code: str, outcome: str, error: str, tiny_task: "TinyTask") -> None:
    records, _, printed = run_job(tiny_task, {"tests/test_one.py": code}, light=True)
    (test,) = of_kind(records, "test")
    assert (test["outcome"], test["error"]) == (outcome, error), printed[-2000:]
    assert len(test["code"]) == 32
