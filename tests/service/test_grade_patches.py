"""Patches as people and programs write them, graded in a real jail: what applies counts, what does not says why."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

from envfarm.errors import UserError
from envfarm.grading.submission_patch import plan_submission
from envfarm.grading.workspace_diff import diff_workspace
from envfarm.records.image import Folder, FolderAccess, Image
from envfarm.records.verdict import Outcome, Verdict
from envfarm.sandbox.contract import WORKSPACE, LeaseRequest
from envfarm.sandbox.local.provider import open_local_provider
from envfarm_verifiers.patch_application import apply_patch

if TYPE_CHECKING:
    from tests.data.tiny.task import TinyTask

SOURCE = "src/tiny/__init__.py"
NO_DATA = b"diff --git a/x.bin b/x.bin\nnew file mode 100644\nBinary files /dev/null and b/x.bin differ\n"
FIX = (
    b"--- a/src/tiny/__init__.py\n+++ b/src/tiny/__init__.py\n@@ -1,4 +1,4 @@\n"
    b" def add(a, b):\n-    return a - b\n+    return a + b\n \n \n"
)
SHORT = FIX.replace(b"1,4", b"1,6").replace(b" \n \n", b" \n \n def greet(name):\n     return f'hello {name}'\n")


def why(verdict: Verdict) -> str:
    assert verdict.outcome is Outcome.SCORED, verdict.failure
    return " | ".join(f"{c.name}: {c.rationale}" for c in verdict.components if c.value != 1.0)


def new_file(path: str, *, mode: str = "100644", line: str = "x = 1") -> bytes:
    return (
        f"diff --git a/{path} b/{path}\nnew file mode {mode}\n--- /dev/null\n+++ b/{path}\n"
        f"@@ -0,0 +1 @@\n+{line}\n\\ No newline at end of file\n"
    ).encode()


@pytest.mark.parametrize(
    "patch",
    [
        FIX,
        FIX.replace(b"a/src", b"src").replace(b"b/src", b"src"),
        b"From: someone\nSubject: [PATCH] mend add\n\n---\n src/tiny/__init__.py | 2 +-\n\n" + FIX + b"-- \n2.39.5\n",
        SHORT.rstrip(b"\n"),
        b"diff --git i/src/tiny/__init__.py w/src/tiny/__init__.py\nindex 1111111..2222222 100644\n"
        + FIX.replace(b"a/", b"i/").replace(b"b/", b"w/"),
    ],
    ids=["plain", "no prefix", "a mail", "last newline lost", "mnemonic prefix"],
)
def test_a_true_fix_counts_however_it_is_written(patch: bytes, tiny_task: "TinyTask") -> None:
    assert tiny_task.grade(patch).reward == 1.0


@pytest.mark.parametrize(
    ("patch", "reason"),
    [
        (new_file("/root/x.py"), "which is absolute"),
        (new_file("../x.py"), "leads out of the workspace"),
        (new_file("src/../../x.py"), "leads out of the workspace"),
        (new_file(".git/hooks/post-checkout"), "a repository's own folder"),
        (new_file("link", mode="120000", line="/etc/passwd"), "outside of the workspace"),
        (new_file("src/link", mode="120000", line="../../secret"), "outside of the workspace"),
        (new_file("link", mode="120000", line="src") + new_file("link/x.py"), "through the symbolic link"),
        (new_file("sub", mode="160000", line="Subproject commit " + "1" * 40), "submodule"),
        (FIX.replace(b"\n", b"\r\n"), "does not apply"),
        (FIX.replace(b"a - b", b"a * b"), "does not apply"),
        (FIX.replace(b"@@ -1,4 +1,4 @@", b"@@ -1,7 +1,7 @@"), "malformed"),
        (NO_DATA, "binary data"),
        (b"please return a + b\n", "no diff"),
        (new_file(SOURCE), "already exists"),
    ],
)
def test_what_reaches_out_or_does_not_apply_scores_zero_with_the_reason(
    patch: bytes, reason: str, tiny_task: "TinyTask"
) -> None:
    fix = FIX if patch.startswith(b"diff") and SOURCE.encode() not in patch else b""
    verdict = tiny_task.grade(fix + patch)
    assert verdict.reward == 0.0
    assert reason in why(verdict)


def test_binary_files_links_inside_and_line_endings_arrive_byte_for_byte(tiny_task: "TinyTask") -> None:
    checked = tiny_task.fixed + (
        "import pathlib\nhere = pathlib.Path(__file__).parent\n"
        "assert (here / 'data.bin').read_bytes() == bytes(range(256))\n"
        "assert (here / 'dos.txt').read_bytes() == b'a\\r\\nb\\r\\n'\n"
        "assert (here / 'link').read_bytes() == b'a\\r\\nb\\r\\n'\n"
    )
    changed = Path(tiny_task.folder) / "bytes"
    for path, content in tiny_task.base.items():
        (changed / path).parent.mkdir(parents=True, exist_ok=True)
        (changed / path).write_text(content)
    (changed / SOURCE).write_text(checked)
    (changed / "src/tiny/data.bin").write_bytes(bytes(range(256)))
    (changed / "src/tiny/dos.txt").write_bytes(b"a\r\nb\r\n")
    (changed / "src/tiny/link").symlink_to("dos.txt")
    (changed / ".gitattributes").write_text("* text eol=lf\n*.bin -diff\n")
    verdict = tiny_task.grade(anyio.run(diff_workspace, tiny_task.folder / "workspace", changed))
    assert verdict.reward == 1.0, why(verdict)


def test_a_workspace_is_never_obeyed(tmp_path: Path) -> None:
    base, work = tmp_path / "base", tmp_path / "work"
    base.mkdir()
    (work / ".git").mkdir(parents=True)
    (work / ".git/config").write_text(f"[core]\nfsmonitor = touch {tmp_path}/obeyed\n[diff]\nexternal = false\n")
    (work / "sub/.git").mkdir(parents=True)
    (work / "sub/x.txt").write_text("x\n")
    (work / ".gitattributes").write_text("* diff=evil filter=evil\n")
    os.mkfifo(work / "pipe")
    (work / 'a\n"b\xff').write_text("odd\n")
    patch = anyio.run(diff_workspace, base, work)
    plan = plan_submission(patch, ())
    assert plan.refusal is None
    assert plan.kept_patch == patch
    assert [line for line in patch.split(b"\n") if line.startswith(b"+++")] == [
        b"+++ b/.gitattributes",
        b'+++ "b/a\\n\\"b\\303\\277"',
        b"+++ b/sub/x.txt",
    ]
    assert not (tmp_path / "obeyed").exists()


def test_an_unchanged_workspace_is_an_empty_patch_and_a_missing_one_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "x").write_text("x")
    assert anyio.run(diff_workspace, tmp_path, tmp_path) == b""
    with pytest.raises(UserError, match="missing"):
        anyio.run(diff_workspace, tmp_path, tmp_path / "missing")


def test_attributes_and_configuration_of_the_workspace_have_no_say_in_what_is_applied(tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    (workspace / ".git/info").mkdir(parents=True)
    (workspace / ".git/HEAD").write_text("ref: refs/heads/main\n")
    (workspace / ".git/objects").mkdir()
    (workspace / ".git/refs").mkdir()
    (workspace / ".git/config").write_text("[core]\nbare = false\nautocrlf = true\n[filter 'x']\nsmudge = rev\n")
    (workspace / ".gitattributes").write_text("*.txt text eol=crlf filter=x ident\n")
    (workspace / "a.txt").write_bytes(b"$Id$\none\n")
    patch = b"--- a/a.txt\n+++ b/a.txt\n@@ -1,2 +1,2 @@\n $Id$\n-one\n+two\n"
    folder = Folder(source=str(workspace), target=str(WORKSPACE), access=FolderAccess.COPY_ON_WRITE)

    async def run() -> tuple[bool, bytes]:
        request = LeaseRequest(image=Image(image_id="x", folders=(folder,)))
        async with open_local_provider({}) as provider, provider.lease(request) as sandbox:
            applied = await apply_patch(sandbox, patch)
            return applied.applied, await sandbox.read_file(WORKSPACE / "a.txt")

    assert anyio.run(run) == (True, b"$Id$\ntwo\n")
    assert (workspace / "a.txt").read_bytes() == b"$Id$\none\n"
