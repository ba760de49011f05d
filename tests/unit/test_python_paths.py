"""Paths are judged by whole segments."""

from pathlib import PurePosixPath

import pytest

from task_miner.languages.python_paths import PythonPaths
from task_miner.unit import PathRole


@pytest.mark.parametrize(
    ("path", "role"),
    [
        ("src/pkg/core.py", PathRole.SOURCE),
        ("pkg/latest.py", PathRole.SOURCE),
        ("pkg/contest.py", PathRole.SOURCE),
        ("attestation/x.py", PathRole.SOURCE),
        ("src/pkg/testing.py", PathRole.SOURCE),
        ("pkg/data/words.json", PathRole.SOURCE),
        ("tabulate.py", PathRole.SOURCE),
        ("tests/test_core.py", PathRole.TEST),
        ("tests/fixtures/a.json", PathRole.TEST),
        ("pkg/tests/helper.py", PathRole.TEST),
        ("test_module.py", PathRole.TEST),
        ("pkg/core_test.py", PathRole.TEST),
        ("conftest.py", PathRole.TEST),
        ("pyproject.toml", PathRole.TEST_CONFIG),
        ("setup.cfg", PathRole.TEST_CONFIG),
        ("setup.py", PathRole.OTHER),
        ("docs/conf.py", PathRole.OTHER),
        ("docs/test_x.py", PathRole.OTHER),
        ("README.md", PathRole.OTHER),
        (".github/workflows/ci.yml", PathRole.OTHER),
        ("uv.lock", PathRole.OTHER),
    ],
)
def test_roles(path: str, role: PathRole) -> None:
    assert PythonPaths().role_of(PurePosixPath(path)) is role
