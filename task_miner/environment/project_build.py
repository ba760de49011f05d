"""Installs the project itself, editable and without its dependencies, and keeps only what that leaves.

What is left: metadata, path files and programs (for /opt/project), and files that building wrote into the workspace,
such as a version module. Names of machines, times and caches are removed, so the same commit leaves the same bytes.
"""

import hashlib
import io
import tarfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import msgspec

from envfarm.images.install_box import InstallBox
from envfarm.records.task import EnvironmentStep
from envfarm.records.versioned import Part
from envfarm.sandbox.contract import PROJECT, WORKSPACE
from task_miner.output_folder import write_atomically

_DROPPED = frozenset({"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json", ".lock"})
_PRETENDED_VERSION = "0.0.0"
_PRETENDING = (
    "SETUPTOOLS_SCM_PRETEND_VERSION",
    "PDM_BUILD_SCM_VERSION",
    "POETRY_DYNAMIC_VERSIONING_BYPASS",
    "PBR_VERSION",
    "VERSIONINGIT_FOR_PACKAGE_VERSION",
    "HATCH_VCS_PRETEND_VERSION",
)
_LIMIT_BYTES = 16 << 20
_PACKAGING_NAMES = frozenset({"pyproject.toml", "setup.py", "setup.cfg", "MANIFEST.in", "hatch_build.py", "build.py"})
# Prints a tar of what building left: /opt/project whole, and what is new or changed in the workspace.
_COLLECT = """
import os, sys, tarfile
mark, programs = float(sys.argv[1]), sys.stdout.buffer
with tarfile.open(fileobj=programs, mode="w|") as archive:
    for root, prefix in (("/opt/project", "project"), ("/workspace", "workspace")):
        for folder, folders, files in os.walk(root):
            folders[:] = [name for name in folders if name not in (".git", "__pycache__", "build", "dist")]
            for name in files:
                path = os.path.join(folder, name)
                fresh = prefix == "project" or os.lstat(path).st_ctime > mark
                if fresh and os.path.isfile(path) and not os.path.islink(path) and os.path.getsize(path) < 4 << 20:
                    archive.add(path, os.path.join(prefix, os.path.relpath(path, root)))
"""


class BuiltProject(Part, frozen=True, kw_only=True):
    """What installing the project left."""

    project_files: dict[str, bytes]
    executables: frozenset[str]
    generated_files: dict[str, bytes]
    steps: tuple[EnvironmentStep, ...]


@dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """What to build.

    Attributes:
        environment_id: The environment that it is built beside.
        python: Program of the interpreter that builds.
        workspace_folder: The base tree; mounted copy-on-write by the caller's box.
        paths: Its paths, to tell where the source lies.
        cutoff: Bound on the age of build tools, or None.
        version: The version that tools which ask git are told.
    """

    environment_id: str
    python: str
    workspace_folder: Path
    paths: frozenset[str]
    cutoff: str | None
    version: str = field(default=_PRETENDED_VERSION)

    def key(self) -> str:
        """Return the digest of what building depends on: files about packaging, and which packages there are."""
        digest = hashlib.sha256(f"1\0{self.environment_id}\0{self.cutoff}\0{self.version}".encode())
        for path in sorted(self.paths):
            name = PurePosixPath(path).name
            if name in _PACKAGING_NAMES or name in {"__init__.py", "_version.py", "version.py", "__about__.py"}:
                content = self.workspace_folder / path
                if content.is_file() and not content.is_symlink():
                    digest.update(path.encode("utf-8", "surrogateescape") + b"\0" + content.read_bytes() + b"\0")
        return digest.hexdigest()[:32]


def read_built(request: BuildRequest, *, cache_folder: Path) -> BuiltProject | None:
    """Return what an earlier build of the same files left; None where there was none."""
    try:
        return msgspec.msgpack.decode(_path(request, cache_folder).read_bytes(), type=BuiltProject)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


async def build_project(box: InstallBox, request: BuildRequest, *, cache_folder: Path) -> BuiltProject:
    """Return what installing the project leaves; where it cannot be installed, a path file alone.

    Build tools as old as the commit come first; tools of today where those cannot do it (an editable install is younger
    than many commits). Tools leave metadata only, so their age does not change what the code does.
    """
    mark = await box.sandbox.exec(
        [request.python, "-I", "-c", "import time; print(time.time() - 0.05)"], timeout_seconds=60
    )
    log: list[str] = []
    for cutoff in dict.fromkeys((request.cutoff, None)):
        arguments = _install_arguments(request, cutoff)
        result = await box.uv(*arguments, env=dict.fromkeys(_PRETENDING, request.version))
        if result.exit_code == 0:
            told = tuple(word for word in arguments if word not in {"--python", request.python})
            reason = f"install the project itself, editable, with build tools as of {cutoff or 'today'}"
            step = EnvironmentStep(command=("uv", *told), reason=reason)
            built = await _collect(box, request, mark.stdout.decode().strip(), step)
            break
        log = [line for line in box.log_of(result).splitlines() if line.strip()]
    else:
        step = EnvironmentStep(
            command=("path-file",), reason=f"the project cannot be installed: {' '.join(log[-3:])[:300]}"
        )
        built = BuiltProject(
            project_files={"project.pth": f"{_source_root(request.paths)}\n".encode()},
            executables=frozenset(),
            generated_files={},
            steps=(step,),
        )
    write_atomically(_path(request, cache_folder), msgspec.msgpack.encode(built))
    return built


def _install_arguments(request: BuildRequest, cutoff: str | None) -> tuple[str, ...]:
    return (
        *("pip", "install", "--quiet", "--no-deps", "--python", request.python, "--target", str(PROJECT)),
        *(("--exclude-newer", cutoff) if cutoff else ()),
        *("--editable", str(WORKSPACE)),
    )


async def _collect(box: InstallBox, request: BuildRequest, mark: str, step: EnvironmentStep) -> BuiltProject:
    result = await box.sandbox.exec(
        [request.python, "-I", "-c", _COLLECT, mark],
        timeout_seconds=120,
        env={"PYTHONDONTWRITEBYTECODE": "1"},
    )
    project, workspace, programs = _read_tar(result.stdout)
    return BuiltProject(
        project_files=project,
        executables=programs,
        generated_files={path: content for path, content in workspace.items() if path not in request.paths},
        steps=(step,),
    )


def _read_tar(data: bytes) -> tuple[dict[str, bytes], dict[str, bytes], frozenset[str]]:
    project: dict[str, bytes] = {}
    workspace: dict[str, bytes] = {}
    programs: set[str] = set()
    with tarfile.open(fileobj=io.BytesIO(data), mode="r|") as archive:
        for member in archive:
            content = archive.extractfile(member)
            top, _, path = member.name.partition("/")
            parts = PurePosixPath(path).parts
            if content is None or parts[-1] in _DROPPED or parts[-1].endswith(".pyc"):
                continue
            if top == "project":
                project[path] = content.read()
                if member.mode & 0o100:
                    programs.add(path)
            elif not any(part.endswith((".egg-info", ".dist-info")) for part in parts):
                workspace[path] = content.read()
    return project, workspace, frozenset(programs)


def _source_root(paths: frozenset[str]) -> PurePosixPath:
    """Return where modules are imported from: src where packages lie in it, else the root."""
    inside = any(path.startswith("src/") and path.endswith("/__init__.py") for path in paths)
    return WORKSPACE / "src" if inside else WORKSPACE


def _path(request: BuildRequest, cache_folder: Path) -> Path:
    return cache_folder / "builds" / f"{request.key()}.msgpack"
