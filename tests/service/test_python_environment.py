"""Environments are locked, installed and built in real boxes, against the real package index."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import msgspec
import pytest

from envfarm.errors import ImageBuildError
from envfarm.images import EnvironmentStore, compose_image
from envfarm.images.unpack import write_files
from envfarm.sandbox.contract import LeaseRequest, SandboxProvider
from envfarm.sandbox.local.provider import open_local_provider
from task_miner.languages.contract import EnvironmentFailedError, EnvironmentRequest, PreparedEnvironment
from task_miner.languages.python_environment import PythonEnvironments
from task_miner.reasons import ReasonCode
from task_miner.unit import Candidate, Unit

PYPROJECT = """
[build-system]
requires = ["setuptools>=64"]
build-backend = "setuptools.build_meta"
[project]
name = "tiny-one"
dynamic = ["version"]
requires-python = ">=3.11,<3.12"
dependencies = ["toolz"]
[project.scripts]
tiny = "tiny:main"
[project.optional-dependencies]
test = ["pytest"]
[tool.setuptools]
packages = ["tiny"]
[tool.setuptools.dynamic]
version = {attr = "tiny.__version__"}
"""
MODULE = b"__version__ = '1.5'\ndef main():\n    print('tiny says hello')\n"
TEST = b"import iniconfig\nimport toolz\ndef test_x(): pass\n"
JULY_2024 = 1_720_000_000


@asynccontextmanager
async def environments(cache: Path) -> AsyncIterator[tuple[SandboxProvider, PythonEnvironments]]:
    async with open_local_provider({}) as provider:
        store = EnvironmentStore(cache, provider)
        yield provider, PythonEnvironments(provider, store, cache_folder=cache, cache_domain="test")


def request(folder: Path, pyproject: str = PYPROJECT) -> EnvironmentRequest:
    (folder / "tiny").mkdir(parents=True)
    (folder / "tiny" / "__init__.py").write_bytes(MODULE)
    (folder / "pyproject.toml").write_text(pyproject)
    unit = Unit(commit="a" * 40, parents=("b" * 40,), committed_at=JULY_2024, message="fix", kind="plain", changes=())
    return EnvironmentRequest(
        candidate=Candidate(candidate_id="tiny-one-aaaaaaaaaaaa", unit=unit, source=()),
        project="tiny-one",
        project_files={"pyproject.toml": pyproject.encode()},
        test_files={"tests/test_tiny.py": TEST},
        workspace_paths=frozenset({"pyproject.toml", "tiny/__init__.py"}),
        workspace_folder=str(folder),
        committed_at=JULY_2024,
        cutoff=True,
    )


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


async def prepare_twice(cache: Path, folder: Path) -> tuple[PreparedEnvironment, PreparedEnvironment, bytes]:
    async with environments(cache) as (provider, preparer):
        asked = request(folder)
        first = await preparer.prepare(asked)
        second = await preparer.prepare(asked)
        project = folder.parent / "project"
        write_files(first.project_files, project, executables=first.project_executables)
        image = compose_image(first.folders, project=project, workspace=folder, variables={})
        program = (
            "import importlib.metadata as m, tiny, toolz, pytest, subprocess\n"
            "print(tiny.__file__, m.version('tiny-one'))\n"
            "print(subprocess.run(['tiny'], capture_output=True, text=True).stdout)"
        )
        async with provider.lease(LeaseRequest(image=image)) as sandbox:
            result = await sandbox.exec(["python", "-c", program], timeout_seconds=60)
        return first, second, result.stdout + result.stderr


def test_a_project_is_locked_installed_built_and_importable(cache: Path, tmp_path: Path) -> None:
    first, second, said = anyio.run(prepare_twice, cache, tmp_path / "workspace")
    environment = first.environment
    assert environment.interpreter == "3.11"
    assert environment.cutoff == "2024-07-01T00:00:00Z"
    assert "toolz==0.12.1" in environment.lock
    assert "--hash=sha256:" in environment.lock
    assert "tiny-one" not in environment.lock
    assert str(tmp_path) not in repr(environment)
    assert said.decode().split() == ["/workspace/tiny/__init__.py", "1.5", "tiny", "says", "hello"]
    assert not [path for path in first.project_files if path.endswith(("RECORD", "uv_cache.json", "direct_url.json"))]
    assert (second.environment, second.project_files) == (environment, first.project_files)
    assert second.seconds["install"] + second.seconds["build"] < 0.5
    compiled = list((cache / "environments" / environment.environment_id / "lib").rglob("_pytest/**/*.pyc"))
    assert len(compiled) > 50
    assert {file.read_bytes()[4:8] for file in compiled} == {b"\1\0\0\0"}, "bytecode that a copy would make stale"


def test_requirements_that_cannot_be_met_give_a_reason(cache: Path, tmp_path: Path) -> None:
    async def prepare() -> None:
        async with environments(cache) as (_, preparer):
            await preparer.prepare(request(tmp_path, PYPROJECT.replace('"toolz"', '"toolz==999"')))

    with pytest.raises(EnvironmentFailedError) as caught:
        anyio.run(prepare)
    assert caught.value.code is ReasonCode.LOCK_FAILED
    assert "toolz" in caught.value.log


def test_a_lock_with_a_wrong_hash_is_not_installed(cache: Path, tmp_path: Path) -> None:
    async def install() -> None:
        async with open_local_provider({}) as provider:
            good, _, _ = await prepare_twice(cache, tmp_path / "workspace")
            lock = re.sub(r"sha256:[0-9a-f]{8}", "sha256:00000000", good.environment.lock)
            bad = msgspec.structs.replace(good.environment, lock=lock, environment_id="py3.11-bad")
            await EnvironmentStore(cache, provider).ensure(bad)

    with pytest.raises(ImageBuildError):
        anyio.run(install)
    assert not (cache / "environments" / "py3.11-bad").exists()
    assert not [path for path in (cache / "environments").iterdir() if "partial" in path.name]
