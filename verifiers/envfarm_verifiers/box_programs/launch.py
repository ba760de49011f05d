"""Runs pytest inside a box: ``python -s launch.py`` with one JSON object on standard input.

Standard library only, CPython 3.6 and newer, pytest 4 and newer: it is the task's own interpreter that runs it.

The order matters. Everything of the runner is imported while nothing of the workspace is on the path of Python, so a
``pytest.py``, ``json.py`` or ``sitecustomize.py`` of the workspace shadows nothing. Then the workspace is added, last.

Covered: the runner, its plug-ins and the report come from the environment and from here, not from the workspace.
Not covered: code under test runs in this very process, and can do to it whatever Python allows.
"""

import json
import os
import sys

WORKSPACE = os.environ.get("ENVFARM_WORKSPACE", "/workspace")
LAZY_MODULES = [
    "_pytest.assertion.rewrite",
    "_pytest.assertion.util",
    "_pytest.cacheprovider",
    "_pytest.capture",
    "_pytest.doctest",
    "_pytest.junitxml",
    "_pytest.logging",
    "_pytest.mark",
    "_pytest.monkeypatch",
    "_pytest.nodes",
    "_pytest.outcomes",
    "_pytest.pathlib",
    "_pytest.python",
    "_pytest.python_api",
    "_pytest.recwarn",
    "_pytest.reports",
    "_pytest.runner",
    "_pytest.skipping",
    "_pytest.terminal",
    "_pytest.tmpdir",
    "_pytest.unittest",
    "_pytest.unraisableexception",
    "_pytest.threadexception",
    "difflib",
    "doctest",
    "pdb",
    "pprint",
    "pygments",
    "tracemalloc",
    "unittest",
    "unittest.mock",
    "xml.etree.ElementTree",
]


def take_workspace_off_the_path():
    """Remove and return the entries of sys.path that lie in the workspace."""
    here = os.path.dirname(os.path.abspath(__file__))
    inside = []
    for entry in list(sys.path):
        place = os.path.abspath(entry or os.getcwd())
        if place == WORKSPACE or place.startswith(WORKSPACE + os.sep):
            sys.path.remove(entry)
            inside.append(place)
        elif place == here:
            sys.path.remove(entry)
    return inside


def import_runner(plugins):
    """Import pytest with what it loads late, and the named plug-ins; return those that could not be imported."""
    import importlib

    import pytest  # noqa: F401

    for name in LAZY_MODULES:
        try:
            importlib.import_module(name)
        except ImportError:
            continue
    failed = []
    for name in plugins:
        try:
            importlib.import_module(name)
        except ImportError as error:
            failed.append("{}: {}".format(name, error))
    return failed


def calm_hypothesis():
    """Switch off deadlines and random seeds of hypothesis where it is installed: they fail under load."""
    try:
        import hypothesis
    except ImportError:
        return
    quiet = {"deadline": None, "derandomize": True, "print_blob": False, "database": None}
    quiet["suppress_health_check"] = list(hypothesis.HealthCheck)
    try:
        hypothesis.settings.register_profile("envfarm", hypothesis.settings(**quiet))
    except Exception:  # noqa: BLE001 -- an old hypothesis knows other names; its own defaults serve then
        return
    hypothesis.settings.load_profile("envfarm")


def build_arguments(job, failed):
    """Return the command line of pytest."""
    arguments = ["-p", "no:cacheprovider", "--rootdir", WORKSPACE, "-o", "addopts=", "-q", "--tb=short", "--color=no"]
    # Without it one file that cannot be collected keeps the tests of all other files from running.
    arguments.append("--continue-on-collection-errors")
    for name in job["plugins"]:
        if not any(text.startswith(name + ":") for text in failed):
            arguments += ["-p", name]
    arguments += job["options"]
    return arguments + list(job["paths"])


def main():
    """Run the job, and leave with pytest's status without waiting for threads that never end."""
    job = json.loads(sys.stdin.buffer.read().decode("utf-8"))
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS"):
        os.environ.pop(name, None)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    import compile_catalogs
    import report_plugin

    compile_catalogs.compile_all(WORKSPACE)
    inside = take_workspace_off_the_path()
    failed = import_runner(job["plugins"])
    calm_hypothesis()
    reporter = report_plugin.Reporter(job)
    for text in failed:
        reporter.write({"kind": "problem", "text": "plug-in " + text})
    for place in inside + [WORKSPACE]:
        if place not in sys.path:
            sys.path.append(place)
    os.chdir(WORKSPACE)
    sys.argv[:] = ["pytest"]
    import pytest

    try:
        status = int(pytest.main(build_arguments(job, failed), plugins=[reporter]))
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    reporter.end(status)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue
    os._exit(status)


if __name__ == "__main__":
    main()
