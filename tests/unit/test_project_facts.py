"""What a project says of itself, read from its files without running any of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from task_miner.environment.project_facts import read_facts


def places(files: dict[str, str]) -> dict[str, tuple[str, ...]]:
    facts = read_facts({path: text.encode() for path, text in files.items()})
    return {source.place: source.requirements for source in facts.tests}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param(
            {
                "pyproject.toml": '[project]\nname="x"\n[project.optional-dependencies]\ntest=["pytest>=7","freezegun"]\n'  # noqa: E501 -- a file's text reads best on one line
            },
            {"extra test": ("pytest>=7", "freezegun")},
            id="extras",
        ),
        pytest.param(
            {"pyproject.toml": '[dependency-groups]\ntests=["pytest",{include-group="shared"}]\nshared=["mock"]\n'},
            {"group tests": ("pytest", "mock")},
            id="PEP 735 groups, included ones too",
        ),
        pytest.param(
            {
                "pyproject.toml": '[tool.poetry.group.test.dependencies]\npython="^3.8"\npytest="^7.1"\nmock={version="*"}\n'  # noqa: E501 -- a file's text reads best on one line
            },
            {"poetry group test": ("pytest>=7.1", "mock")},
            id="poetry groups",
        ),
        pytest.param(
            {"setup.cfg": "[options.extras_require]\ntests =\n    pytest\n    responses>=0.10\n"},
            {"extra tests": ("pytest", "responses>=0.10")},
            id="setup.cfg",
        ),
        pytest.param(
            {"setup.py": "from setuptools import setup\nT = ['pytest', 'mock']\nsetup(name='x', tests_require=T)\n"},
            {"setup.py tests_require": ("pytest", "mock")},
            id="setup.py is read, not run",
        ),
        pytest.param(
            {
                "tox.ini": "[testenv]\ndeps =\n    pytest\n    py38: mock\n    -rreq.txt\n",
                "req.txt": "six  # why\n-e .\n",
            },
            {"tox testenv": ("pytest", "mock", "six")},
            id="tox, conditions and files",
        ),
        pytest.param(
            {
                "noxfile.py": (
                    "import nox\nDEPS = ['pytest', 'mock>=2']\n@nox.session(python=['3.11'])\n"
                    "def unit_tests(session):\n"
                    "    session.install(*DEPS, '-r', 'dev.txt')\n    session.install('-e', '.[test]')\n"
                    "    session.install(f'x=={1}')\n    session.run('pytest')\n"
                    "@nox.session\ndef lint(session):\n    session.install('flake8')\n"
                ),
                "dev.txt": "six\n",
            },
            {"nox unit_tests": ("pytest", "mock>=2", "six")},
            id="nox",
        ),
        pytest.param(
            {"tox.toml": '[env_run_base]\ndeps = ["pytest", "-r dev.txt"]\n', "dev.txt": "six\n"},
            {"tox env_run_base": ("pytest", "six")},
            id="tox.toml",
        ),
        pytest.param(
            {
                ".github/workflows/ci.yml": "    - run: python -m pip install pytest hypothesis -r dev.txt\n",
                "dev.txt": "mock\n",
            },
            {".github/workflows/ci.yml": ("pytest", "hypothesis", "mock")},
            id="CI",
        ),
        pytest.param(
            {"requirements-test.txt": "-r base.txt\npytest==7.0 --hash=sha256:00\n", "base.txt": "attrs\n"},
            {"requirements-test.txt": ("pytest==7.0", "attrs")},
            id="requirements files, nested",
        ),
    ],
)
def test_test_requirements_are_found_where_projects_put_them(
    files: dict[str, str], expected: dict[str, tuple[str, ...]]
) -> None:
    assert places(files) == expected


def test_python_versions_come_from_the_first_place_that_names_them() -> None:
    toml = b'[project]\nrequires-python=">=3.9"\nclassifiers=["Programming Language :: Python :: 3.11", "x :: Python :: 3"]\n'  # noqa: E501 -- a file's text reads best on one line
    facts = read_facts({"pyproject.toml": toml, "setup.py": b"setup(python_requires='>=3.6')"})
    assert facts.requires_python == ">=3.9"
    assert facts.classified_minors == ("3.11",)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "pyproject.toml",
            '[project.optional-dependencies]\na = ["WC_Width<1; python_version < \'3\'"]\nb = ["WC_Width>=0.6"]\n',
        ),
        ("setup.cfg", "[options.extras_require]\nwide = WC_Width>=0.6\n"),
        ("setup.py", "setup(extras_require={'wide': ['WC_Width>=0.6']})"),
        ("pyproject.toml", '[tool.poetry.dependencies]\nWC_Width = {version = "^0.6", optional = true}\nsix = "*"\n'),
    ],
)
def test_what_a_project_can_use_is_what_its_extras_name(name: str, text: str) -> None:
    assert read_facts({name: text.encode()}).optional == {"wc-width": "WC_Width>=0.6"}


def test_what_a_project_can_use_somewhere_else_stays_conditional() -> None:
    toml = b"[project.optional-dependencies]\nwin = [\"pywin32; sys_platform == 'win32'\"]\n"
    assert read_facts({"pyproject.toml": toml}).optional == {"pywin32": 'pywin32; sys_platform == "win32"'}


def test_what_poetry_takes_from_elsewhere_is_no_release_of_that_name() -> None:
    toml = b'[tool.poetry.dependencies]\nhere = {git = "https://example.org/here.git", optional = true}\n'
    assert read_facts({"pyproject.toml": toml}).optional == {}


@given(
    st.dictionaries(
        st.sampled_from(["pyproject.toml", "setup.cfg", "setup.py", "tox.ini", "requirements.txt", "noxfile.py"]),
        st.binary(),
    )
)
def test_no_bytes_make_it_fail(files: dict[str, bytes]) -> None:
    read_facts(files)
