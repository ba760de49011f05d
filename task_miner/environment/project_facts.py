"""Reads what a project says of itself, without running any of it. PURE: text in, facts out.

A file that cannot be parsed says nothing; the ladder then has fewer rungs.
"""

import ast
import configparser
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from envfarm.python_trees import parse_tree

_TEST_NAMES = (
    "test",
    "tests",
    "testing",
    "test-dependencies",
    "dev",
    "develop",
    "development",
    "dev-dependencies",
    "all",
)
_REQUIREMENT_FILES = [
    "requirements/test.txt",
    "requirements/tests.txt",
    "requirements/testing.txt",
    "requirements/dev.txt",
    "requirements-test.txt",
    "requirements-tests.txt",
    "requirements_test.txt",
    "test-requirements.txt",
    "test_requirements.txt",
    "tests/requirements.txt",
    "test/requirements.txt",
    "requirements-dev.txt",
    "requirements_dev.txt",
    "dev-requirements.txt",
    "dev_requirements.txt",
    "requirements-testing.txt",
    "requirements/tests.in",
    "requirements/test.in",
    "requirements/dev.in",
    "requirements.dev.txt",
]
_TEST_SESSIONS = frozenset({"test", "tests", "unit", "pytest", "unittests", "testing"})
_PIP_INSTALL = re.compile(r"pip3?\s+install\s+(?P<words>[^\n;&|>]*)")


@dataclass(frozen=True, kw_only=True)
class RequirementSource:
    """Requirements and the place that names them."""

    place: str
    requirements: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ProjectFacts:
    """What a project says of itself.

    Attributes:
        requires_python: Specifier, such as ``>=3.8``; empty when nothing says so.
        classified_minors: Minor versions that classifiers name, such as ``3.11``.
        runtime: What the project needs to run.
        tests: What its tests may need, best source first.
        optional: What it can use, as its extras of any name say, by normalised name.
    """

    requires_python: str
    classified_minors: tuple[str, ...]
    runtime: RequirementSource
    tests: tuple[RequirementSource, ...]
    optional: Mapping[str, str] = field(default_factory=dict)


def read_facts(files: Mapping[str, bytes]) -> ProjectFacts:
    """Return the facts that the files tell; unreadable ones tell nothing."""
    texts = {path: content.decode("utf-8", "replace") for path, content in files.items()}
    document = _toml(texts.get("pyproject.toml", ""))
    setup_cfg = _ini(texts.get("setup.cfg", ""))
    setup_py = _setup_call(texts.get("setup.py", ""))
    project = _table(document, "project")
    poetry = _table(document, "tool", "poetry")
    options = dict(setup_cfg["options"]) if setup_cfg.has_section("options") else {}
    runtime = (
        _strings(project.get("dependencies"))
        or _poetry_requirements(_table(poetry, "dependencies"))
        or _lines(options.get("install_requires", ""))
        or _strings(setup_py.get("install_requires"))
        or _requirement_lines(texts.get("requirements.txt", ""))
    )
    extras = dict(_table(project, "optional-dependencies"))
    if setup_cfg.has_section("options.extras_require"):
        extras |= {name: _lines(text) for name, text in setup_cfg.items("options.extras_require")}
    extras |= {str(k): v for k, v in (setup_py.get("extras_require") or {}).items()}
    python = (
        project.get("requires-python")
        or _poetry_python(_table(poetry, "dependencies").get("python"))
        or options.get("python_requires")
        or setup_py.get("python_requires")
        or ""
    )
    classifiers = (
        _strings(project.get("classifiers"))
        or _strings(poetry.get("classifiers"))
        or _lines(setup_cfg.get("metadata", "classifiers", fallback=""))
        or _lines(setup_cfg.get("metadata", "classifier", fallback=""))
        or _strings(setup_py.get("classifiers"))
    )
    sources = [
        *_named("extra", extras, extras),
        *_named("group", _table(document, "dependency-groups"), _table(document, "dependency-groups")),
        *_poetry_groups(poetry),
        *_named("pdm group", _table(document, "tool", "pdm", "dev-dependencies"), {}),
        RequirementSource(place="setup.py tests_require", requirements=_strings(setup_py.get("tests_require"))),
        *_tox(texts, document),
        *(RequirementSource(place=name, requirements=_file_lines(texts, name)) for name in _REQUIREMENT_FILES),
        *_nox(texts),
        *_hatch(document),
        *_ci(texts),
    ]
    minors = (match[1] for line in classifiers if (match := re.search(r"Python :: (3\.\d+)\s*$", line)))
    return ProjectFacts(
        requires_python=str(python),
        classified_minors=tuple(dict.fromkeys(minors)),
        runtime=RequirementSource(place="runtime", requirements=runtime),
        tests=tuple(source for source in sources if source.requirements),
        optional=_optional(extras, poetry),
    )


