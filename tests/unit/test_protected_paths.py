"""Which paths belong to the grader: by whole segments, in both copies of the rule."""

import importlib.util
from pathlib import Path, PurePosixPath
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envfarm.grading.protected_paths import matches

TABLE = [
    ("tests/test_x.py", "tests/**", True),
    ("tests/a/b/c.txt", "tests/**", True),
    ("mytests/test_x.py", "tests/**", False),
    ("src/tests/test_x.py", "tests/**", False),
    ("conftest.py", "**/conftest.py", True),
    ("a/b/conftest.py", "**/conftest.py", True),
    ("a/myconftest.py", "**/conftest.py", False),
    ("a/conftest.py/x", "**/conftest.py", False),
    ("a/Conftest.py", "**/conftest.py", False),
    ("x.pth", "**/*.pth", True),
    ("src/a.egg-info/PKG-INFO", "**/*.egg-info/**", True),
    ("src/a.egg-information/PKG-INFO", "**/*.egg-info/**", False),
    ("pyproject.toml", "pyproject.toml", True),
    ("sub/pyproject.toml", "pyproject.toml", False),
    ("a.py", "?.py", True),
    ("ab.py", "?.py", False),
    ("a/py", "a?py", False),
    ("a[1].py", "a[1].py", True),
    ("a1.py", "a[1].py", False),
    ("a/x/b", "a/**/b", True),
    ("a/b", "a/**/b", True),
    ("a/xb", "a/**/b", False),
    ("test_a.py\n", "**/test_*.py", False),
    ("a\nb/test_a.py", "**/test_*.py", True),
    ("a+b", "a+b", True),
    ("aab", "a+b", False),
]


@pytest.fixture(scope="module")
def place_files() -> ModuleType:
    program = Path(__file__).parents[2] / "verifiers/envfarm_verifiers/box_programs/place_files.py"
    spec = importlib.util.spec_from_file_location("place_files_of_test", program)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("path", "pattern", "expected"), TABLE)
def test_a_path_is_matched_by_segments(path: str, pattern: str, *, expected: bool) -> None:
    assert matches(path, [pattern]) is expected
    assert matches(PurePosixPath(path), ("never/this", pattern)) is expected


@pytest.mark.parametrize(("path", "pattern", "expected"), TABLE)
def test_the_box_follows_the_same_rule(path: str, pattern: str, place_files: ModuleType, *, expected: bool) -> None:
    assert bool(place_files.compile_patterns([pattern]).match(path)) is expected


def test_a_folder_is_protected_with_all_below_it_so_that_no_link_takes_its_place() -> None:
    assert matches("tests", ["tests/**"])


def test_no_pattern_matches_nothing_and_no_path_is_matched() -> None:
    assert not matches("x", [])
    assert not matches("", ["**"])
    assert not matches(".", ["**"])


segments = st.text(st.characters(exclude_characters="/*?\0", codec="utf-8"), min_size=1, max_size=5).filter(
    lambda text: text not in {".", ".."}
)
paths = st.lists(segments, min_size=1, max_size=4).map("/".join)


@given(paths)
def test_every_path_matches_itself_and_anything(path: str) -> None:
    assert matches(path, [path])
    assert matches(path, ["**"])
    assert matches(path, [f"**/{path}"])
    assert matches(f"any/where/{path}", [f"**/{path}"])
    assert not matches(f"{path}x", [path])


@given(paths)
def test_dots_and_double_slashes_count_for_nothing(path: str) -> None:
    assert matches(f"./{path}", [path])
    assert matches(path.replace("/", "//./"), [path])


@given(st.text(max_size=20), st.text(alphabet="ab*?/.", max_size=12))
def test_any_text_is_matched_or_not_in_no_time(path: str, pattern: str) -> None:
    assert matches(path, [pattern]) in {True, False}
