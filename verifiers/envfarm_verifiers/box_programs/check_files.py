"""Says which files of the workspace are not as they were placed: ``python -I check_files.py``, after the tests ran.

Reads {"path": "sha256 in hex", ...} from standard input and writes a JSON list of the paths that differ, are missing or
are no regular files. A process of its own, which imports nothing of the workspace. Standard library only.
"""

import hashlib
import json
import os
import stat
import sys

WORKSPACE = os.environ.get("ENVFARM_WORKSPACE", "/workspace")


def digest_of(path):
    """Return the digest of a regular file; None for anything else."""
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return None
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except OSError:
        return None


def main():
    """Compare, and tell."""
    placed = json.loads(sys.stdin.buffer.read().decode("utf-8", "surrogateescape"))
    changed = [path for path in sorted(placed) if digest_of(os.path.join(WORKSPACE, path)) != placed[path]]
    sys.stdout.write(json.dumps(changed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
