"""What each stage of a candidate does; `candidate_run` calls them in order and writes their rows."""

import functools
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import anyio.to_thread
import msgspec

from envfarm.errors import TaskError
from envfarm.formats.harbor import read_package, write_package
from envfarm.images import compose_image, forget_workspace, prepare_image
from envfarm.images.unpack import write_files
from envfarm.records.image import Image
from envfarm.records.task import (
    LeakCertificate,
    Quality,
    SourceCommit,
    Task,
    TaskPackage,
    TestClass,
    TestPlan,
    ValidationRecord,
)
from envfarm.records.versioned import Record
from task_miner.candidate_files import read_candidate
from task_miner.candidate_work import CandidateFiles, StageEnd, ValidationState, Work, Workshop
from task_miner.classify import REQUIRED_TO_PASS, Classification
from task_miner.gather import gather_material
from task_miner.languages.contract import ChangedTests, EnvironmentRequest
from task_miner.links import find_links
from task_miner.packaging.archive import ArchiveEntry, write_archive
from task_miner.packaging.package import PackageParts, build_package, with_quality
from task_miner.packaging.workspace import with_generated
from task_miner.quality.controls import make_controls
from task_miner.quality.gate import GateRequest, GateResult, run_gate
from task_miner.quality.leaks import AuditRequest, audit, first_leak
from task_miner.quality.mutation import MutationRequest, score_mutants
from task_miner.reasons import ReasonCode, Stage
from task_miner.sources.git_command import ObjectReader, read_tree, run_git
from task_miner.statement import choose_statement
from task_miner.unit import PathRole
from task_miner.validate import ValidateRequest, validate

_LARGEST_TASK_BYTES = 20 << 20


class GateState(Record, frozen=True, kw_only=True, tag="envfarm.gate_state/1"):
    """What the gate of a candidate found, kept until it is published."""

    quality: Quality


async def make_environment(shop: Workshop, work: Work) -> StageEnd:
    """Read the candidate, and lock, install and build its environment."""
    candidate = work.candidate
    read = functools.partial(_read_and_unpack, shop, work)
    work.files = await anyio.to_thread.run_sync(read)
    work.prepared = prepared = await shop.language.prepare_environment(
        EnvironmentRequest(
            candidate=candidate,
            project=work.project,
            project_files=work.files.project_files,
            test_files=work.files.test_files,
            workspace_paths=work.files.workspace.paths,
            workspace_folder=str(work.scratch / "workspace"),
            committed_at=candidate.unit.committed_at,
            cutoff=shop.options.cutoff == "commit",
        )
    )
    work.entries = with_generated(work.files.workspace.entries, prepared.generated_files)
    await anyio.to_thread.run_sync(_complete_workspace, work)
    environment = prepared.environment
    steps = [f"{step.reason}: {' '.join(step.command)}" for step in environment.steps]
    log = "\n".join([environment.environment_id, *steps, "", environment.lock])
    return StageEnd(detail=environment.environment_id, log=log)


def _read_and_unpack(shop: Workshop, work: Work) -> CandidateFiles:
    files = read_candidate(shop.source.git_folder, work.candidate, shop.language)
    _write_entries(files.workspace.entries, work.scratch / "workspace")
    return files


def _write_entries(entries: tuple[ArchiveEntry, ...], folder: Path) -> None:
    for entry in entries:
        target = folder / entry.path
        target.parent.mkdir(parents=True, exist_ok=True)
        if entry.link_target is not None:
            target.symlink_to(entry.link_target)
        else:
            target.write_bytes(entry.content)
            target.chmod(0o755 if entry.executable else 0o644)


def _complete_workspace(work: Work) -> None:
    prepared = work.known_environment()
    write_files(prepared.generated_files, work.scratch / "workspace")
    (work.scratch / "project").mkdir()
    write_files(prepared.project_files, work.scratch / "project", executables=prepared.project_executables)


