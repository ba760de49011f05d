"""Runs a Harbor task: each step's preparation, its work, and its judging, as `harbor_plan` has resolved them."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Self

from envfarm.errors import Attribution, RewardError, TaskError, UserError, VerifierError
from envfarm.foreign.box import Box, FoundImage, LooseFiles, open_box, quoted
from envfarm.foreign.collected import collect, end_of
from envfarm.foreign.compose_task import ComposeFolder, make_compose_box
from envfarm.foreign.harbor_plan import BoxPlan, HarborPlan, NetworkPolicy, StepPlan, make_plan
from envfarm.foreign.request import ForeignJudgement, JudgeRequest, Work, WorkKind
from envfarm.foreign.reward_files import (
    TEST_OUTPUT,
    TESTS,
    RewardReading,
    empty_folders,
    make_log_folders,
    read_output,
)
from envfarm.foreign.rewards import Rewards, stops_after
from envfarm.foreign.step_result import StepResult, judge_steps, told_with
from envfarm.foreign.workspace import replace_workspace
from envfarm.formats.foreign import expand_variables, read_foreign
from envfarm.formats.harbor_config import read_config
from envfarm.formats.harbor_digest import package_digest, packaged_paths
from envfarm.formats.task_tree import TaskTree, read_tree
from envfarm.records.task import TASK_FILE

_SOLUTION = PurePosixPath("/solution")
_SOLUTION_OUTPUT = PurePosixPath("/logs/agent/oracle.txt")
_CLEAR = 'if [ -d "$1" ]; then find "$1" -mindepth 1 -maxdepth 1 -exec rm -rf -- {} +; fi'


def read_harbor_task(path: Path) -> "HarborTask":
    """Return the Harbor task in a folder.

    Raises:
        TaskError: It is none, is damaged, or asks for what cannot be given.
    """
    document = read_foreign(path).document.unwrap()
    config = read_config(document)
    if isinstance(config, str):
        message = f"{TASK_FILE}: {config}"
        raise TaskError(message)
    tree = read_tree(path)
    return HarborTask(
        plan=make_plan(config, tree, folder_name=path.resolve().name), tree=tree, digest=package_digest(tree.files)
    )


@dataclass(frozen=True, kw_only=True)
class HarborTask:
    """A Harbor task of anybody's that can be judged.

    Attributes:
        plan: How.
        tree: Its files.
        digest: Harbor's package digest.
    """

    plan: HarborPlan
    tree: TaskTree = field(repr=False)
    digest: str

    @property
    def task_id(self) -> str:
        """Its name."""
        return self.plan.name

    @property
    def verifier(self) -> str:
        """What judges it."""
        return "harbor"

    async def judge(self, request: JudgeRequest) -> ForeignJudgement:
        """Judge the work under Harbor's reward contract.

        Raises:
            BoundaryError: There is no reward, and whose fault that is.
            UserError: The task or the request is wrong.
        """
        check_work(self.plan, request.work)
        return judge_steps(await self._run(request).steps(), self.plan, request.reward_key)

    def bounded(self, seconds: float) -> Self:
        """Return the same task, whose verifiers have at most so long."""
        steps = tuple(
            replace(step, verifier_timeout_seconds=min(step.verifier_timeout_seconds, seconds))
            for step in self.plan.steps
        )
        return replace(self, plan=replace(self.plan, steps=steps))

    @asynccontextmanager
    async def open_worked_box(self, request: JudgeRequest) -> AsyncIterator[Box]:
        """Give the box of a task of one step when the work is done and nothing was judged yet.

        Raises:
            BoundaryError: It does not come about.
            UserError: The task has several steps, or the work fits none.
        """
        check_work(self.plan, request.work)
        if len(self.plan.steps) != 1:
            message = f"{TASK_FILE}: the task has several steps: this is for tasks of one"
            raise UserError(message)
        async with self._run(request).worked_box() as box:
            yield box

    def _run(self, request: JudgeRequest) -> "_Run":
        files = {path: self.tree.files[path] for path in packaged_paths(self.tree.files)}
        return _Run(plan=self.plan, files=files, tree=self.tree, request=request)


def check_work(plan: HarborPlan, work: Work) -> None:
    """Refuse work that the task has no place for.

    Raises:
        TaskError: An oracle is asked for, and a step has no solution.
        UserError: A workspace, and there are steps: nobody says after which of them it is.
    """
    if work.kind is WorkKind.PATCH:
        message = "--patch fits no Harbor task: hand in --workspace DIR, a changed copy of its working directory"
        raise UserError(message)
    if work.kind is WorkKind.WORKSPACE and len(plan.steps) > 1:
        message = "--workspace fits tasks of one step only: this one has several, each with work of its own"
        raise UserError(message)
    if work.kind is WorkKind.ORACLE:
        for step in plan.steps:
            if step.solution is None:
                place = f"steps/{step.name}/solution" if step.name else "solution"
                message = f"{place}/solve.sh: it is missing, so there is no oracle to grade"
                raise TaskError(message)


def work_policy(plan: HarborPlan, kind: WorkKind) -> NetworkPolicy:
    """Return what the box of the work can reach: one policy for all that runs in it.

    Raises:
        TaskError: The task wants the network switched while the box runs.
    """
    judged = [step.verifier_policy for step in plan.steps if step.verifier_box is None]
    worked = [step.agent_policy for step in plan.steps]
    wanted = dict.fromkeys([*judged, *(worked if kind is WorkKind.ORACLE else [])]) or dict.fromkeys(worked)
    if len(wanted) > 1:
        message = f"{TASK_FILE}: work and judging share a box and want different networks: a box has one here"
        raise TaskError(message)
    return next(iter(wanted))


@dataclass(frozen=True, kw_only=True)
class _Run:
    """One judging in progress."""

    plan: HarborPlan
    files: Mapping[str, bytes] = field(repr=False)
    tree: TaskTree = field(repr=False)
    request: JudgeRequest = field(repr=False)

    @asynccontextmanager
    async def box(self) -> AsyncIterator[Box]:
        """Give the box of the work."""
        policy = work_policy(self.plan, self.request.work.kind)
        env = self._filled(self.plan.box.env)
        async with await self._opened(self.plan.box, policy, env) as box:
            await make_log_folders(box)
            yield box

    @asynccontextmanager
    async def worked_box(self) -> AsyncIterator[Box]:
        """Give it when the first step's work is done."""
        async with self.box() as box:
            await self._prepare(box, self.plan.steps[0])
            await self._work(box, self.plan.steps[0])
            yield box

    async def steps(self) -> list[StepResult]:
        """Return what became of each step that began."""
        results: list[StepResult] = []
        async with self.box() as box:
            for number, step in enumerate(self.plan.steps):
                if number and self.plan.steps[number - 1].verifier_box is None:
                    await empty_folders(box)
                results.append(await self._step(box, step, is_last=number == len(self.plan.steps) - 1))
                if results[-1].stopped is not None:
                    break
        return results

    async def _step(self, box: Box, step: StepPlan, *, is_last: bool) -> StepResult:
        await self._prepare(box, step)
        notes = await self._work(box, step)
        is_separate = step.verifier_box is not None
        taken = await collect(box, step, notes, ends_work=is_separate and is_last)
        async with AsyncExitStack() as stack:
            judging_box = box
            if step.verifier_box is not None:
                env = self._filled(step.verifier_box.env)
                opened = await self._opened(step.verifier_box, step.verifier_policy, env)
                judging_box = await stack.enter_async_context(opened)
                await make_log_folders(judging_box)
                for place in dict.fromkeys(place for place, _ in taken):  # all first: two may share a place
                    await judging_box.own(_CLEAR, str(place))
                for _, archive in taken:
                    await judging_box.unpack(archive, PurePosixPath("/"))
            elif step.name:
                await empty_folders(box)
            rewards, output, found = await self._judge(judging_box, step, is_last=is_last)
        stopped = stops_after(rewards, step.min_reward)
        return StepResult(name=step.name, rewards=rewards, notes=(*notes, *found), output=output, stopped=stopped)

    async def _prepare(self, box: Box, step: StepPlan) -> None:
        if step.working_files:
            await box.place(
                self._below(step.working_files), box.working_directory, programs=self._programs(step.working_files)
            )
        if step.setup_script:
            script = box.working_directory / step.setup_script
            result = await box.run(f"bash {quoted(script)}", user=step.agent_user)
            if result.exit_code != 0:
                message = f"{step.working_files}/{step.setup_script} failed: {end_of(result)}"
                raise VerifierError(message, attribution=Attribution.TASK)
        if step.healthcheck is not None:
            await box.wait_until_healthy(step.healthcheck, user=step.agent_user)

    async def _work(self, box: Box, step: StepPlan) -> list[str]:
        work = self.request.work
        if work.kind is WorkKind.WORKSPACE:
            await replace_workspace(box, work.content, owner=step.agent_user)
        if work.kind is not WorkKind.ORACLE or step.solution is None:
            return []
        folder = str(PurePosixPath(step.solution).parent)
        name = PurePosixPath(step.solution).name
        await box.place(self._below(folder), _SOLUTION, programs=(*self._programs(folder), name))
        result = await box.run(
            f"({quoted(_SOLUTION / name)}) > {_SOLUTION_OUTPUT} 2>&1",
            user=step.agent_user,
            env={**self._filled(self.plan.solution_env), "DEBIAN_FRONTEND": "noninteractive"},
            timeout_seconds=step.agent_timeout_seconds,
        )
        if result.timed_out:
            return [f"{step.solution} was not done within {step.agent_timeout_seconds:g} s"]
        return [] if result.exit_code == 0 else [f"{step.solution} ended with {result.exit_code or result.signal}"]

    async def _opened(
        self, plan: BoxPlan, policy: NetworkPolicy, env: Mapping[str, str]
    ) -> AbstractAsyncContextManager[Box]:
        """Return a box that opens, its images made."""
        lease = self.request.lease
        if not plan.compose_file:
            return open_box(lease, await self._image(plan), plan, policy, env, loose=self._loose(plan))
        folder = ComposeFolder(files=self._below(plan.folder), programs=frozenset(self._programs(plan.folder)))
        made = await make_compose_box(plan, folder, env, self.request.images)
        return open_box(lease, made.found, made.plan, policy, env, services=made.group)

    async def _judge(self, box: Box, step: StepPlan, *, is_last: bool) -> tuple[Rewards, bytes, list[str]]:
        """Return rewards, the end of what the script printed, and what people should know."""
        links = await make_log_folders(box)
        if not step.tests_in_image:
            for folder in step.test_folders:
                await box.place(self._below(folder), TESTS, programs=self._programs(folder))
        script = TESTS / step.test_script
        await box.own('chmod +x -- "$1"', str(script))
        result = await box.run(
            f"({quoted(script)}) > {TEST_OUTPUT} 2>&1",
            user=step.verifier_user,
            env=self._filled(step.verifier_env),
            timeout_seconds=step.verifier_timeout_seconds,
        )
        if result.timed_out:
            message = f"{script} was not done within {step.verifier_timeout_seconds:g} s"
            raise VerifierError(message)
        is_shared = step.verifier_box is None
        worker = step.agent_user if is_shared and step.agent_user != step.verifier_user else None
        reading = RewardReading(worker=worker, kills=is_last or not is_shared)
        output = await read_output(box)
        try:
            rewards = await reading.read(box)
        except RewardError as error:
            raise told_with(error, script, result, output) from error
        return rewards, output, [f"{place} was a link, and is none any more" for place in links]

    async def _image(self, plan: BoxPlan) -> FoundImage:
        images, seconds = self.request.images, plan.build_timeout_seconds
        if plan.image_name is not None:
            return await images.named(plan.image_name, timeout_seconds=seconds)
        programs = frozenset(self._programs(plan.folder))
        return await images.built(self._below(plan.folder), programs, timeout_seconds=seconds)

    def _loose(self, plan: BoxPlan) -> LooseFiles | None:
        if not plan.loose_files:
            return None
        return LooseFiles(files=self._below(plan.loose_files), programs=self._programs(plan.loose_files))

    def _below(self, folder: str) -> dict[str, bytes]:
        prefix = f"{folder}/"
        return {path[len(prefix) :]: text for path, text in self.files.items() if path.startswith(prefix)}

    def _programs(self, folder: str) -> tuple[str, ...]:
        prefix = f"{folder}/"
        return tuple(path[len(prefix) :] for path in sorted(self.tree.executable) if path.startswith(prefix))

    def _filled(self, values: Mapping[str, str]) -> dict[str, str]:
        return expand_variables(values, self.request.environ)
