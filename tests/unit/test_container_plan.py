"""A lease as the body of a container: tables."""

from dataclasses import replace
from typing import Any

import pytest

from envfarm.errors import SettingsError
from envfarm.records.image import Folder, FolderAccess, Image
from envfarm.sandbox.client.box_users import resolve_user
from envfarm.sandbox.contract import LeaseRequest, Limits, Network, Privileges
from envfarm.sandbox.docker.container import ContainerPlan, DriverFacts, complete_body, plan_container
from envfarm.sandbox.docker.engine_errors import split_reference
from envfarm.sandbox.docker.options import read_options

COPIED = Folder(source="/host/code", target="/workspace", access=FolderAccess.COPY_ON_WRITE)
READ = Folder(source="/host/tools", target="/opt/tools")
WRITTEN = Folder(source="/host/out", target="/opt/out", access=FolderAccess.READ_WRITE)
REQUEST = LeaseRequest(image=Image(image_id="x", folders=(COPIED, READ)))
FOREIGN = replace(REQUEST, image=Image(image_id="x", reference="theirs:1"))
USERS = "root:x:0:0:root:/root:/bin/sh\nann:x:1000:100:Ann:/home/ann:/bin/sh\nbroken\n"
USERS += f"odd:x:abc:1::/:\nhuge:x:{9**20}:1::/:\nbelow:x:-1:-1::/:\n"
GROUPS = "root:x:0:\nusers:x:100:\nwheel:x:10:ann,bob\nodd:x:none:ann\nhuge:x:99999999999:ann\n"


def plan(request: LeaseRequest = REQUEST, *, driver: int = 1234, bounds: bool = False) -> ContainerPlan:
    facts = DriverFacts(uid=driver, agent_program="/host/agent", hosts_file="/host/hosts", can_bound_layers=bounds)
    return plan_container(request, facts, image="base:1")


def host(request: LeaseRequest = REQUEST, *, driver: int = 1234, bounds: bool = False) -> dict[str, Any]:
    found: dict[str, Any] = plan(request, driver=driver, bounds=bounds).body["HostConfig"]
    return found


def test_an_ordinary_box_has_no_rights_and_no_network() -> None:
    walls = host()
    assert walls["CapDrop"] == ["ALL"]
    assert walls["SecurityOpt"] == ["no-new-privileges:true"]
    assert walls["ReadonlyRootfs"]
    assert walls["NetworkMode"] == "none"
    assert walls["IpcMode"] == "private"
    assert walls["AutoRemove"]
    assert not {"Privileged", "CapAdd", "PidMode"} & set(walls)


@pytest.mark.parametrize("network", [Network.NONE, Network.ALLOWLIST, Network.PUBLIC])
def test_only_the_public_network_is_a_network(network: Network) -> None:
    is_public = network is Network.PUBLIC
    made = plan(replace(REQUEST, network=network)).body
    assert made["HostConfig"]["NetworkMode"] == ("bridge" if is_public else "none")
    assert made["NetworkDisabled"] is not is_public
    names = [mount["Source"] for mount in made["HostConfig"]["Mounts"] if mount["Target"] == "/etc/hosts"]
    assert names == ([] if is_public else ["/host/hosts"])


def test_a_foreign_box_with_its_root_has_the_engine_s_own_loopback_and_names() -> None:
    made = plan(replace(FOREIGN, privileges=Privileges.ROOT)).body
    assert not made["NetworkDisabled"]
    assert not [mount for mount in made["HostConfig"]["Mounts"] if mount["Target"] == "/etc/hosts"]


@pytest.mark.parametrize(
    ("request_", "driver", "user"),
    [
        (REQUEST, 1234, 1234),
        (REQUEST, 0, 1000),
        (replace(REQUEST, folders=(WRITTEN,)), 0, 0),
        (replace(REQUEST, folders=(WRITTEN,)), 1234, 1234),
        (replace(FOREIGN, privileges=Privileges.ROOT), 1234, 0),
        (FOREIGN, 0, 1000),
    ],
)
def test_who_runs_inside(request_: LeaseRequest, driver: int, user: int) -> None:
    made = plan(request_, driver=driver)
    assert made.user == user
    assert made.body["User"] == f"{user}:{user}"


def test_folders_are_bound_as_their_access_says_and_copies_are_made_inside() -> None:
    made = plan(replace(REQUEST, folders=(WRITTEN,)))
    binds = {mount["Target"]: (mount["Source"], mount["ReadOnly"]) for mount in made.body["HostConfig"]["Mounts"]}
    ((place, target),) = made.copies
    assert target == "/workspace"
    assert binds[place] == ("/host/code", True)
    assert binds["/opt/tools"] == ("/host/tools", True)
    assert binds["/opt/out"] == ("/host/out", False)
    assert binds["/.envfarm/agent"] == ("/host/agent", True)
    assert made.is_shared
    assert not plan().is_shared


def test_every_place_that_can_be_written_is_bounded() -> None:
    limits = Limits(disk_bytes=10_000_000, memory_bytes=99_000_000, process_count=50, cpu_cores=1.5)
    bounded = host(replace(REQUEST, limits=limits))
    assert set(bounded["Tmpfs"]) == {"/tmp", "/workspace", "/home/user"}  # noqa: S108 -- inside
    assert all("size=10000000" in options and "nr_inodes=10000" in options for options in bounded["Tmpfs"].values())
    assert bounded["ShmSize"] == 10_000_000
    assert (bounded["Memory"], bounded["MemorySwap"]) == (99_000_000, 99_000_000)
    assert 50 <= bounded["PidsLimit"] <= 70
    assert bounded["NanoCpus"] == 1_500_000_000
    assert "NanoCpus" not in host()


