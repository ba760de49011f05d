"""What the syntax trees say of a candidate's tests, for the stages that ask."""

from collections.abc import Mapping
from pathlib import PurePosixPath

from task_miner.candidate_work import Work, Workshop
from task_miner.languages.contract import ChangedTests


def changed_tests(shop: Workshop, work: Work) -> Mapping[str, ChangedTests]:
    """Return what is new and different in each test file, by path."""
    files = work.known_files()
    return {
        change.path: shop.language.code.changed_tests(
            PurePosixPath(change.path), files.before.get(change.path), files.after.get(change.path)
        )
        for change in work.candidate.tests
    }


def hidden_names(shop: Workshop, work: Work) -> frozenset[str]:
    """Return names that only the hidden tests have: added tests, and files that the test patch adds."""
    names: set[str] = set()
    for path, tree in changed_tests(shop, work).items():
        names |= {name.split("::")[-1] for name in tree.added}
        if path not in work.known_files().before:
            names.add(PurePosixPath(path).name)
    return frozenset(name for name in names if len(name) > len("test_"))
