"""What the syntax trees say of a candidate's tests, for the stages that ask."""

from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from task_miner.candidate_work import Work, Workshop
from task_miner.languages.contract import ChangedTests


def changed_tests(shop: Workshop, work: Work, run_paths: Iterable[str] = ()) -> Mapping[str, ChangedTests]:
    """Return what is new and different in each test file, by path.

    Args:
        shop: Holds the language.
        work: The candidate.
        run_paths: Test files that are run as well, changed or not: nothing is new in those that are not.
    """
    files = work.known_files()
    sides = {
        change.path: (files.before.get(change.path), files.after.get(change.path)) for change in work.candidate.tests
    }
    wanted = set(run_paths) - sides.keys()
    for entry in files.workspace.entries:
        if entry.path in wanted and entry.link_target is None:
            sides[entry.path] = (entry.content, entry.content)
    read = shop.language.code.changed_tests
    return {path: read(PurePosixPath(path), old, new) for path, (old, new) in sides.items()}


def hidden_names(shop: Workshop, work: Work) -> frozenset[str]:
    """Return names that only the hidden tests have: added tests, and files that the test patch adds."""
    names: set[str] = set()
    for path, tree in changed_tests(shop, work).items():
        names |= {name.split("::")[-1] for name in tree.added}
        if path not in work.known_files().before:
            names.add(PurePosixPath(path).name)
    return frozenset(name for name in names if len(name) > len("test_"))