def _optional(extras: Mapping[str, Any], poetry: Mapping[str, Any]) -> dict[str, str]:
    """Return what all extras name, by normalised name; where several do, what holds without a condition."""
    lines = [line for name in extras for line in _expand(extras[name], extras, depth=0)]
    for name, value in _table(poetry, "dependencies").items():
        if isinstance(value, dict) and value.get("optional") and not value.keys() & {"git", "path", "url"}:
            lines.append(name + _poetry_specifier(str(value.get("version", ""))))
    found: dict[str, str] = {}
    for line in lines:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        name = canonicalize_name(requirement.name)
        if not requirement.url and (name not in found or requirement.marker is None):
            found[name] = str(requirement)
    return found


def _named(kind: str, groups: Mapping[str, Any], known: Mapping[str, Any]) -> Iterable[RequirementSource]:
    by_name = {name.lower().replace("_", "-"): name for name in groups}
    for wanted in _TEST_NAMES:
        if wanted in by_name:
            requirements = _expand(groups[by_name[wanted]], known, depth=0)
            yield RequirementSource(place=f"{kind} {by_name[wanted]}", requirements=requirements)


def _expand(items: Any, groups: Mapping[str, Any], *, depth: int) -> tuple[str, ...]:
    """Resolve PEP 735 include-group entries, and extras that name extras of the same project."""
    found: list[str] = []
    for item in items if isinstance(items, list | tuple) else []:
        if isinstance(item, dict) and depth < 5:  # noqa: PLR2004 -- deeper than any sane project
            found += _expand(groups.get(str(item.get("include-group")), []), groups, depth=depth + 1)
        elif isinstance(item, str):
            found.append(item)
    return tuple(found)


def _poetry_groups(poetry: Mapping[str, Any]) -> Iterable[RequirementSource]:
    groups = {name: _table(group, "dependencies") for name, group in _table(poetry, "group").items()}
    groups["dev-dependencies"] = _table(poetry, "dev-dependencies")
    for wanted in _TEST_NAMES:
        if groups.get(wanted):
            yield RequirementSource(place=f"poetry group {wanted}", requirements=_poetry_requirements(groups[wanted]))


def _poetry_requirements(table: Mapping[str, Any]) -> tuple[str, ...]:
    found = []
    for name, value in table.items():
        if name.lower() == "python":
            continue
        constraint = value.get("version", "") if isinstance(value, dict) else value
        optional = isinstance(value, dict) and value.get("optional")
        if not optional:
            found.append(name + _poetry_specifier(str(constraint) if isinstance(constraint, str) else ""))
    return tuple(found)


def _poetry_specifier(constraint: str) -> str:
    """Return the lower bound of a poetry constraint: its upper bounds are caution, and the cut-off bounds already."""
    match = re.match(r"\s*[\^~]?=?>?=?\s*(\d[\w.]*)", constraint)
    if constraint.strip() in {"", "*"} or match is None:
        return ""
    return f"=={match[1]}" if re.fullmatch(r"\s*={0,2}\s*\d[\w.]*", constraint) else f">={match[1]}"


def _poetry_python(constraint: Any) -> str:
    match = re.search(r"(3\.\d+)", constraint) if isinstance(constraint, str) else None
    return f">={match[1]}" if match else ""


def _tox(texts: Mapping[str, str], document: Mapping[str, Any]) -> Iterable[RequirementSource]:
    legacy = _table(document, "tool", "tox").get("legacy_tox_ini")
    parser = _ini(texts.get("tox.ini") or (legacy if isinstance(legacy, str) else ""))
    for section in ("testenv", "testenv:test", "testenv:tests", "testenv:py"):
        if parser.has_section(section):
            lines = _lines(parser.get(section, "deps", fallback=""))
            yield RequirementSource(place=f"tox {section}", requirements=_resolved(lines, texts))
    native = _table(document, "tool", "tox") or _toml(texts.get("tox.toml", ""))
    deps = _strings(_table(native, "env_run_base").get("deps"))
    yield RequirementSource(place="tox env_run_base", requirements=_resolved(deps, texts))


def _nox(texts: Mapping[str, str]) -> Iterable[RequirementSource]:
    """Yield what the sessions of a noxfile that run tests install; the file is read, never run."""
    tree = _parsed(texts.get("noxfile.py", ""))
    names = _literals(tree)
    for function in tree.body:
        if isinstance(function, ast.FunctionDef) and set(function.name.split("_")) & _TEST_SESSIONS:
            words: list[str] = []
            for call in ast.walk(function):
                if isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "install":
                    words += [word for argument in call.args for word in _words_of(argument, names)]
            yield RequirementSource(place=f"nox {function.name}", requirements=_installed(words, texts))


