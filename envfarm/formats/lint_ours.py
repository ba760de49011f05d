"""What a task of our own has to hold beyond Harbor's rules; ids start with ``envfarm-``. PURE.

Covered: damage, size, lists, hashes of the lock, the base image, the leak certificate, and the fix or the hidden tests
lying open in the statement, the recipe or the workspace's files.
Not covered: leaks in other words, or inside of git objects; the miner's audit looks there before a task is published.
"""

import io
import re
import tarfile
from collections.abc import Iterator, Mapping

from envfarm.errors import TaskError
from envfarm.formats.harbor_toml import parse_task_toml
from envfarm.formats.lint_commands import logical_lines
from envfarm.formats.lint_problem import WARNING, Problem, problem
from envfarm.formats.patch_text import PatchedFile, read_patch
from envfarm.formats.xz_stream import decompress
from envfarm.records.task import (
    DOCKERFILE,
    EXPECTED_FILE,
    FIX_PATCH,
    LOCK_FILE,
    STATEMENT_FILE,
    TASK_FILE,
    TEST_PATCH,
    WORKSPACE_ARCHIVE,
    Task,
)

LARGEST_BYTES = 5 << 20
LONG_LINE = 40
"""Characters from which on a line is somebody's own; shorter ones are written twice by chance."""
_PINNED = re.compile(r"@sha256:[0-9a-fA-F]{64}$|:\d+\.\d+\.\d+(?:-|$)")


def lint_ours(files: Mapping[str, bytes]) -> Iterator[Problem]:
    """Yield the problems of a task of our own, given all of its files."""
    try:
        task, _ = parse_task_toml(files.get(TASK_FILE, b""), files)
    except TaskError as error:
        file, _, message = str(error).partition(": ")
        yield problem("envfarm-damaged", file, message)
        return
    size = sum(map(len, files.values()))
    if size > LARGEST_BYTES:
        said = f"the folder has {size / (1 << 20):.1f} MiB, more than {LARGEST_BYTES >> 20}"
        yield Problem(rule="envfarm-large", file=TASK_FILE, message=said, severity=WARNING)
    yield from _lint_facts(task)
    yield from _lint_environment(task, files)
    patches = [patched for name in (FIX_PATCH, TEST_PATCH) for patched in read_patch(files.get(name, b""))]
    if not patches:
        yield problem("envfarm-no-patches", FIX_PATCH, "there is neither a fix nor a test patch")
    yield from _lint_leaks(files, patches)


def _lint_facts(task: Task) -> Iterator[Problem]:
    wanted, kept = task.tests.fail_to_pass, task.tests.pass_to_pass
    if not wanted:
        yield problem("envfarm-nothing-to-pass", EXPECTED_FILE, "no test has to go from failing to passing")
    if both := sorted(set(wanted) & set(kept)):
        yield problem("envfarm-overlapping-lists", EXPECTED_FILE, f"{both[0]} is in both lists")
    if list(wanted) != sorted(set(wanted)) or list(kept) != sorted(set(kept)):
        yield problem("envfarm-unsorted-lists", EXPECTED_FILE, "the lists of tests are not sorted, or name one twice")
    certificate = task.quality.leak_certificate
    if certificate is None:
        yield problem("envfarm-no-certificate", TASK_FILE, "it has no leak certificate: it was never audited")
    elif unclean := sorted(name for name, said in certificate.checks.items() if said != "clean"):
        yield problem("envfarm-no-certificate", TASK_FILE, f"its leak certificate is not clean: {unclean[0]}")


def _lint_environment(task: Task, files: Mapping[str, bytes]) -> Iterator[Problem]:
    for number, line in logical_lines(task.environment.lock):
        if not line.lstrip().startswith("-") and "--hash=" not in line:
            yield problem("envfarm-lock-without-hashes", LOCK_FILE, f"{line.split()[0]} has no hash", number)
            break
    for number, line in logical_lines(files.get(DOCKERFILE, b"").decode("utf-8", "replace")):
        words = [word for word in line.split() if not word.startswith("--")]
        if words[0].upper() == "FROM" and len(words) > 1 and not _PINNED.search(words[1]):
            said = f"the base image {words[1]} has neither a digest nor a full version"
            yield problem("envfarm-unpinned-base-image", DOCKERFILE, said, number)


def _lint_leaks(files: Mapping[str, bytes], patches: list[PatchedFile]) -> Iterator[Problem]:
    """Yield what a policy could read of the solution or the hidden tests."""
    own = {line for patched in patches for line in patched.own_lines if len(line) >= LONG_LINE}
    told: dict[bytes, str] = {}
    for name, content in files.items():
        if name == STATEMENT_FILE or (name.startswith("environment/") and name not in {LOCK_FILE, WORKSPACE_ARCHIVE}):
            told |= dict.fromkeys(own.intersection(map(bytes.strip, content.splitlines())), name)
    wanted = {patched.path: patched for patched in patches if patched.own_lines}
    try:
        for path, content in _workspace_files(files.get(WORKSPACE_ARCHIVE, b"")):
            if path in wanted and wanted[path].is_applied_to(content):
                said = f"{path} is already as the solution or the hidden tests make it"
                yield problem("envfarm-leak", WORKSPACE_ARCHIVE, said)
            for line in [line for line in told if line in content]:
                told.pop(line)  # the base says it too: nothing of the fix
    except (tarfile.TarError, EOFError, OSError, ValueError, OverflowError, RecursionError) as error:
        yield problem("envfarm-damaged", WORKSPACE_ARCHIVE, f"it is no archive ({' '.join(str(error).split())})")
    for line, name in told.items():
        said = f"it holds a line of the fix or of its tests: {line.decode('utf-8', 'replace')[:60]}"
        yield problem("envfarm-leak", name, said)


def _workspace_files(archive: bytes) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(decompress(archive)), mode="r:") as opened:
        for member in opened:
            if member.size < 0 or member.issparse():  # the reader would go back and round for ever, or make it huge
                message = f"{member.name!r} has a size that no file has"
                raise ValueError(message)
            path = member.name.removeprefix("./")
            content = opened.extractfile(member) if member.isfile() and not path.startswith(".git/") else None
            if content is not None:
                yield path, content.read()
