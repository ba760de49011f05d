"""Moves files by running small programs in the box, so that links and limits mean what they mean inside."""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from envfarm.sandbox.contract import ExecResult

if TYPE_CHECKING:
    from envfarm.sandbox.local.lease import LocalSandbox

_TIMEOUT_SECONDS = 120.0
_READ = (
    'test -f "$1" || exit 44; s=$(stat -Lc %s -- "$1") || exit 44; [ "$s" -le "$2" ] || exit 45; '
    'exec head -c "$(($2 + 1))" -- "$1"'
)
_WRITE = (
    'd=${1%/*}; mkdir -p -- "${d:-/}" && t=$(mktemp -- "${d:-/}/.envfarm.XXXXXX") || exit 46; '
    'if cat > "$t" && [ "$(stat -c %s -- "$t")" = "$3" ] && chmod -- "$2" "$t" && mv -fT -- "$t" "$1"; '
    "then exit 0; fi; "
    'rm -f -- "$t"; exit 46'
)
_MISSING, _TOO_LARGE = 44, 45


async def read_from(sandbox: "LocalSandbox", path: PurePosixPath, *, limit_bytes: int) -> bytes:
    """Return a regular file's content; errors as the contract says."""
    whole = sandbox.with_output_limit(2 * (limit_bytes + 1))
    result = await _shell(whole, _READ, (str(path), str(limit_bytes)), {})
    if result.exit_code == _TOO_LARGE or len(result.stdout) > limit_bytes:
        message = f"{path} is larger than {limit_bytes} bytes"
        raise ValueError(message)
    if result.exit_code != 0:
        message = f"no regular file at {path} in the sandbox"
        raise FileNotFoundError(message)
    return result.stdout


async def write_to(sandbox: "LocalSandbox", path: PurePosixPath, content: bytes, *, mode: int) -> None:
    """Make the file hold exactly `content`; errors as the contract says."""
    result = await _shell(sandbox, _WRITE, (str(path), f"{mode:o}", str(len(content))), {}, stdin=content)
    if result.exit_code != 0:
        message = f"{path} cannot be written in the sandbox: {result.stderr[-500:].decode(errors='replace').strip()}"
        raise OSError(message)


async def _shell(
    sandbox: "LocalSandbox", program: str, arguments: Sequence[str], env: Mapping[str, str], stdin: bytes = b""
) -> ExecResult:
    argv = ("/bin/sh", "-c", program, "sh", *arguments)
    root = PurePosixPath("/")
    path = {"PATH": "/usr/bin:/bin"}
    return await sandbox.exec(argv, cwd=root, env=path | dict(env), stdin=stdin, timeout_seconds=_TIMEOUT_SECONDS)
