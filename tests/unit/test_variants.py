"""Honest variants: they mean the same, hold the fix, touch nothing else, and are none where nothing fits."""

import ast
import bisect
import colorsys
import configparser
import difflib
import fnmatch
import html.parser
import itertools
import json.decoder
import logging
import shlex
import statistics
import string
import subprocess
import sys
import textwrap
import threading
import time
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envfarm.audit.cheat import CheatTarget
from envfarm.audit.variant import Variant
from envfarm.audit.variant_collection import VARIANTS

BY_NAME = {variant.name: variant for variant in VARIANTS}
LEAST = 5
PATH = "pack/module.py"
NUMBERS = itertools.count()
MODULES = [
    *(bisect, colorsys, configparser, difflib, fnmatch, html.parser),
    *(json.decoder, shlex, statistics, string, textwrap),
]


def target(fixed: str | bytes, base: str | bytes | None = None) -> CheatTarget:
    contents = [text.encode() if isinstance(text, str) else text for text in (fixed, base)]
    return CheatTarget(sources={PATH: contents[1]}, fixed={PATH: contents[0], "tests/test_it.py": b"assert 1\n"})


def added(diff: bytes | None) -> bytes | None:
    """Return the new content of the module in a diff of whole files."""
    if diff is None:
        return None
    section = next(part for part in diff.split(b"diff --git ") if part.startswith(b'"a/' + PATH.encode()))
    lines = section.partition(b"\n@@ ")[2].split(b"\n")[1:]
    return b"".join(line[1:] + b"\n" for line in lines if line.startswith(b"+"))


def variant_of(name: str, fixed: str, base: str | None = None) -> str | None:
    content = added(BY_NAME[name].make(target(fixed, base)))
    return content.decode() if content is not None else None


@pytest.fixture
def load() -> Iterator[Callable[[str], Any]]:
    made: list[str] = []

    def run(text: str) -> Any:
        module = types.ModuleType(f"variant_{next(NUMBERS)}")
        made.append(module.__name__)
        sys.modules[module.__name__] = module
        exec(compile(text, "variant.py", "exec", dont_inherit=True), module.__dict__)  # noqa: S102 -- made here
        return module

    yield run
    for name in made:
        del sys.modules[name]


REWRITTEN = [
    ("locals_renamed", "def f(a):\n    x = a + 1\n    return x\n", "    the_x = a + 1\n    return the_x\n"),
    ("locals_renamed", "def f(a):\n    x = a\n    return [x + y for y in a]\n", "[the_x + y for y in a]"),
    ("locals_renamed", 'def f(a):\n    x = a\n    return f"{x}"\n', "{the_x}"),
    ("locals_renamed", "def f(a):\n    try:\n        a()\n    except E as e:\n        return e\n", "as the_e:"),
    ("locals_renamed", "the_x = 1\ndef f(a):\n    x = a\n    return x\n", "the_x_ = a"),
    ("early_returns", "def f(a):\n    if a:\n        return 1\n    else:\n        b()\n", "return 1\n    b()\n"),
    ("branches_swapped", "def f(a):\n    return 1 if a is None else 2\n", "2 if a is not None else 1"),
    (
        "branches_swapped",
        "def f(a):\n    if a == 1:\n        b()\n    else:\n        c()\n",
        "    if not a == 1:\n        c()\n    else:\n        b()\n",
    ),
    (
        "comprehension_to_loop",
        "def f(a):\n    return [x for x in a if x]\n",
        "    for each_x in a:\n        if each_x:\n            collected.append(each_x)\n    return collected\n",
    ),
    ("comprehension_to_loop", "def f(x):\n    x = {x: 1 for x in x}\n    return x\n", "    for each_x in x:\n"),
    ("comprehension_to_loop", "def f(a):\n    return ', '.join(str(x) for x in a)\n", "', '.join(collected)"),
    (
        "loop_to_comprehension",
        "def f(a):\n    out = []\n    for x in a:\n        if x:\n            out.append(x)\n    return out\n",
        "    out = [x for x in a if x]\n    return out\n",
    ),
    ("function_split", "def f(a, /, b, *, c=1, **d):\n    return b\n", "return _f_body(a, b, c=c, **d)"),
    ("function_split", "class C:\n    def m(self, *a):\n        return a\n", "def _m_body(self, *a):\n    return a\n"),
    ("module_unparsed", "# said\nx = (1)\n", "x = 1\n"),
    ("self_patched", "class C:\n    def m(self):\n        return 1\n", 'setattr(C, "m", _traced(C.__dict__["m"]))'),
    (
        "calls_logged",
        "class C:\n    @staticmethod\n    def m():\n        return 1\n",
        "staticmethod\n    @_logged\n    def",
    ),
    ("calls_logged", "_logged = 1\ndef f():\n    return 1\n", "@_logged_\ndef f"),
    (
        "calls_logged",
        '#!/bin/x\n"""D."""\nfrom __future__ import annotations\ndef f():\n    x()\n',
        "annotations\nimport",
    ),
]


