"""Runs pytest inside a box: ``python -s launch.py`` with a job on standard input, as `marshal` writes it.

Standard library only, CPython 3.6 and newer, pytest 4 and newer: it is the task's own interpreter that runs it.

The order matters. Everything of the runner is imported while nothing of the workspace is on the path of Python, so a
``pytest.py``, ``json.py`` or ``sitecustomize.py`` of the workspace shadows nothing. Then the workspace is added, last.

Our own modules get builtins of their own and leave the table of modules once they are loaded, and what was made so far
is hidden from `gc.get_objects`: submitted code that looks for them has to look where it is seen (audit_hook.py).

Keys of the job that may be absent: ``place`` is a job of `place_files.py`, done before anything else; ``watch``
switches audit hook and snapshot on, with ``sources`` as the patterns of test code; ``asks`` lets altered tests ask;
``light`` leaves out what a few plain tests do not need, and names parameter sets by their place.

Covered: the runner, its plug-ins and the report come from the environment and from here, not from the workspace.
Not covered: code under test runs in this very process, and can do to it whatever Python allows.
"""

import builtins
import gc
import marshal
import os
import sys

WORKSPACE = os.environ.get("ENVFARM_WORKSPACE", "/workspace")
NEEDED_MODULES = [
    "_pytest.assertion.rewrite",
    "_pytest.assertion.util",
    "_pytest.doctest",
    "_pytest.faulthandler",
    "_pytest.junitxml",
    "_pytest.pastebin",
    "_pytest.skipping",
    "_pytest.terminal",
    "_pytest.threadexception",
    "_pytest.tmpdir",
    "_pytest.unittest",
    "_pytest.unraisableexception",
    "_pytest.warnings",
    "difflib",
    "faulthandler",
    "getpass",
    "pdb",
    "pprint",
    "pwd",
    "unittest",
]
"""What every run of pytest imports sooner or later; without it a module of the workspace could stand in for it."""
LAZY_MODULES = [
    "_pytest.cacheprovider",
    "_pytest.capture",
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
    "doctest",
    "pygments",
    "tracemalloc",
    "unittest.mock",
    "xml.etree.ElementTree",
]


def load_own(names):
    """Import our own modules with builtins that nobody else can change; return them by name, out of sys.modules."""
    import importlib.util

    here = os.path.dirname(os.path.abspath(__file__))
    private = dict(vars(builtins))
    loaded = {}
    for name in names:
        spec = importlib.util.spec_from_file_location(name, os.path.join(here, name + ".py"))
        module = importlib.util.module_from_spec(spec)
        vars(module)["__builtins__"] = private
        sys.modules[name] = loaded[name] = module
        spec.loader.exec_module(module)
    for name in names:
        del sys.modules[name]
    return loaded


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


def import_runner(plugins, light):
    """Import pytest with what it loads late, and the named plug-ins; return those that could not be imported."""
    import importlib

    import pytest  # noqa: F401

    for name in NEEDED_MODULES if light else NEEDED_MODULES + LAZY_MODULES:
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


def mentions_hypothesis(job):
    """Say whether a plug-in, a test file, or a Python file beside, below or above it mentions hypothesis."""
    if any("hypothesis" in name for name in job["plugins"]):
        return True
    files, seen = set(), set()
    for path in job["paths"]:
        place = os.path.normpath(os.path.join(WORKSPACE, path.split("::")[0]))
        while place.startswith(WORKSPACE):
            if place not in seen and os.path.isdir(place):
                for folder, folders, names in os.walk(place):
                    folders[:] = [name for name in folders if place != WORKSPACE and name != ".git"]
                    files.update(os.path.join(folder, name) for name in names if name.endswith(".py"))
            seen.add(place)
            place = os.path.dirname(place)
    for path in sorted(files):
        try:
            with open(path, "rb") as file:
                if b"hypothesis" in file.read():
                    return True
        except OSError:
            continue
    return False


def start_report(job):
    """Return the reporter and a function of a problem, with everything on that the job asks for.

    Nothing of the workspace was imported yet.
    """
    names = ["record_pipe", "session_record", "report_plugin"]
    names += ["place_files", "path_owners", "audit_hook", "snapshot", "callers", "handlers"] if job.get("watch") else []
    own = load_own(names + (["ask"] if job.get("asks") else []))
    pipes, record, plugin = own["record_pipe"], own["session_record"], own["report_plugin"]
    new_pipe = pipes.open_report(pipes.move_descriptor(int(os.environ.pop("ENVFARM_REPORT_FD"))), job.pop("nonce"))
    new_pipe("start")({"kind": "start", "pid": os.getpid()})
    running, watch = [""], {}

    def current():
        return running[0]

    if job.get("asks"):
        own["ask"].install(pipes.for_threads(new_pipe, "ask"), current, plugin.place_of_frame)
    if job.get("watch"):
        sources = job.get("sources") or ()
        watch["snapshot"] = own["snapshot"].Checks(own["snapshot"].Snapshot(own), new_pipe("changed"))
        files = plugin.Reporter.end.__code__.co_filename, start_report.__code__.co_filename
        paths = own["path_owners"].Paths(sources)
        watch["unexpected"] = own["callers"].make_caller_check(*files, paths)
        watch["handled"] = own["handlers"].make_handler_check(paths)
        own["audit_hook"].install(pipes.for_threads(new_pipe, "audit"), current, sources)
    tell = record.keep_session(new_pipe(*record.KINDS), running, job.get("stop_ids") or (), **watch)
    return plugin.Reporter(job, tell), new_pipe("problem")


def take_job():
    """Return the job, once what it places is placed; standard input is empty then."""
    job = marshal.loads(sys.stdin.buffer.read())  # noqa: S302 -- our own driver wrote it
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    placing = job.pop("place", None)
    if placing is not None:
        status = load_own(["place_files"])["place_files"].place_or_tell(placing)
        if status != 0:
            os._exit(status)
    return job


def main():
    """Run the job, and leave with pytest's status without waiting for threads that never end."""
    gc.disable()
    job = take_job()
    for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS"):
        os.environ.pop(name, None)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    load_own(["compile_catalogs"])["compile_catalogs"].compile_all(WORKSPACE)
    inside = take_workspace_off_the_path()
    failed = import_runner(job["plugins"], bool(job.get("light")))
    if mentions_hypothesis(job):
        calm_hypothesis()
    reporter, tell_problem = start_report(job)
    for text in failed:
        tell_problem({"kind": "problem", "text": "plug-in " + text})
    del tell_problem
    for place in inside + [WORKSPACE]:
        if place not in sys.path:
            sys.path.append(place)
    os.chdir(WORKSPACE)
    sys.argv[:] = ["pytest"]
    import pytest

    pytest.hookimpl(tryfirst=True)(type(reporter).pytest_make_parametrize_id)
    if hasattr(gc, "freeze"):
        gc.freeze()
    gc.enable()
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
