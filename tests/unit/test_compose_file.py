"""A group as the file that is run, and as what it adds to its box: tables."""

from dataclasses import replace
from typing import Any

import pytest

from envfarm.records.image import Image
from envfarm.sandbox.contract import LeaseRequest, Limits, Privileges
from envfarm.sandbox.docker.compose_file import (
    GroupPlace,
    compose_document,
    files_of,
    further_networks,
    joined_body,
    late_services,
)
from envfarm.sandbox.docker.container import DriverFacts, complete_body, plan_container
from envfarm.sandbox.services import (
    Readiness,
    ReadOnlyFiles,
    Service,
    ServiceBounds,
    ServiceCheck,
    ServiceGroup,
    VolumeMount,
)

LIMITS = Limits(memory_bytes=99 << 20, process_count=50, cpu_cores=1.5)
PLACE = GroupPlace(
    project="p", folder="/f", is_closed=True, has_ipv6=True, limits=LIMITS, labels={"envfarm.owner": "me", "g": "p"}
)
FACTS = DriverFacts(uid=0, agent_program="/agent", hosts_file="/hosts", can_bound_layers=False)
MAIN = Service(name="main", networks={"default": ("front",)})


def group_of(*others: Service, main: Service = MAIN) -> ServiceGroup:
    return ServiceGroup(main=main, others=others, networks={"default": False}, volumes=("data",))


def service_of(service: Service, place: GroupPlace = PLACE) -> dict[str, Any]:
    found: dict[str, Any] = compose_document(group_of(service), place)["services"][service.name]
    return found


def test_every_service_is_labelled_bounded_and_walled() -> None:
    table = service_of(Service(name="db", image="db:1", networks={"default": ()}))
    assert table["labels"] == {"envfarm.owner": "me", "g": "p", "envfarm.service": "db"}
    assert (table["mem_limit"], table["memswap_limit"], table["pids_limit"]) == (99 << 20, 99 << 20, 50)
    assert table["cpus"] == 1.5
    assert table["cap_drop"] == ["MKNOD", "NET_RAW"]
    assert table["security_opt"] == ["no-new-privileges:true"]
    assert table["restart"] == "no"
    assert table["logging"]["options"] == {"max-size": "1m", "max-file": "1"}
    assert table["dns"] == ["127.0.0.1"]
    assert table["sysctls"] == {"net.ipv6.conf.all.disable_ipv6": "1"}
    forbidden = {"privileged", "devices", "cap_add", "network_mode", "pid", "ports", "build", "command"}
    assert not forbidden & table.keys()


def test_an_open_group_has_the_engines_resolver() -> None:
    table = service_of(Service(name="db", image="db:1"), replace(PLACE, is_closed=False))
    assert not {"dns", "sysctls"} & table.keys()


def test_a_service_keeps_what_it_says() -> None:
    service = Service(
        name="db",
        image="db:1",
        command=("sh", "-c", "echo $HOME"),
        entrypoint=(),
        env={"A": "$5"},
        networks={"default": ("data",)},
        waits_for={"main": Readiness.STARTED, "cache": Readiness.HEALTHY},
        check=ServiceCheck(test=("CMD", "a"), interval_seconds=0.5, retries=3),
        volumes=(VolumeMount(volume="data", target="/d"), VolumeMount(volume="", target="/own", is_read_only=True)),
        files=(ReadOnlyFiles(target="/x", content={"": b"x"}),),
        bounds=ServiceBounds(memory_bytes=7, cpu_cores=0.5, process_count=9, ulimits={"nofile": (1, 2)}),
        dropped_capabilities=("ALL",),
        retries_failures=True,
        hosts={"a": "10.0.0.1"},
    )
    table = service_of(service)
    assert (table["command"], table["entrypoint"]) == (["sh", "-c", "echo $$HOME"], [])
    assert table["environment"] == {"A": "$$5"}
    assert table["networks"] == {"default": {"aliases": ["data"]}}
    assert table["depends_on"] == {"cache": {"condition": "service_healthy"}}
    assert table["healthcheck"] == {"test": ["CMD", "a"], "interval": "500ms", "retries": 3}
    assert table["volumes"] == [
        {"type": "volume", "source": "data", "target": "/d", "read_only": False},
        {"type": "volume", "target": "/own", "read_only": True},
        {"type": "bind", "source": "/f/db-0", "target": "/x", "read_only": True},
    ]
    assert (table["mem_limit"], table["cpus"], table["pids_limit"]) == (7, 0.5, 9)
    assert table["ulimits"] == {"nofile": {"soft": 1, "hard": 2}}
    assert table["cap_drop"] == ["ALL", "MKNOD", "NET_RAW"]
    assert table["restart"] == "on-failure:5"
    assert table["extra_hosts"] == ["a:10.0.0.1"]
    assert files_of(group_of(service), PLACE) == {"/f/db-0": service.files[0]}


