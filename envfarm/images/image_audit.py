"""The leak audit of an image: nothing that any of its layers ever held tells the fix.

A file that a later layer deletes or overwrites can still be read by who has the image, so each layer is read by itself,
as the engine gives it out. Each check is named; the certificate names the image, and holds for no other.

Covered: objects, refs, logs, index and settings of git, bundles and packs elsewhere; files of the workspace that are
not the base's; caches, byte code, build folders; releases of the project itself; contents, long lines and hidden tests
of the fix in any file, also packed (see `packed_contents`); the image's own configuration.
Not covered: what a policy knows from its own training; a fix in another form than its text, as in a compiled library.
"""

import hashlib
import json
from collections.abc import Mapping

import msgspec

from envfarm.images.fix_marks import FixMarks, fix_marks
from envfarm.images.image_archive import LayerFile, SavedImage
from envfarm.images.image_repository import CLEAN, view_repository
from envfarm.images.layer_scan import LayerScan
from envfarm.images.task_layer import workspace_files
from envfarm.records.image import BuiltImage, ImageCertificate
from envfarm.records.task import TaskPackage

_GIT = ".git/"


def audit_image(package: TaskPackage, built: BuiltImage, saved: SavedImage) -> ImageCertificate:
    """Return the certificate of a task's image; a check that is not clean says what was found. Blocking work.

    Raises:
        TaskError: The task's workspace is damaged.
        ImageBuildError: The image cannot be read.
    """
    workspace = {path: entry.read() for path, entry in workspace_files(package).items() if entry.read is not None}
    marks = fix_marks(package, _of_base(package, workspace))
    names = [layer.name for layer in built.layers]
    scan = LayerScan(package, marks, frozenset(workspace))
    whole = CLEAN
    for layer, diff_id in enumerate(saved.diff_ids):
        if saved.digest_of(layer) != diff_id:
            whole = f"layer {layer} is not what the image says"
        is_base = layer < len(names) and names[layer] == "base"
        for file in saved.files(layer):
            scan.read(file, is_base=is_base)
    if saved.image_id != built.image_id:
        whole = f"the image is {saved.image_id}, not the one that was built"
    repository = view_repository(scan.git_files, package.task.source.base_commit)
    found = {
        "image": whole,
        "configuration": _in_configuration(saved.config, marks),
        "git_objects": repository.objects,
        "git_files": repository.files,
        **scan.checks(repository.tree),
    }
    return _certificate(package, built, saved, found)


def first_leak(certificate: ImageCertificate) -> str | None:
    """Return the first check that is not clean, with what was found; None where all are."""
    return next((f"{name}: {said}" for name, said in certificate.checks.items() if said != CLEAN), None)


def _of_base(package: TaskPackage, workspace: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return what the base tracks, or all files where there is no repository that tells."""
    files = [
        LayerFile(layer=0, path=path.removeprefix(_GIT), is_file=True, content=content)
        for path, content in workspace.items()
        if path.startswith(_GIT)
    ]
    tree = view_repository(files, package.task.source.base_commit).tree
    return {path: text for path, text in workspace.items() if path in tree or not (tree or path.startswith(_GIT))}


def _in_configuration(config: bytes, marks: FixMarks) -> str:
    texts = [config, *_strings(json.loads(config))]
    return next((told for text in texts if (told := marks.find(text)) is not None), CLEAN)


def _strings(value: object) -> list[bytes]:
    if isinstance(value, str):
        return [value.encode()]
    items = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    return [text for item in items for text in _strings(item)]


def _certificate(
    package: TaskPackage, built: BuiltImage, saved: SavedImage, found: Mapping[str, str]
) -> ImageCertificate:
    facts = [package.task.task_id, package.digest, built.image_id, list(saved.diff_ids), dict(found)]
    return ImageCertificate(
        task_id=package.task.task_id,
        task_digest=package.digest,
        image_id=built.image_id,
        layers=saved.diff_ids,
        checks=dict(found),
        sha256=hashlib.sha256(msgspec.json.encode(facts, order="deterministic")).hexdigest(),
    )
