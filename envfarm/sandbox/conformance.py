"""The sandbox contract as checks that anybody can run over their own provider; no test framework is needed.

::

    material = ConformanceMaterial(provider=provider, make_image=make_image, folder=Path("/some/empty/folder"))
    for result in await run_conformance(material):
        print(result)

Each check is a coroutine function in `CHECKS`, by name, so that a test framework can run them one by one. A check that
finds the contract broken raises BrokenContractError, whose text says what was expected of the sandbox.

The image has to hold a POSIX shell, coreutils, setsid and a ``python3`` on PATH; the provider has to show folders of
this machine.

Not covered: what is left on the machine after the driver is killed, and boxes killed from outside, since no provider
can be asked for it; each provider has tests of its own for these.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from envfarm.errors import EnvfarmError
from envfarm.sandbox.conformance_commands import COMMAND_CHECKS
from envfarm.sandbox.conformance_files import FILE_CHECKS
from envfarm.sandbox.conformance_limits import LIMIT_CHECKS
from envfarm.sandbox.conformance_material import BrokenContractError, Check, ConformanceMaterial
from envfarm.sandbox.conformance_walls import WALL_CHECKS

__all__ = ["CHECKS", "BrokenContractError", "CheckResult", "ConformanceMaterial", "run_conformance"]

CHECKS: Mapping[str, Check] = {
    check.__name__: check for check in (*COMMAND_CHECKS, *FILE_CHECKS, *WALL_CHECKS, *LIMIT_CHECKS)
}


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """How one check ended.

    Attributes:
        name: The check.
        kept: Whether the provider keeps this part of the contract.
        detail: What was expected and seen, where it does not.
        seconds: How long it took.
    """

    name: str
    kept: bool
    detail: str = ""
    seconds: float = 0.0


async def run_conformance(
    material: ConformanceMaterial, observe: Callable[[CheckResult], None] | None = None
) -> list[CheckResult]:
    """Run every check, one after the other, and return how each ended; no check hides another.

    Args:
        material: The provider, and what its sandboxes are made from.
        observe: Is told each result as it comes.
    """
    results = []
    for name, check in CHECKS.items():
        started = time.monotonic()
        detail = ""
        try:
            await check(material)
        except (BrokenContractError, EnvfarmError, OSError, ValueError) as error:
            detail = f"{type(error).__name__}: {error}"
        seconds = time.monotonic() - started
        results.append(CheckResult(name=name, kept=not detail, detail=detail, seconds=seconds))
        if observe is not None:
            observe(results[-1])
    return results
