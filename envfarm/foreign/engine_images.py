"""Images of foreign tasks, from the container engine of this machine: named ones are pulled, recipes are built."""

import hashlib
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

import anyio
import anyio.to_thread

from envfarm.errors import ContainerImageMissingError, ImageBuildError
from envfarm.foreign.box import FoundImage
from envfarm.foreign.request import BuildOptions
from envfarm.formats.new_folder import write_file
from envfarm.images.foreign_images import FOREIGN_LABEL, FOREIGN_REPOSITORY
from envfarm.records.image import Image
from envfarm.sandbox.docker.engine import Engine, ImageFacts

_TAG_DIGITS = 32
Told = Callable[[str], None]


class EngineImages:
    """Brings images by an engine; what a recipe made is found again by the digest of its folder."""

    def __init__(self, engine: Engine, report: Told | None = None, *, make_room: Told | None = None) -> None:
        """Take the engine, who is told in one line what takes long, and what makes room beside a new image's id."""
        self._engine = engine
        self._report = report
        self._make_room = make_room

    async def named(self, name: str, *, timeout_seconds: float) -> FoundImage:
        """Return an image by its name, pulled where it is not there.

        Raises:
            ContainerImageMissingError: There is none of that name.
            ContainerImagePullError: It could not be brought.
            ImageBuildError: That took longer than it may.
        """

        def bring() -> ImageFacts:
            try:
                return self._engine.image_facts(name)
            except ContainerImageMissingError:
                self._engine.pull_image(name, self._report, timeout_seconds=timeout_seconds)
                return self._engine.image_facts(name)

        return _found(name, await _bounded(bring, f"bringing the image {name}", timeout_seconds))

    async def built(
        self,
        files: Mapping[str, bytes],
        programs: frozenset[str],
        *,
        timeout_seconds: float,
        options: BuildOptions | None = None,
    ) -> FoundImage:
        """Return the image that a folder with a Dockerfile makes.

        Raises:
            ImageBuildError: It cannot be built, or not in time; no image of that name is left.
        """
        options = options or BuildOptions()
        tag = f"{FOREIGN_REPOSITORY}:{_digest(files, programs, options)[:_TAG_DIGITS]}"

        def build() -> ImageFacts:
            try:
                facts = self._engine.image_facts(tag)
                self._engine.tag_image(tag, tag)  # it is used now; see `foreign_images`
            except ContainerImageMissingError:
                with tempfile.TemporaryDirectory(prefix="envfarm-foreign-") as folder:
                    for path, content in files.items():
                        write_file(Path(folder) / path, content, executable=path in programs)
                    labels = {FOREIGN_LABEL: "1"}
                    self._engine.build_image(
                        Path(folder),
                        tag,
                        dockerfile=options.dockerfile,
                        arguments=options.arguments,
                        target=options.target,
                        labels=labels,
                        timeout_seconds=timeout_seconds,
                        report=self._report,
                    )
                facts = self._engine.image_facts(tag)
                if self._make_room is not None:
                    self._make_room(facts.image_id)
            return facts

        return _found(tag, await _bounded(build, "building the task's image", timeout_seconds))


async def _bounded(work: Callable[[], ImageFacts], what: str, timeout_seconds: float) -> ImageFacts:
    """Return what blocking work returns; it may end later than this does."""
    with anyio.move_on_after(timeout_seconds):
        return await anyio.to_thread.run_sync(work, abandon_on_cancel=True)
    message = f"{what} was not done within {timeout_seconds:g} s"
    raise ImageBuildError(message)


def _found(reference: str, facts: ImageFacts) -> FoundImage:
    return FoundImage(
        image=Image(image_id=facts.image_id, reference=reference),
        working_directory=PurePosixPath(facts.workdir or "/"),
        user=facts.user,
    )


def _digest(files: Mapping[str, bytes], programs: frozenset[str], options: BuildOptions) -> str:
    digest = hashlib.sha256()
    if options != BuildOptions():
        digest.update(repr((options.dockerfile, sorted(options.arguments.items()), options.target)).encode())
    for path in sorted(files):
        facts = f"{path}\0{path in programs}\0{hashlib.sha256(files[path]).hexdigest()}\n"
        digest.update(facts.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