async def run_validation(shop: Workshop, work: Work) -> StageEnd:
    """Run the tests on both sides and class them."""
    name = work.candidate.candidate_id
    work.validated = shop.folder.load(name, Stage.VALIDATE, ValidationState)
    if work.validated is not None:
        return StageEnd(detail="from an earlier run")
    files, prepared = work.known_files(), work.known_environment()
    plan = TestPlan(
        paths=shop.language.runnable_tests(files.fix_paths, work.candidate),
        options=shop.language.runner_options(files.project_files),
        run_timeout_seconds=shop.options.run_timeout_seconds,
        test_timeout_seconds=shop.options.test_timeout_seconds,
        protected=files.protected,
        removed_paths=files.removed_paths,
    )
    found = await validate(
        ValidateRequest(
            provider=shop.provider,
            image=_own_image(work),
            language=shop.language,
            environment=prepared.environment,
            plan=plan,
            old_paths=tuple(path for path in plan.paths if path in files.workspace.paths),
            reference_archive=files.reference,
            fix_patch=files.fix_patch,
            changed=_changed_tests(shop, work),
            runs=shop.options.runs,
            boxes=shop.boxes,
        )
    )
    classes = found.classification
    if classes.reason is not ReasonCode.OK:
        return StageEnd(code=classes.reason, detail=classes.detail, log=found.log)
    lists = {
        "fail_to_pass": classes.ids_of(REQUIRED_TO_PASS),
        "pass_to_pass": classes.ids_of(frozenset({TestClass.P2P})),
    }
    work.validated = ValidationState(
        plan=msgspec.structs.replace(plan, **lists),
        validation=ValidationRecord(runs=found.runs, classes=classes.classes),
        messages={key: text for key, text in found.messages.items() if key in lists["fail_to_pass"] or "::" not in key},
    )
    shop.folder.save(name, Stage.VALIDATE, work.validated)
    return StageEnd(detail=_counts(classes), log=found.log)


def _counts(found: Classification) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in found.counts().items())


def _own_image(work: Work) -> Image:
    prepared = work.known_environment()
    return compose_image(
        prepared.folders,
        project=work.scratch / "project",
        workspace=work.scratch / "workspace",
        variables=prepared.environment.environment_variables,
    )


def _changed_tests(shop: Workshop, work: Work) -> Mapping[str, ChangedTests]:
    files = work.known_files()
    return {
        change.path: shop.language.code.changed_tests(
            PurePosixPath(change.path), files.before.get(change.path), files.after.get(change.path)
        )
        for change in work.candidate.tests
    }


async def make_package(shop: Workshop, work: Work) -> StageEnd:
    """Write the task's folder, but for what the gate finds out."""
    work.package = package = await anyio.to_thread.run_sync(_build_package, shop, work)
    size = sum(map(len, package.files.values()))
    if size > _LARGEST_TASK_BYTES:
        detail = f"the task would have {size >> 20} MiB, more than {_LARGEST_TASK_BYTES >> 20}"
        return StageEnd(code=ReasonCode.TASK_TOO_LARGE, detail=detail)
    statement = package.task.statement
    return StageEnd(detail=f"statement from {statement.source}", log=statement.text, bytes=size)


