"""Which folders a jail has from its beginning, and which it is shown once it runs. PURE."""

from collections.abc import Sequence
from dataclasses import dataclass

from envfarm.records.image import Folder, FolderAccess
from envfarm.sandbox.box_variables import PROXY_FOLDER
from envfarm.sandbox.contract import WORKSPACE, LeaseRequest, Network
from envfarm.sandbox.local.host_facts import AGENT, HostFacts

_INODES_PER_BYTE = 1 / 4096
_LEAST_INODES = 10_000
_OWN_PLACES = ("/etc", "/proc", "/dev", "/tmp", "/home/user", AGENT)  # noqa: S108 -- inside the box


@dataclass(frozen=True, kw_only=True)
class BaseWish:
    """What a jail is made from before it is known what it will be shown.

    Attributes:
        networked: Whether it has the network of this machine.
        folders: What lies under a place that the jail has from its beginning, or all where nothing can be shown later.
        disk_bytes: Bound on what it writes, where folders may have to be copied at once; 0 otherwise.
    """

    networked: bool = False
    folders: tuple[Folder, ...] = ()
    disk_bytes: int = 0

    @property
    def key(self) -> str:
        """Equal for wishes that the same jail could serve."""
        return repr(self)

    @property
    def may_stand_ready(self) -> bool:
        """Whether it is the jail that nearly every lease begins with."""
        return self == BaseWish()


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What a jail is shown once it runs; `source` is a path of this machine or, for the empty workspace, of the box."""

    source: str
    target: str
    access: FolderAccess


@dataclass(frozen=True, kw_only=True)
class BoxPlan:
    """A jail, and what it is shown."""

    base: BaseWish
    shown: tuple[Shown, ...]


def plan_box(request: LeaseRequest, facts: HostFacts, box: str, proxy_folder: str | None) -> BoxPlan:
    """Return the plan of a lease.

    Args:
        request: What is asked for.
        facts: What is known of this machine.
        box: Where the holder keeps what the lease writes.
        proxy_folder: Folder with the socket of an allowlist's proxy, where there is one.
    """
    folders = list(request.image.folders + request.folders)
    if proxy_folder is not None:
        folders.append(Folder(source=proxy_folder, target=PROXY_FOLDER))
    folders.sort(key=lambda item: item.target.count("/"))
    held = (*_OWN_PLACES, *(target for _, target in facts.system), *(link for _, link in facts.links))
    early = tuple(folder for folder in folders if not facts.shows_later or _is_inside(folder.target, held))
    shown = [
        Shown(source=folder.source, target=folder.target, access=folder.access)
        for folder in folders
        if folder not in early
    ]
    if not any(folder.target == str(WORKSPACE) for folder in folders):
        shown.insert(0, Shown(source=f"{box}/empty", target=str(WORKSPACE), access=FolderAccess.READ_WRITE))
    base = BaseWish(
        networked=request.network is Network.PUBLIC,
        folders=early,
        disk_bytes=request.limits.disk_bytes if copies_of(early) else 0,
    )
    return BoxPlan(base=base, shown=tuple(shown))


def copies_of(folders: Sequence[Folder]) -> tuple[str, ...]:
    """Return the sources of copy-on-write folders, each once, in the order of their copies."""
    copied = (folder.source for folder in folders if folder.access == FolderAccess.COPY_ON_WRITE)
    return tuple(dict.fromkeys(copied))


def inodes_for(disk_bytes: int) -> int:
    """Return how many files a box may have."""
    return max(int(disk_bytes * _INODES_PER_BYTE), _LEAST_INODES)


def _is_inside(target: str, places: Sequence[str]) -> bool:
    return any(target == place or target.startswith(f"{place}/") for place in places)
