"""The base: the image of boxes that are made of folders of this machine."""

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from envfarm.errors import ContainerImageMissingError, ImageBuildError, MissingToolError
from envfarm.sandbox.docker.engine import Engine
from envfarm.sandbox.docker.options import OWN_BASE

BASE_TAG = "envfarm-base:bookworm-2"
"""Another set of packages or another release gets another tag."""
_RELEASE = "bookworm"
_PACKAGES = (
    "ca-certificates",
    "git",
    "less",
    "libbz2-1.0",
    "libexpat1",
    "libffi8",
    "liblzma5",
    "libncursesw6",
    "libreadline8",
    "libsqlite3-0",
    "libssl3",
    "libuuid1",
    "netbase",
    "python3",
    "tzdata",
    "zlib1g",
)
"""What a CPython and its usual wheels are linked with; git and a pager, since projects ask for them."""
_CHANGES = ("ENV LANG=C.UTF-8", "LABEL envfarm.base=1")
_USER = "user:x:1000:1000:user:/home/user:/bin/sh"
_SETUP = (
    f"echo '{_USER}' >> \"$1/etc/passwd\" && echo 'user:x:1000:' >> \"$1/etc/group\" && "
    'rm -rf "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/* "$1"/var/log/* && mkdir -p "$1/home/user" "$1/workspace"'
)
_TIME = "1704067200"
"""2024-01-01: no file of the base says when it was made."""


def find_base(engine: Engine, setting: str) -> str:
    """Return the reference of the base, which is on this machine then.

    Raises:
        MissingToolError: It is to be made by this machine, and is not: says how.
        ContainerImageMissingError: There is no such image.
        ContainerImagePullError: It could not be pulled.
    """
    reference = BASE_TAG if setting == OWN_BASE else setting
    try:
        engine.image_facts(reference)
    except ContainerImageMissingError as error:
        if setting == OWN_BASE:
            message = f"the base image {BASE_TAG} is not made yet: envfarm images base"
            raise MissingToolError(message) from error
        engine.pull_image(reference)
    return reference


def ensure_base(engine: Engine, setting: str, report: Callable[[str], None] | None = None) -> str:
    """Return the reference of the base; what is missing is made or pulled first.

    Raises:
        MissingToolError: mmdebstrap is not installed, or this user may not use it.
        ImageBuildError: mmdebstrap fails.
        ContainerImagePullError: It could not be pulled.
    """
    try:
        return find_base(engine, setting)
    except MissingToolError:
        if report is not None:
            report(f"making the base image {BASE_TAG}, once on this machine (about a minute)")
        make_base(engine)
        return BASE_TAG


def make_base(engine: Engine) -> str:
    """Make the base with mmdebstrap and return its id.

    Raises:
        MissingToolError: mmdebstrap is not installed, or this user may not use it.
        ImageBuildError: mmdebstrap fails.
    """
    program = shutil.which("mmdebstrap")
    if program is None:
        message = (
            "the base image is made with mmdebstrap, which is not installed: apt-get install mmdebstrap, or name an "
            "image: base = 'python:3.12-slim' in [sandbox.options] of envfarm.toml"
        )
        raise MissingToolError(message)
    with tempfile.TemporaryDirectory(prefix="envfarm-base-") as folder:
        archive = Path(folder) / "root.tar"
        words = [program, "--quiet", "--variant=minbase", f"--include={','.join(_PACKAGES)}"]
        words += ["--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*"]
        words += ["--dpkgopt=path-exclude=/usr/share/locale/*", f"--customize-hook={_SETUP}", _RELEASE, str(archive)]
        environment = {"SOURCE_DATE_EPOCH": _TIME, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
        if done.returncode != 0:
            tail = "\n".join(done.stderr.strip().splitlines()[-10:])
            message = f"mmdebstrap could not make the base image:\n{tail}"
            raise ImageBuildError(message)
        return engine.import_root(archive, BASE_TAG, _CHANGES)
