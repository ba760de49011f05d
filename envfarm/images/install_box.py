"""The box in which environments are installed: with the network, with the user's index settings, with uv, no tests.

Installing runs code of strangers (setup.py), so it happens in a sandbox; and since that code could leave something in
uv's cache, each repository has a cache of its own (`cache_domain`): the worst it can spoil is itself.
"""

import os
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from uv import find_uv_bin

from envfarm.errors import Attribution, ImageBuildError
from envfarm.images.installer_settings import read_installer_settings
from envfarm.images.interpreters import Interpreter
from envfarm.records.image import Folder, FolderAccess, Image
from envfarm.sandbox.contract import ExecResult, LeaseRequest, Limits, Network, Sandbox, SandboxProvider

UV = "/opt/uv"
_CACHE = "/opt/uv-cache"
_INSTALL_LIMITS = Limits(process_count=2048, output_bytes=64 << 20)
_QUOTED_LOG_BYTES = 20_000
_TOLD_CHARACTERS = 400
_OUR_FAULT = re.compile(
    r"^.*(error sending request|client error \(Connect\)|Request failed after \d+ retries|HTTP status server error"
    r"|operation timed out|error decoding response body|No space left on device).*$",
    re.MULTILINE,
)
"""What uv says when a download or this machine failed, and not what was asked for."""


@dataclass(frozen=True, kw_only=True)
class InstallBox:
    """An open installing box."""

    sandbox: Sandbox
    variables: Mapping[str, str]

    async def uv(
        self, *arguments: str, stdin: bytes = b"", env: Mapping[str, str] | None = None, timeout_seconds: float = 600.0
    ) -> ExecResult:
        """Run uv with the arguments; a failing uv is a value, unless what failed is this machine or its network.

        Raises:
            ImageBuildError: The package index cannot be reached, or the disk is full: nobody learns anything from that
                about what was to be installed.
        """
        result = await self.sandbox.exec(
            [UV, *arguments],
            cwd=PurePosixPath("/tmp"),  # noqa: S108 -- inside the box
            env={**self.variables, **(env or {})},
            stdin=stdin,
            timeout_seconds=timeout_seconds,
        )
        log = self.log_of(result) if result.exit_code != 0 else ""
        fault = _OUR_FAULT.search(log)
        if fault is not None:
            told = " ".join(log[fault.start() :].split())[:_TOLD_CHARACTERS]
            message = f"uv {' '.join(arguments[:2])} could not do its work here: {told}"
            raise ImageBuildError(message, attribution=Attribution.FARM)
        return result

    def log_of(self, result: ExecResult) -> str:
        """Return the end of a command's output, without any credential of the settings."""
        text = (result.stdout + result.stderr)[-_QUOTED_LOG_BYTES:].decode("utf-8", "replace")
        for value in self.variables.values():
            if "@" in value:
                text = text.replace(value, "(index)")
        return text


@asynccontextmanager
async def open_install_box(
    provider: SandboxProvider,
    *,
    cache_folder: Path,
    cache_domain: str,
    interpreter: Interpreter,
    folders: Sequence[Folder] = (),
) -> AsyncIterator[InstallBox]:
    """Lease an installing box.

    Args:
        provider: Leases the sandbox.
        cache_folder: envfarm's cache on this machine.
        cache_domain: Name of the download cache, one per repository.
        interpreter: The interpreter that the environment is for; mounted.
        folders: More folders, such as the environment's own.

    Raises:
        SandboxStartError: The box could not be made.
    """
    cache = cache_folder / "uv" / cache_domain
    cache.mkdir(parents=True, exist_ok=True)
    settings = read_installer_settings(os.environ)
    variables = {
        **settings.variables,
        "UV_CACHE_DIR": _CACHE,
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_NO_PROGRESS": "1",
        "UV_LINK_MODE": "copy",
        "UV_NO_PYTHON_DOWNLOADS": "1",
    }
    request = LeaseRequest(
        image=Image(image_id="install"),
        folders=(
            Folder(source=find_uv_bin(), target=UV),
            Folder(source=str(cache), target=_CACHE, access=FolderAccess.READ_WRITE),
            *interpreter.folders(),
            *settings.folders,
            *folders,
        ),
        network=Network.PUBLIC,
        limits=_INSTALL_LIMITS,
        labels={"purpose": "install"},
    )
    async with provider.lease(request) as sandbox:
        yield InstallBox(sandbox=sandbox, variables=variables)
