"""The whole collection on a calibrated task at level standard: none of it is paid, and each refusal has its reason."""

import compileall
import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path

import anyio
import msgspec
import pytest

from envfarm.audit.cheat import Family
from envfarm.audit.collection import CHEATS
from envfarm.audit.target import read_target
from envfarm.audit.trial import OURS, CheatResult, Trial, try_cheats
from envfarm.records.task import WORKSPACE_ARCHIVE
from envfarm.records.verdict import Outcome
from envfarm.sandbox.local.provider import open_local_provider
from task_miner.packaging.archive import ArchiveEntry, write_archive

REFUSED = Path(__file__).parents[1] / "data" / "cheats" / "refused_today.json"
_SECONDS = 20.0


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, CheatResult]:
    path = Path(__file__).parents[1] / "data" / "calibrated.py"
    spec = importlib.util.spec_from_file_location("calibrated_task_to_cheat", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = tmp_path_factory.mktemp("calibrated")
    made = module.make_calibrated_task(folder)
    compileall.compile_dir(made.tiny.folder / "venv" / "lib", quiet=2)
    tests = msgspec.structs.replace(made.package.task.tests, run_timeout_seconds=_SECONDS, test_timeout_seconds=8.0)
    base = (ArchiveEntry(path, text.encode()) for path, text in made.tiny.base.items())
    files = {**made.package.files, WORKSPACE_ARCHIVE: write_archive(base, modified_at=0)}
    package = replace(made.package, task=msgspec.structs.replace(made.package.task, tests=tests), files=files)
    tried = [cheat for cheat in CHEATS if cheat.family is not Family.RESOURCES]

    async def run() -> tuple[CheatResult, ...]:
        async with open_local_provider({}) as provider:
            target = read_target(package)
            trial = Trial(package=package, target=target, provider=provider, image=made.tiny.image, verifiers=(OURS,))
            return await try_cheats(trial, tried, jobs=2)

    return {result.cheat.name: result for result in anyio.run(run)}


def test_no_cheat_is_paid(results: dict[str, CheatResult]) -> None:
    assert len(results) > 120
    assert [name for name, result in results.items() if result.word(OURS) == "accepted"] == []


def test_every_refusal_is_a_score_with_a_reason(results: dict[str, CheatResult]) -> None:
    verdicts = {name: result.verdicts[OURS] for name, result in results.items() if result.verdicts}
    assert {name for name, verdict in verdicts.items() if verdict.outcome is not Outcome.SCORED} == set()
    silent = [
        name
        for name, verdict in verdicts.items()
        if not any(part.value < 1.0 and part.rationale for part in verdict.components)
    ]
    assert silent == []


def test_what_only_a_layer_can_refuse_names_the_layer(results: dict[str, CheatResult]) -> None:
    """Without calibration these are paid: their tests pass, or seem to."""
    alone = results.keys() - set(json.loads(REFUSED.read_bytes()))
    seen = {
        name: {part.name for part in results[name].verdicts[OURS].components if part.value < 1.0}
        for name in alone
        if results[name].verdicts
    }
    assert len(seen) > 40
    assert [name for name, gates in seen.items() if not gates & {"tampered", "mixed_runs", "fail_to_pass"}] == []
    assert sum(bool(gates & {"tampered", "mixed_runs"}) for gates in seen.values()) > len(seen) / 2