@pytest.mark.parametrize(("name", "before", "after"), REWRITTEN)
def test_code_is_rewritten(name: str, before: str, after: str) -> None:
    assert after in (variant_of(name, before) or "")


LEFT_ALONE = [
    ("locals_renamed", "def f(a):\n    x = a\n    return locals()\n"),
    ("locals_renamed", "def f(a):\n    global x\n    x = a\n"),
    ("locals_renamed", "def f(a):\n    import os\n    def g(): pass\n    a = 1\n"),
    ("locals_renamed", "def f(a):\n    match a:\n        case {'x': x}:\n            return x\n"),
    ("locals_renamed", "def f(a):\n    x = a\n    class C:\n        x = x\n    return C\n"),
    ("function_split", "class C:\n    def m(self):\n        return super().m()\n"),
    ("function_split", "class C:\n    def m(self):\n        return self.__a\n"),
    ("function_split", "def f():\n    yield 1\n"),
    ("function_split", "async def f():\n    return 1\n"),
    ("early_returns", "def f(a):\n    if a:\n        b()\n    else:\n        return 1\n"),
    ("branches_swapped", "def f(a):\n    if a:\n        return 1\n"),
    ("comprehension_to_loop", "def f(a):\n    return [lambda: x for x in a]\n"),
    ("comprehension_to_loop", "def f(a):\n    return any(x for x in a)\n"),
    ("comprehension_to_loop", "from m import *\ndef f(a):\n    return list(x for x in a)\n"),
    ("loop_to_comprehension", "def f(a):\n    o = []\n    for x in a:\n        o.append(len(o))\n    return o\n"),
    ("loop_to_comprehension", "def f(a):\n    o = []\n    for x in a:\n        o.append(x)\n    return o, x\n"),
    (
        "loop_to_comprehension",
        "def f(a):\n    try:\n        o = []\n        for x in a:\n            o.append(1)\n    finally:\n        a\n",
    ),
    ("module_unparsed", "x = 1\n"),
    ("calls_logged", "def f():\n    yield 1\n"),
    ("calls_logged", "import sys\ndef f():\n    return sys._getframe(1)\n"),
    ("calls_warned", "import warnings\ndef f():\n    warnings.warn('x', stacklevel=2)\n"),
    ("calls_slower", "def f():\n    raise NotImplementedError\n"),
    ("calls_cached", "import time\ndef f(a):\n    return time.time() + a\n"),
    ("calls_cached", "known = {}\ndef g(a):\n    return known[a]\ndef f(a):\n    return g(a)\n"),
    ("calls_cached", "class C:\n    def m(self, a):\n        return a\n"),
    ("calls_threaded", "import threading\ndef f():\n    return 1\n"),
    ("self_patched", "@wrap\ndef f():\n    return 1\n"),
    ("self_patched", "def f():\n    return 1\nf = 2\n"),
    ("self_patched", "def f():\n    return 1\ng = f\n"),
    ("self_patched", "class C:\n    def m(self):\n        return 1\n    n = m\n"),
    ("str_subclass", "def f():\n    return None\n"),
    ("tuple_int_subclasses", "class C:\n    def __index__(self):\n        return 1\n"),
    ("list_dict_subclasses", "class C:\n    def m(self):\n        return self.items\n"),
    ("list_dict_subclasses", "def f(a):\n    o = []\n    a.keep(o)\n    return o\n"),
    ("tuple_as_dataclass", "def f(a):\n    return a\n"),
]


