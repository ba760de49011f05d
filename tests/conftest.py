"""Fixtures of more than one folder; what they need is imported when a test asks for them."""

import fcntl
import importlib.util
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

# Machines are shared and noisy: a property is judged by what it finds, never by how long it took.
settings.register_profile("envfarm", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("envfarm")

if TYPE_CHECKING:
    from tests.data.tiny.task import TinyTask


def _load_data(name: str) -> ModuleType:
    """Load a module of tests/data, which is no package."""
    full = f"shared_data_of_tests_{name.removesuffix('.py').replace('/', '_')}"
    spec = importlib.util.spec_from_file_location(full, Path(__file__).with_name("data") / name)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[full] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tiny_task(tmp_path_factory: pytest.TempPathFactory) -> "TinyTask":
    """A tiny real task that can be graded at once; see tests/data/tiny/task.py."""
    module = _load_data("tiny/task.py")
    task: TinyTask = module.make_tiny_task(tmp_path_factory.mktemp("tiny"))
    return task


@pytest.fixture(scope="session")
def calibrated_tasks() -> ModuleType:
    """Makes tasks whose layers are calibrated; see tests/data/calibrated.py."""
    return _load_data("calibrated.py")


@pytest.fixture(scope="session")
def allowlist_checks() -> ModuleType:
    """What an allowlist has to keep; see tests/data/allowlist_checks.py."""
    return _load_data("allowlist_checks.py")


@pytest.fixture(scope="session")
def memory_groups() -> ModuleType:
    """Control groups in which the kernel ends processes for want of memory; see tests/data/memory_groups.py."""
    module = _load_data("memory_groups.py")
    if not module.may_bound_memory():
        pytest.skip("this user may make no control groups for memory: run as root")
    return module


@pytest.fixture(scope="session")
def docker_base() -> str:
    """Return the reference of the base image, made where it is missing; by one worker, while the others wait."""
    from envfarm.errors import MissingToolError
    from envfarm.sandbox.docker.base_image import ensure_base
    from envfarm.sandbox.docker.engine import open_engine
    from envfarm.sandbox.docker.options import OWN_BASE

    try:
        with (
            (Path(tempfile.gettempdir()) / "envfarm-tests-base.lock").open("w") as lock,
            open_engine() as engine,
        ):
            fcntl.flock(lock, fcntl.LOCK_EX)
            return ensure_base(engine, OWN_BASE)
    except MissingToolError as error:
        pytest.skip(f"{error}: make docker")
