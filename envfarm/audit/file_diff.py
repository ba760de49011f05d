"""Diffs of whole files, as git reads them. PURE."""

from envfarm.grading.path_quoting import quote

LINK_MODE = b"120000"
_FILE_MODE = b"100644"


def replace_file(path: str, old: bytes | None, new: bytes | None, *, mode: bytes = _FILE_MODE) -> bytes:
    """Return a diff that makes a file hold `new` in place of `old`; None where it is absent."""
    before, after = split_lines(old), split_lines(new)
    names = quote(f"a/{path}", always=True), quote(f"b/{path}", always=True)
    head = [b"diff --git " + b" ".join(names)]
    if old is None:
        head.append(b"new file mode " + mode)
    if new is None:
        head.append(b"deleted file mode " + mode)
    if before or after:
        head.append(b"--- /dev/null" if old is None else b"--- " + names[0])
        head.append(b"+++ /dev/null" if new is None else b"+++ " + names[1])
        head.append(b"@@ -%s +%s @@" % (_range(before), _range(after)))
    body = [_marked(b"-", line) for line in before] + [_marked(b"+", line) for line in after]
    return b"\n".join(head) + b"\n" + b"".join(body)


def make_link(path: str, target: str, old: bytes | None = None) -> bytes:
    """Return a diff that puts a symbolic link at the path, in place of a file that it deletes first."""
    removed = b"" if old is None else replace_file(path, old, None)
    return removed + replace_file(path, None, target.encode(), mode=LINK_MODE)


def split_lines(content: bytes | None) -> list[bytes]:
    """Return the lines as git counts them: a carriage return or a form feed ends none."""
    if not content:
        return []
    *whole, rest = content.split(b"\n")
    return [line + b"\n" for line in whole] + ([rest] if rest else [])


def _range(lines: list[bytes]) -> bytes:
    return b"1,%d" % len(lines) if lines else b"0,0"


def _marked(mark: bytes, line: bytes) -> bytes:
    return mark + line if line.endswith(b"\n") else mark + line + b"\n\\ No newline at end of file\n"
