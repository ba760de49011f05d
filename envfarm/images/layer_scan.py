"""Reads the files of an image one after the other, and keeps what could tell a fix."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from envfarm.images.fix_marks import FixMarks
from envfarm.images.image_archive import LayerFile
from envfarm.images.image_repository import CLEAN
from envfarm.images.packed_contents import unpacked_contents
from envfarm.images.python_layers import INTERPRETER
from envfarm.records.task import PROJECT_FOLDER, TaskPackage
from envfarm.sandbox.contract import PROJECT, WORKSPACE

_CHECKS = (
    "tracked_files",
    "workspace_files",
    "caches",
    "byte_code",
    "build_folders",
    "installed_project",
    "packed_history",
    "fix_contents",
)
_WORKSPACE = f"{WORKSPACE}/".lstrip("/")
_PROJECT = f"{PROJECT}/".lstrip("/")
_GIT = f"{_WORKSPACE}.git/"
_CACHES = re.compile(
    r"(^|/)(\.cache|\.pytest_cache|\.mypy_cache|\.ruff_cache|\.hypothesis|\.uv-cache)(/|\Z)"
    r"|^(tmp|var/tmp|var/cache|home/[^/]+|root/\.[^/]+)/[^/]|(^|/)\.coverage\Z"
)
_BUILDS = re.compile(r"(^|/)(build|dist|\.eggs|\.tox|\.nox|[^/]+\.egg-info)/|\.(orig|rej)\Z")
_METADATA = re.compile(r"([^/]+)\.(dist-info/METADATA|egg-info/PKG-INFO|egg-info)\Z")
_NAME = re.compile(rb"^Name:[ \t]*(\S+)", re.MULTILINE)
_FOREIGN_GIT = re.compile(r"(^|/)\.git(/|\Z)|(^|/)(objects/[0-9a-f]{2}/[0-9a-f]{38,62}|packed-refs)\Z")
_PACK, _BUNDLE = b"PACK\0\0\0", re.compile(rb"# v\d git bundle\n")
_DELETION = ".wh."
"""What a layer says of a file that it takes away."""
_UNCHECKED = 1


@dataclass(frozen=True)
class _Seen:
    """A file of the workspace."""

    layer: int
    path: str
    oid: str
    is_of_task: bool
    mark: str | None


@dataclass
class LayerScan:
    """What was found so far.

    Attributes:
        package: The task.
        marks: What its fix would look like.
        workspace: Paths that its workspace has.
        git_files: All of the workspace's .git, in all layers.
    """

    package: TaskPackage
    marks: FixMarks
    workspace: frozenset[str]
    git_files: list[LayerFile] = field(default_factory=list)
    _found: dict[str, str] = field(default_factory=dict)
    _seen: list[_Seen] = field(default_factory=list)
    _sources: set[str] = field(default_factory=set)
    _compiled: dict[str, str] = field(default_factory=dict)

    def read(self, file: LayerFile, *, is_base: bool) -> None:
        """Look at one file of a layer, or link; `is_base` for those of the image that all tasks stand on."""
        if file.path.rpartition("/")[2].startswith(_DELETION) and not file.content:
            return
        if not file.is_file and not file.content:
            self._read_folder(file, is_base=is_base)
        elif file.path.startswith(_GIT):
            relative = LayerFile(
                layer=file.layer, path=file.path[len(_GIT) :], is_file=file.is_file, content=file.content
            )
            self.git_files.append(relative)
        elif file.path.startswith(_WORKSPACE):
            self._read_workspace(file)
        elif file.path.startswith(_PROJECT):
            self._read_project(file)
        else:
            self._read_other(file, is_base=is_base)

    def checks(self, tree: Mapping[str, str]) -> dict[str, str]:
        """Return what each check found, given the base's files."""
        for seen in self._seen:
            self._judge(seen, tree)
        for path, told in self._compiled.items():
            if path not in self._sources:
                self._add("byte_code", f"{told} is there without its source")
        return {name: self._found.get(name, CLEAN) for name in _CHECKS}

    def _add(self, check: str, told: str) -> None:
        self._found.setdefault(check, told)

    def _read_folder(self, file: LayerFile, *, is_base: bool) -> None:
        if not is_base and not file.path.startswith(_WORKSPACE) and _FOREIGN_GIT.search(file.path):
            self._add("packed_history", f"{_at(file)} is a repository")

    def _read_workspace(self, file: LayerFile) -> None:
        path = file.path[len(_WORKSPACE) :]
        oid = hashlib.sha1(b"blob %d\0" % len(file.content) + file.content).hexdigest()  # noqa: S324 -- git's
        self._seen.append(_Seen(file.layer, path, oid, path in self.workspace, self._mark(file, of_strangers=False)))

    def _judge(self, seen: _Seen, tree: Mapping[str, str]) -> None:
        place = f"{_WORKSPACE}{seen.path} in layer {seen.layer}"
        if tree.get(seen.path) == seen.oid:
            return
        if seen.path in tree:
            self._add("tracked_files", f"{place} is not as the base has it")
        elif not seen.is_of_task:
            self._add("workspace_files", f"{place} is no file of the task")
        if seen.mark is not None:
            self._add("fix_contents", f"{place} holds {seen.mark}")
        if _CACHES.search(seen.path):
            self._add("caches", place)
        if seen.path.endswith((".pyc", ".pyo")):
            self._add("byte_code", place)
        if _BUILDS.search(seen.path) and (tree or not seen.is_of_task):
            self._add("build_folders", place)

    def _read_project(self, file: LayerFile) -> None:
        path = f"{PROJECT_FOLDER}/{file.path[len(_PROJECT) :]}"
        if self.package.files.get(path) != file.content:
            self._add("installed_project", f"{_at(file)} is not what the task says")
        mark = self._mark(file, of_strangers=False)
        if mark is not None:
            self._add("fix_contents", f"{_at(file)} holds {mark}")
        if file.path.endswith((".pyc", ".pyo")):
            self._add("byte_code", _at(file))

    def _read_other(self, file: LayerFile, *, is_base: bool) -> None:
        mark = self._mark(file, of_strangers=True)
        if mark is not None:
            self._add("fix_contents", f"{_at(file)} holds {mark}")
        metadata = _METADATA.search(file.path)
        name = _NAME.search(file.content) if metadata is not None else None
        project = _plain(self.package.task.source.project)
        if name is not None and _plain(name[1].decode(errors="replace")) == project:
            self._add("installed_project", f"{_at(file)} is a release of the project itself")
        if file.content.startswith(_PACK) or _BUNDLE.match(file.content) or _FOREIGN_GIT.search(file.path):
            self._add("packed_history", _at(file))
        if is_base or (not file.is_file and file.content == INTERPRETER.encode()):
            return
        if _CACHES.search(file.path):
            self._add("caches", _at(file))
        if file.path.endswith((".pyc", ".pyo")):
            self._read_byte_code(file)
        else:
            self._sources.add(file.path)

    def _read_byte_code(self, file: LayerFile) -> None:
        if file.content[4:8] != _UNCHECKED.to_bytes(4, "little"):
            self._add("byte_code", f"{_at(file)} holds a time")
        folder, _, name = file.path.rpartition("/__pycache__/")
        self._compiled[f"{folder}/{name.partition('.')[0]}.py" if name else ""] = _at(file)

    def _mark(self, file: LayerFile, *, of_strangers: bool) -> str | None:
        for content in (file.content, *unpacked_contents(file.content)):
            mark = self.marks.find(content, of_strangers=of_strangers)
            if mark is not None:
                return mark
        return None


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _at(file: LayerFile) -> str:
    return f"{file.path} in layer {file.layer}"
