"""Harbor's package digest, against a second writing of its rule."""

import fnmatch
import hashlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from envfarm.errors import TaskError
from envfarm.formats.harbor import package_digest

# No line breaks in names: in Harbor a pattern's "*" does not pass one, and the simple rule below says nothing of that.
PART = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0\n"), min_size=1, max_size=6).filter(
    lambda name: name not in {".", "..", ".gitignore", ".harborignore"}
)
PART |= st.sampled_from(["a.pyc", "__pycache__", ".DS_Store", "b~", "x.swp", "a-b", "a.b", "a", "A", "caf\udce9"])
TOP = st.sampled_from(["task.toml", "instruction.md", "README.md", "trajectory.json", "notes.txt", "LICENSE"])
FOLDER = st.sampled_from(["environment", "tests", "solution", "steps", "steps/one/tests", "other", "Tests"])
PATH = TOP | st.tuples(FOLDER, st.lists(PART, min_size=1, max_size=3)).map(
    lambda parts: "/".join([parts[0], *parts[1]])
)
FILES = st.dictionaries(PATH, st.binary(max_size=8), max_size=8)


def simple_digest(files: dict[str, bytes]) -> str:
    """Return the digest as one would write it down from Harbor's description, for folders without ignore files."""
    kept = []
    for path in files:
        parts = path.split("/")
        in_folder = len(parts) > 1 and parts[0] in {"environment", "tests", "solution", "steps"}
        at_top = path in {"task.toml", "instruction.md", "README.md", "trajectory.json"}
        leftovers = ("*.pyc", ".DS_Store", "*.swp", "*.swo", "*~")
        left_out = "__pycache__" in parts[:-1] or any(
            fnmatch.fnmatchcase(part, pattern) for part in parts for pattern in leftovers
        )
        if (in_folder or at_top) and not left_out:
            kept.append(path)
    lines = b""
    for path in sorted(kept):
        lines += (
            path.encode("utf-8", "surrogateescape") + b"\0" + hashlib.sha256(files[path]).hexdigest().encode() + b"\n"
        )
    return "sha256:" + hashlib.sha256(lines).hexdigest()


@given(FILES)
def test_the_digest_is_harbors(files: dict[str, bytes]) -> None:
    assert package_digest(files) == simple_digest(files)


def test_the_digest_of_a_known_folder_is_known() -> None:
    lines = b""
    for path, content in (("instruction.md", b"do\n"), ("task.toml", b""), ("tests/test.sh", b"true\n")):
        lines += b"%s\0%s\n" % (path.encode(), hashlib.sha256(content).hexdigest().encode())
    files = {"tests/test.sh": b"true\n", "task.toml": b"", "instruction.md": b"do\n", "notes": b"n", "tests/a.pyc": b""}
    assert package_digest(files) == f"sha256:{hashlib.sha256(lines).hexdigest()}"
    empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert package_digest({}) == package_digest({"notes": b""}) == empty


@given(FILES, st.data())
def test_every_byte_and_name_that_counts_changes_it(files: dict[str, bytes], data: st.DataObject) -> None:
    counted = [path for path in files if simple_digest({path: b""}) != simple_digest({})]
    if not counted:
        return
    path = data.draw(st.sampled_from(counted))
    before = package_digest(files)
    assert package_digest(files | {path: files[path] + b"x"}) != before
    assert package_digest({name: content for name, content in files.items() if name != path}) != before
    renamed = {f"{name}1" if name == path and "/" in name else name: content for name, content in files.items()}
    assert (package_digest(renamed) == before) == (renamed == files)


FOLDERS = {"tests/a": b"1", "tests/b.log": b"2", "tests/sub/c": b"3", "solution/b.log": b"4", "environment/b.log": b"5"}


@pytest.mark.parametrize(
    ("ignores", "left"),
    [
        ({".gitignore": b""}, ["tests/a", "tests/b.log", "tests/sub/c", "solution/b.log", "environment/b.log"]),
        ({".gitignore": b"*.log\n"}, ["tests/a", "tests/sub/c"]),
        ({".gitignore": b"sub/\n"}, ["tests/a", "tests/b.log", "solution/b.log", "environment/b.log"]),
        ({".gitignore": b"*\n!tests/\n!tests/a\n"}, ["tests/a"]),
        ({"tests/.harborignore": b"*.log\n"}, ["tests/a", "tests/sub/c", "solution/b.log", "environment/b.log"]),
        ({"tests/.harborignore": b"sub\n"}, ["tests/a", "tests/b.log", "solution/b.log", "environment/b.log"]),
        (
            {"tests/.harborignore": b"*\n", "tests/sub/.harborignore": b"!c\n"},
            ["solution/b.log", "environment/b.log"],
        ),
        ({"environment/.harborignore": b"*\n"}, list(FOLDERS)),
        ({".harborignore": b"*\n"}, list(FOLDERS)),
    ],
)
def test_ignore_files_leave_out_what_they_name_where_they_hold(ignores: dict[str, bytes], left: list[str]) -> None:
    assert package_digest(FOLDERS | ignores) == simple_digest({path: FOLDERS[path] for path in left})


@pytest.mark.parametrize("path", [".gitignore", "tests/.harborignore", "steps/a/solution/b/.harborignore"])
@pytest.mark.parametrize("pattern", [b"!", b"\\", b"[z-a]", b"fine\n!\n"])
def test_a_pattern_that_is_none_is_refused_by_its_file(path: str, pattern: bytes) -> None:
    with pytest.raises(TaskError, match=f"^{path}: a pattern in it is none"):
        package_digest(FOLDERS | {path: pattern})


@given(st.sampled_from([".gitignore", "tests/.harborignore"]), st.binary(max_size=20))
@example(".gitignore", b"[[a]")
def test_any_bytes_as_patterns_give_a_digest_or_are_refused(path: str, pattern: bytes) -> None:
    try:
        assert package_digest(FOLDERS | {path: pattern}).startswith("sha256:")
    except TaskError as error:
        told = str(error)
    else:
        told = f"{path}: "
    assert told.startswith(f"{path}: ")
