"""The gate stage of a candidate: leaks, calibration, controls, mutants; with the very bytes that are published."""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import anyio.to_thread

from envfarm.images import forget_workspace, prepare_image
from envfarm.records.image import Image
from envfarm.records.task import LeakCertificate, Quality
from envfarm.records.trust import TrustPlan
from envfarm.records.versioned import Record
from task_miner.candidate_tests import hidden_names
from task_miner.candidate_work import StageEnd, Work, Workshop
from task_miner.classify import Classification
from task_miner.packaging.package import with_quality, with_trust
from task_miner.quality.calibrate import calibrate
from task_miner.quality.calibration_bench import CalibrationRequest
from task_miner.quality.controls import make_controls
from task_miner.quality.gate import GateRequest, GateResult, run_gate
from task_miner.quality.leaks import AuditRequest, audit, first_leak
from task_miner.quality.mutation import MutationRequest, score_mutants
from task_miner.reasons import ReasonCode, Stage
from task_miner.sources.git_command import read_tree, run_git
from task_miner.unit import PathRole


class GateState(Record, frozen=True, kw_only=True, tag="envfarm.gate_state/1"):
    """What the gate of a candidate found, kept until it is published."""

    quality: Quality
    trust: TrustPlan


async def pass_gate(shop: Workshop, work: Work) -> StageEnd:
    """Audit for leaks, calibrate the layers, grade the true fix and the controls, score mutants."""
    name, package = work.candidate.candidate_id, work.known_package()
    kept = shop.folder.load(name, Stage.GATE, GateState)
    if kept is not None:
        work.package = with_quality(with_trust(package, kept.trust), kept.quality)
        return StageEnd(detail="from an earlier run")
    cache, places = shop.options.cache_folder, shop.workspaces
    image = await prepare_image(package, provider=shop.provider, cache_folder=cache, workspaces=places)
    try:
        certificate = await anyio.to_thread.run_sync(_audit, shop, work, image)
        leak = first_leak(certificate)
        if leak is not None:
            return StageEnd(code=ReasonCode.LEAK_FOUND, detail=leak)
        calibrated = await calibrate(_calibration_request(shop, work, image))
        work.package = package = with_trust(package, calibrated.plan)
        found = await run_gate(_gate_request(shop, work, image))
        if found.reason is not ReasonCode.OK:
            return StageEnd(code=found.reason, detail=found.detail, log=_gate_log(found))
        score = await score_mutants(_mutation_request(shop, work, image, found.fixed_seconds))
    finally:
        await forget_workspace(package, workspaces=places)
    validated = work.known_validation()
    classes = Classification(classes=validated.validation.classes, reason=ReasonCode.OK)
    quality = Quality(
        controls=found.controls,
        leak_certificate=certificate,
        mutation=score,
        class_counts=classes.counts(),
        validation_runs=len(validated.validation.runs),
        calibration_runs=calibrated.runs,
        protection=calibrated.protection,
    )
    shop.folder.save(name, Stage.GATE, GateState(quality=quality, trust=calibrated.plan))
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
            test_names=hidden_names(shop, work),
            project=work.project,
        )
    )


def _base_tree(shop: Workshop, commit: str) -> list[tuple[int, str]]:
    return list(read_tree(shop.source.git_folder, commit).values())


def _calibration_request(shop: Workshop, work: Work, image: Image) -> CalibrationRequest:
    entries = work.known_files().workspace.entries
    return CalibrationRequest(
        package=work.known_package(),
        image=image,
        lease=shop.provider.lease,
        base_tests={entry.path: entry.content for entry in entries if entry.link_target is None},
        propose=shop.language.code.guards,
        boxes=shop.boxes,
    )


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
