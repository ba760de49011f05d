"""Users of a box by name, as its own /etc/passwd and /etc/group tell them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import PurePosixPath

from envfarm.sandbox.client.job import Identity

_PASSWD, _GROUP = PurePosixPath("/etc/passwd"), PurePosixPath("/etc/group")
_PASSWD_FIELDS, _GROUP_FIELDS = 6, 4
_LARGEST_ID, _LONGEST_ID = (1 << 32) - 2, 10


@dataclass(frozen=True, kw_only=True)
class BoxUser:
    """A user of a box: its ids and its home."""

    identity: Identity
    home: str


ReadFile = Callable[[PurePosixPath], Awaitable[bytes]]


async def find_user(read_file: ReadFile, user: str) -> BoxUser:
    """Return a user: a name, UID, or UID:GID; a box without /etc/passwd has numbers only.

    Raises:
        LookupError: The box has no such user or group.
        SandboxLostError: The sandbox is gone.
    """
    try:
        passwd = await read_file(_PASSWD)
        groups = await read_file(_GROUP)
    except FileNotFoundError:
        passwd = groups = b""
    return resolve_user(user, passwd.decode(errors="replace"), groups.decode(errors="replace"))


def resolve_user(user: str, passwd: str, groups: str) -> BoxUser:
    """Return a user as the texts of both files tell them. PURE.

    Raises:
        LookupError: There is no such user or group.
    """
    name, colon, group = user.partition(":")
    rows = [row for row in _rows(passwd, _PASSWD_FIELDS) if _is_id(row[2]) and _is_id(row[3])]
    found = next((row for row in rows if name == row[0]), None) or next((row for row in rows if name == row[2]), None)
    if found is None and not _is_id(name):
        message = f"the box has no user {name!r}"
        raise LookupError(message)
    uid, gid = (int(found[2]), int(found[3])) if found else (int(name), int(name))
    lists = [row for row in _rows(groups, _GROUP_FIELDS) if _is_id(row[2])]
    if colon:
        gid = _group_id(group, lists)
    others = tuple(int(row[2]) for row in lists if found and found[0] in row[3].split(","))
    return BoxUser(identity=Identity(uid=uid, gid=gid, groups=others), home=(found[5] if found else "") or "/")


def _rows(text: str, fields: int) -> list[list[str]]:
    return [row for row in (line.split(":") for line in text.splitlines()) if len(row) >= fields]


def _is_id(text: str) -> bool:
    """Say whether a text is an id that the kernel has; both files are whatever the box made of them."""
    return text.isascii() and text.isdecimal() and len(text) <= _LONGEST_ID and int(text) <= _LARGEST_ID


def _group_id(group: str, lists: list[list[str]]) -> int:
    if _is_id(group):
        return int(group)
    for row in lists:
        if row[0] == group:
            return int(row[2])
    message = f"the box has no group {group!r}"
    raise LookupError(message)
