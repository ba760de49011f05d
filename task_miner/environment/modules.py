"""Which modules tests import, and which distribution brings a module. PURE."""

import ast
import contextlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from types import MappingProxyType

from packaging.utils import canonicalize_name

from envfarm.python_trees import parse_tree

DISTRIBUTIONS: Mapping[str, str] = {
    "Crypto": "pycryptodome",
    "OpenSSL": "pyopenssl",
    "PIL": "pillow",
    "attr": "attrs",
    "attrs": "attrs",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "docx": "python-docx",
    "dotenv": "python-dotenv",
    "freezegun": "freezegun",
    "git": "gitpython",
    "google.protobuf": "protobuf",
    "jose": "python-jose",
    "jwt": "pyjwt",
    "lxml": "lxml",
    "magic": "python-magic",
    "mock": "mock",
    "multipart": "python-multipart",
    "nacl": "pynacl",
    "pkg_resources": "setuptools",
    "psycopg2": "psycopg2-binary",
    "pytest_mock": "pytest-mock",
    "ruamel": "ruamel.yaml",
    "serial": "pyserial",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "slugify": "python-slugify",
    "socks": "pysocks",
    "toml": "toml",
    "usb": "pyusb",
    "wx": "wxpython",
    "yaml": "pyyaml",
    "zmq": "pyzmq",
}
FIXTURES: Mapping[str, str] = {
    "mocker": "pytest-mock",
    "benchmark": "pytest-benchmark",
    "httpserver": "pytest-httpserver",
    "freezer": "pytest-freezer",
    "snapshot": "syrupy",
    "httpx_mock": "pytest-httpx",
    "requests_mock": "requests-mock",
    "datadir": "pytest-datadir",
    "file_regression": "pytest-regressions",
    "data_regression": "pytest-regressions",
    "anyio_backend": "anyio",
}
"""Fixtures whose name says which plug-in brings them; a conftest of the project's own goes first."""


def _trees(files: Mapping[str, bytes]) -> Iterator[ast.Module]:
    """Yield the syntax trees of the files that have one."""
    for content in files.values():
        with contextlib.suppress(SyntaxError, ValueError, RecursionError):
            yield parse_tree(content)


def imported_modules(files: Mapping[str, bytes]) -> frozenset[str]:
    """Return the top-level names that the files import unconditionally at module level."""
    found: set[str] = set()
    for tree in _trees(files):
        found |= {name for node in tree.body for name in _imported_by(node)}
    return frozenset(found)


def optional_modules(files: Mapping[str, bytes]) -> frozenset[str]:
    """Return the top-level names that files do without where they are absent: their tests are skipped then.

    These are imports in a ``try`` that catches an ImportError, and names given to ``importorskip``.
    """
    found: set[str] = set()
    for tree in _trees(files):
        for node in ast.walk(tree):
            if isinstance(node, ast.Try) and any(_catches_import(handler.type) for handler in node.handlers):
                body = ast.Module(body=node.body, type_ignores=[])
                found |= {name for part in ast.walk(body) for name in _imported_by(part)}
            elif isinstance(node, ast.Call) and _name_of(node.func) == "importorskip" and node.args:
                first = node.args[0]
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    found.add(first.value.split(".")[0])
    return frozenset(found)


def _catches_import(caught: ast.expr | None) -> bool:
    if caught is None:
        return True
    types = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    return any(_name_of(kind) in {"ImportError", "ModuleNotFoundError", "Exception"} for kind in types)


def _name_of(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _imported_by(node: ast.AST) -> frozenset[str]:
    """Return the top-level names that one statement imports."""
    if isinstance(node, ast.Import):
        return frozenset(alias.name.split(".")[0] for alias in node.names)
    if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
        return frozenset({node.module.split(".")[0]})
    return frozenset()


def requested_fixtures(files: Mapping[str, bytes]) -> frozenset[str]:
    """Return known plug-ins' fixtures that test functions ask for and no file defines."""
    asked: set[str] = set()
    defined: set[str] = set()
    for tree in _trees(files):
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                defined.add(node.name)
                asked |= {argument.arg for argument in node.args.args}
    return frozenset((asked - defined) & FIXTURES.keys())


def missing_requirements(
    files: Mapping[str, bytes],
    *,
    workspace_paths: Iterable[str],
    provided: frozenset[str],
    optional: Mapping[str, str] = MappingProxyType({}),
) -> tuple[str, ...]:
    """Return requirements for modules and fixtures that neither the workspace nor the environment provides.

    Args:
        files: Test and conftest files.
        workspace_paths: Paths of the workspace.
        provided: Top-level modules that the environment provides.
        optional: What the project says that it can use, by normalised name: brought where tests can use it too.
    """
    own: set[str] = set()
    for path in map(PurePosixPath, workspace_paths):
        if path.suffix in {".py", ".pyx", ".pyi"}:
            own |= {path.stem, *path.parts[:-1]}
    present = own | provided | set(sys.stdlib_module_names) | {"distutils", "imp", "asyncore"}
    modules = imported_modules(files) - present
    found = {DISTRIBUTIONS.get(module, module) for module in modules if not module.startswith("_")}
    useful = (canonicalize_name(DISTRIBUTIONS.get(module, module)) for module in optional_modules(files) - present)
    found |= {optional[name] for name in useful if name in optional}
    plugins = {FIXTURES[name] for name in requested_fixtures(files)}
    found |= {plugin for plugin in plugins if plugin.replace("-", "_") not in provided and plugin not in provided}
    if any(b"async def test" in content for content in files.values()) and not provided & {"pytest_asyncio", "anyio"}:
        found.add("pytest-asyncio")
    return tuple(sorted(found))
