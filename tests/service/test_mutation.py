"""The mutation score in real boxes: a mutant is killed by the deciding tests, or survives by name."""

from typing import TYPE_CHECKING

import anyio

from envfarm.records.task import FIX_PATCH, REFERENCE_ARCHIVE, MutationScore
from envfarm.sandbox.local.provider import open_local_provider
from task_miner.languages.contract import Mutant
from task_miner.languages.python import PythonLanguage
from task_miner.quality.mutation import MutationRequest, score_mutants

if TYPE_CHECKING:
    from tests.data.tiny.task import TinyTask

SOURCE = "src/tiny/__init__.py"


def score(tiny: "TinyTask", *contents: str) -> MutationScore:
    mutants = [
        Mutant(path=SOURCE, line=number, operator="changed", content=content.encode())
        for number, content in enumerate(contents, start=1)
    ]

    async def run() -> MutationScore:
        async with open_local_provider({}) as provider:
            return await score_mutants(
                MutationRequest(
                    provider=provider,
                    image=tiny.image,
                    language=PythonLanguage(provider=provider, cache_folder=tiny.folder, cache_domain="test"),
                    environment=tiny.package.task.environment,
                    plan=tiny.package.task.tests,
                    reference_archive=tiny.package.files[REFERENCE_ARCHIVE],
                    fix_patch=tiny.package.files[FIX_PATCH],
                    mutants=mutants,
                    boxes=anyio.CapacityLimiter(2),
                    fixed_seconds=0.1,
                )
            )

    return anyio.run(run)


def test_mutants_are_killed_by_wrong_answers_hangs_and_deaths_and_others_survive(tiny_task: "TinyTask") -> None:
    wrong = tiny_task.fixed.replace("a + b", "a * b")
    loop = tiny_task.fixed.replace("return a + b", "while True: pass")
    death = tiny_task.fixed.replace("return a + b", "__import__('os')._exit(0)")
    unseen = tiny_task.fixed.replace("hello", "good day")
    found = score(tiny_task, wrong, loop, death, unseen)
    assert (found.mutants, found.killed) == (4, 3)
    assert found.survivors == (f"{SOURCE}:4: changed",)


def test_no_mutants_make_an_empty_score(tiny_task: "TinyTask") -> None:
    assert score(tiny_task) == MutationScore(mutants=0, killed=0)
