"""Makes protected files of the workspace exactly what they have to be, before any submitted code runs.

``python -I place_files.py`` reads from standard input: one line of JSON {"protected": [...], "removed": [...]}, then a
.tar.xz. Every file that matches a protected pattern and is not in the archive is removed; then the archive's files are
written, with whatever stands in their way (links, folders, files) removed first. Nothing is written through a link.

Standard library only, CPython 3.6 and newer. Exit code 0 when done, 3 when the disk is full, 1 for anything else.
"""

import errno
import io
import json
import os
import re
import sys

WORKSPACE = os.environ.get("ENVFARM_WORKSPACE", "/workspace")
MODIFIED_AT = 1577836800
"""The time that every placed file has (2020-01-01): an altered one cannot be told by its time."""


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


def write(member, content):
    """Write one file or link of the archive."""
    make_parents(member.name)
    target = os.path.join(WORKSPACE, member.name)
    if os.path.lexists(target):
        remove(target)
    if member.issym():
        os.symlink(member.linkname, target)
        os.utime(target, (MODIFIED_AT, MODIFIED_AT), follow_symlinks=False)
        return
    descriptor = os.open(
        target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o755 if member.mode & 0o100 else 0o644
    )
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    os.utime(target, (MODIFIED_AT, MODIFIED_AT), follow_symlinks=False)


def place(protected, removed, archive):
    """Do all of it."""
    import tarfile

    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:*", errors="surrogateescape") as opened:
        members = [(member, opened.extractfile(member).read() if member.isreg() else b"") for member in opened]
    for member, _ in members:
        parts = member.name.split("/")
        if member.name.startswith("/") or ".." in parts or "" in parts or not (member.isreg() or member.issym()):
            raise ValueError("the archive holds " + repr(member.name))
    kept = frozenset(member.name for member, _ in members)
    clear_protected(compile_patterns(protected), kept)
    for path in removed:
        target = os.path.join(WORKSPACE, path)
        if os.path.lexists(target):
            remove(target)
    for member, content in members:
        write(member, content)


def main():
    """Read the instruction and the archive, and do it."""
    stream = sys.stdin.buffer
    job = json.loads(stream.readline().decode("utf-8", "surrogateescape"))
    try:
        place(job["protected"], job["removed"], stream.read())
    except OSError as error:
        sys.stderr.write("files cannot be placed: {}\n".format(error))
        return 3 if error.errno in (errno.ENOSPC, errno.EDQUOT) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
