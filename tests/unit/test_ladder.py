"""Which interpreter and which requirements, by rule."""

from datetime import UTC, datetime

import pytest

from task_miner.environment.ladder import build_rungs, choose_minors, exact_cutoff, month_cutoff
from task_miner.environment.modules import missing_requirements
from task_miner.environment.project_facts import ProjectFacts, RequirementSource


def facts(
    *, requires: str = "", classified: tuple[str, ...] = (), runtime: tuple[str, ...] = (), **tests: tuple[str, ...]
) -> ProjectFacts:
    return ProjectFacts(
        requires_python=requires,
        classified_minors=classified,
        runtime=RequirementSource(place="runtime", requirements=runtime),
        tests=tuple(RequirementSource(place=place, requirements=found) for place, found in tests.items()),
    )


@pytest.mark.parametrize(
    ("requires", "classified", "date", "best"),
    [
        ("", (), "2026-01-01", "3.13"),
        ("", (), "2024-01-01", "3.11"),
        ("", (), "2020-01-01", "3.8"),
        ("<3.10", (), "2026-01-01", "3.9"),
        (">=3.12", (), "2023-11-01", "3.12"),
        ("", ("3.9", "3.10"), "2026-01-01", "3.10"),
        (">=2.7, !=3.0.*, !=3.1.*", (), "2024-01-01", "3.11"),
        ("nonsense", (), "2024-01-01", "3.11"),
    ],
)
def test_the_interpreter_is_the_newest_that_was_settled_and_is_allowed(
    requires: str, classified: tuple[str, ...], date: str, best: str
) -> None:
    told = facts(requires=requires, classified=classified)
    assert choose_minors(told, datetime.fromisoformat(date).replace(tzinfo=UTC))[0] == best


def test_every_allowed_interpreter_comes_after_the_best() -> None:
    minors = choose_minors(facts(requires=">=3.9"), datetime(2024, 1, 1, tzinfo=UTC))
    assert minors == ("3.11", "3.12", "3.13", "3.10", "3.9")


def test_tools_the_project_itself_and_foreign_markers_are_left_out() -> None:
    told = facts(
        runtime=("attrs", "tomli; python_version < '3.11'", "pywin32; sys_platform == 'win32'", "me>=1"),
        test=("pytest>=7", "ruff", "Sphinx", "pytest-mock; python_version >= '3.8'", "x @ file:///y"),
    )
    rungs = build_rungs(told, project="Me", minor="3.12")
    assert rungs[0].requirements == ("attrs", "pytest", "pytest-mock", "pytest>=7")
    assert rungs[-1].requirements == ("attrs", "pytest")


def test_cutoffs_are_never_younger_than_the_commit() -> None:
    moment = datetime(2024, 5, 17, 13, 4, 5, tzinfo=UTC)
    assert month_cutoff(moment) == "2024-05-01T00:00:00Z"
    assert exact_cutoff(moment) == "2024-05-17T13:04:05Z"


def test_missing_modules_and_fixtures_are_mapped_to_their_distributions() -> None:
    files = {
        "tests/test_a.py": b"import os, yaml\nimport mine\nfrom dateutil import tz\n"
        b"try:\n    import gone\nexcept ImportError: pass\n",
        "tests/test_b.py": b"def test_x(mocker, tmp_path):\n    pass\n",
    }
    found = missing_requirements(files, workspace_paths=["src/mine/__init__.py"], provided=frozenset({"pytest"}))
    assert found == ("pytest-mock", "python-dateutil", "pyyaml")


def test_a_fixture_of_the_projects_own_brings_no_plugin() -> None:
    files = {"conftest.py": b"def mocker(): pass", "test_b.py": b"def test_x(mocker): pass"}
    assert missing_requirements(files, workspace_paths=[], provided=frozenset()) == ()


@pytest.mark.parametrize(
    "text",
    [
        "try:\n    import wcwidth\nexcept ImportError:\n    wcwidth = None\n",
        "def f():\n    try:\n        import wcwidth.a\n    except (ValueError, ModuleNotFoundError):\n        pass\n",
        "import pytest\nwcwidth = pytest.importorskip('wcwidth.a')\n",
    ],
)
def test_what_tests_can_use_is_brought_where_the_project_names_it(text: str) -> None:
    files = {"test_a.py": text.encode()}
    named = {"wcwidth": "wcwidth>=0.6", "torch": "torch"}
    provided = frozenset({"pytest"})
    assert missing_requirements(files, workspace_paths=[], provided=provided, optional=named) == ("wcwidth>=0.6",)
    assert missing_requirements(files, workspace_paths=[], provided=provided) == ()
    assert missing_requirements(files, workspace_paths=[], provided=provided | {"wcwidth"}, optional=named) == ()
