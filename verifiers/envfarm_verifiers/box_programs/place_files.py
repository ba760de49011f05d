"""Makes protected files of the workspace exactly what they have to be, before any submitted code runs.

``python -I -S place_files.py`` reads a job from standard input, as `marshal` writes it: {"protected": [pattern, ...],
"removed": [path, ...], "members": [(path, mode, target of the link or None, content), ...]}. Every file that matches a
protected pattern and is no member is removed; then the members are written, with whatever stands in their way (links,
folders, files) removed first. Nothing is written through a link. `launch.py` does the same before it runs anything.

Standard library only, CPython 3.6 and newer. Exit code 0 when done, 93 when the disk is full, 94 for anything else.
"""

import errno
import marshal
import os
import re
import sys

WORKSPACE = os.environ.get("ENVFARM_WORKSPACE", "/workspace")
MODIFIED_AT = 1577836800
"""The time that every placed file has (2020-01-01): an altered one cannot be told by its time."""
DISK_FULL, FAILED = 93, 94
"""Exit codes; no program that comes later may count on them, but before its first word."""


def compile_patterns(patterns):
    """Return one regular expression for path patterns: `*` and `?` within a segment, `**` for any number of them."""
    return re.compile("|".join("(?:{})".format(_expression(pattern)) for pattern in patterns) or r"(?!)", re.DOTALL)


def _expression(pattern):
    parts = []
    segments = pattern.split("/")
    for number, segment in enumerate(segments):
        last = number == len(segments) - 1
        if segment == "**":
            parts.append(r".+" if last else r"(?:[^/]+/)*")
            continue
        text = "".join({"*": r"[^/]*", "?": r"[^/]"}.get(character, re.escape(character)) for character in segment)
        parts.append(text if last else text + "/")
    return "".join(parts) + r"\Z"


def remove(path):
    """Remove whatever is at the path."""
    if os.path.islink(path) or not os.path.isdir(path):
        os.remove(path)
    else:
        import shutil

        shutil.rmtree(path)


def clear_protected(expression, kept):
    """Remove protected files that are not to be there, and links whose path is protected."""
    for folder, folders, files in os.walk(WORKSPACE):
        relative = os.path.relpath(folder, WORKSPACE)
        prefix = "" if relative == "." else relative + "/"
        folders[:] = [name for name in folders if prefix + name != ".git"]
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        for name in files + links:
            path = prefix + name
            if path not in kept and expression.match(path):
                os.remove(os.path.join(folder, name))


def make_parents(path):
    """Make real folders of all parents of a path, whatever stands in their place."""
    place = WORKSPACE
    for part in path.split("/")[:-1]:
        place = os.path.join(place, part)
        if os.path.islink(place) or (os.path.exists(place) and not os.path.isdir(place)):
            os.remove(place)
        if not os.path.isdir(place):
            os.mkdir(place)


def write(path, mode, link, content):
    """Write one file or link."""
    make_parents(path)
    target = os.path.join(WORKSPACE, path)
    if os.path.lexists(target):
        remove(target)
    if link is not None:
        os.symlink(link, target)
        os.utime(target, (MODIFIED_AT, MODIFIED_AT), follow_symlinks=False)
        return
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o755 if mode & 0o100 else 0o644)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    os.utime(target, (MODIFIED_AT, MODIFIED_AT), follow_symlinks=False)


def members_of(archive):
    """Return the members of a reference archive, given as bytes.

    Raises:
        ValueError: It holds something else than files and links of the workspace.
    """
    import io
    import tarfile

    members = []
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:*", errors="surrogateescape") as opened:
        for member in opened:
            if not (member.isreg() or member.issym()):
                raise ValueError("the archive holds " + repr(member.name))
            content = opened.extractfile(member).read() if member.isreg() else b""
            members.append((member.name, member.mode, member.linkname if member.issym() else None, content))
    return members


def place(job):
    """Do all of it.

    Raises:
        OSError: A file cannot be written.
        ValueError: A member is not inside the workspace.
    """
    members = job["members"]
    for name, _, _, _ in members:
        parts = name.split("/")
        if name.startswith("/") or ".." in parts or "" in parts:
            raise ValueError("a member is called " + repr(name))
    kept = frozenset(member[0] for member in members)
    clear_protected(compile_patterns(job["protected"]), kept)
    for path in job["removed"]:
        target = os.path.join(WORKSPACE, path)
        if os.path.lexists(target):
            remove(target)
    for member in members:
        write(*member)


def place_or_tell(job):
    """Do all of it, and return an exit code; what went wrong goes to standard error."""
    try:
        place(job)
    except Exception as error:  # noqa: BLE001 -- whatever it is, no test runs on files that are not placed
        sys.stderr.write("files cannot be placed: {!r}\n".format(error))
        return DISK_FULL if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) else FAILED
    return 0


if __name__ == "__main__":
    sys.exit(place_or_tell(marshal.loads(sys.stdin.buffer.read())))  # noqa: S302 -- our own driver wrote it
