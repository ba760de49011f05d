"""Decides what of a submitted diff is applied before it is judged. PURE.

Three things can become of a diff. It is refused as a whole where it reaches out of the workspace or cannot be applied
by anyone. Sections that touch a path of the grader's are left out: tests, configuration of the runner, start-up files.
The rest is kept, in a form that `git apply` reads in one way only.

Covered: absolute paths, ``..``, ``.git``, links that lead out, writing through a link of the same diff, submodules.
Not covered: a link that moves by a rename without content (the box holds it), links through other links; `git apply`
refuses to write through links that the workspace has already. What a section does to a file is no concern here.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from envfarm.grading.patch_lines import PatchError
from envfarm.grading.patch_reader import read_sections
from envfarm.grading.patch_section import SUBMODULE_MODE, SYMLINK_MODE, Content, PatchSection, write_sections
from envfarm.grading.path_quoting import to_text
from envfarm.grading.protected_paths import matches

ALWAYS_PROTECTED = (
    "**/*.dist-info/**",
    "**/*.egg-info/**",
    "**/*.egg-link",
    "**/*.pth",
    "**/*.pyc",
    "**/*.pyo",
    "**/.pytest.ini",
    "**/.pytest.toml",
    "**/__pycache__/**",
    "**/conftest.py",
    "**/pytest.ini",
    "**/pytest.toml",
    "**/sitecustomize.*",
    "**/sitecustomize/**",
    "**/usercustomize.*",
    "**/usercustomize/**",
)
"""Paths that no submission changes, whatever a task says: they can decide how tests run, and never what they test.

Compiled files are among them because one that asks for no check is loaded in place of a restored source.
"""


@dataclass(frozen=True, kw_only=True)
class SubmissionPlan:
    """What is applied, what is left out, or why nothing is.

    Attributes:
        kept_patch: The diff to apply with ``git apply -p1``; empty for nothing.
        dropped: Path and reason of each section that is left out.
        refusal: Why the whole diff is refused; it scores 0.
    """

    kept_patch: bytes = field(default=b"", repr=False)
    dropped: tuple[tuple[str, str], ...] = ()
    refusal: str | None = None


def plan_submission(patch: bytes, protected: Iterable[str]) -> SubmissionPlan:
    """Return what becomes of a diff. Any bytes at all give a plan; an empty diff is one that keeps nothing.

    Args:
        patch: A unified diff against the task's base.
        protected: Patterns of the grader's own paths; `ALWAYS_PROTECTED` is added.
    """
    try:
        sections = read_sections(patch)
    except PatchError as error:
        return SubmissionPlan(refusal=f"the patch is malformed: {error}")
    patterns = (*protected, *ALWAYS_PROTECTED)
    refusal = next((reason for section in sections if (reason := _danger(section))), None) or _written_link(sections)
    kept: list[PatchSection] = []
    dropped: list[PatchSection] = []
    for section in sections:
        (dropped if any(matches(path, patterns) for path in section.paths) else kept).append(section)
    told = tuple((section.paths[-1], _describe(section)) for section in dropped)
    if refusal is None:
        empty = next((section for section in kept if section.content is Content.BINARY_WITHOUT_DATA), None)
        if empty is not None:
            refusal = f"the patch does not apply: it says that {empty.paths[-1]!r} differs, without the binary data"
    if refusal is not None:
        return SubmissionPlan(dropped=told, refusal=refusal)
    return SubmissionPlan(kept_patch=write_sections(kept), dropped=told)


def _danger(section: PatchSection) -> str | None:
    """Return why a section is not let near a workspace; None where it may."""
    for path in section.paths:
        if (problem := _path_problem(path)) is not None:
            return f"the patch names the path {path!r}, {problem}"
    path = section.paths[-1]
    if SUBMODULE_MODE in {section.old_mode, section.new_mode}:
        return f"the patch changes the submodule {path!r}: a submission brings files, not other repositories"
    if section.new_mode == SYMLINK_MODE and section.new_path is not None:
        if section.content is Content.BINARY:
            return f"the patch hides the target of the symbolic link {path!r} in binary data"
        target = to_text(section.added_text)
        if _leads_out(section.new_path, target):
            return f"the patch makes the symbolic link {path!r} to {target!r}, which is outside of the workspace"
    return None


def _path_problem(path: str) -> str | None:
    segments = path.split("/")
    if path.startswith("/"):
        return "which is absolute"
    if ".." in segments:
        return "which leads out of the workspace"
    if any(segment.lower().rstrip(". ") in {".git", "git~1"} for segment in segments):
        return "which is in a repository's own folder"
    if "" in segments or "." in segments or "\0" in path:
        return "which no file can have"
    return None


def _leads_out(path: str, target: str) -> bool:
    if target.startswith("/"):
        return True
    depth = path.count("/")
    for segment in target.split("/"):
        if segment == "..":
            depth -= 1
        elif segment not in {"", "."}:
            depth += 1
        if depth < 0:
            return True
    return False


def _written_link(sections: tuple[PatchSection, ...]) -> str | None:
    links = {section.new_path for section in sections if section.new_mode == SYMLINK_MODE} - {None}
    for section in sections:
        for path in section.paths:
            segments = path.split("/")
            parents = ("/".join(segments[:count]) for count in range(1, len(segments)))
            link = next((parent for parent in parents if parent in links), None)
            if link is not None:
                return f"the patch writes {path!r} through the symbolic link {link!r} of its own"
    return None


def _describe(section: PatchSection) -> str:
    if section.operation:
        return f"{section.operation} of {section.old_path}: belongs to the grader"
    deed = "created" if section.old_path is None else "deleted" if section.new_path is None else "changed"
    return f"{deed}: belongs to the grader"
