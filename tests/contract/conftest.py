"""Fixtures of the contract tests."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


def load_data(name: str) -> ModuleType:
    """Load a module of tests/data, which is no package."""
    full = f"data_of_tests_{name}"
    if full in sys.modules:
        return sys.modules[full]
    spec = importlib.util.spec_from_file_location(full, Path(__file__).parents[1] / "data" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give tests that ask for an agent's kind all of them, or those that the name says."""
    agents = load_data("agents")
    direct = tuple(kind for kind in agents.KINDS if not kind.endswith("relay"))
    children = tuple(kind for kind in direct if not kind.endswith("first-process"))  # others are bubblewrap's
    every = {"kind": agents.KINDS, "socket_kind": agents.SOCKET_KINDS, "direct_kind": direct, "child_kind": children}
    for name, kinds in every.items():
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, kinds)


@pytest.fixture(scope="session")
def agents() -> ModuleType:
    """Runs agents; see tests/data/agents.py."""
    return load_data("agents")
