"""Which modules tests import, and which distribution brings a module. PURE."""

import ast
import sys
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

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


def imported_modules(files: Mapping[str, bytes]) -> frozenset[str]:
    """Return the top-level names that the files import unconditionally at module level."""
    found: set[str] = set()
    for content in files.values():
        try:
            tree = ast.parse(content)
        except (SyntaxError, ValueError, RecursionError):
            continue
        for node in tree.body:
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                found.add(node.module.split(".")[0])
    return frozenset(found)


def requested_fixtures(files: Mapping[str, bytes]) -> frozenset[str]:
    """Return known plug-ins' fixtures that test functions ask for and no file defines."""
    asked: set[str] = set()
    defined: set[str] = set()
    for content in files.values():
        try:
            tree = ast.parse(content)
        except (SyntaxError, ValueError, RecursionError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                defined.add(node.name)
                asked |= {argument.arg for argument in node.args.args}
    return frozenset((asked - defined) & FIXTURES.keys())


def missing_requirements(
    files: Mapping[str, bytes], *, workspace_paths: Iterable[str], provided: frozenset[str]
) -> tuple[str, ...]:
    """Return distributions for modules and fixtures that neither the workspace nor the environment provides.

    Args:
        files: Test and conftest files.
        workspace_paths: Paths of the workspace.
        provided: Top-level modules that the environment provides.
    """
    own: set[str] = set()
    for path in map(PurePosixPath, workspace_paths):
        if path.suffix in {".py", ".pyx", ".pyi"}:
            own |= {path.stem, *path.parts[:-1]}
    modules = imported_modules(files) - own - provided - set(sys.stdlib_module_names) - {"distutils", "imp", "asyncore"}
    found = {DISTRIBUTIONS.get(module, module) for module in modules if not module.startswith("_")}
    plugins = {FIXTURES[name] for name in requested_fixtures(files)}
    found |= {plugin for plugin in plugins if plugin.replace("-", "_") not in provided and plugin not in provided}
    if any(b"async def test" in content for content in files.values()) and not provided & {"pytest_asyncio", "anyio"}:
        found.add("pytest-asyncio")
    return tuple(sorted(found))
