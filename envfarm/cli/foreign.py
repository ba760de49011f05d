"""What the verbs share that run tasks of other makers: a container engine, and a provider that leases from it."""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from rich.console import Console

from envfarm.cli.image_options import GIGABYTE
from envfarm.foreign.engine_images import EngineImages
from envfarm.foreign.request import ForeignTask, ImageSource, Work
from envfarm.grading.foreign_grade import ForeignOptions, grade_foreign
from envfarm.images.disk_budget import keep_within
from envfarm.plugins import SANDBOXES, load_plugin
from envfarm.records.verdict import Verdict
from envfarm.sandbox.contract import SandboxProvider, SandboxProviderFactory
from envfarm.sandbox.docker.engine import open_engine
from envfarm.settings import Settings

_ENGINE_SANDBOX = "docker"
_FOLDERS_SANDBOX = "local"


@dataclass(frozen=True, kw_only=True)
class ForeignPlace:
    """Where foreign tasks are run.

    Attributes:
        sandbox: The provider's name.
        sandbox_options: Its options.
        options: How work is graded.
        cache_folder: envfarm's cache on this machine.
        budget_gigabytes: Disk for all images of tasks.
    """

    sandbox: str
    sandbox_options: Mapping[str, object] = field(default_factory=dict)
    options: ForeignOptions = field(default_factory=ForeignOptions)
    cache_folder: Path
    budget_gigabytes: float

    @classmethod
    def of(cls, settings: Settings, sandbox: str | None, *, reward_key: str | None = None) -> Self:
        """Return the place that settings and command line name; docker where they name the one that has no images."""
        name = sandbox or settings.sandbox.provider
        if sandbox is None and name == _FOLDERS_SANDBOX:
            name = _ENGINE_SANDBOX
        chosen = settings.sandbox.chosen(name)
        options = ForeignOptions(environ=os.environ, reward_key=reward_key, retries=settings.grading.retries)
        return cls(
            sandbox=chosen.provider,
            sandbox_options=chosen.options,
            options=options,
            cache_folder=settings.cache_folder,
            budget_gigabytes=settings.images.budget_gigabytes,
        )


@asynccontextmanager
async def open_place(place: ForeignPlace) -> AsyncIterator[tuple[SandboxProvider, ImageSource]]:
    """Give the provider and what brings its images, for the length of the block.

    Raises:
        MissingToolError: There is no container engine.
    """
    open_provider: SandboxProviderFactory = load_plugin(SANDBOXES, place.sandbox)
    report = Console(stderr=True).print
    with open_engine() as engine:

        def make_room(image_id: str) -> None:
            budget_bytes = int(place.budget_gigabytes * GIGABYTE)
            keep_within(budget_bytes, engine, place.cache_folder, kept_ids=frozenset({image_id}), report=report)

        async with open_provider(place.sandbox_options) as provider:
            yield provider, EngineImages(engine, report, make_room=make_room)


async def grade_foreign_task(task: ForeignTask, work: Work, place: ForeignPlace) -> Verdict:
    """Return the verdict of work on a foreign task.

    Raises:
        UserError: The task or the work is wrong, or there is no container engine.
    """
    async with open_place(place) as (provider, images):
        return await grade_foreign(task, work, provider=provider, images=images, options=place.options)
