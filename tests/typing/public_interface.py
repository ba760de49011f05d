"""What type checkers have to know of the public interface; checked by mypy, never run."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path, PurePosixPath
from typing import assert_type

from envfarm.formats.harbor import read_package
from envfarm.grading.contract import Judgement, Verifier, VerifyRequest
from envfarm.grading.grade import GradingOptions, grade
from envfarm.grading.level import GradingLevel, choose_level
from envfarm.records.claim import Claim
from envfarm.records.image import Image
from envfarm.records.submission import Submission
from envfarm.records.task import TaskPackage
from envfarm.records.verdict import Verdict
from envfarm.records.versioned import decode_line, decode_lines, encode_line
from envfarm.sandbox.contract import ExecResult, LeaseRequest, Sandbox, SandboxProvider, SandboxProviderFactory
from envfarm.sandbox.local.provider import LocalProvider, open_local_provider
from envfarm.settings import Settings, load_settings
from envfarm_verifiers.unit_tests import UnitTestsVerifier
from task_miner.languages.contract import Language
from task_miner.languages.python import PythonLanguage
from task_miner.mine import mine
from task_miner.options import MineOptions
from task_miner.report import MineReport, SilentObserver


async def grading(package: TaskPackage, submission: Submission, provider: SandboxProvider, image: Image) -> None:
    assert_type(read_package(Path("task")), TaskPackage)
    level = assert_type(choose_level("fast"), GradingLevel)
    options = GradingOptions(level=level, retries=2, budget_seconds=None)
    assert_type(await grade(package, submission, provider=provider, image=image, options=options), Verdict)


def records(line: bytes) -> None:
    assert_type(decode_line(line, Claim), Claim)
    assert_type(decode_line(line, Verdict).reward, float | None)
    assert_type([record.holder for record in decode_lines(line, Claim)], list[str])
    assert_type(encode_line(decode_line(line, Verdict)), bytes)


async def boxes(provider: LocalProvider, request: LeaseRequest) -> None:
    factory: SandboxProviderFactory = open_local_provider
    assert_type(factory({}), AbstractAsyncContextManager[SandboxProvider])
    a_provider: SandboxProvider = provider
    async with a_provider.lease(request) as sandbox:
        assert_type(sandbox, Sandbox)
        assert_type(await sandbox.exec(["true"], timeout_seconds=1.0), ExecResult)
        assert_type(await sandbox.read_file(PurePosixPath("/tmp/x")), bytes)  # noqa: S108 -- inside a box


async def verifiers(request: VerifyRequest) -> None:
    verifier: Verifier = UnitTestsVerifier()
    assert_type(await verifier.verify(request), Judgement)


async def mining(
    options: MineOptions, open_provider: Callable[[], AbstractAsyncContextManager[SandboxProvider]]
) -> None:
    assert_type(await mine(options, open_provider, SilentObserver()), MineReport)


def languages(provider: SandboxProvider) -> Language:
    return PythonLanguage(provider=provider, cache_folder=Path("cache"), cache_domain="domain")


def settings(environ: Mapping[str, str]) -> None:
    assert_type(load_settings(Path(), environ), Settings)
    assert_type(load_settings(Path(), environ).mine.runs, int)