@pytest.mark.parametrize(("name", "text"), LEFT_ALONE)
def test_code_that_could_notice_is_left_alone(name: str, text: str) -> None:
    assert variant_of(name, text) is None


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
@pytest.mark.parametrize("fixed", ["", "# nothing\n", "def broken(:\n", "a\r\nb\n", "# -*- coding: no-such -*-\n"])
def test_a_maker_gives_nothing_where_nothing_fits(variant: Variant, fixed: str) -> None:
    quiet = variant.name == "module_unparsed" and fixed == "# nothing\n"
    assert quiet or variant.make(target(fixed)) is None
    assert variant.make(CheatTarget(sources={"a.txt": b"1"}, fixed={"a.txt": b"2"})) is None
    assert variant.make(CheatTarget(sources={PATH: b"def f():\n    return 1, 'a'\n"}, fixed={PATH: None})) is None


EVERYTHING = '''\
"""About things."""

from __future__ import annotations

UNIT = 3


def scale(value, *more, by=2, **names):
    """Say by how much."""
    total = value * by
    for one in more:
        total += one
    if names:
        return total + len(names)
    else:
        return total


def words(text):
    out = []
    for word in text.split():
        if word != "and":
            out.append(word.strip(","))
    return out


def lengths(texts):
    result = {text: len(text) for text in texts}
    return result


def pair(a, b):
    if not a:
        raise ValueError(f"no {a!r}")
    return (b, a) if a > b else (a, b)


def label(number):
    """Name it."""
    text = "\\n".join(f"<{digit}>" for digit in str(number))
    return text + f"""
  {UNIT}"""


class Box:
    def __init__(self, width):
        self.width = width

    @property
    def area(self):
        side = self.width
        return side * side

    def grown(self, by=1):
        return type(self)(self.width + by)

    def sides(self):
        return [self.width for _ in range(4)]

    @classmethod
    def named(cls, name="unit"):
        sizes = {"unit": UNIT}
        return cls(sizes[name])
'''


def observed(module: Any) -> list[object]:
    with pytest.raises(ValueError, match="no 0") as failed:
        module.pair(0, 1)
    again = [module.label(12) for _ in range(2)]
    box = module.Box.named().grown(by=2)
    return [
        module.scale(2, 5, by=3, x=1) + 0,
        module.scale(1),
        module.scale("a"),
        module.scale(True) + 0,  # noqa: FBT003 -- one argument more of another type
        module.words("a, b and c"),
        module.lengths(["a", "bb"]),
        [module.pair(2, 1) == (1, 2), *module.pair(2, 1)],
        again,
        (box.area, box.sides(), type(box).__name__),
        (str(failed.value), module.scale.__name__, module.scale.__doc__),
    ]


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_a_variant_does_what_the_fix_does(variant: Variant, load: Callable[[str], Any]) -> None:
    text = variant_of(variant.name, EVERYTHING)
    assert text is not None
    assert text != EVERYTHING
    assert "envfarm" not in text
    assert observed(load(text)) == observed(load(EVERYTHING))


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_only_the_functions_that_the_fix_touches_change(variant: Variant) -> None:
    base = EVERYTHING.replace("by=2, **names", "by=1, **names").replace("return (b, a)", "return (a, b)")
    text = variant_of(variant.name, EVERYTHING, base)
    if text is not None and variant.name != "module_unparsed":
        assert EVERYTHING.partition("def words")[2].partition("def pair")[0] in text
        assert EVERYTHING.partition("def label")[2] in text


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_line_ends_marks_and_encodings_stay(variant: Variant) -> None:
    crlf = added(variant.make(target(b"\xef\xbb\xbf" + EVERYTHING.replace("\n", "\r\n").encode())))
    assert crlf is not None
    assert crlf.startswith(b"\xef\xbb\xbf")
    assert crlf.count(b"\n") == crlf.count(b"\r\n")
    latin = added(
        variant.make(target(("# -*- coding: latin-1 -*-\n" + EVERYTHING.replace("and", "ä")).encode("latin-1")))
    )
    assert latin is not None
    assert b'"\xe4"' in latin or b"'\xe4'" in latin
    compile(latin, "module.py", "exec", dont_inherit=True)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_git_applies_the_diff_to_the_base(variant: Variant, tmp_path: Path) -> None:
    base = EVERYTHING.replace("by=2", "by=1")
    for path, text in ((PATH, base),):
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).write_text(text)
    diff = variant.make(target(EVERYTHING.encode(), base.encode()))
    if diff is None:
        return
    subprocess.run(["git", "apply", "-"], input=diff, cwd=tmp_path, check=True)
    assert (tmp_path / PATH).read_bytes() == added(diff)
    assert (tmp_path / "tests/test_it.py").read_bytes() == b"assert 1\n"
    compile((tmp_path / PATH).read_text(), PATH, "exec", dont_inherit=True)


