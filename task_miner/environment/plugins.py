"""Which pytest plug-ins of an environment a run names: plug-ins are never loaded on their own.

All that the environment's distributions register are named, but for those that change outcomes, order, or how the run
is told: with them the structured report would not be the whole truth.
"""

import configparser
from pathlib import Path

_LEFT_OUT = frozenset(
    [
        "xdist",
        "xdist.plugin",
        "xdist.looponfail",
        "pytest_cov.plugin",
        "pytest_randomly",
        "random_order.plugin",
        "pytest_rerunfailures",
        "flaky.flaky_pytest_plugin",
        "pytest_sugar",
        "pytest_html.plugin",
        "pytest_metadata.plugin",
        "pytest_timeout",
        "pytest_isort",
        "pytest_flake8",
        "pytest_pycodestyle",
        "pytest_pydocstyle",
        "pytest_azurepipelines",
        "pytest_mypy",
        "pytest_black",
        "pytest_pylint",
        "pytest_ruff",
        "pytest_instafail",
        "pytest_icdiff",
        "pytest_forked",
        "pytest_codspeed.plugin",
        "pytest_github_actions_annotate_failures.plugin",
        "pytest_reportlog.plugin",
        "pytest_picked",
        "pytest_testmon.pytest_testmon",
        "testmon.pytest_testmon",
        "pytest_profiling",
        "pytest_clarity",
        "pytest_pretty",
        "pytest_ordering",
        "pytest_order.plugin",
        "pytest_retry.retry_plugin",
        "pytest_split.plugin",
        "pytest_memray",
        "pytest_monitor",
        "pytest_enabler",
        "pytest_checkdocs",
        "pytest_ruff._pytest_ruff",
        "pytest_perf.plugin",
        "pytest_spec.plugin",
        "pytest_tldr",
        "nbval.plugin",
    ]
)


def choose_plugins(site_packages: Path) -> tuple[str, ...]:
    """Return the modules of the plug-ins to name, sorted."""
    found: set[str] = set()
    for path in site_packages.glob("*.dist-info/entry_points.txt"):
        parser = configparser.RawConfigParser(strict=False, delimiters=("=",))
        parser.optionxform = str  # type: ignore[assignment,method-assign] # keys are names here, not options
        try:
            parser.read_string(path.read_text(encoding="utf-8", errors="replace"))
        except configparser.Error:
            continue
        if parser.has_section("pytest11"):
            found |= {value.split(":")[0].split("[")[0].strip() for _, value in parser.items("pytest11")}
    return tuple(sorted(name for name in found if name and name not in _LEFT_OUT))
