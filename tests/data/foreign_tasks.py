"""Small Harbor tasks of another maker, and what grades work on them in real containers."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

from envfarm.errors import SandboxLostError
from envfarm.foreign.engine_images import EngineImages
from envfarm.foreign.open_task import open_foreign
from envfarm.foreign.request import Work, WorkKind
from envfarm.grading.foreign_grade import ForeignOptions, grade_foreign
from envfarm.records.verdict import Verdict
from envfarm.sandbox.contract import LeaseRequest, Sandbox, SandboxProvider
from envfarm.sandbox.docker.base_image import BASE_TAG
from envfarm.sandbox.docker.engine import open_engine
from envfarm.sandbox.docker.provider import open_docker_provider

BASE = BASE_TAG
ORACLE, NO_OP = Work(kind=WorkKind.ORACLE), Work(kind=WorkKind.NO_OP)
_TOML = '[verifier]\ntimeout_sec = 60.0\n[environment]\nnetwork_mode = "no-network"\n'
_TEST_SH = """\
#!/bin/bash
if [ "$(cat value.txt)" = mended ]; then reward=1.0; else reward=0.0; fi
echo "{\\"reward\\": $reward}" > /logs/verifier/reward.json
"""


def write_task(folder: Path, base: str, files: Mapping[str, str | None]) -> Path:
    """Write a Harbor task whose work is to make /app/value.txt say ``mended``; files replace, None leaves out."""
    known: dict[str, str | None] = {
        "task.toml": _TOML,
        "instruction.md": "Make value.txt say mended.\n",
        "environment/Dockerfile": f"FROM {base}\nWORKDIR /app\nRUN echo broken > value.txt && chown -R user /app\n",
        "tests/test.sh": _TEST_SH,
        "solution/solve.sh": "#!/bin/bash\necho mended > value.txt\n",
        **files,
    }
    for name, text in known.items():
        if text is not None:
            place = folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
    return folder


class LosesBoxes:
    """A provider whose first boxes are lost as soon as they are there."""

    name = "loses"

    def __init__(self, provider: SandboxProvider, count: int) -> None:
        self._provider = provider
        self._left = count

    @asynccontextmanager
    async def lease(self, request: LeaseRequest) -> AsyncIterator[Sandbox]:
        async with self._provider.lease(request) as sandbox:
            if self._left:
                self._left -= 1
                message = "the sandbox is gone"
                raise SandboxLostError(message)
            yield sandbox


def grade_task(
    folder: Path,
    work: Work,
    *,
    environ: Mapping[str, str] | None = None,
    key: str | None = None,
    retries: int = 0,
    lost_boxes: int = 0,
) -> Verdict:
    """Return the verdict of work on the foreign task in a folder."""

    async def run() -> Verdict:
        task = open_foreign(folder)
        options = ForeignOptions(environ=environ or {}, reward_key=key, retries=retries)
        with open_engine() as engine:
            async with open_docker_provider({}) as provider:
                with anyio.fail_after(120):
                    images = EngineImages(engine)
                    losing = LosesBoxes(provider, lost_boxes)
                    return await grade_foreign(task, work, provider=losing, images=images, options=options)

    return anyio.run(run)
