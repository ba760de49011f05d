"""What syntax trees say of changed Python files."""

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from task_miner.languages.python_code import PythonCode, is_typing_only

CODE = PythonCode()
MODULE = PurePosixPath("pkg/a.py")
TESTS = PurePosixPath("tests/test_a.py")


def same(old: str | None, new: str | None, path: str = "pkg/a.py") -> bool:
    contents = [None if text is None else text.encode() for text in (old, new)]
    return CODE.same_behaviour(PurePosixPath(path), *contents)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("x = 1\n", "x = 1  # why\n"),
        ("x = f(1,2)\n", "x = f(\n    1,\n    2,\n)\n"),
        ("x = 'a'\n", 'x = "a"\n'),
        ("x = u'a'\n", "x = 'a'\n"),
        ('"""One."""\nx = 1\n', "x = 1\n"),
        ("class A:\n    '''One.'''\n    x = 1\n", "class A:\n    x = 1\n"),
        ("def f(a, b=1):\n    return a\n", "def f(a: int, b: int = 1) -> int:\n    '''Doc.'''\n    return a\n"),
        ("def f(*a, **b): pass\n", "def f(*a: int, **b: str): pass\n"),
        ("def f():\n    x = 1\n    return x\n", "def f():\n    x: int = 1\n    return x\n"),
        ("def f(x):\n    if x:\n        y = 1\n", "def f(x):\n    if x:\n        y: int = 1\n"),
        ("def f():\n    '''Doc.'''\n", "def f():\n    pass\n"),
        (
            "class A:\n    @property\n    def f(self): return 1\n",
            "class A:\n    @property\n    def f(self) -> int: return 1\n",
        ),
        ("import re\nx = re.compile('\\d')\n", "import re\nx = re.compile('\\d')  # invalid escape\n"),
    ],
)
def test_what_nothing_runs_is_the_same_behaviour(old: str, new: str) -> None:
    assert same(old, new)
    assert same(new, old)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("x = 1\n", "x = 2\n"),
        ("x = 1\n", "x = True\n"),
        ("x: int\n", "x: str\n"),
        ("class A:\n    x: int = 1\n", "class A:\n    x: str = 1\n"),
        ("def f():\n    class A:\n        x: int\n", "def f():\n    class A:\n        x: str\n"),
        ("@app.command()\ndef f(a: int): pass\n", "@app.command()\ndef f(a: str): pass\n"),
        ("@app.command()\ndef f():\n    '''Old help.'''\n", "@app.command()\ndef f():\n    '''New help.'''\n"),
        ("'''One.'''\nprint(__doc__)\n", "'''Two.'''\nprint(__doc__)\n"),
        ("def f(a, b): pass\n", "def f(b, a): pass\n"),
        ("a()\nb()\n", "b()\na()\n"),
        ("x = b'a'\n", "x = 'a'\n"),
        ("async def f(): pass\n", "def f(): pass\n"),
        ("print 1\n", "print  1\n"),
        ("print 1\n", "print(1)\n"),
        (None, ""),
        ("", None),
        (None, "# only a comment\n"),
    ],
)
def test_what_may_run_otherwise_is_another_behaviour(old: str | None, new: str | None) -> None:
    assert not same(old, new)


def test_data_is_the_same_only_by_its_bytes_and_stubs_never_run() -> None:
    assert same("a", "a", "pkg/a.json")
    assert not same("a", "a ", "pkg/a.json")
    assert same("x: int", "x: str", "pkg/a.pyi")
    assert same(None, "x: str", "pkg/a.pyi")


OLD = """\
import pytest
from lib import a

LIMIT = 3

def helper():
    return 1

def test_same():
    assert a() == 1

def test_changed():
    assert a() == 1

def test_gone():
    pass

class TestC:
    def setup_method(self):
        self.x = 1
    def test_same(self):
        assert self.x
    def test_changed(self):
        assert self.x == 1
    class TestInner:
        def test_deep(self):
            pass
"""
NEW = OLD.replace("def test_changed():\n    assert a() == 1", "def test_changed():\n    assert a() == 2")
NEW = NEW.replace("assert self.x == 1", "assert self.x == 2").replace("def test_gone():\n    pass\n", "")
NEW += "\n@pytest.mark.parametrize('x', [1])\ndef test_new(x):\n    pass\n"


def test_tests_are_told_apart_by_their_own_body() -> None:
    found = CODE.changed_tests(TESTS, OLD.encode(), NEW.encode())
    assert found.added == {"test_new"}
    assert found.changed == {"test_changed", "TestC::test_changed"}
    assert found.same == {"test_same", "TestC::test_same", "TestC::TestInner::test_deep"}
    assert not found.shared_changed


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("LIMIT = 3", "LIMIT = 4", True),
        ("    return 1", "    return 2", True),
        ("self.x = 1", "self.x = 2", True),
        ("from lib import a", "from lib import a, b", True),
        ("class TestC:", "class TestC(Mixin):", True),
        ("class TestC:", "@pytest.mark.slow\nclass TestC:", True),
        ("LIMIT = 3", "LIMIT = 3  # three", False),
        ("LIMIT = 3", "", False),
        ("import pytest\nfrom lib import a", "from lib import a\nimport pytest", False),
        ("def helper():", "def helper() -> int:", False),
    ],
)
def test_what_tests_share_is_changed_only_by_something_new(old: str, new: str, changed: bool) -> None:  # noqa: FBT001 -- a table
    found = CODE.changed_tests(TESTS, OLD.encode(), OLD.replace(old, new).encode())
    assert (found.added, found.changed, found.shared_changed) == (frozenset(), frozenset(), changed)


