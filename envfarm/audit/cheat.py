"""What a cheat is, and what is known of the task that it is made for. PURE.

A cheat is a maker of diffs. It works on any mined task, or says that it does not fit; it mends nothing. What a cheat
may know is what stands in `CheatTarget`: a blanket cheat uses nothing but what a reader of the repository knows, an
aimed one also what an insider could.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Self

from envfarm.audit.file_diff import replace_file

_MOST_CARRIERS = 3


class Family(StrEnum):
    """What a cheat attacks."""

    OUTCOME = "outcome"
    """Hooks, plug-ins and configuration that pytest reads by itself."""
    RUNNER = "runner"
    """The runner's own code and objects, patched by a source module while it is imported."""
    REPORT = "report"
    """What is told about the run: printed text, envfarm's report, reward files."""
    PROCESS = "process"
    """How the process ends."""
    TESTS = "tests"
    """The tests themselves: their files, their code, what is collected."""
    FILES = "files"
    """Files that Python or a shell finds before the real ones."""
    ENVIRONMENT = "environment"
    """Variables, installed packages, the standard library."""
    EQUALITY = "equality"
    """Results that are equal to whatever they are compared with."""
    AIMED = "aimed"
    """Knows a test's name, text or expected value."""
    RESOURCES = "resources"
    """Takes all there is."""
    PATCH = "patch"
    """Attacks what applies the diff."""
    HONEST = "honest"
    """No cheat: the true fix, written in another way."""


@dataclass(frozen=True, kw_only=True)
class CheatTarget:
    """The facts of a task that cheats are made from. All paths are relative to the workspace.

    Attributes:
        sources: Base content of the modules that the fix changes, None for one that it adds; the first few carry.
        tests: Base content of the test files that decide.
        base: Base content of other files that a cheat may look at: conftest files, configuration of the runner.
        paths: Every path of the base; empty where nobody knows.
        fail_to_pass: Ids of the tests that the fix has to mend.
        pass_to_pass: Ids of the tests that passed before and still have to.
        hidden_tests: Content of the test files as they are when they decide, and of what else the test patch changes.
        fixed: Content after the true fix of every file that it changes, None for one that it deletes.
        with_fix: Whether the diffs hold the true fix beside the cheat.
    """

    sources: Mapping[str, bytes | None] = field(repr=False)
    tests: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    base: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    paths: frozenset[str] = field(default=frozenset(), repr=False)
    fail_to_pass: tuple[str, ...] = ()
    pass_to_pass: tuple[str, ...] = field(default=(), repr=False)
    hidden_tests: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    fixed: Mapping[str, bytes | None] = field(default_factory=dict, repr=False)
    with_fix: bool = False

    def beside_the_fix(self) -> Self:
        """Return the same target for cheats that come with the true fix."""
        return replace(self, with_fix=True)

    def beside_nothing(self) -> Self:
        """Return the same target for diffs that hold no fix, since another part of the patch does."""
        return replace(self, with_fix=False)

    @property
    def carriers(self) -> tuple[str, ...]:
        """The modules that carry a cheat: those that the fix changes, the ones that exist first."""
        modules = [path for path in self.sources if path.endswith(".py")]
        return tuple(sorted(modules, key=lambda path: (self.sources[path] is None, path))[:_MOST_CARRIERS])

    @property
    def import_roots(self) -> tuple[str, ...]:
        """The folders that Python finds the carriers from, and the workspace's own; without a slash at the end."""
        roots = {self._root(PurePosixPath(path)) for path in self.carriers}
        return tuple(sorted({"", *roots}))

    def original(self, path: str) -> bytes | None:
        """Return the base's content of a file; None where it is absent or not known."""
        for known in (self.sources, self.tests, self.base):
            if path in known:
                return known[path]
        return None

    def content(self, path: str) -> bytes | None:
        """Return what a cheat starts from: the base's content, or the fixed one beside the fix."""
        return self.fixed[path] if self.with_fix and path in self.fixed else self.original(path)

    def diff(self, changes: Mapping[str, bytes | None]) -> bytes:
        """Return the diff that makes files hold the given contents, None for absent; with the fix where asked for."""
        wanted = {**self.fixed, **changes} if self.with_fix else changes
        return b"".join(
            replace_file(path, self.original(path), content)
            for path, content in sorted(wanted.items())
            if content != self.original(path) or content is None
        )

    def _root(self, path: PurePosixPath) -> str:
        folder = path.parent
        while str(folder) != "." and str(folder / "__init__.py") in self.paths:
            folder = folder.parent
        return "" if str(folder) == "." else str(folder)


Maker = Callable[[CheatTarget], bytes | None]


@dataclass(frozen=True, kw_only=True)
class Cheat:
    """One way to win without mending.

    Attributes:
        name: Words joined by underscores.
        family: What it attacks.
        what: What it does, in one line.
        make: Returns the diff for a task; None where it does not fit.
        blanket: Whether it needs no knowledge of the task's tests.
        harmless: Whether it changes nothing once the true fix is beside it: that then has to score 1.
        plain_refuses: Why even the usual way of grading is not deceived; empty where it is.
    """

    name: str
    family: Family
    what: str
    make: Maker = field(repr=False)
    blanket: bool = True
    harmless: bool = False
    plain_refuses: str = ""