def test_an_image_with_a_workspace_of_its_own_keeps_it_and_is_bounded_where_the_engine_can() -> None:
    assert "/workspace" not in host(FOREIGN)["Tmpfs"]
    assert not host(FOREIGN)["ReadonlyRootfs"]
    assert host(FOREIGN)["CapDrop"] == ["ALL"]
    assert "StorageOpt" not in host(FOREIGN)
    assert host(FOREIGN, bounds=True)["StorageOpt"] == {"size": str(Limits().disk_bytes)}
    assert "StorageOpt" not in host(bounds=True)


def test_root_of_a_foreign_image_has_the_engine_s_usual_rights() -> None:
    walls = host(replace(FOREIGN, privileges=Privileges.ROOT))
    assert not {"CapDrop", "SecurityOpt", "Privileged", "CapAdd"} & set(walls)
    assert walls["Tmpfs"] == {}


def test_interpreters_below_the_home_of_root_can_be_reached() -> None:
    below = Folder(source="/root/x/python", target="/root/x/python")
    assert "mode=755" in host(replace(REQUEST, folders=(below,)))["Tmpfs"]["/root"]


def test_boxes_of_equal_requests_serve_each_other_and_no_others() -> None:
    keys = {
        plan(request).key
        for request in (
            REQUEST,
            replace(REQUEST, limits=Limits(process_count=7)),
            replace(REQUEST, limits=Limits(cpu_seconds=7)),
            replace(REQUEST, folders=(READ,)),
            replace(REQUEST, network=Network.PUBLIC),
            replace(REQUEST, keeps_background=True),
            replace(REQUEST, image=Image(image_id="x", folders=(COPIED, READ), environment_variables={"A": "1"})),
        )
    }
    assert len(keys) == 7
    assert plan(replace(REQUEST, labels={"task": "a"})).key == plan(REQUEST).key


def test_labels_say_whose_a_container_is() -> None:
    body = complete_body(plan(), socket_folder="/run/7", labels={"task": "a"}, owner="boot-9-", provider="p")
    assert body["Labels"] == {"envfarm.owner": "boot-9-", "envfarm.provider": "p", "envfarm.lease.task": "a"}
    assert {"Type": "bind", "Source": "/run/7", "Target": "/.envfarm/run", "ReadOnly": False} in body["HostConfig"][
        "Mounts"
    ]
    assert len(plan().body["HostConfig"]["Mounts"]) == len(body["HostConfig"]["Mounts"]) - 1


def test_volumes_of_an_image_are_places_of_the_box_where_its_layer_cannot_be_written() -> None:
    def places(request: LeaseRequest) -> set[str]:
        facts = DriverFacts(uid=0, agent_program="/agent", hosts_file="/hosts", can_bound_layers=False)
        made = plan_container(request, facts, image="i", volumes=("/data/", "/tmp", "/shown"))  # noqa: S108 -- inside
        return set(made.body["HostConfig"]["Tmpfs"])

    shown = Folder(source="/s", target="/shown")
    assert places(LeaseRequest(image=Image(image_id="x", folders=(shown,)))) == {
        "/data",
        "/home/user",
        "/tmp",  # noqa: S108 -- inside
        "/workspace",
    }
    assert "/data" not in places(replace(REQUEST, privileges=Privileges.ROOT))


@pytest.mark.parametrize(
    ("reference", "split"),
    [
        ("a", ("a", "latest")),
        ("a:1", ("a", "1")),
        ("host:5000/a", ("host:5000/a", "latest")),
        ("host:5000/a/b:1.2", ("host:5000/a/b", "1.2")),
        ("a@sha256:00", ("a", "sha256:00")),
        ("host:5000/a:1@sha256:00", ("host:5000/a:1", "sha256:00")),
    ],
)
def test_references_are_read(reference: str, split: tuple[str, str]) -> None:
    assert split_reference(reference) == split


@pytest.mark.parametrize(
    ("user", "ids", "groups", "home"),
    [
        ("ann", (1000, 100), (10,), "/home/ann"),
        ("1000", (1000, 100), (10,), "/home/ann"),
        ("ann:wheel", (1000, 10), (10,), "/home/ann"),
        ("ann:5", (1000, 5), (10,), "/home/ann"),
        ("77", (77, 77), (), "/"),
        ("77:users", (77, 100), (), "/"),
        ("root", (0, 0), (), "/root"),
    ],
)
def test_users_are_found_by_name_or_number(user: str, ids: tuple[int, int], groups: tuple[int, ...], home: str) -> None:
    found = resolve_user(user, USERS, GROUPS)
    assert (found.identity.uid, found.identity.gid) == ids
    assert (found.identity.groups, found.home) == (groups, home)


@pytest.mark.parametrize(
    "user",
    ["bob", "ann:nobody", "", "-1", "odd", "huge", "below", "ann:odd", "4294967295", "ann:4294967295", "9" * 5000],
)
def test_users_that_there_are_not_are_told(user: str) -> None:
    with pytest.raises(LookupError):
        resolve_user(user, USERS, GROUPS)


@pytest.mark.parametrize("options", [{"warm": 1}, {"base": 3}, {"base": ""}, {"warm_boxes": -1}, {"pins": {"a": 1}}])
def test_options_that_are_wrong_are_told(options: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match="docker sandbox"):
        read_options(options)
