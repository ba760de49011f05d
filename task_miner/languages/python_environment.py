"""Python environments: from a candidate's files to an installed, pinned environment with the project in it."""

import hashlib
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path, PurePosixPath

import anyio.to_thread
import msgspec

from envfarm.errors import Attribution, ImageBuildError, MissingToolError
from envfarm.images import EnvironmentStore
from envfarm.images.install_box import open_install_box
from envfarm.images.interpreters import Interpreter, bring_interpreter
from envfarm.records.image import Folder, FolderAccess
from envfarm.records.task import Environment, EnvironmentStep
from envfarm.sandbox.contract import ENVIRONMENT, PROJECT, WORKSPACE, SandboxProvider
from task_miner.environment.ladder import build_rungs, choose_minors, exact_cutoff, month_cutoff
from task_miner.environment.lock import RECIPE_VERSION, Lock, LockFailedError, LockRequest, make_lock, read_lock
from task_miner.environment.modules import missing_requirements
from task_miner.environment.plugins import choose_plugins
from task_miner.environment.project_build import BuildRequest, BuiltProject, build_project, read_built
from task_miner.environment.project_facts import ProjectFacts, read_facts
from task_miner.languages.contract import EnvironmentFailedError, EnvironmentRequest, PreparedEnvironment
from task_miner.reasons import ReasonCode

_REPAIR_ROUNDS = 2
_PROJECT_FILES = frozenset(
    {
        "pyproject.toml",
        "setup.py",
        "setup.cfg",
        "tox.ini",
        "tox.toml",
        "pytest.ini",
        ".pytest.ini",
        "noxfile.py",
        ".travis.yml",
        "appveyor.yml",
        ".gitlab-ci.yml",
    }
)


def describes_project(path: PurePosixPath) -> bool:
    """Say whether the file tells how a Python project is built, what it needs, or how it is tested."""
    if len(path.parts) == 1 and path.name in _PROJECT_FILES:
        return True
    if path.match(".github/workflows/*.yml") or path.match(".github/workflows/*.yaml"):
        return True
    named = "requirements" in path.name or (len(path.parts) > 1 and path.parts[-2] == "requirements")
    return named and path.suffix in {".txt", ".in"} and len(path.parts) <= 3  # noqa: PLR2004 -- deeper is vendored


