"""Says which files of the workspace are not as they were placed: ``python -I -S check_files.py``, after the tests ran.

Reads {path: content, ...} from standard input, as `marshal` writes it, and writes the paths that differ, are missing
or are no regular files, each with a zero byte behind it. A process of its own, which imports nothing of the workspace.
Standard library only.
"""

import marshal
import os
import stat
import sys

WORKSPACE = os.environ.get("ENVFARM_WORKSPACE", "/workspace")


def holds(path, content):
    """Say whether it is a regular file with this content."""
    try:
        facts = os.lstat(path)
        if not stat.S_ISREG(facts.st_mode) or facts.st_size != len(content):
            return False
        with open(path, "rb") as file:
            return file.read(len(content) + 1) == content
    except OSError:
        return False


if __name__ == "__main__":
    placed = marshal.loads(sys.stdin.buffer.read())  # noqa: S302 -- our own driver wrote it
    for path in sorted(placed):
        if not holds(os.path.join(WORKSPACE, path), placed[path]):
            sys.stdout.buffer.write(path.encode("utf-8", "surrogateescape") + b"\0")