def test_networks_and_volumes_are_those_that_were_made() -> None:
    document = compose_document(group_of(Service(name="db", image="x")), PLACE)
    assert document["networks"] == {"default": {"name": "p_default", "external": True}}
    assert document["volumes"] == {"data": {"name": "p_data", "external": True}}


@pytest.mark.parametrize(
    ("waits", "late"),
    [
        ({}, set()),
        ({"a": "main"}, {"a"}),
        ({"a": "main", "b": "a", "c": "b"}, {"a", "b", "c"}),
        ({"a": "b", "b": "c"}, set()),
    ],
)
def test_services_that_wait_for_main_start_behind_it(waits: dict[str, str], late: set[str]) -> None:
    others = [Service(name=name, waits_for={waits[name]: Readiness.STARTED} if name in waits else {}) for name in "abc"]
    assert late_services(group_of(*others)) == late


def body_of(group: ServiceGroup, place: GroupPlace = PLACE, **request: Any) -> dict[str, Any]:
    lease = LeaseRequest(
        image=Image(image_id="x", reference="i"), privileges=Privileges.ROOT, services=group, **request
    )
    plan = plan_container(lease, FACTS, image="i")
    body = complete_body(plan, socket_folder="/s", labels={}, owner="me", provider="p")
    return joined_body(body, group, place)


def test_a_group_tells_every_name_of_its_services() -> None:
    db = Service(name="db", networks={"default": ("data", "db"), "back": ("inner",)})
    assert group_of(db, Service(name="web")).names == ("db", "data", "inner", "web")


def test_main_is_in_the_groups_network_under_its_names_and_can_send_no_raw_packets() -> None:
    main = replace(
        MAIN,
        networks={"front": ("web",), "back": ()},
        volumes=(VolumeMount(volume="data", target="/d"),),
        files=(ReadOnlyFiles(target="/x", content={"": b"x"}),),
        tmpfs=("/run", "/t:size=1m"),
        check=ServiceCheck(test=("CMD", "a"), interval_seconds=0.5, retries=3),
        hosts={"a": "10.0.0.1"},
    )
    group = group_of(main=main)
    body, host = body_of(group), body_of(group)["HostConfig"]
    assert host["NetworkMode"] == "p_back"
    assert body["NetworkingConfig"]["EndpointsConfig"] == {"p_back": {"Aliases": ["main"]}}
    assert further_networks(group, PLACE) == {"p_front": ("main", "web")}
    assert {"Type": "volume", "Source": "p_data", "Target": "/d", "ReadOnly": False} in host["Mounts"]
    assert {"Type": "bind", "Source": "/f/main-0", "Target": "/x", "ReadOnly": True} in host["Mounts"]
    assert {"/run": "", "/t": "size=1m"}.items() <= host["Tmpfs"].items()
    assert (host["CapDrop"], host["Dns"]) == (["MKNOD", "NET_RAW"], ["127.0.0.1"])
    assert body["Healthcheck"] == {"Test": ["CMD", "a"], "Interval": 500_000_000, "Retries": 3}
    assert body["Labels"]["envfarm.service"] == "main"
    assert host["ExtraHosts"] == ["a:10.0.0.1"]
    assert body["Entrypoint"] == ["/.envfarm/agent"]
    public = body_of(group, replace(PLACE, is_closed=False))["HostConfig"]
    assert (public["CapDrop"], "Dns" in public) == ([], False)
