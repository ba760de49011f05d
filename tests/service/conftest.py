"""Fixtures of the service tests: a package index on loopback, and small histories to mine."""

import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.data.package_index import PackageIndex


def load_data(name: str) -> ModuleType:
    """Load a module of tests/data, which is no package."""
    path = Path(__file__).parents[1] / "data" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"data_of_tests_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def package_index() -> "Iterator[PackageIndex]":
    """An index with the runner of this suite; tests may add projects to it."""
    with load_data("package_index").serve_packages() as index:
        yield index


@pytest.fixture(scope="session")
def history() -> ModuleType:
    """Makes git histories; see tests/data/git_history.py."""
    return load_data("git_history")


@pytest.fixture(scope="session")
def terminal_live() -> ModuleType:
    """Cases of the terminal verifier where something runs; see tests/data/terminal_live.py."""
    return load_data("terminal_live")


@pytest.fixture(scope="session")
def foreign_tasks() -> ModuleType:
    """Small tasks of other makers; see tests/data/foreign_tasks.py."""
    return load_data("foreign_tasks")


@pytest.fixture(scope="session")
def service_tasks() -> ModuleType:
    """Small tasks with services; see tests/data/service_tasks.py."""
    return load_data("service_tasks")


@pytest.fixture(scope="session")
def compose_command() -> str:
    """The compose command of this machine."""
    from envfarm.errors import MissingToolError
    from envfarm.sandbox.docker.compose_command import find_compose

    try:
        return find_compose("this test")
    except MissingToolError as error:
        pytest.skip(str(error))


@pytest.fixture
def make_service_task(
    tmp_path: Path, docker_base: str, compose_command: str, foreign_tasks: ModuleType, service_tasks: ModuleType
) -> Callable[..., Path]:
    """Writes a task with services and no network; files and keys of the compose file are replaced by those given."""

    def write(files: Mapping[str, str | None] | None = None, document: Mapping[str, Any] | None = None) -> Path:
        known = {"task.toml": service_tasks.OFFLINE, **service_tasks.compose_files(docker_base, document)}
        folder: Path = foreign_tasks.write_task(tmp_path / "task", docker_base, {**known, **(files or {})})
        return folder

    return write
