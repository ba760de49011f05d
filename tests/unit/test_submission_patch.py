"""What becomes of a submitted diff: refused, left out or kept. Any bytes at all give a plan."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envfarm.grading.patch_lines import PatchError
from envfarm.grading.patch_reader import read_sections
from envfarm.grading.patch_section import Content, PatchSection, write_sections
from envfarm.grading.path_quoting import quote, read_quoted
from envfarm.grading.submission_patch import SubmissionPlan, plan_submission

PROTECTED = ("tests/**", "**/conftest.py", "pyproject.toml")
EDIT = b"diff --git a/x.py b/x.py\nindex 1111111..2222222 100644\n--- a/x.py\n+++ b/x.py\n@@ -1 +1 @@\n-old\n+new\n"
BINARY = (
    b"diff --git a/x.bin b/x.bin\nnew file mode 100644\nindex 0000000..1111111\nGIT binary patch\n"
    b"literal 3\nKcmZQzWMT#Y01f~L\n\nliteral 0\nHcmV?d00001\n\n"
)


def edit(path: str) -> bytes:
    return EDIT.replace(b"x.py", path.encode())


def plan(patch: bytes) -> SubmissionPlan:
    return plan_submission(patch, PROTECTED)


def test_an_empty_patch_keeps_nothing_and_is_no_mistake() -> None:
    assert plan(b"") == plan(b" \n\n") == SubmissionPlan()


@pytest.mark.parametrize("patch", [EDIT, BINARY, EDIT + BINARY + edit("a/b c.py")], ids=["text", "binary", "several"])
def test_a_diff_in_gits_form_is_kept_byte_for_byte(patch: bytes) -> None:
    expected = patch.replace(b"a/a/b c.py\n", b"a/a/b c.py\t\n").replace(b"b/a/b c.py\n+", b"b/a/b c.py\t\n+")
    kept = plan(patch).kept_patch
    assert kept.replace(b"\t\n", b"\n") == expected.replace(b"\t\n", b"\n")


@pytest.mark.parametrize(
    ("patch", "path"),
    [
        (edit("tests/test_x.py"), "tests/test_x.py"),
        (edit("src/conftest.py"), "src/conftest.py"),
        (edit("pyproject.toml"), "pyproject.toml"),
        (edit("src/sitecustomize.py"), "src/sitecustomize.py"),
        (edit("src/__pycache__/x.cpython-311.pyc"), "src/__pycache__/x.cpython-311.pyc"),
        (edit("src/sitecustomize.abi3.so"), "src/sitecustomize.abi3.so"),
        (edit("a.pth"), "a.pth"),
        (edit("sub/.pytest.ini"), "sub/.pytest.ini"),
        (b"diff --git a/tests/x.py b/tests/x.py\ndeleted file mode 100644\nindex 1111111..0000000\n", "tests/x.py"),
        (
            b"diff --git a/x.py b/tests/x.py\nsimilarity index 100%\nrename from x.py\nrename to tests/x.py\n",
            "tests/x.py",
        ),
        (b"diff --git a/tests/x.py b/x.py\nsimilarity index 100%\nrename from tests/x.py\nrename to x.py\n", "x.py"),
        (b"diff --git a/tests/x.py b/x.py\nsimilarity index 100%\ncopy from tests/x.py\ncopy to x.py\n", "x.py"),
        (b"diff --git a/tests/x b/tests/x\nold mode 100644\nnew mode 100755\n", "tests/x"),
        (b"diff --git a/tests/x b/tests/x\nindex 1111111..2222222 100644\nBinary files differ\n", "tests/x"),
        (b'diff --git "a/tests/\\303\\244.py" "b/tests/\\303\\244.py"\nnew file mode 100644\n', "tests/ä.py"),
        (b"--- tests/x.py\n+++ tests/x.py\n@@ -1 +1 @@\n-a\n+b\n", "tests/x.py"),
        (b"--- a/x/../tests/x.py\n+++ b/x/../tests/x.py\n@@ -1 +1 @@\n-a\n+b\n", None),
    ],
)
def test_a_section_on_a_path_of_the_graders_is_left_out_and_told(patch: bytes, path: str | None) -> None:
    patch = patch.replace(b"Binary files differ", b"Binary files a/tests/x and b/tests/x differ")
    found = plan(EDIT + patch)
    if path is None:
        assert found.refusal is not None
        return
    assert found.refusal is None
    assert [name for name, _ in found.dropped] == [path]
    assert found.kept_patch == EDIT


@pytest.mark.parametrize(
    ("patch", "reason"),
    [
        (edit("/etc/x"), "is absolute"),
        (edit("../x"), "out of the workspace"),
        (edit("a/../../x"), "out of the workspace"),
        (edit(".git/config"), "repository's own folder"),
        (edit("sub/.GIT/config"), "repository's own folder"),
        (edit("sub/git~1/config"), "repository's own folder"),
        (edit("a/./x"), "no file can have"),
        (b'diff --git "a/x\\000y" "b/x\\000y"\nnew file mode 100644\n', "no file can have"),
        (b"diff --git a/s b/s\nnew file mode 160000\nindex 0000000..1111111\n", "submodule"),
        (b"diff --git a/s b/s\nindex 1111111..2222222 160000\n", "submodule"),
        (BINARY.replace(b"100644", b"120000"), "symbolic link"),
        (
            b"diff --git a/x b/x\nindex 1111111..2222222 100644\nBinary files a/x and b/x differ\n",
            "without the binary data",
        ),
        (b"diff --git a/x b/x\nGIT binary patch\n", "without its data"),
        (EDIT.replace(b"-1 +1", b"-1,3 +1"), "within a hunk"),
        (EDIT.replace(b"-1 +1", b"-1,3 +1") + b"diff --git\n", "ends before it has the lines"),
        (EDIT.replace(b"-1 +1", b"-1 +0,0").replace(b"-old", b" old"), "more lines"),
        (EDIT.replace(b"+++ b/x.py", b"+++ b/y.py"), "names two files"),
        (EDIT.replace(b"--- a/x.py", b"--- a/conftest.py"), "names two files"),
        (b"--- a/x.py\n+++ b/y.py\n@@ -1 +1 @@\n-a\n+b\n", "names two files"),
        (b"@@ -1 +1 @@\n-a\n+b\n", "without the name of its file"),
        (b"diff --cc x.py\n", "combined diff"),
        (b"I fixed it.\n", "no diff"),
        (b"\xff\xfed\x00i\x00f\x00f\x00", "no diff"),
        (b"diff --git a/x b/x\nold mode 644\nnew mode 755\n", "no file mode"),
        (b"diff --git a/x b/y\nrename from x\n", "only one of its two files"),
        (b"diff --git a/x b/y\nrename from x\nrename to y\nnew file mode 100644\n", "contradictory"),
        (b"--- /dev/null\n+++ /dev/null\n@@ -1 +1 @@\n-a\n+b\n", "names no file"),
    ],
)
def test_a_diff_that_reaches_out_or_is_malformed_is_refused_with_the_reason(patch: bytes, reason: str) -> None:
    found = plan(patch)
    assert reason in str(found.refusal)
    assert found.kept_patch == b""


@pytest.mark.parametrize(
    "patch", [edit("../x"), EDIT.replace(b"-1 +1", b"-1,3 +1"), BINARY.replace(b"100644", b"120000")]
)
def test_one_bad_section_refuses_the_whole_diff(patch: bytes) -> None:
    found = plan(EDIT + patch + edit("tests/x.py"))
    assert found.refusal is not None
    assert found.kept_patch == b""


@pytest.mark.parametrize(
    ("path", "target", "refused"),
    [
        ("link", "x.py", False),
        ("a/b/link", "../../x.py", False),
        ("a/link", "../../x.py", True),
        ("link", "a/../../x", True),
        ("link", "/etc/passwd", True),
        ("link", "..", True),
        ("link", "a/b/../..", False),
    ],
)
def test_a_link_is_refused_exactly_where_it_leads_out(path: str, target: str, *, refused: bool) -> None:
    patch = (
        f"diff --git a/{path} b/{path}\nnew file mode 120000\n--- /dev/null\n+++ b/{path}\n@@ -0,0 +1 @@\n+{target}\n"
        "\\ No newline at end of file\n"
    ).encode()
    assert (plan(patch).refusal is not None) is refused


def test_nothing_hides_behind_the_end_of_a_hunk() -> None:
    hidden = EDIT + b"--- a/conftest.py\n+++ b/conftest.py\n@@ -0,0 +1 @@\n+evil\n"
    assert plan(hidden).dropped == (("conftest.py", "changed: belongs to the grader"),)
    inside = b"--- a/x.py\n+++ b/x.py\n@@ -1,2 +1,2 @@\n--- a/conftest.py\n-x\n+++ b/conftest.py\n+x\n"
    assert [section.paths for section in read_sections(inside)] == [("x.py",)]


@pytest.mark.parametrize(
    ("header", "path"),
    [
        (b"diff --git a/x y.py b/x y.py", "x y.py"),
        (b"diff --git x y.py x y.py", "x y.py"),
        (b"diff --git i/x.py w/x.py", "x.py"),
        (b"diff --git a/a b/b b/a b/b", "a b/b"),
        (b'diff --git "a/x\\ty" "b/x\\ty"', "x\ty"),
        (b"diff --git a/b/x b/b/x", "b/x"),
    ],
)
def test_names_are_read_with_any_prefix_quotes_and_spaces(header: bytes, path: str) -> None:
    (section,) = read_sections(header + b"\nold mode 100644\nnew mode 100755\n")
    assert section.paths == (path,)


def test_a_carriage_return_is_kept_in_content_and_ignored_in_headers() -> None:
    (section,) = read_sections(EDIT.replace(b"\n", b"\r\n"))
    assert section.paths == ("x.py",)
    assert section.body == b"@@ -1 +1 @@\r\n-old\r\n+new\r\n"


names = st.text(st.characters(exclude_characters="\0/", codec="utf-8"), min_size=1, max_size=8)
paths = st.lists(names.filter(lambda name: name not in {".", ".."}), min_size=1, max_size=3).map("/".join)
bodies = st.lists(st.binary(max_size=8).map(lambda data: data.replace(b"\n", b"")), min_size=1, max_size=4).map(
    lambda lines: b"@@ -0,0 +1,%d @@\n" % len(lines) + b"".join(b"+" + line + b"\n" for line in lines)
)


@given(st.lists(st.tuples(paths, bodies), min_size=1, max_size=4))
def test_what_is_written_is_read_as_the_same_sections(files: list[tuple[str, bytes]]) -> None:
    sections = tuple(
        PatchSection(old_path=None, new_path=path, new_mode="100644", content=Content.TEXT, body=body)
        for path, body in files
    )
    assert read_sections(write_sections(sections)) == sections


@given(paths)
def test_a_quoted_path_comes_back(path: str) -> None:
    assert read_quoted(quote(path, always=True) + b" rest") == (path, b" rest")


@given(st.binary(max_size=400))
def test_any_bytes_give_a_plan(patch: bytes) -> None:
    assert isinstance(plan(patch), SubmissionPlan)


ODD_LINES = (
    b"""
 x
\\ No newline at end of file
rename from x
copy to y
new file mode 120000
--- /dev/null
+++ b/../x
+++ "b/\\
@@ -1,9 +1,0 @@
--"""
    b" \n\xff\x00"
)
LINES = st.sampled_from(EDIT.split(b"\n") + BINARY.split(b"\n") + ODD_LINES.split(b"\n"))


@given(st.lists(LINES, max_size=25))
def test_any_mixture_of_diff_lines_gives_a_plan_that_is_stable(lines: list[bytes]) -> None:
    first = plan(b"\n".join(lines))
    if first.refusal is None:
        again = plan(first.kept_patch)
        assert (again.kept_patch, again.dropped, again.refusal) == (first.kept_patch, (), None)


def test_a_malformed_diff_says_in_which_line() -> None:
    with pytest.raises(PatchError, match="line 4: "):
        read_sections(EDIT.replace(b"@@ -1 +1 @@", b"@@ -1 +1").replace(b"--- a/x.py\n+++ b/x.py\n", b"--- a/x.py\n"))
