"""Facts and a date become an ordered list of plans: which interpreter, which requirements, and why. PURE.

The interpreter is chosen by rule and not by what a machine happens to have, so that a task is the same wherever it is
mined; only where the rule's choice can neither be found nor brought does the next one by rule take its place.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from task_miner.environment.project_facts import ProjectFacts

_RELEASED: Mapping[str, datetime] = {
    "3.8": datetime(2019, 10, 14, tzinfo=UTC),
    "3.9": datetime(2020, 10, 5, tzinfo=UTC),
    "3.10": datetime(2021, 10, 4, tzinfo=UTC),
    "3.11": datetime(2022, 10, 24, tzinfo=UTC),
    "3.12": datetime(2023, 10, 2, tzinfo=UTC),
    "3.13": datetime(2024, 10, 7, tzinfo=UTC),
}
"""First release of each minor that is used. 3.14 waits until its wheels are as common as those of 3.13."""
_SETTLING = timedelta(days=300)
"""A guess: after this long most of the libraries of the day run on a new minor."""

_NOT_FOR_TESTS = frozenset(
    [
        "black",
        "blacken-docs",
        "build",
        "bumpversion",
        "bump2version",
        "check-manifest",
        "codecov",
        "commitizen",
        "coveralls",
        "docutils",
        "furo",
        "flake8",
        "flake8-bugbear",
        "git-changelog",
        "griffe",
        "hatch",
        "ipdb",
        "ipython",
        "isort",
        "jupyter",
        "keyring",
        "mkdocs",
        "mkdocs-material",
        "mkdocstrings",
        "mypy",
        "myst-parser",
        "nox",
        "pip",
        "pip-tools",
        "poetry",
        "pre-commit",
        "pre-commit-hooks",
        "pydocstyle",
        "pylint",
        "pyright",
        "pyroma",
        "pyupgrade",
        "readme-renderer",
        "reno",
        "ruff",
        "scriv",
        "setuptools-scm",
        "sphinx",
        "sphinx-autodoc-typehints",
        "sphinx-rtd-theme",
        "towncrier",
        "tox",
        "tox-gh-actions",
        "tox-uv",
        "tox-wheel",
        "twine",
        "types-setuptools",
        "uv",
        "virtualenv",
        "wheel",
        "wheel-inspect",
        "zest-releaser",
        "pallets-sphinx-themes",
        "sphinx-issues",
        "sphinxcontrib-log-cabinet",
        "sphinx-tabs",
        "sphinx-copybutton",
        "codespell",
        "vulture",
        "bandit",
        "pytest-codspeed",
        "pytest-ruff",
        "pytest-mypy",
        "pytest-flake8",
        "pytest-black",
        "python-semantic-release",
        "gitchangelog",
    ]
)
"""Tools that need a checkout, a display of results or a release, and no test."""


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One plan: requirements with the reason for each place they come from."""

    requirements: tuple[str, ...]
    reasons: tuple[str, ...]


def choose_minors(facts: ProjectFacts, committed_at: datetime) -> tuple[str, ...]:
    """Return the minor versions to try, best first.

    Best is the newest that the project allows and that had settled by the commit's date; then newer ones in order,
    then older ones, newest first.
    """
    allowed = [minor for minor in _RELEASED if _allows(facts.requires_python, minor)] or list(_RELEASED)
    settled = [minor for minor in allowed if _RELEASED[minor] + _SETTLING <= committed_at]
    named = [minor for minor in settled if minor in facts.classified_minors]
    best = (named or settled or allowed[:1])[-1]
    position = allowed.index(best)
    return (best, *allowed[position + 1 :], *reversed(allowed[:position]))


def build_rungs(facts: ProjectFacts, *, project: str, minor: str) -> tuple[Rung, ...]:
    """Return what to install, the most telling rung first; pytest is in each."""
    runtime = _cleaned(facts.runtime.requirements, project, minor)
    tests = {source.place: _cleaned(source.requirements, project, minor) for source in facts.tests}
    useful = {place: found for place, found in tests.items() if found}
    first = next(iter(useful), None)
    rungs = []
    if useful:
        everything = [requirement for found in useful.values() for requirement in found]
        rungs.append(Rung(requirements=_merged(runtime, everything), reasons=("runtime", *useful)))
    if first is not None and len(useful) > 1:
        rungs.append(Rung(requirements=_merged(runtime, useful[first]), reasons=("runtime", first)))
    rungs.append(Rung(requirements=_merged(runtime, []), reasons=("runtime", "pytest alone")))
    return tuple(dict.fromkeys(rungs))


def month_cutoff(committed_at: datetime) -> str:
    """Return the first moment of the commit's month: neighbours share an environment, and nothing younger enters."""
    return committed_at.replace(day=1, hour=0, minute=0, second=0, microsecond=0).strftime("%Y-%m-%dT%H:%M:%SZ")


def exact_cutoff(committed_at: datetime) -> str:
    """Return the commit's own time."""
    return committed_at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _allows(specifier: str, minor: str) -> bool:
    text = re.sub(r"\.\*", "", specifier) if re.search(r"[<>]=?\s*[\d.]+\.\*", specifier) else specifier
    try:
        return SpecifierSet(text.replace(" ", "")).contains(f"{minor}.99")
    except InvalidSpecifier:
        return True


def _cleaned(lines: Sequence[str], project: str, minor: str) -> list[str]:
    environment = {"python_version": minor, "python_full_version": f"{minor}.0", "sys_platform": "linux", "extra": ""}
    kept = []
    for line in lines:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        name = canonicalize_name(requirement.name)
        if name == canonicalize_name(project) or name in _NOT_FOR_TESTS or requirement.url:
            continue
        if requirement.marker is None or requirement.marker.evaluate(environment):
            requirement.marker = None
            kept.append(str(requirement))
    return kept


def _merged(runtime: Sequence[str], tests: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted({*runtime, *tests, "pytest"}))