def _build_package(shop: Workshop, work: Work) -> TaskPackage:
    files, prepared, validated = work.known_files(), work.known_environment(), work.known_validation()
    candidate = work.candidate
    heads = (candidate.fix_commit, *candidate.unit.parents[1:])
    links = find_links(candidate.unit.message, heads, shop.source.pull_heads)
    with ObjectReader(shop.source.git_folder) as reader:
        material = gather_material(
            shop.source.git_folder,
            reader,
            candidate,
            links=links,
            issues=shop.issues,
            failures=validated.messages,
            hidden_names=_hidden_names(shop, work),
        )
    task = Task(
        task_id=candidate.candidate_id,
        statement=choose_statement(material),
        source=SourceCommit(
            project=work.project,
            base_commit=candidate.base_commit,
            fix_commit=candidate.fix_commit,
            committed_at=_iso(candidate.unit.committed_at),
            unit_kind=candidate.unit.kind,
            links=links,
            labels=_labels(shop, work),
            license=_license(files),
        ),
        environment=prepared.environment,
        tests=validated.plan,
    )
    return build_package(
        PackageParts(
            task=task,
            validation=validated.validation,
            workspace_archive=write_archive(work.entries, modified_at=files.workspace.committed_at),
            reference_archive=files.reference,
            test_patch=files.test_patch,
            fix_patch=files.fix_patch,
            project_files=prepared.project_files,
            project_executables=prepared.project_executables,
        )
    )


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _hidden_names(shop: Workshop, work: Work) -> frozenset[str]:
    """Return names that only the hidden tests have: added tests, and files that the test patch adds."""
    names: set[str] = set()
    for path, tree in _changed_tests(shop, work).items():
        names |= {name.split("::")[-1] for name in tree.added}
        if path not in work.known_files().before:
            names.add(PurePosixPath(path).name)
    return frozenset(name for name in names if len(name) > len("test_"))


def _labels(shop: Workshop, work: Work) -> tuple[str, ...]:
    files = work.known_files()
    paths = [change.path for change in work.candidate.source]
    return shop.language.code.labels_of({path: (files.before.get(path), files.after.get(path)) for path in paths})


def _license(files: CandidateFiles) -> str | None:
    text = files.project_files.get("pyproject.toml", b"").decode("utf-8", "replace")
    match = re.search(r"""^license\s*=\s*(?:\{\s*text\s*=\s*)?["']([^"'\n]{1,80})["']""", text, re.MULTILINE)
    return match[1] if match else None


async def pass_gate(shop: Workshop, work: Work) -> StageEnd:
    """Audit for leaks, grade the true fix and the controls, score mutants: with the task's own bytes."""
    name, package = work.candidate.candidate_id, work.known_package()
    kept = shop.folder.load(name, Stage.GATE, GateState)
    if kept is not None:
        work.package = with_quality(package, kept.quality)
        return StageEnd(detail="from an earlier run")
    image = await prepare_image(package, provider=shop.provider, cache_folder=shop.options.cache_folder)
    try:
        certificate = await anyio.to_thread.run_sync(_audit, shop, work, image)
        leak = first_leak(certificate)
        if leak is not None:
            return StageEnd(code=ReasonCode.LEAK_FOUND, detail=leak)
        found = await run_gate(_gate_request(shop, work, image))
        if found.reason is not ReasonCode.OK:
            return StageEnd(code=found.reason, detail=found.detail, log=_gate_log(found))
        score = await score_mutants(_mutation_request(shop, work, image, found.fixed_seconds))
    finally:
        await forget_workspace(package, cache_folder=shop.options.cache_folder)
    validated = work.known_validation()
    classes = Classification(classes=validated.validation.classes, reason=ReasonCode.OK)
    quality = Quality(
        controls=found.controls,
        leak_certificate=certificate,
        mutation=score,
        class_counts=classes.counts(),
        validation_runs=len(validated.validation.runs),
    )
    shop.folder.save(name, Stage.GATE, GateState(quality=quality))
    work.package = with_quality(package, quality)
    detail = f"{len(found.controls)} controls as they have to be, {score.killed} of {score.mutants} mutants killed"
    return StageEnd(detail=detail, log=_gate_log(found))


def _gate_log(found: GateResult) -> str:
    rows = [f"{row.name}: {row.rewards}, had to be {row.expected_reward:g}: {row.reason}" for row in found.controls]
    return "\n".join([*rows, found.detail])


