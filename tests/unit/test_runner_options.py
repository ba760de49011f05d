"""What of a project's pytest configuration is kept, although `addopts` are switched off."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from task_miner.environment.runner_options import runner_options


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, ()),
        (
            {"pytest.ini": "[pytest]\naddopts = -n auto --cov -k fast --import-mode=importlib -x\n"},
            ("--import-mode=importlib",),
        ),
        ({"pytest.ini": "[pytest]\naddopts = --import-mode importlib\n"}, ("--import-mode=importlib",)),
        ({"tox.ini": "[pytest]\naddopts = -p pytester -p no:warnings -pxdist\n"}, ("-ppytester", "-pxdist")),
        ({"setup.cfg": "[tool:pytest]\nrequired_plugins = pytest-cov>=2\n"}, ("-o", "required_plugins=")),
        ({"pyproject.toml": '[tool.pytest.ini_options]\naddopts = ["--ds=a.b", "-ra"]\n'}, ("--ds=a.b",)),
        ({"pyproject.toml": '[tool.pytest.ini_options]\naddopts = "--asyncio-mode=auto"\n'}, ("--asyncio-mode=auto",)),
        ({"pytest.ini": "[pytest]\n", "tox.ini": "[pytest]\naddopts = --ds=a\n"}, ()),
        ({"pytest.ini": "[pytest]\naddopts = --import-mode\n"}, ()),
        ({"pytest.ini": "[pytest]\naddopts = 'unclosed\n"}, ()),
        ({"pytest.ini": "nonsense", "pyproject.toml": "[[", "tox.ini": "[tox]\n"}, ()),
    ],
)
def test_what_says_how_tests_are_found_stays(files: dict[str, str], expected: tuple[str, ...]) -> None:
    assert runner_options({path: text.encode() for path, text in files.items()}) == expected


@given(st.dictionaries(st.sampled_from(["pytest.ini", "pyproject.toml", "setup.cfg"]), st.binary()))
def test_no_bytes_make_it_fail(files: dict[str, bytes]) -> None:
    runner_options(files)
