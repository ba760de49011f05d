"""Our tasks as SWE-bench rows: the twelve fields of the first shape, and those that release 5 adds.

A row names its tests and patches but holds no environment: that is in the task repository (`swebench_repository`),
whose Dockerfile makes the image that the row names.
"""

import base64
import hashlib
import json
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from envfarm.formats.json_text import render_json
from envfarm.formats.new_folder import unwritable
from envfarm.records.task import FIX_PATCH, TEST_PATCH, TaskPackage

LOG_PARSER = "parse_log_pytest_v2"
"""SWE-bench's own reader of ``PASSED id`` lines that keeps ids with spaces whole."""
EVAL_TYPE = "pass_and_fail"
_EVAL = """\
#!/bin/bash
# Puts the hidden tests in place and runs them; what is between the two markers is read.
set -uo pipefail
cd /workspace
test_patch=$(mktemp)
{reader} > "$test_patch" <<'{end}'
{patch}{end}
# Files that the test patch touches are the base's again, whatever was done to them.
git apply --numstat -z "$test_patch" | while IFS= read -r -d '' line; do
    path=${{line#*$'\\t'*$'\\t'}}
    git checkout -q {base} -- ":(literal,top)$path" 2>/dev/null || rm -rf -- "$path"
done
git apply --whitespace=nowarn "$test_patch"
export PYTHONHASHSEED=0 TZ=UTC LC_ALL=C.UTF-8 PYTHONDONTWRITEBYTECODE=1 PYTEST_DISABLE_PLUGIN_AUTOLOAD=1
echo '>>>>> Start Test Output'
{command}
status=$?
echo '>>>>> End Test Output'
echo ">>>>> Test Exit Code: $status"
"""


def to_row(package: TaskPackage) -> dict[str, Any]:
    """Return the task as a SWE-bench row; test lists are JSON strings, as in the older and most common shape."""
    task = package.task
    return {
        "repo": task.source.project,
        "instance_id": task.task_id,
        "base_commit": task.source.base_commit,
        "patch": text_of(package.files[FIX_PATCH]),
        "test_patch": text_of(package.files[TEST_PATCH]),
        "problem_statement": task.statement.text,
        "hints_text": "",
        "created_at": task.source.committed_at,
        "version": task.environment.environment_id,
        "FAIL_TO_PASS": json.dumps(task.tests.fail_to_pass),
        "PASS_TO_PASS": json.dumps(task.tests.pass_to_pass),
        "environment_setup_commit": task.source.base_commit,
        "eval_script": text_of(render_eval(package)),
        "image": image_name(task.task_id),
        "log_parser": LOG_PARSER,
        "eval_type": EVAL_TYPE,
        "envfarm_digest": package.digest,
    }


def write_rows(packages: Iterable[TaskPackage], path: Path) -> int:
    """Write the tasks as JSON lines, and return how many; the file is there whole, or not at all.

    Raises:
        OutputFolderError: The file cannot be written.
    """
    return write_lines((render_json(to_row(package)) for package in packages), path)


def write_lines(lines: Iterable[bytes], path: Path) -> int:
    """Write lines to a file that appears by one rename, and return how many.

    Raises:
        OutputFolderError: The file cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    count = 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                for line in lines:
                    count += 1
                    file.write(line + b"\n")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error
    return count


def render_eval(package: TaskPackage) -> bytes:
    """Return eval.sh: it places the hidden tests over whatever is there, runs them, and prints the three markers."""
    task, patch = package.task, package.files[TEST_PATCH]
    reader = "cat"
    if b"\0" in patch or not _is_utf8(patch):  # SWE-bench reads scripts as UTF-8, and shells leave zeros out
        reader, patch = "base64 -d", base64.encodebytes(patch)
    if patch and not patch.endswith(b"\n"):
        patch += b"\n"
    words = ["/opt/venv/bin/python", "-m", "pytest", "-rA", "--tb=short", "--color=no", "-p", "no:cacheprovider"]
    words += ["-o", "addopts=", "--rootdir", "/workspace", "--continue-on-collection-errors"]
    words += [word for plugin in task.environment.test_plugins for word in ("-p", plugin)]
    words += [*task.tests.options, *task.tests.paths]
    end = f"END_OF_{hashlib.sha256(patch).hexdigest()[:16]}"
    script = _EVAL.format(
        reader=reader,
        end=end,
        patch=patch.decode(),
        base=shlex.quote(task.source.base_commit),
        command=shlex.join(words),
    )
    return script.encode()


def image_name(instance_id: str) -> str:
    """Return the image that SWE-bench derives from an instance's id."""
    return f"swebench/sweb.eval.x86_64.{instance_id}:latest".lower().replace("__", "_1776_")


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def text_of(content: bytes) -> str:
    """Return bytes as text from which they can be had back: what is no UTF-8 becomes lone surrogates."""
    return content.decode("utf-8", "surrogateescape")