class PythonEnvironments:
    """Prepares environments for one repository."""

    def __init__(
        self, provider: SandboxProvider, store: EnvironmentStore, *, cache_folder: Path, cache_domain: str
    ) -> None:
        """Take where boxes come from, the installed environments, and the caches' places."""
        self._provider = provider
        self._store = store
        self._cache_folder = cache_folder
        self._cache_domain = cache_domain

    async def prepare(self, request: EnvironmentRequest) -> PreparedEnvironment:
        """Lock, install, repair and build; each from the cache where it is there.

        Raises:
            EnvironmentFailedError: No rung of the ladder worked.
            ImageBuildError: The package index or this machine failed, which says nothing of the candidate.
        """
        started = time.monotonic()
        facts = read_facts(request.project_files)
        committed = datetime.fromtimestamp(request.committed_at, UTC)
        interpreter = await self._choose_interpreter(facts, committed)
        environment, folders = await self._install(request, facts, interpreter, committed)
        installed = time.monotonic()
        built = await self._build(request, environment, interpreter, folders)
        environment = _with_steps(environment, built.steps)
        return PreparedEnvironment(
            environment=environment,
            folders=folders,
            project_files=built.project_files,
            project_executables=built.executables,
            generated_files=built.generated_files,
            seconds={"install": installed - started, "build": time.monotonic() - installed},
        )

    async def _choose_interpreter(self, facts: ProjectFacts, committed: datetime) -> Interpreter:
        reasons = []
        for minor in choose_minors(facts, committed):
            try:
                bring = partial(bring_interpreter, minor, cache_folder=self._cache_folder)
                return await anyio.to_thread.run_sync(bring)
            except MissingToolError as error:
                reasons.append(str(error))
        raise EnvironmentFailedError(ReasonCode.NO_INTERPRETER, "\n".join(reasons))

    async def _install(
        self, request: EnvironmentRequest, facts: ProjectFacts, interpreter: Interpreter, committed: datetime
    ) -> tuple[Environment, tuple[Folder, ...]]:
        rungs = build_rungs(facts, project=request.project, minor=interpreter.minor)
        cutoffs = (month_cutoff(committed), exact_cutoff(committed), None) if request.cutoff else (None,)
        extra: tuple[str, ...] = ()
        log = ""
        while rungs:
            lock_request = LockRequest(
                project=request.project, rungs=rungs, cutoffs=cutoffs, interpreter=interpreter, extra=extra
            )
            try:
                lock = await self._lock(lock_request)
                environment, folders = await self._repaired(request, facts, lock_request, lock)
            except LockFailedError as error:
                raise EnvironmentFailedError(ReasonCode.LOCK_FAILED, f"{log}{error}") from error
            except ImageBuildError as error:
                if error.attribution is Attribution.FARM:
                    raise
                log += f"{error}\n"
                rungs = rungs[1:]
                continue
            return environment, folders
        raise EnvironmentFailedError(ReasonCode.INSTALL_FAILED, log)

    async def _repaired(
        self, request: EnvironmentRequest, facts: ProjectFacts, lock_request: LockRequest, lock: Lock
    ) -> tuple[Environment, tuple[Folder, ...]]:
        """Install the lock; add what test files import and nothing provides, then what they can do without."""
        lock_request, lock = await self._with_missing(request, lock_request, lock, {})
        if facts.optional:
            try:
                lock_request, lock = await self._with_missing(request, lock_request, lock, facts.optional)
            except ImageBuildError as error:
                if error.attribution is Attribution.FARM:
                    raise  # what cannot be built is done without: its tests are skipped
        environment = self._describe(lock, lock_request.interpreter, ())
        folders = await self._store.ensure(environment, cache_domain=self._cache_domain)
        plugins = choose_plugins(self._site_packages(environment))
        return self._describe(lock, lock_request.interpreter, plugins), folders

    async def _with_missing(
        self, request: EnvironmentRequest, lock_request: LockRequest, lock: Lock, optional: Mapping[str, str]
    ) -> tuple[LockRequest, Lock]:
        """Return a lock that can be installed, with what test files lack as far as it can be locked."""
        for number in range(_REPAIR_ROUNDS + 1):
            environment = self._describe(lock, lock_request.interpreter, ())
            await self._store.ensure(environment, cache_domain=self._cache_domain)
            missing = missing_requirements(
                request.test_files,
                workspace_paths=request.workspace_paths,
                provided=_provided_modules(self._site_packages(environment)),
                optional=optional,
            )
            new = tuple(name for name in missing if name not in lock_request.extra)
            if not new or number == _REPAIR_ROUNDS:
                break
            repaired = replace(lock_request, extra=(*lock_request.extra, *new))
            try:
                lock = await self._lock(repaired)
            except LockFailedError:
                break
            reason = f"test files can use what nothing brought: {', '.join(new)}"
            lock = msgspec.structs.replace(lock, steps=(*lock.steps, EnvironmentStep(command=(), reason=reason)))
            lock_request = repaired
        return lock_request, lock

    async def _lock(self, request: LockRequest) -> Lock:
        known = read_lock(request, cache_folder=self._cache_folder)
        if known is not None:
            return known
        async with open_install_box(
            self._provider,
            cache_folder=self._cache_folder,
            cache_domain=self._cache_domain,
            interpreter=request.interpreter,
        ) as box:
            return await make_lock(box, request, cache_folder=self._cache_folder)

    async def _build(
        self,
        request: EnvironmentRequest,
        environment: Environment,
        interpreter: Interpreter,
        folders: tuple[Folder, ...],
    ) -> BuiltProject:
        build = BuildRequest(
            environment_id=environment.environment_id,
            python=f"{ENVIRONMENT}/bin/python",
            workspace_folder=Path(request.workspace_folder),
            paths=request.workspace_paths,
            cutoff=environment.cutoff,
        )
        known = read_built(build, cache_folder=self._cache_folder)
        if known is not None:
            return known
        mounted = [folder for folder in folders if folder.target == str(ENVIRONMENT)]
        workspace = Folder(source=request.workspace_folder, target=str(WORKSPACE), access=FolderAccess.COPY_ON_WRITE)
        with tempfile.TemporaryDirectory(prefix="envfarm-project-") as scratch:
            project = Folder(source=scratch, target=str(PROJECT), access=FolderAccess.READ_WRITE)
            async with open_install_box(
                self._provider,
                cache_folder=self._cache_folder,
                cache_domain=self._cache_domain,
                interpreter=interpreter,
                folders=[*mounted, workspace, project],
            ) as box:
                return await build_project(box, build, cache_folder=self._cache_folder)

    def _site_packages(self, environment: Environment) -> Path:
        return self._store.path_of(environment) / "lib" / f"python{environment.interpreter}" / "site-packages"

    def _describe(self, lock: Lock, interpreter: Interpreter, plugins: tuple[str, ...]) -> Environment:
        told = f"{RECIPE_VERSION}\0{interpreter.minor}\0{lock.text}"
        return Environment(
            environment_id=f"py{interpreter.minor}-{hashlib.sha256(told.encode()).hexdigest()[:16]}",
            interpreter=interpreter.minor,
            lock=lock.text,
            lock_sha256=hashlib.sha256(lock.text.encode()).hexdigest(),
            cutoff=lock.cutoff,
            steps=lock.steps,
            test_plugins=plugins,
        )


def _with_steps(environment: Environment, steps: tuple[EnvironmentStep, ...]) -> Environment:
    return msgspec.structs.replace(environment, steps=(*environment.steps, *steps))


def _provided_modules(site_packages: Path) -> frozenset[str]:
    """Return the top-level modules that an environment provides."""
    found = set()
    for entry in site_packages.iterdir():
        if entry.suffix in {".py", ".so"} or (entry.is_dir() and not entry.name.endswith((".dist-info", ".egg-info"))):
            found.add(entry.name.split(".")[0])
    return frozenset(found)