def _words_of(argument: ast.expr, names: Mapping[str, ast.expr]) -> tuple[str, ...]:
    """Return the words that an argument stands for: a literal, or a name of literals, starred or not."""
    value = argument.value if isinstance(argument, ast.Starred) else argument
    value = names.get(value.id, value) if isinstance(value, ast.Name) else value
    try:
        return _strings(ast.literal_eval(value))
    except (ValueError, TypeError, SyntaxError, RecursionError):
        return ()


def _hatch(document: Mapping[str, Any]) -> Iterable[RequirementSource]:
    environments = _table(document, "tool", "hatch", "envs")
    for name in ("test", "tests", "hatch-test", "default"):
        table = _table(environments, name)
        found = _strings(table.get("dependencies")) + _strings(table.get("extra-dependencies"))
        yield RequirementSource(place=f"hatch {name}", requirements=found)


def _ci(texts: Mapping[str, str]) -> Iterable[RequirementSource]:
    for path in sorted(texts):
        if path.startswith(".github/workflows/") or path in {".travis.yml", "appveyor.yml", ".gitlab-ci.yml"}:
            for match in _PIP_INSTALL.finditer(texts[path]):
                words = [word.strip("'\"") for word in match["words"].split()]
                yield RequirementSource(place=path, requirements=_installed(words, texts))


def _installed(words: Sequence[str], texts: Mapping[str, str]) -> tuple[str, ...]:
    """Return the requirements that the words of an install command name, those of its files included."""
    files = [words[i + 1] for i, word in enumerate(words[:-1]) if word in {"-r", "--requirement"}]
    named = (word for word in words if re.fullmatch(r"[A-Za-z][\w.-]*(\[[\w,.-]+\])?([=<>~!]=?[\w.*,<>=!]+)?", word))
    kept = tuple(word for word in named if not word.endswith((".txt", ".in")) and word not in {"pip", "install"})
    return kept + tuple(line for name in files for line in _file_lines(texts, name))


def _resolved(lines: Iterable[str], texts: Mapping[str, str]) -> tuple[str, ...]:
    """Return requirements of tox lines: conditions cut off, requirement files read."""
    found: list[str] = []
    for line in lines:
        condition, colon, rest = line.partition(":")
        text = (
            rest.strip() if colon and re.fullmatch(r"[\w{},.!-]+", condition) and "/" not in condition else line.strip()
        )
        match = re.match(r"-r\s*(?:\{toxinidir\}/)?(\S+)", text)
        found += _file_lines(texts, match[1]) if match else [text]
    return tuple(text for text in found if text and not text.startswith(("-", "{", ".", "#")))


def _file_lines(texts: Mapping[str, str], name: str) -> tuple[str, ...]:
    path = str(PurePosixPath(name))
    found = list(_requirement_lines(texts.get(path, "")))
    for match in re.finditer(r"^-r\s*(\S+)", texts.get(path, ""), re.MULTILINE):
        nested = str(PurePosixPath(path).parent / match[1])
        if nested != path:
            found += _requirement_lines(texts.get(nested, ""))
    return tuple(found)


def _requirement_lines(text: str) -> tuple[str, ...]:
    joined = re.sub(r"\\\n", " ", text)
    lines = (re.sub(r"(^|\s)#.*", "", line).split(" --")[0].strip() for line in joined.splitlines())
    return tuple(line for line in lines if line and not line.startswith(("-", ".", "/", "git+", "http")))


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#"))


def _strings(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return _lines(value)
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list | tuple) else ()


def _table(document: Any, *keys: str) -> Mapping[str, Any]:
    for key in keys:
        document = document.get(key, {}) if isinstance(document, dict) else {}
    return document if isinstance(document, dict) else {}


def _toml(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError):
        return {}


def _ini(text: str) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read_string(text)
    except configparser.Error:
        return configparser.RawConfigParser()
    return parser


def _parsed(text: str) -> ast.Module:
    try:
        return parse_tree(text)
    except (SyntaxError, ValueError, RecursionError):
        return ast.Module(body=[], type_ignores=[])


def _literals(tree: ast.Module) -> dict[str, ast.expr]:
    """Return what module-level names are set to."""
    return {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _setup_call(text: str) -> dict[str, Any]:
    """Return the literal arguments of setup(), names of module-level literals resolved."""
    tree = _parsed(text)
    names = _literals(tree)
    found: dict[str, Any] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "setup":
            for keyword in node.keywords:
                value = names.get(keyword.value.id) if isinstance(keyword.value, ast.Name) else keyword.value
                try:
                    found[str(keyword.arg)] = ast.literal_eval(value) if value is not None else None
                except (ValueError, TypeError, SyntaxError, RecursionError):
                    continue
    if not isinstance(found.get("extras_require"), dict):
        found.pop("extras_require", None)
    return found
