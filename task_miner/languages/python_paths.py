"""Which path of a Python project is what: decided by whole segments, never by parts of a word. PURE."""

from pathlib import PurePosixPath

from task_miner.unit import Candidate, PathRole

_TEST_FOLDERS = frozenset(
    {"tests", "test", "testsuite", "unittests", "unit_tests", "functional_tests", "integration_tests"}
)
_OTHER_FOLDERS = frozenset(
    {
        "doc",
        "docs",
        "documentation",
        "examples",
        "example",
        "benchmarks",
        "benchmark",
        "bench",
        "scripts",
        "tools",
        "ci",
        "changelog.d",
        "changes",
        "news",
        "newsfragments",
        "requirements",
        "tasks",
        "devtools",
        "misc",
        "contrib",
        "debian",
    }
)
"""Folders at the top that are on neither side."""
_CONFIG_FILES = frozenset(
    {"pyproject.toml", "setup.cfg", "tox.ini", "pytest.ini", ".pytest.ini", "pytest.toml", ".pytest.toml"}
)
_OTHER_FILES = frozenset(
    {"setup.py", "noxfile.py", "tasks.py", "fabfile.py", "conf.py", "hatch_build.py", "versioneer.py"}
)
_SOURCE_SUFFIXES = frozenset({".py", ".pyx", ".pxd", ".pyi", ".c", ".h", ".cpp", ".pyd", ".typed"})
_DATA_SUFFIXES = frozenset(
    {
        ".json",
        ".txt",
        ".html",
        ".css",
        ".js",
        ".xml",
        ".csv",
        ".toml",
        ".yaml",
        ".yml",
        ".po",
        ".mo",
        ".tmpl",
        ".jinja",
        ".jinja2",
        ".j2",
        ".cfg",
        ".ini",
        ".sql",
        ".dat",
        ".lark",
        ".g4",
        ".svg",
        ".graphql",
    }
)
_ALWAYS_PROTECTED = (
    "**/conftest.py",
    "**/sitecustomize.py",
    "**/usercustomize.py",
    "**/*.pth",
    "**/*.egg-link",
    "**/*.egg-info/**",
    "**/*.dist-info/**",
    "**/pytest.ini",
    "**/.pytest.ini",
    "**/pytest.toml",
    "**/.pytest.toml",
    "**/tox.ini",
    "**/setup.cfg",
    "**/test_*.py",
    "**/*_test.py",
    "pyproject.toml",
)


class PythonPaths:
    """Path rules of Python."""

    def role_of(self, path: PurePosixPath) -> PathRole:
        """Say which side of a fix the path belongs to."""
        parts = path.parts
        if _is_test(path):
            return PathRole.TEST
        if len(parts) == 1:
            if path.name in _CONFIG_FILES:
                return PathRole.TEST_CONFIG
            module = path.suffix in {".py", ".pyx"} and path.name not in _OTHER_FILES
            return PathRole.SOURCE if module else PathRole.OTHER
        if parts[0] in _OTHER_FOLDERS or parts[0].startswith("."):
            return PathRole.OTHER
        if path.suffix in _SOURCE_SUFFIXES:
            return PathRole.SOURCE
        return PathRole.SOURCE if path.suffix in _DATA_SUFFIXES and not path.name.startswith(".") else PathRole.OTHER

    def protected_patterns(self, base_paths: frozenset[str], candidate: Candidate) -> tuple[str, ...]:
        """Return the patterns of paths that a submission to this candidate cannot change."""
        after = {change.path for change in candidate.tests}
        patterns = set(_ALWAYS_PROTECTED) | {_literal(path) for path in after}
        for name in base_paths | after:
            parts = PurePosixPath(name).parts
            for position, part in enumerate(parts[:-1]):
                if part in _TEST_FOLDERS:
                    patterns.add("/".join((*map(_literal, parts[: position + 1]), "**")))
                    break
        return tuple(sorted(patterns))


def _is_test(path: PurePosixPath) -> bool:
    parts = path.parts
    if any(part in _TEST_FOLDERS for part in parts[:-1]):
        return parts[0] not in {"docs", "doc", "examples"}
    name = path.name
    if name == "conftest.py" or (name == "tests.py" and path.suffix == ".py"):
        return True
    named = name.startswith("test_") or path.stem.endswith("_test")
    return named and path.suffix == ".py" and parts[0] not in {"docs", "doc", "examples"}


def _literal(path: str) -> str:
    """Return a pattern that matches exactly this path: `*` and `?` in a name stand for themselves."""
    return path.replace("*", "?")
