"""What a leaked fix would look like in a file of an image, told by the task itself.

Marks are contents that only the fix has (source files, hidden tests, the task's own secrets), its long lines of code,
names of hidden tests, and the fix's commit. What the base holds as well is no mark.
"""

import hashlib
import io
import os
import re
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from envfarm.formats.xz_stream import decompress
from envfarm.records.task import FIX_PATCH, REFERENCE_ARCHIVE, TEST_PATCH, TaskPackage

_LONG = 40
"""Characters of a line, and bytes of a content, from which on it is taken for the fix's own."""
_NAME = 12
_COMMIT = 12
_SHARED_LINES = 2
"""Lines of code that strangers' files may share with a fix by chance: one less than this."""
_CODE = re.compile(
    rb"\w\(|\w\[| = |[=!<>]=|\+=|->|^(return|if|elif|for|while|def|class|raise|with|assert|yield)\b.*[:(.]"
)
_NO_CODE = re.compile(rb"(#|\"|'|//|/\*|\*|(from|import)\b)")
_TARGET = re.compile(rb"^(?:\+\+\+|---) [ab]/(.+?)\t?$", re.MULTILINE)
_GIT = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null", "LC_ALL": "C"}


@dataclass(frozen=True, kw_only=True)
class FixMarks:
    """What to look for.

    Attributes:
        commit: First digits of the fix's commit.
        contents: What a content is, by its SHA-256.
        lines: Long lines of code that fix and hidden tests add.
        names: Names of hidden tests.
    """

    commit: bytes
    contents: Mapping[bytes, str] = field(repr=False)
    lines: frozenset[bytes] = field(repr=False)
    names: tuple[bytes, ...] = ()

    def find(self, content: bytes, *, of_strangers: bool = False) -> str | None:
        """Return what of the fix a content holds; None for nothing.

        Args:
            content: All of a file.
            of_strangers: Whether it belongs to others (the system, an installed package), who may have a line of code
                in common with any fix.
        """
        known = self.contents.get(hashlib.sha256(content).digest())
        if known is not None:
            return known
        if self.commit and self.commit in content:
            return f"the commit {self.commit.decode()}"
        for name in () if of_strangers else self.names:
            if name in content:
                return f"the hidden test {name.decode()}"
        return self._find_lines(content, 1 if not of_strangers else min(_SHARED_LINES, max(len(self.lines), 1)))

    def _find_lines(self, content: bytes, fewest: int) -> str | None:
        found: set[bytes] = set()
        for line in content.splitlines() if self.lines else ():
            if len(line) >= _LONG and (stripped := line.strip()) in self.lines:
                found.add(stripped)
                if len(found) >= fewest:
                    return f"a line of the fix: {stripped[:60].decode(errors='replace')}"
        return None


def fix_marks(package: TaskPackage, base: Mapping[str, bytes]) -> FixMarks:
    """Return the marks of a task's fix.

    Args:
        package: The task.
        base: Contents of its workspace by path, without the repository.
    """
    contents = {content: f"the task's own {path}" for path, content in _secrets(package).items()}
    contents |= {content: f"{path} as the hidden tests have it" for path, content in _reference(package).items()}
    contents |= {content: f"{path} as the fix has it" for path, content in _fixed(package, base).items()}
    known = set(base.values())
    lines = _gained(package.files.get(FIX_PATCH, b"")) | _gained(package.files.get(TEST_PATCH, b""))
    names = set(_test_names(package))
    for content in known:
        lines -= {line.strip() for line in content.splitlines() if len(line) >= _LONG}
        names -= {name for name in names if name in content}
    marked = {text: told for text, told in contents.items() if len(text) >= _LONG and text not in known}
    return FixMarks(
        commit=package.task.source.fix_commit[:_COMMIT].encode(),
        contents={hashlib.sha256(text).digest(): told for text, told in marked.items()},
        lines=frozenset(lines),
        names=tuple(sorted(names)),
    )


def _secrets(package: TaskPackage) -> dict[str, bytes]:
    """Return the files of a task that no image holds: all but its environment and its statement."""
    return {path: text for path, text in package.files.items() if path.startswith(("tests/", "solution/"))}


def _reference(package: TaskPackage) -> dict[str, bytes]:
    packed = package.files.get(REFERENCE_ARCHIVE, b"")
    try:
        with tarfile.open(fileobj=io.BytesIO(decompress(packed)), mode="r:") as archive:
            files = {member.name: archive.extractfile(member) for member in archive if member.isreg()}
            return {name: file.read() for name, file in files.items() if file is not None}
    except (ValueError, tarfile.TarError, EOFError):  # none, or damaged: grading says so
        return {}


def _fixed(package: TaskPackage, base: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the files that the fix changes, as it leaves them; none where it does not apply."""
    patch = package.files.get(FIX_PATCH, b"")
    paths = {os.fsdecode(path) for path in _TARGET.findall(patch)}
    with tempfile.TemporaryDirectory(prefix="envfarm-marks-") as name:
        folder = Path(name)
        for path in paths & base.keys():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(base[path])
        environment = {**_GIT, "PATH": os.environ.get("PATH", ""), "GIT_CEILING_DIRECTORIES": str(folder.parent)}
        done = subprocess.run(
            ["git", "apply", "--whitespace=nowarn", "-"],
            cwd=folder,
            env=environment,
            input=patch,
            capture_output=True,
            check=False,
        )
        if not patch or done.returncode != 0:
            return {}
        return {path: (folder / path).read_bytes() for path in paths if (folder / path).is_file()}


def _gained(patch: bytes) -> set[bytes]:
    """Return the long lines of code that a diff adds and has nowhere else."""
    by_mark: dict[bytes, set[bytes]] = {b"+": set(), b"-": set(), b" ": set()}
    for line in patch.split(b"\n"):
        text = line[1:].strip()
        if len(text) >= _LONG and line[:1] in by_mark and not line.startswith((b"+++ ", b"--- ")):
            by_mark[line[:1]].add(text)
    gained = by_mark[b"+"] - by_mark[b"-"] - by_mark[b" "]
    return {text for text in gained if _CODE.search(text) and not _NO_CODE.match(text)}


def _test_names(package: TaskPackage) -> Iterable[bytes]:
    for test in package.task.tests.fail_to_pass:
        name = test.partition("[")[0].rpartition("::")[2]
        if len(name) >= _NAME and name.isidentifier():
            yield name.encode()
