"""Applies a diff to the workspace of a box with git, which takes nothing from the workspace but the files it changes.

The repository that git is told to use is made on the spot and empty: no configuration, hook, filter or line-ending
attribute of the workspace or of the machine has a say. A diff applies whole or not at all.
"""

from dataclasses import dataclass

from envfarm.errors import Attribution, VerifierError
from envfarm.sandbox.contract import WORKSPACE, ExecResult, Sandbox

_APPLY_SECONDS = 120.0
_TOLD_BYTES = 2000
_MISSING_EXITS = frozenset({126, 127})
_SETUP_FAILED = 97
_PLACE = "/tmp/envfarm-apply"  # noqa: S108 -- inside the box, before anything of the submission can run
_SCRIPT = f"""
mkdir {_PLACE} {_PLACE}/objects {_PLACE}/refs {_PLACE}/info || exit {_SETUP_FAILED}
echo 'ref: refs/heads/none' > {_PLACE}/HEAD || exit {_SETUP_FAILED}
echo '* !text !eol !filter !ident !working-tree-encoding !whitespace' > {_PLACE}/info/attributes || exit {_SETUP_FAILED}
git apply -p1 --whitespace=nowarn -
status=$?
rm -rf {_PLACE}
exit $status
"""
_VARIABLES = {
    "GIT_DIR": _PLACE,
    "GIT_WORK_TREE": str(WORKSPACE),
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_ATTR_NOSYSTEM": "1",
    "LC_ALL": "C",
}


@dataclass(frozen=True, kw_only=True)
class PatchApplied:
    """What became of a diff.

    Attributes:
        applied: Whether all of it is in the workspace; otherwise nothing is.
        message: What git said where it is not.
    """

    applied: bool
    message: str = ""


async def apply_patch(sandbox: Sandbox, patch: bytes) -> PatchApplied:
    """Make the workspace what the diff says; an empty diff is applied by doing nothing.

    Args:
        sandbox: The box; no submitted code has run in it.
        patch: A diff for ``git apply -p1``, as `plan_submission` or the miner makes it.

    Raises:
        VerifierError: There is no git in the box.
        SandboxLostError: The sandbox is gone.
    """
    if not patch:
        return PatchApplied(applied=True)
    result = await sandbox.exec(("/bin/sh", "-c", _SCRIPT), env=_VARIABLES, stdin=patch, timeout_seconds=_APPLY_SECONDS)
    if result.exit_code == 0:
        return PatchApplied(applied=True)
    if result.exit_code in _MISSING_EXITS:
        message = f"there is no git in the task's image: {_told(result)}"
        raise VerifierError(message, attribution=Attribution.TASK)
    if result.exit_code == _SETUP_FAILED:
        message = f"the box takes no files in /tmp: {_told(result)}"
        raise VerifierError(message, attribution=Attribution.SANDBOX, retryable=True)
    if result.timed_out:
        return PatchApplied(applied=False, message=f"git did not finish within {_APPLY_SECONDS:.0f} s")
    if result.signal is not None:
        reason = "it needed more memory than the box has" if result.out_of_memory else f"signal {result.signal}"
        return PatchApplied(applied=False, message=f"git was ended: {reason}")
    return PatchApplied(applied=False, message=_told(result))


def _told(result: ExecResult) -> str:
    return result.stderr[-_TOLD_BYTES:].decode("utf-8", "replace").strip()
