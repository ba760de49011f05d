"""Harbor's package digest (schema 1.4): sha256 over ``relpath NUL sha256(file) LF`` of a task's files, sorted. PURE."""

import hashlib
import re
from collections.abc import Mapping

_TOP_FILES = frozenset({"task.toml", "instruction.md", "README.md", "trajectory.json", ".gitignore", ".harborignore"})
_TOP_FOLDERS = ("environment/", "tests/", "solution/", "steps/")
_IGNORED = re.compile(r"(^|/)(__pycache__(/|\Z)|[^/]*\.pyc\Z|\.DS_Store\Z|[^/]*\.sw[po]\Z|[^/]*~\Z)")


def package_digest(files: Mapping[str, bytes]) -> str:
    """Return ``sha256:`` and 64 hex digits over the files that belong to a package.

    Args:
        files: Content by path relative to the task's folder, POSIX. Patterns of .harborignore and .gitignore at the
            root are honoured as far as plain names and globs go.
    """
    ignored = _ignore_expression(files)
    digest = hashlib.sha256()
    for path in sorted(files):
        if path not in _TOP_FILES and not path.startswith(_TOP_FOLDERS):
            continue
        if _IGNORED.search(path) or (ignored is not None and ignored.search(path)):
            continue
        digest.update(f"{path}\0{hashlib.sha256(files[path]).hexdigest()}\n".encode("utf-8", "surrogateescape"))
    return f"sha256:{digest.hexdigest()}"


def _ignore_expression(files: Mapping[str, bytes]) -> re.Pattern[str] | None:
    content = files.get(".harborignore", files.get(".gitignore"))
    if content is None:
        return None
    lines = [line.strip() for line in content.decode("utf-8", "replace").splitlines()]
    parts = []
    for line in lines:
        if line and not line.startswith(("#", "!")):
            body = re.escape(line.strip("/")).replace(r"\*\*", ".*").replace(r"\*", "[^/]*").replace(r"\?", "[^/]")
            start = r"^" if line.startswith("/") or "/" in line.strip("/") else r"(^|/)"
            parts.append(f"{start}{body}(/|\\Z)")
    return re.compile("|".join(parts)) if parts else None
