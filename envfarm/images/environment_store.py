"""Installed environments of this machine, one folder per lock; shared by every task and commit with that lock.

A folder appears by one rename, whole; two processes that install the same lock at once do the work twice and keep one.
In a box it lies at /opt/venv, where it was also made: nothing in it knows this machine's paths but the interpreter's.
"""

import shutil
from pathlib import Path

import anyio.to_thread

from envfarm.errors import Attribution, ImageBuildError
from envfarm.images.install_box import InstallBox, open_install_box
from envfarm.images.interpreters import Interpreter, bring_interpreter, interpreter_at
from envfarm.images.unfinished import unfinished_folder
from envfarm.records.image import Folder, FolderAccess
from envfarm.records.task import Environment
from envfarm.sandbox.contract import ENVIRONMENT, PROJECT, SandboxProvider

PATH_FILE = "zz_envfarm_project.pth"
_COMPILING = {"PYC_INVALIDATION_MODE": "UNCHECKED_HASH"}
"""Nothing changes in a stored environment: its bytecode holds whatever a copy or a restore makes of modification times.

Bytecode that counts as stale is compiled again in every run, which is most of what a short run of tests costs.
"""
_PATH_LINE = f"import site; site.addsitedir('{PROJECT}')\n"


class EnvironmentStore:
    """The installed environments in a cache folder."""

    def __init__(self, cache_folder: Path, provider: SandboxProvider) -> None:
        """Take envfarm's cache folder, and the provider whose boxes install."""
        self._cache_folder = cache_folder
        self._provider = provider

    def path_of(self, environment: Environment) -> Path:
        """Return where the environment lies, or would."""
        return self._cache_folder / "environments" / environment.environment_id

    async def ensure(self, environment: Environment, *, cache_domain: str = "tasks") -> tuple[Folder, ...]:
        """Return what a box mounts for the environment; installs it first when this machine does not have it.

        Raises:
            ImageBuildError: A locked release cannot be installed.
            MissingToolError: The interpreter is not here and cannot be brought.
        """
        folder = self.path_of(environment)
        interpreter = await anyio.to_thread.run_sync(interpreter_at, folder / "bin" / "python")
        if interpreter is None:  # not installed yet, or with an interpreter that this machine has no more
            await anyio.to_thread.run_sync(lambda: shutil.rmtree(folder, ignore_errors=True))
            interpreter = await anyio.to_thread.run_sync(self._interpreter, environment.interpreter)
            await self._install(environment, interpreter, folder, cache_domain)
        return (Folder(source=str(folder), target=str(ENVIRONMENT)), *interpreter.folders())

    def _interpreter(self, minor: str) -> Interpreter:
        return bring_interpreter(minor, cache_folder=self._cache_folder)

    async def _install(
        self, environment: Environment, interpreter: Interpreter, folder: Path, cache_domain: str
    ) -> None:
        try:
            with unfinished_folder(folder.parent, f"{folder.name}-") as partial:
                mounted = Folder(source=str(partial), target=str(ENVIRONMENT), access=FolderAccess.READ_WRITE)
                async with open_install_box(
                    self._provider,
                    cache_folder=self._cache_folder,
                    cache_domain=cache_domain,
                    interpreter=interpreter,
                    folders=[mounted],
                ) as box:
                    await _install_lock(box, environment, interpreter)
                _add_path_file(partial, environment.interpreter)
                if not folder.is_dir():
                    partial.rename(folder)
        except OSError as error:
            if not folder.is_dir():
                message = f"the environment {environment.environment_id} cannot be stored: {error}"
                raise ImageBuildError(message, attribution=Attribution.FARM) from error


async def _install_lock(box: InstallBox, environment: Environment, interpreter: Interpreter) -> None:
    python = f"{ENVIRONMENT}/bin/python"
    lock = environment.lock.encode()
    steps: list[tuple[tuple[str, ...], bytes]] = [
        (("venv", "--quiet", "--allow-existing", "--python", interpreter.executable, str(ENVIRONMENT)), b"")
    ]
    if environment.lock.strip():
        install = (
            "pip",
            "install",
            "--quiet",
            "--python",
            python,
            "--no-deps",
            "--require-hashes",
            "--compile-bytecode",
        )
        steps.append(((*install, "-r", "-"), lock))
    for arguments, stdin in steps:
        result = await box.uv(*arguments, stdin=stdin, env=_COMPILING)
        if result.exit_code != 0:
            message = f"uv {' '.join(arguments[:2])} failed: {box.log_of(result)}"
            raise ImageBuildError(message)


def _add_path_file(folder: Path, minor: str) -> None:
    (folder / "lib" / f"python{minor}" / "site-packages" / PATH_FILE).write_text(_PATH_LINE)
