"""The bubblewrap command line of a jail: tables."""

from collections.abc import Sequence

import pytest

from envfarm.records.image import Folder, FolderAccess, Image
from envfarm.sandbox.box_variables import base_variables
from envfarm.sandbox.contract import LeaseRequest, Network
from envfarm.sandbox.local.jail_command import (
    BoxPaths,
    HostFacts,
    jail_arguments,
)

FACTS = HostFacts(
    bubblewrap="/host/bwrap",
    agent="/host/agent",
    system=(("/usr", "/usr"),),
    etc="/host/etc",
    etc_with_network="/host/etc-with-network",
    links=(("usr/bin", "/bin"),),
    network=(("/run/resolv.conf", "/etc/resolv.conf"),),
)
COPIED = Folder(source="/host/code", target="/workspace", access=FolderAccess.COPY_ON_WRITE)


def words_of(*folders: Folder, more: Sequence[Folder] = (), network: Network = Network.NONE) -> tuple[str, ...]:
    variables = {"PATH": "/opt/x", "LANG": "C"}
    image = Image(image_id="table", folders=folders, environment_variables=variables)
    request = LeaseRequest(image=image, folders=tuple(more), network=network)
    copies = [folder.source for folder in (*folders, *more) if folder.access is FolderAccess.COPY_ON_WRITE]
    return jail_arguments(FACTS, request, BoxPaths(box="/box", copies=tuple(dict.fromkeys(copies))))


def mounts(words: Sequence[str]) -> dict[str, tuple[str, str]]:
    """How and from where each place is mounted, in the order of the command line."""
    places = [number for number, word in enumerate(words) if word in {"--bind", "--ro-bind"}]
    return {words[number + 2]: (words[number], words[number + 1]) for number in places}


@pytest.mark.parametrize(
    ("network", "shared", "etc"),
    [(Network.NONE, False, "/host/etc"), (Network.PUBLIC, True, "/host/etc-with-network")],
)
def test_files_of_the_network_are_seen_only_where_it_was_asked_for(network: Network, etc: str, *, shared: bool) -> None:
    words = words_of(network=network)
    assert mounts(words)["/etc"] == ("--ro-bind", etc)
    assert ("/etc/resolv.conf" in mounts(words)) == shared


def test_every_jail_has_its_walls() -> None:
    for words in (words_of(), words_of(COPIED, network=Network.PUBLIC)):
        assert words[0] == "/host/bwrap"
        walls = {"--unshare-pid", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session"}
        assert walls | {"--clearenv"} <= set(words)
        told = " ".join(words)
        assert "--cap-drop ALL" in told
        assert "--uid 1000 --gid 1000" in told


@pytest.mark.parametrize(
    ("folder", "mounted"),
    [
        (Folder(source="/host/x", target="/opt/x"), ("--ro-bind", "/host/x")),
        (Folder(source="/host/x", target="/opt/x", access=FolderAccess.READ_ONLY), ("--ro-bind", "/host/x")),
        (Folder(source="/host/x", target="/opt/x", access=FolderAccess.READ_WRITE), ("--bind", "/host/x")),
        (Folder(source="/host/x", target="/opt/x", access=FolderAccess.COPY_ON_WRITE), ("--bind", "/box/merged0")),
    ],
)
def test_a_folder_is_mounted_as_its_access_says(folder: Folder, mounted: tuple[str, str]) -> None:
    assert mounts(words_of(folder))["/opt/x"] == mounted
    assert mounts(words_of(more=[folder]))["/opt/x"] == mounted


def test_only_what_a_lease_writes_can_be_written() -> None:
    writable = {target: source for target, (how, source) in mounts(words_of()).items() if how == "--bind"}
    own = {"/tmp": "tmp", "/dev/shm": "shm", "/home/user": "home", "/workspace": "empty"}  # noqa: S108 -- inside
    assert writable == {target: f"/box/{name}" for target, name in own.items()}


def test_each_copied_folder_has_one_copy_however_often_it_is_shown() -> None:
    other = Folder(source="/host/other", target="/opt/other", access=FolderAccess.COPY_ON_WRITE)
    again = Folder(source="/host/code", target="/opt/again", access=FolderAccess.COPY_ON_WRITE)
    seen = mounts(words_of(COPIED, other, more=[again]))
    assert [seen[place][1] for place in ("/workspace", "/opt/other", "/opt/again")] == [
        "/box/merged0",
        "/box/merged1",
        "/box/merged0",
    ]


def test_a_workspace_of_the_request_takes_the_place_of_the_empty_one() -> None:
    assert "/box/empty" not in words_of(COPIED)
    assert "/box/empty" not in words_of(more=[COPIED])
    assert mounts(words_of())["/workspace"] == ("--bind", "/box/empty")


def test_nested_folders_are_mounted_after_what_they_lie_in() -> None:
    inner = [Folder(source=f"/host{target}", target=target) for target in ("/workspace/a", "/workspace/a/b", "/tmp/x")]  # noqa: S108 -- inside
    places = list(mounts(words_of(*inner, more=[COPIED])))
    order = [places.index(place) for place in ("/workspace", "/workspace/a", "/workspace/a/b")]
    assert order == sorted(order)
    assert places.index("/tmp") < places.index("/tmp/x")  # noqa: S108 -- inside
    words = words_of(*inner)
    assert words.index("--remount-ro") > max(words.index(folder.target) for folder in inner)


def test_the_images_variables_win_over_the_standard_ones() -> None:
    assert base_variables({"LANG": "C", "X": "1"}) == base_variables({}) | {"LANG": "C", "X": "1"}


def test_the_agent_is_the_first_process_and_none_of_the_driver_s_variables_is_told() -> None:
    words = words_of()
    assert words[-4:] == ("--as-pid-1", "--", "/.envfarm/agent", "--stdio")
    assert mounts(words)["/.envfarm/agent"] == ("--ro-bind", "/host/agent")
    assert "--setenv" not in words
