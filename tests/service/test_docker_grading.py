"""What is mined and graded in containers is what is mined and graded in local jails."""

import filecmp
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import msgspec
import pytest

from envfarm.audit.cheat import Family
from envfarm.audit.collection import CHEATS
from envfarm.audit.target import read_target
from envfarm.audit.trial import OURS, CheatResult, Trial, try_cheats
from envfarm.grading.grade import grade
from envfarm.plugins import SANDBOXES, load_plugin
from envfarm.records.submission import Submission, SubmissionKind
from envfarm.records.task import WORKSPACE_ARCHIVE
from envfarm.records.verdict import Outcome, Verdict
from envfarm_verifiers.unit_tests import UnitTestsVerifier
from task_miner.packaging.archive import ArchiveEntry, write_archive

PER_FAMILY = 2
PROVIDERS = ("local", "docker")


@pytest.fixture(scope="module")
def made(calibrated_tasks: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Any:
    task = calibrated_tasks.make_calibrated_task(tmp_path_factory.mktemp("calibrated"))
    base = (ArchiveEntry(path, text.encode()) for path, text in task.tiny.base.items())
    files = {**task.package.files, WORKSPACE_ARCHIVE: write_archive(base, modified_at=0)}
    tests = msgspec.structs.replace(task.package.task.tests, run_timeout_seconds=30.0, test_timeout_seconds=10.0)
    package = replace(task.package, task=msgspec.structs.replace(task.package.task, tests=tests), files=files)
    return replace(task, package=package)


def summary(verdict: Verdict) -> tuple[object, ...]:
    assert verdict.outcome is Outcome.SCORED, verdict.failure
    return verdict.reward, sorted(component.name for component in verdict.components if component.value != 1.0)


@pytest.mark.parametrize("kind", [SubmissionKind.ORACLE, SubmissionKind.NO_OP])
def test_a_container_gives_the_verdict_that_a_jail_gives(made: Any, docker_base: str, kind: SubmissionKind) -> None:
    async def run(name: str) -> Verdict:
        async with load_plugin(SANDBOXES, name)({}) as provider:
            submission = Submission(task_id=made.package.task.task_id, kind=kind)
            return await grade(
                made.package, submission, provider=provider, image=made.tiny.image, verifier=UnitTestsVerifier()
            )

    seen = {name: summary(anyio.run(run, name)) for name in PROVIDERS}
    assert seen["docker"] == seen["local"]
    assert seen["docker"][0] == (kind is SubmissionKind.ORACLE)


def test_containers_refuse_cheats_of_every_family_as_jails_do(made: Any, docker_base: str) -> None:
    chosen = [
        cheat
        for family in Family
        for cheat in [cheat for cheat in CHEATS if cheat.family is family and cheat.name != "aimed_random"][:PER_FAMILY]
    ]

    async def run(name: str) -> tuple[CheatResult, ...]:
        async with load_plugin(SANDBOXES, name)({}) as provider:
            target = read_target(made.package)
            trial = Trial(
                package=made.package, target=target, provider=provider, image=made.tiny.image, verifiers=(OURS,)
            )
            return await try_cheats(trial, chosen, jobs=2)

    seen = {name: {item.cheat.name: item.word(OURS) for item in anyio.run(run, name)} for name in PROVIDERS}
    assert seen["docker"] == seen["local"]
    assert "accepted" not in seen["docker"].values()


def mine(sandbox: str, out: Path, cache: Path) -> dict[str, Any]:
    words = ["mine", "--repo", "pypi:humanize[4.5..4.7]", "--limit", "1", "--sandbox", sandbox, "--json"]
    program = "from envfarm.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, *words, "--out", str(out)],
        env=os.environ | {"ENVFARM_CACHE_FOLDER": str(cache)},
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_a_task_that_is_mined_in_containers_is_byte_for_byte_the_one_of_jails(docker_base: str, tmp_path: Path) -> None:
    folders = []
    for name in PROVIDERS:
        (task,) = mine(name, tmp_path / name, tmp_path / f"cache-{name}")["tasks"]
        folders.append(Path(task["path"]))
    files = [sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file()) for folder in folders]
    assert files[0] == files[1]
    _, differing, errors = filecmp.cmpfiles(*folders, [str(path) for path in files[0]], shallow=False)
    assert (differing, errors) == ([], [])
