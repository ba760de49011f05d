"""What a jail is made from, and what it is shown later: tables."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from envfarm.records.image import Folder, FolderAccess, Image
from envfarm.sandbox.box_variables import PROXY_FOLDER, base_variables
from envfarm.sandbox.contract import LeaseRequest, Limits, Network
from envfarm.sandbox.local.box_plan import BaseWish, BoxPlan, plan_box
from envfarm.sandbox.local.host_facts import HostFacts
from envfarm.sandbox.local.jail_command import jail_arguments

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


OLD = replace(FACTS, shows_later=False)


def plan_of(
    *folders: Folder,
    more: Sequence[Folder] = (),
    network: Network = Network.NONE,
    facts: HostFacts = FACTS,
    proxy: str | None = None,
) -> BoxPlan:
    image = Image(image_id="table", folders=folders, environment_variables={"PATH": "/opt/x", "LANG": "C"})
    request = LeaseRequest(
        image=image, folders=tuple(more), network=network, limits=Limits(process_count=7, disk_bytes=1 << 30)
    )
    return plan_box(request, facts, "/box", proxy)


def words_of(wish: BaseWish, facts: HostFacts = FACTS) -> tuple[str, ...]:
    return jail_arguments(facts, wish, "/box")


def mounts(words: Sequence[str]) -> dict[str, tuple[str, str]]:
    """How and from where each place is mounted, in the order of the command line."""
    places = [number for number, word in enumerate(words) if word in {"--bind", "--ro-bind"}]
    return {words[number + 2]: (words[number], words[number + 1]) for number in places}


def shown(plan: BoxPlan) -> dict[str, tuple[str, str]]:
    return {item.target: (str(item.access), item.source) for item in plan.shown}


@pytest.mark.parametrize(
    ("network", "shared", "etc"),
    [(Network.NONE, False, "/host/etc"), (Network.PUBLIC, True, "/host/etc-with-network")],
)
def test_files_of_the_network_are_seen_only_where_it_was_asked_for(network: Network, etc: str, *, shared: bool) -> None:
    words = words_of(plan_of(network=network).base)
    assert mounts(words)["/etc"] == ("--ro-bind", etc)
    assert ("/etc/resolv.conf" in mounts(words)) == shared


def test_every_jail_has_its_walls() -> None:
    for words in (words_of(BaseWish()), words_of(plan_of(COPIED, network=Network.PUBLIC).base)):
        assert words[0] == "/host/bwrap"
        walls = {"--unshare-pid", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session"}
        assert walls | {"--clearenv"} <= set(words)
        told = " ".join(words)
        assert "--cap-drop ALL" in told
        assert "--uid 1000 --gid 1000" in told
        assert words.index("--remount-ro") > max(words.index(target) for target in mounts(words) if target != "/")


@pytest.mark.parametrize(
    ("access", "mounted"),
    [
        (FolderAccess.READ_ONLY, ("--ro-bind", "/host/x")),
        (FolderAccess.READ_WRITE, ("--bind", "/host/x")),
        (FolderAccess.COPY_ON_WRITE, ("--bind", "/box/merged0")),
    ],
)
def test_a_folder_is_mounted_as_its_access_says(access: FolderAccess, mounted: tuple[str, str]) -> None:
    folder = Folder(source="/host/x", target="/opt/x", access=access)
    for plan in (plan_of(folder), plan_of(more=[folder])):
        assert shown(plan)["/opt/x"] == (str(access), "/host/x")
        assert plan.base == BaseWish()
    for plan in (plan_of(folder, facts=OLD), plan_of(more=[folder], facts=OLD)):
        assert mounts(words_of(plan.base))["/opt/x"] == mounted
        assert "/opt/x" not in shown(plan)
        assert plan.base.disk_bytes == (1 << 30 if access is FolderAccess.COPY_ON_WRITE else 0)


@pytest.mark.parametrize(
    "target",
    ["/usr/share/x", "/usr", "/bin/x", "/etc/hosts", "/tmp/x", "/dev/shm/x", "/home/user/x"],  # noqa: S108 -- inside
)
def test_what_lies_under_a_place_of_the_jail_is_there_from_its_beginning(target: str) -> None:
    plan = plan_of(Folder(source="/host/x", target=target), COPIED)
    assert mounts(words_of(plan.base))[target] == ("--ro-bind", "/host/x")
    assert list(shown(plan)) == ["/workspace"]
    assert not plan.base.may_stand_ready


def test_most_leases_begin_with_the_same_jail() -> None:
    near = Folder(source="/host/x", target="/usrlocal")  # not inside /usr
    plans = [plan_of(), plan_of(COPIED), plan_of(near), plan_of(COPIED, network=Network.ALLOWLIST, proxy="/host/p")]
    assert {plan.base for plan in plans} == {BaseWish()}
    assert BaseWish().may_stand_ready
    assert shown(plans[3])[PROXY_FOLDER] == ("read_only", "/host/p")
    assert not plan_of(network=Network.PUBLIC).base.may_stand_ready


def test_only_what_a_lease_writes_can_be_written() -> None:
    own = {"/": "root", "/tmp": "tmp", "/dev/shm": "shm", "/home/user": "home"}  # noqa: S108 -- inside
    for plan, facts in ((plan_of(), FACTS), (plan_of(facts=OLD), OLD)):
        writable = {
            target: source for target, (how, source) in mounts(words_of(plan.base, facts)).items() if how == "--bind"
        }
        late = {} if facts.shows_later else {"/workspace": "empty"}
        assert writable == {target: f"/box/{name}" for target, name in {**own, **late}.items()}


def test_each_copied_folder_has_one_copy_however_often_it_is_shown() -> None:
    other = Folder(source="/host/other", target="/opt/other", access=FolderAccess.COPY_ON_WRITE)
    again = Folder(source="/host/code", target="/opt/again", access=FolderAccess.COPY_ON_WRITE)
    seen = mounts(words_of(plan_of(COPIED, other, more=[again], facts=OLD).base))
    assert [seen[place][1] for place in ("/workspace", "/opt/other", "/opt/again")] == [
        "/box/merged0",
        "/box/merged1",
        "/box/merged0",
    ]


def test_a_workspace_of_the_request_takes_the_place_of_the_empty_one() -> None:
    assert shown(plan_of()) == {"/workspace": ("read_write", "/box/empty")}
    for plan in (plan_of(COPIED), plan_of(more=[COPIED])):
        assert shown(plan) == {"/workspace": ("copy_on_write", "/host/code")}
    assert "/box/empty" not in words_of(plan_of(COPIED, facts=OLD).base, OLD)


def test_nested_folders_are_mounted_after_what_they_lie_in() -> None:
    inner = [Folder(source=f"/host{target}", target=target) for target in ("/workspace/a", "/workspace/a/b")]
    for order in (
        list(shown(plan_of(*inner, more=[COPIED]))),
        list(mounts(words_of(plan_of(*inner, more=[COPIED], facts=OLD).base))),
    ):
        places = [order.index(place) for place in ("/workspace", "/workspace/a", "/workspace/a/b")]
        assert places == sorted(places)
    assert next(iter(shown(plan_of(*inner)))) == "/workspace"


def test_the_images_variables_win_over_the_standard_ones() -> None:
    assert base_variables({"LANG": "C", "X": "1"}) == base_variables({}) | {"LANG": "C", "X": "1"}


def test_the_agent_is_the_first_process_and_none_of_the_driver_s_variables_is_told() -> None:
    words = words_of(BaseWish())
    assert words[-4:] == ("--as-pid-1", "--", "/.envfarm/agent", "--stdio")
    assert mounts(words)["/.envfarm/agent"] == ("--ro-bind", "/host/agent")
    assert "--setenv" not in words
