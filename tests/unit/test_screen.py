"""The screen leaves out what no test can see, and nothing else."""

import pytest

from task_miner.languages.python_code import PythonCode
from task_miner.reasons import ReasonCode
from task_miner.screen import screen
from task_miner.unit import Candidate, Change, Unit

FILE, LINK, GITLINK = 0o100644, 0o120000, 0o160000


def change(path: str, old: str | None, new: str | None, mode: int = FILE) -> tuple[Change, dict[str, bytes]]:
    blobs = {f"{path}:{side}": text.encode() for side, text in (("old", old), ("new", new)) if text is not None}
    made = Change(
        path=path,
        status="M",
        old_blob=None if old is None else f"{path}:old",
        new_blob=None if new is None else f"{path}:new",
        old_mode=0 if old is None else FILE,
        new_mode=0 if new is None else mode,
    )
    return made, blobs


SOURCE = change("a.py", "x = 1\n", "x = 2\n")
TEST = change("tests/test_a.py", "", "def test_a(): pass\n")


def judge(*changes: tuple[Change, dict[str, bytes]], without: str = "") -> ReasonCode:
    blobs = {name: content for _, found in changes for name, content in found.items() if name != without}
    made = [found for found, _ in changes]
    unit = Unit(commit="c" * 40, parents=("b" * 40,), committed_at=0, message="", kind="plain", changes=tuple(made))
    sides = [[found for found in made if found.path.startswith("tests/") is test] for test in (False, True)]
    candidate = Candidate(candidate_id="p-c", unit=unit, source=tuple(sides[0]), tests=tuple(sides[1]))
    return screen(candidate, blobs.get, PythonCode())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ([SOURCE, TEST], ReasonCode.OK),
        ([change("a.py", "x = 1\n", "x = 1  # one\n"), TEST], ReasonCode.SOURCE_SAME_BEHAVIOUR),
        ([change("a.py", "x = 1\n", "x = 1  # one\n"), change("a.json", "1", "2"), TEST], ReasonCode.OK),
        ([change("a.pyi", "x: int", "x: str"), TEST], ReasonCode.SOURCE_SAME_BEHAVIOUR),
        ([change("new/__init__.py", None, ""), TEST], ReasonCode.OK),
        ([SOURCE, change("tests/test_a.py", "def test_a(): pass\n", None)], ReasonCode.NO_NEW_TEST_BEHAVIOUR),
        ([SOURCE, change("tests/test_a.py", "def test_a(): pass\n", "")], ReasonCode.NO_NEW_TEST_BEHAVIOUR),
        ([SOURCE, change("tests/test_a.py", "x = 1\n", "x = (1)\n")], ReasonCode.NO_NEW_TEST_BEHAVIOUR),
        ([SOURCE, change("tests/test_a.py", "x = 1\n", "x = 2\n")], ReasonCode.OK),
        (
            [
                SOURCE,
                change(
                    "tests/test_a.py", "from a import b, c\nimport d\n", "import d\nfrom a import c\nfrom a import b\n"
                ),
            ],
            ReasonCode.NO_NEW_TEST_BEHAVIOUR,
        ),
        ([SOURCE, change("tests/test_a.py", "from a import b\n", "from .a import b\n")], ReasonCode.OK),
        (
            [
                SOURCE,
                change(
                    "tests/test_a.py",
                    "try:\n    from a import c, b\nexcept ImportError:\n    c = 1\n",
                    "try:\n    from a import b, c\nexcept ImportError:\n    c = 1\n",
                ),
            ],
            ReasonCode.NO_NEW_TEST_BEHAVIOUR,
        ),
        ([SOURCE, change("tests/data.txt", "1", "2")], ReasonCode.OK),
        ([SOURCE, change("tests/data.txt", "1", None), TEST], ReasonCode.OK),
        ([SOURCE, TEST, change("b.py", None, "a.py", LINK)], ReasonCode.UNSUPPORTED_CHANGE),
        ([SOURCE, TEST, change("tests/sub", None, "", GITLINK)], ReasonCode.UNSUPPORTED_CHANGE),
        ([change("a.py", "x = 1\n", "x = 2\n", 0o100755), TEST], ReasonCode.OK),
        ([change("a.py", "x = 1\n", "x = 2\n", 0o100664), TEST], ReasonCode.OK),
    ],
)
def test_the_screen(changes: list[tuple[Change, dict[str, bytes]]], reason: ReasonCode) -> None:
    assert judge(*changes) is reason


@pytest.mark.parametrize(
    ("name", "old", "new", "reason"),
    [
        ("pyproject.toml", "[tool.ruff]\n", "[tool.mypy]\n", ReasonCode.NO_NEW_TEST_BEHAVIOUR),
        ("pyproject.toml", "", "[tool.pytest.ini_options]\nfilterwarnings=['error']\n", ReasonCode.OK),
        ("setup.cfg", "[tool:pytest]\nxfail_strict=1\n", "[flake8]\n", ReasonCode.OK),
        ("tox.ini", "[tox]\n", None, ReasonCode.NO_NEW_TEST_BEHAVIOUR),
        ("tests/pyproject.toml", "[tool.ruff]\n", "[tool.mypy]\n", ReasonCode.OK),
    ],
)
def test_configuration_counts_where_it_tells_the_runner_something(
    name: str, old: str, new: str | None, reason: ReasonCode
) -> None:
    made, blobs = change(name, old, new)
    source, texts = SOURCE
    unit = Unit(commit="c" * 40, parents=("b" * 40,), committed_at=0, message="", kind="plain", changes=(source, made))
    candidate = Candidate(candidate_id="p-c", unit=unit, source=(source,), tests=(made,))
    assert screen(candidate, (texts | blobs).get, PythonCode()) is reason


@pytest.mark.parametrize("without", ["a.py:old", "a.py:new", "tests/test_a.py:new"])
def test_an_object_that_the_clone_lacks_is_named(without: str) -> None:
    assert judge(SOURCE, TEST, without=without) is ReasonCode.OBJECT_MISSING