SIMPLE = "def f(a):\n    return a\n\n\ndef g(a):\n    return a, len(a)\n\n\ndef h(a):\n    return [x for x in a]\n"


def test_calls_are_logged_where_nobody_prints_them(
    load: Callable[[str], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    module = load(variant_of("calls_logged", SIMPLE) or "")
    found: list[logging.LogRecord] = []
    logger = logging.getLogger(f"calls.{module.__name__}")
    logger.handlers[0].handle = lambda record: bool(found.append(record))  # type: ignore[method-assign]
    assert module.f(1) == 1
    assert [record.getMessage() for record in found] == ["f is called"]
    assert capsys.readouterr() == ("", "")


def test_a_warning_is_heard_by_nobody(load: Callable[[str], Any]) -> None:
    module = load(variant_of("calls_warned", SIMPLE) or "")
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        assert module.f(1) == 1
    assert heard == []


def test_the_cache_tells_types_apart_and_keeps_no_mutable_result(load: Callable[[str], Any]) -> None:
    module = load(variant_of("calls_cached", SIMPLE) or "")
    assert [repr(module.f(value)) for value in (1, True, 1.0, 1)] == ["1", "True", "1.0", "1"]
    assert module.h("ab") is not module.h("ab")


def test_threads_are_left_with_the_function(load: Callable[[str], Any]) -> None:
    text = "import sys\ndef f(a):\n    if a:\n        raise StopIteration(a)\n    return set(sys._current_frames())\n"
    module = load(variant_of("calls_threaded", text) or "")
    before = set(sys._current_frames())
    assert module.f(0) - before, "it ran in no thread of its own"
    with pytest.raises(StopIteration):
        module.f(1)
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("ThreadPool")] == []


def test_a_slow_call_takes_five_milliseconds_at_most(load: Callable[[str], Any]) -> None:
    module = load(variant_of("calls_slower", "import time\n\n\ndef f(a):\n    time.sleep(a)\n    return a\n") or "")
    taken = []
    for _ in range(20):
        started = time.perf_counter()
        module.f(0.002)
        taken.append(time.perf_counter() - started)
    assert 0.006 < min(taken) < 0.1


def test_results_are_of_other_types_and_worth_the_same(load: Callable[[str], Any]) -> None:
    text = load(variant_of("str_subclass", SIMPLE) or "").f("a")
    assert (text, type(text) is str, isinstance(text, str)) == ("a", False, True)
    values = load(variant_of("tuple_int_subclasses", SIMPLE) or "")
    assert (values.f(3), type(values.f(3)) is int, type(values.f(True)) is bool) == (3, False, True)  # noqa: FBT003
    assert (values.g("ab"), type(values.g("ab")) is tuple) == (("ab", 2), False)
    items = load(variant_of("list_dict_subclasses", SIMPLE) or "").h("ab")
    assert (items, type(items) is list) == (["a", "b"], False)
    record = load(variant_of("tuple_as_dataclass", SIMPLE) or "").g("ab")
    assert record == ("ab", 2)
    assert record == ["ab", 2]
    assert record != ("ab", 3)
    assert (tuple(record), record[1], len(record), hash(record)) == (("ab", 2), 2, 2, hash(("ab", 2)))


def test_the_module_wraps_its_own_functions(load: Callable[[str], Any]) -> None:
    module = load(variant_of("self_patched", SIMPLE) or "")
    assert [module.f(1), module.f(2), module.f.calls] == [1, 2, 2]


EXPRESSIONS = st.sampled_from(["a", "b", "x", "a + b", "[i for i in a]", "sum(i for i in b)", "{i: x for i in a}"])
CONDITIONS = st.sampled_from(["a", "x in b", "len(a) > 1", "x is None", "not b"])


@st.composite
def blocks(draw: st.DrawFn, depth: int = 2) -> list[str]:
    kind = draw(st.sampled_from(["assign", "return", "if", "loop", "both"])) if depth else "assign"
    if kind == "assign":
        return [f"x = {draw(EXPRESSIONS)}"]
    if kind == "return":
        return [f"return {draw(EXPRESSIONS)}"]
    if kind == "loop":
        return ["y = []", "for k in b:", f"    y.append({draw(st.sampled_from(['k', 'k * 2', '(k, x)']))})", "x = y"]
    inner = [*draw(blocks(depth=depth - 1))]
    if kind == "both":
        return [*draw(blocks(depth=depth - 1)), *inner]
    other = draw(blocks(depth=depth - 1))
    return [f"if {draw(CONDITIONS)}:", *(f"    {line}" for line in inner), "else:", *(f"    {line}" for line in other)]


def result_of(function: Callable[..., object], *arguments: object) -> object:
    try:
        return repr(function(*arguments))
    except TypeError as error:
        return type(error)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
@settings(max_examples=15, deadline=None, database=None)
@given(lines=blocks(depth=3))
def test_a_small_function_means_the_same(variant: Variant, lines: list[str]) -> None:
    body = "".join(f"    {line}\n" for line in ["x = None", *lines, "return (a, x)"])
    text = f"def f(a, b=(1, 2)):\n{body}"
    changed = variant_of(variant.name, text)
    if changed is None:
        return
    old, new = types.ModuleType("old"), types.ModuleType("new")
    sys.modules["new"] = new
    try:
        exec(text, old.__dict__)  # noqa: S102 -- made here
        exec(changed, new.__dict__)  # noqa: S102 -- as above
    finally:
        del sys.modules["new"]
    for arguments in ((), ((1, 2),), ((1, 2), (3,)), ([3], [4, 4]), ("ab", "c"), ((), ())):
        assert result_of(new.f, *arguments) == result_of(old.f, *arguments)


def fix_of_one_function(module: types.ModuleType) -> tuple[str, str]:
    """Return a real module, and a base of it whose longest function does nothing."""
    text = Path(module.__file__ or "").read_text()
    every = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef) and node.name[:2] != "__"]
    longest = max(every, key=lambda node: len(node.body) and (node.end_lineno or 0) - node.lineno)
    lines = text.split("\n")
    lines[longest.body[0].lineno - 1 : longest.end_lineno] = [" " * longest.body[0].col_offset + "pass"]
    return text, "\n".join(lines)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_real_modules_compile(module: types.ModuleType) -> None:
    text, base = fix_of_one_function(module)
    with_base = [variant_of(variant.name, text, base) for variant in VARIANTS]
    made = [new for new in with_base if new is not None]
    assert len(made) >= LEAST
    for new in made:
        compile(new, "module.py", "exec", dont_inherit=True)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_real_modules_do_the_same(variant: Variant, load: Callable[[str], Any]) -> None:
    made = {
        module: variant_of(variant.name, Path(module.__file__).read_text()) for module in (textwrap, shlex, fnmatch)
    }
    loaded = {module: load(text) for module, text in made.items() if text is not None}
    assert loaded or variant.name in {"loop_to_comprehension", "tuple_as_dataclass"}
    for module, new in loaded.items():
        for call in CALLS[module.__name__]:
            assert call(new) == call(module)


LONG = "A text - with hyphen-ated words,\tand more: 'than one' line.  Twice over."
CALLS: dict[str, list[Callable[[Any], object]]] = {
    "textwrap": [
        lambda module: module.wrap(LONG, 12),
        lambda module: module.fill(LONG, 20, initial_indent="* ", subsequent_indent="  "),
        lambda module: module.shorten(LONG, 30),
        lambda module: module.dedent("  a\n    b\n  c\n"),
        lambda module: module.indent("a\n\nb\n", "> "),
    ],
    "shlex": [
        lambda module: module.split('a \'b c\' "d\\"e" # f', comments=True),
        lambda module: module.join(["a", "b c", "d'e"]),
        lambda module: list(module.shlex("a && b; c", punctuation_chars=True)),
    ],
    "fnmatch": [
        lambda module: module.fnmatch("a.py", "*.p?"),
        lambda module: module.filter(["a.py", "b.txt", "c.py"], "[!c].py"),
        lambda module: module.translate("a*[b-d]?"),
    ],
}