def test_an_inherited_test_is_as_changed_as_its_class() -> None:
    old = "class Base:\n    def test_x(self):\n        assert self.n\nclass TestA(Base):\n    n = 1\n"
    found = CODE.changed_tests(TESTS, old.encode(), old.replace("self.n\n", "self.n == 1\n").encode())
    assert {"TestA::test_x", "Base::test_x"} <= found.changed
    again = CODE.changed_tests(TESTS, old.encode(), (old + "class TestB(TestA):\n    n = 2\n").encode())
    assert again.added == {"TestB::test_x"}


def test_a_changed_decorator_changes_its_test_and_no_other() -> None:
    old = "import pytest\n@pytest.mark.parametrize('x', [1])\ndef test_a(x): pass\ndef test_b(): pass\n"
    found = CODE.changed_tests(TESTS, old.encode(), old.replace("[1]", "[1, 2]").encode())
    assert (found.changed, found.same) == ({"test_a"}, {"test_b"})


def test_tests_under_a_condition_are_known_by_name() -> None:
    old = "import sys\nif sys.version_info > (3,):\n    def test_a(): pass\ntry:\n    import x\nfinally:\n    pass\n"
    found = CODE.changed_tests(TESTS, old.encode(), old.replace("a(): pass", "a(): assert 1").encode())
    assert (found.changed, found.shared_changed) == ({"test_a"}, False)


def test_files_that_come_go_or_do_not_parse() -> None:
    new = CODE.changed_tests(TESTS, None, b"def test_a(): pass\n")
    assert (new.added, new.shared_changed) == ({"test_a"}, False)
    gone = CODE.changed_tests(TESTS, b"def test_a(): pass\n", None)
    assert not gone.added
    assert not gone.shared_changed
    broken = CODE.changed_tests(TESTS, b"def test_a(): pass\n", b"def test_a(:\n")
    assert broken.shared_changed
    data = PurePosixPath("tests/data/a.json")
    assert CODE.changed_tests(data, b"1", b"2").shared_changed
    assert not CODE.changed_tests(data, b"1", None).shared_changed


@pytest.mark.parametrize(
    ("old", "new", "labels"),
    [
        ("import b\nimport a\nx = 1\n", "import a\nimport b\nx = 1\n", ("lint",)),
        ("import a\nx = 1\n", "x = 1\n", ("lint",)),
        ("@d\ndef f(a): pass\n", "from t import T\n@d\ndef f(a: T) -> T: pass\n", ("typing",)),
        ("x = y\n", "from typing import cast\nx: int = cast(int, y)\n", ("typing",)),
        ("x = y\n", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import z\nx = y\n", ("typing",)),
        ("class A:\n    x = 1\n", "class A:\n    x: int = 1\n", ("typing",)),
        ("x = 1\n", "x = 2\n", ()),
        ("print 1\n", "print(1)\n", ()),
    ],
)
def test_lint_and_typing_work_is_labelled(old: str, new: str, labels: tuple[str, ...]) -> None:
    assert CODE.labels_of({"a.py": (old.encode(), new.encode())}) == labels
    assert CODE.labels_of({"a.py": (old.encode(), new.encode()), "b.py": (b"x = 1", b"x = 2")}) == ()


def test_an_added_module_is_neither_lint_nor_typing() -> None:
    assert CODE.labels_of({"a.py": (None, b"import a\n")}) == ()
    assert CODE.labels_of({}) == ()
    assert is_typing_only(PurePosixPath("a.pyi"), None, b"x: int\n")


@given(old=st.binary(max_size=60), new=st.binary(max_size=60))
def test_any_bytes_are_compared_without_an_error(old: bytes, new: bytes) -> None:
    assert CODE.same_behaviour(MODULE, old, old)
    CODE.same_behaviour(MODULE, old, new)
    found = CODE.changed_tests(TESTS, old, new)
    assert not found.added & found.changed
    CODE.labels_of({"a.py": (old, new)})


def test_a_file_too_deep_for_the_parser_differs_and_does_no_harm() -> None:
    deep = b"x = " + b"(" * 5000 + b")" * 5000 + b"\n"
    assert not CODE.same_behaviour(MODULE, deep, b"x = 1\n")
    assert CODE.mutants(MODULE, None, b"x = " + b"-" * 20000 + b"1\n", limit=3) is not None