def _audit(shop: Workshop, work: Work, image: Image) -> LeakCertificate:
    files, candidate = work.known_files(), work.candidate
    new = run_git(
        shop.source.git_folder,
        *("rev-list", "--objects", "--no-object-names", candidate.fix_commit, f"^{candidate.base_commit}"),
    )
    objects = frozenset(new.decode().split()) - {oid for _, oid in _base_tree(shop, candidate.base_commit)}
    workspace = next(folder.source for folder in image.folders if folder.target == "/workspace")
    only_after = [content for path, content in files.after.items() if content != files.before.get(path)]
    return audit(
        AuditRequest(
            package=work.known_package(),
            workspace=Path(workspace),
            tracked=files.workspace.paths,
            fix_commits=frozenset({candidate.fix_commit}),
            fix_objects=objects,
            fixed_contents=tuple(content for content in only_after if content not in set(files.before.values())),
            test_names=_hidden_names(shop, work),
            project=work.project,
        )
    )


def _base_tree(shop: Workshop, commit: str) -> list[tuple[int, str]]:
    return list(read_tree(shop.source.git_folder, commit).values())


def _gate_request(shop: Workshop, work: Work, image: Image) -> GateRequest:
    files, package = work.known_files(), work.known_package()
    base = {entry.path: entry.content for entry in files.workspace.entries if entry.link_target is None}
    changed = [change.path for change in work.candidate.source if change.path.endswith(".py")]
    deciding = package.task.tests.fail_to_pass
    controls = make_controls(
        package.task.task_id,
        sources={path: base.get(path) for path in changed} or _first_module(shop, base),
        tests={path: base[path] for path in {name.split("::")[0] for name in deciding} & base.keys()},
        conftests={path: content for path, content in base.items() if PurePosixPath(path).name == "conftest.py"},
        deciding=deciding,
    )
    return GateRequest(package=package, image=image, provider=shop.provider, controls=controls, boxes=shop.boxes)


def _first_module(shop: Workshop, base: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the module nearest to the root: it carries the gate's cheats where the fix changes no module."""
    modules = [PurePosixPath(path) for path in base if path.endswith(".py")]
    found = [path for path in modules if shop.language.paths.role_of(path) is PathRole.SOURCE]
    nearest = sorted(found, key=lambda path: (len(path.parts), path.name != "__init__.py", path))[:1]
    return {str(path): base[str(path)] for path in nearest}


def _mutation_request(shop: Workshop, work: Work, image: Image, fixed_seconds: float) -> MutationRequest:
    files, package = work.known_files(), work.known_package()
    changed = [change for change in work.candidate.source if change.path in files.after]
    each = max(shop.options.mutants // max(len(changed), 1), 1)
    mutants = [
        mutant
        for change in changed
        for mutant in shop.language.code.mutants(
            PurePosixPath(change.path), files.before.get(change.path), files.after[change.path], limit=each
        )
    ]
    return MutationRequest(
        provider=shop.provider,
        image=image,
        language=shop.language,
        environment=package.task.environment,
        plan=package.task.tests,
        reference_archive=files.reference,
        fix_patch=files.fix_patch,
        mutants=mutants[: shop.options.mutants],
        boxes=shop.boxes,
        fixed_seconds=fixed_seconds,
    )


async def publish(shop: Workshop, work: Work) -> StageEnd:
    """Make the task appear in the output folder, and read it back."""
    package, folder = work.known_package(), shop.folder.task(work.candidate.candidate_id)
    await anyio.to_thread.run_sync(write_package, package, folder)
    try:
        read = await anyio.to_thread.run_sync(read_package, folder)
    except TaskError as error:
        return StageEnd(code=ReasonCode.FARM_ERROR, detail=f"the written task cannot be read back: {error}")
    if read.digest != package.digest:
        return StageEnd(code=ReasonCode.FARM_ERROR, detail="the written task reads back otherwise")
    return StageEnd(detail=package.digest, bytes=sum(map(len, package.files.values())))


STAGES = (
    (Stage.ENVIRONMENT, make_environment),
    (Stage.VALIDATE, run_validation),
    (Stage.PACKAGE, make_package),
    (Stage.GATE, pass_gate),
    (Stage.PUBLISH, publish),
)
