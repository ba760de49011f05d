"""What each stage of a candidate does; `candidate_run` calls them in order and writes their rows."""

import dataclasses
import functools
import re
from datetime import UTC, datetime
from pathlib import Path

import anyio.to_thread
import msgspec

from envfarm.errors import TaskError
from envfarm.formats.harbor import read_package, write_package
from envfarm.images import compose_image
from envfarm.images.unpack import write_files
from envfarm.records.image import Image
from envfarm.records.task import (
    SourceCommit,
    Task,
    TaskPackage,
    TestClass,
    TestPlan,
    ValidationRecord,
)
from task_miner.candidate_files import read_candidate
from task_miner.candidate_tests import changed_tests, hidden_names
from task_miner.candidate_work import CandidateFiles, StageEnd, ValidationState, Work, Workshop
from task_miner.classify import REQUIRED_TO_PASS, Classification
from task_miner.gate_stage import pass_gate
from task_miner.gather import gather_material
from task_miner.languages.contract import EnvironmentRequest
from task_miner.links import find_links
from task_miner.packaging.archive import ArchiveEntry, write_archive
from task_miner.packaging.package import PackageParts, build_package
from task_miner.packaging.workspace import with_generated
from task_miner.quality.fix_traces import fix_code_lines
from task_miner.reasons import ReasonCode, Stage
from task_miner.sources.git_command import ObjectReader
from task_miner.statement import choose_statement
from task_miner.validate import ValidateRequest, validate

_LARGEST_TASK_BYTES = 20 << 20


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
            changed=changed_tests(shop, work, plan.paths),
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
            hidden_names=hidden_names(shop, work),
        )
    task = Task(
        task_id=candidate.candidate_id,
        statement=choose_statement(dataclasses.replace(material, fix_lines=fix_code_lines(files.fix_patch))),
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


def _labels(shop: Workshop, work: Work) -> tuple[str, ...]:
    files = work.known_files()
    paths = [change.path for change in work.candidate.source]
    return shop.language.code.labels_of({path: (files.before.get(path), files.after.get(path)) for path in paths})


def _license(files: CandidateFiles) -> str | None:
    text = files.project_files.get("pyproject.toml", b"").decode("utf-8", "replace")
    match = re.search(r"""^license\s*=\s*(?:\{\s*text\s*=\s*)?["']([^"'\n]{1,80})["']""", text, re.MULTILINE)
    return match[1] if match else None


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
