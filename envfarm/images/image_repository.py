"""The repository of an image's workspace with all that any layer ever held of it, read by git as a policy would.

Objects of all layers are laid together in a repository of our own: no setting, hook or alternate of the image is used.
"""

import os
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from envfarm.images.image_archive import LayerFile

CLEAN = "clean"
_FILES = re.compile(r"(HEAD|config|index|shallow|refs/heads/main|objects/pack/pack-[0-9a-f]{40,64}\.(pack|idx))\Z")
_SETTINGS = re.compile(rb"\[core\]\n(\t(repositoryformatversion|filemode|bare|logallrefupdates) = \w+\n)*\Z")
_GIT = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_ATTR_NOSYSTEM": "1", "LC_ALL": "C"}


@dataclass(frozen=True, kw_only=True)
class RepositoryView:
    """What git sees.

    Attributes:
        tree: Object ids of the base's files by path; empty where there is no repository.
        objects: ``clean``, or what the base does not reach.
        files: ``clean``, or the first file of .git that could tell more than the base.
    """

    tree: Mapping[str, str] = field(default_factory=dict, repr=False)
    objects: str = CLEAN
    files: str = CLEAN


def view_repository(files: Sequence[LayerFile], base_commit: str) -> RepositoryView:
    """Return what git sees of a repository.

    Args:
        files: All of .git in all layers, with paths relative to it; a path may be there once per layer.
        base_commit: What alone may be reached.
    """
    if not files:
        return RepositoryView()
    told = _odd_file(files, base_commit)
    with tempfile.TemporaryDirectory(prefix="envfarm-audit-") as name:
        folder = Path(name)
        try:
            _lay_together(files, folder)
            tree = _read_tree(folder, base_commit)
            reached = set(_git(folder, "rev-list", "--objects", "--no-object-names", base_commit).split())
            objects = _strays(folder, reached)
            told = told if told != CLEAN else _odd_names(files, folder, tree, reached)
        except subprocess.CalledProcessError as error:
            words = " ".join(error.stderr.decode(errors="replace").split())[:200]
            return RepositoryView(objects=f"the repository cannot be read: {words}", files=told)
    return RepositoryView(tree=tree, objects=objects, files=told)


def _odd_file(files: Sequence[LayerFile], base_commit: str) -> str:
    for file in files:
        if not _FILES.match(file.path) or not file.is_file:
            return f".git/{file.path} in layer {file.layer}"
        expected = {
            "HEAD": file.content == b"ref: refs/heads/main\n",
            "config": _SETTINGS.match(file.content) is not None,
            "refs/heads/main": file.content.strip() == base_commit.encode(),
        }
        if not expected.get(file.path, True):
            return f".git/{file.path} in layer {file.layer} is not as the base's"
    return CLEAN


def _lay_together(files: Sequence[LayerFile], folder: Path) -> None:
    _git(folder, "init", "--quiet", "--bare", str(folder / "main"))
    others = sorted({file.layer for file in files})
    for file in files:
        if file.path.startswith("objects/") and not file.path.startswith("objects/info/"):
            target = folder / str(file.layer) / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.content)
        elif file.path == "shallow":
            (folder / "main" / "shallow").write_bytes(file.content)
    folders = [folder / str(layer) / "objects" for layer in others]
    alternates = "".join(f"{path}\n" for path in folders if path.is_dir())
    (folder / "main" / "objects" / "info" / "alternates").write_text(alternates)


def _read_tree(folder: Path, base_commit: str) -> dict[str, str]:
    tree = {}
    for line in _git(folder, "ls-tree", "-r", "-z", "--full-tree", base_commit).split(b"\0")[:-1]:
        facts, _, path = line.partition(b"\t")
        tree[path.decode("utf-8", "surrogateescape")] = facts.split(b" ")[2].decode()
    return tree


def _odd_names(files: Sequence[LayerFile], folder: Path, tree: Mapping[str, str], reached: set[bytes]) -> str:
    """Say which index or list of cut history, in whichever layer, names what the base has not."""
    for file in files:
        if file.path == "shallow" and not set(file.content.split()) <= reached:
            return f".git/shallow in layer {file.layer} names a commit that the base does not reach"
        if file.path == "index":
            (folder / "main" / "index").write_bytes(file.content)
            for line in _git(folder, "ls-files", "--stage", "-z").split(b"\0")[:-1]:
                facts, _, path = line.partition(b"\t")
                name = path.decode("utf-8", "surrogateescape")
                if tree.get(name) != facts.split(b" ")[1].decode():
                    return f".git/index in layer {file.layer} has {name} in a form that the base has not"
    return CLEAN


def _strays(folder: Path, reached: set[bytes]) -> str:
    present = set(_git(folder, "cat-file", "--batch-all-objects", "--batch-check=%(objectname)").split())
    strays = sorted(present - reached)
    return f"the object {strays[0].decode()}, which the base does not reach" if strays else CLEAN


def _git(folder: Path, *words: str) -> bytes:
    place = ["--git-dir", str(folder / "main")] if words[0] != "init" else []
    environment = {**_GIT, "PATH": os.environ.get("PATH", "")}
    return subprocess.run(["git", *place, *words], env=environment, cwd=folder, capture_output=True, check=True).stdout
