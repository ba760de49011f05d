"""What a resolved docker-compose file may ask for: tables of what is given and what is refused."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envfarm.errors import TaskError
from envfarm.foreign.compose_judge import ImageOrder, JudgedCompose, judge_compose
from envfarm.foreign.compose_mounts import LOG_FOLDERS, TaskFiles
from envfarm.foreign.compose_values import bytes_of, plain, seconds_of, variables_of_file
from envfarm.sandbox.services import Readiness, ReadOnlyFiles, Service, ServiceCheck, VolumeMount

ROOT = "/private/environment"
FILES = TaskFiles(
    told_as="environment/docker-compose.yaml",
    name="environment",
    root=ROOT,
    content={
        "Dockerfile": b"FROM x",
        "db/Dockerfile": b"FROM x",
        "db/more/own.Dockerfile": b"FROM x",
        "db/data.sql": b"data",
        "db/run.sh": b"run",
        "x.env": b"# said\nA=1\nexport B='two words'\nC=3 # why\n",
    },
    programs=frozenset({"db/run.sh"}),
)


def judged(service: dict[str, Any] | None = None, **top: Any) -> JudgedCompose:
    services = {"main": {"build": {"context": ROOT}}, "db": {"image": "db:1", **(service or {})}}
    return judge_compose({"services": services, **top}, FILES)


def db(service: dict[str, Any], **top: Any) -> Service:
    return judged(service, **top).services["db"]


@pytest.mark.parametrize(
    ("service", "field", "expected"),
    [
        ({"command": "python3 -c 'a b'"}, "command", ("python3", "-c", "a b")),
        ({"command": ["a b"]}, "command", ("a b",)),
        ({"command": []}, "command", ()),
        ({"entrypoint": None}, "entrypoint", None),
        ({"environment": {"A": 1, "B": None, "C": True}}, "env", {"A": "1", "C": "true"}),
        ({"environment": ["A=1=2", "B"]}, "env", {"A": "1=2"}),
        ({"env_file": ["x.env"], "environment": {"A": "2"}}, "env", {"A": "2", "B": "two words", "C": "3"}),
        ({"env_file": [{"path": f"{ROOT}/no", "required": False}]}, "env", {}),
        ({"user": 1000}, "user", "1000"),
        ({"restart": "always"}, "retries_failures", True),
        ({"restart": "no"}, "retries_failures", False),
        ({"tmpfs": "/run:size=1m"}, "tmpfs", ("/run:size=1m",)),
        (
            {"tmpfs": ["/a:rw,noexec,nosuid,nodev,size=65536k,mode=1777", "/b:exec,dev,uid=1,gid=2,nr_inodes=9"]},
            "tmpfs",
            ("/a:rw,noexec,nosuid,nodev,size=65536k,mode=1777", "/b:exec,dev,uid=1,gid=2,nr_inodes=9"),
        ),
        ({"cap_drop": ["ALL"]}, "dropped_capabilities", ("ALL",)),
        ({"depends_on": ["main"]}, "waits_for", {"main": Readiness.STARTED}),
        ({"links": ["main"]}, "waits_for", {"main": Readiness.STARTED}),
        ({"networks": {"back": {"aliases": ["data"]}}}, "networks", {"back": ("data",)}),
        ({"networks": ["back"]}, "networks", {"back": ()}),
        ({"container_name": "known"}, "networks", {"default": ("known",)}),
        ({"extra_hosts": ["a:10.0.0.1", "b=::1"]}, "hosts", {"a": "10.0.0.1", "b": "::1"}),
        ({"extra_hosts": {"a": "10.0.0.1"}}, "hosts", {"a": "10.0.0.1"}),
        ({"privileged": False, "devices": [], "cap_add": None}, "hosts", {}),
        ({"healthcheck": {"test": "true"}}, "check", ServiceCheck(test=("CMD-SHELL", "true"))),
        (
            {"healthcheck": {"test": ["CMD", "a"], "interval": "1m30s", "timeout": "500ms", "retries": 3}},
            "check",
            ServiceCheck(test=("CMD", "a"), interval_seconds=90.0, timeout_seconds=0.5, retries=3),
        ),
        ({"healthcheck": {"disable": True}}, "check", ServiceCheck(test=("NONE",))),
        (
            {"volumes": ["data:/data:rw", "data:/more:ro", "/own", {"type": "volume", "source": "d", "target": "/d"}]},
            "volumes",
            (
                VolumeMount(volume="data", target="/data"),
                VolumeMount(volume="data", target="/more", is_read_only=True),
                VolumeMount(volume="", target="/own"),
                VolumeMount(volume="d", target="/d"),
            ),
        ),
        (
            {"volumes": [{"type": "tmpfs", "target": "/t", "tmpfs": {"size": 9, "mode": 448}}]},
            "tmpfs",
            ("/t:size=9,mode=700",),
        ),
        (
            {"volumes": [f"{ROOT}/db/run.sh:/run.sh:ro"]},
            "files",
            (ReadOnlyFiles(target="/run.sh", content={"": b"run"}, programs=frozenset({""})),),
        ),
    ],
)
def test_what_a_service_says_is_read_in_whichever_form(service: dict[str, Any], field: str, expected: object) -> None:
    assert getattr(db(service), field) == expected


def test_a_folder_of_the_task_is_shown_as_it_was_read() -> None:
    mount = {
        "type": "bind",
        "source": f"{ROOT}/db",
        "target": "/db",
        "read_only": True,
        "bind": {"create_host_path": True},
    }
    (files,) = db({"volumes": [mount]}).files
    assert files.content == {
        "Dockerfile": b"FROM x",
        "more/own.Dockerfile": b"FROM x",
        "data.sql": b"data",
        "run.sh": b"run",
    }
    assert files.programs == {"run.sh"}


def test_bounds_are_read_outside_of_a_deployment_and_in_it() -> None:
    limits = {"cpus": "0.5", "memory": "256M", "pids": 7}
    deploy = {"resources": {"limits": limits, "reservations": {"memory": "1M"}}, "replicas": 1}
    bounds = db({"mem_limit": "512m", "shm_size": "1g", "ulimits": {"nofile": 5}, "deploy": deploy}).bounds
    assert (bounds.memory_bytes, bounds.cpu_cores, bounds.process_count) == (512 << 20, 0.5, 7)
    assert (bounds.shared_memory_bytes, bounds.ulimits) == (1 << 30, {"nofile": (5, 5)})


@pytest.mark.parametrize(
    ("service", "expected"),
    [
        ({}, ImageOrder(name="db:1")),
        ({"build": f"{ROOT}/db"}, ImageOrder(folder="db")),
        (
            {"build": {"context": "db", "dockerfile": "more/own.Dockerfile", "args": ["A=1"], "target": "last"}},
            ImageOrder(folder="db", dockerfile="more/own.Dockerfile", arguments={"A": "1"}, target="last"),
        ),
    ],
)
def test_images_are_named_or_built_of_the_tasks_own_folders(service: dict[str, Any], expected: ImageOrder) -> None:
    made = judged(service)
    assert (made.images["db"], made.images["main"]) == (expected, ImageOrder())


def test_a_group_has_the_networks_and_volumes_that_are_used() -> None:
    made = judged(
        {"networks": ["back"], "volumes": ["seen:/seen"]},
        networks={"back": {"internal": True, "name": "x"}},
        volumes={"told": {"name": "y"}},
    )
    assert (made.networks, made.volumes) == ({"back": True, "default": False}, ("seen", "told"))


HOST = "/etc"
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"privileged": True}, "privileged"),
    ({"cap_add": ["NET_ADMIN"]}, "cap_add"),
    ({"devices": ["/dev/kvm"]}, "devices"),
    ({"device_cgroup_rules": ["a *:* rwm"]}, "device_cgroup_rules"),
    ({"gpus": "all"}, "gpus"),
    ({"runtime": "other"}, "runtime"),
    ({"isolation": "x"}, "isolation"),
    ({"cgroup": "host"}, "cgroup"),
    ({"cgroup_parent": "/x"}, "cgroup_parent"),
    ({"pid": "host"}, "pid"),
    ({"ipc": "host"}, "ipc"),
    ({"uts": "host"}, "uts"),
    ({"userns_mode": "host"}, "userns_mode"),
    ({"network_mode": "host"}, "network_mode"),
    ({"network_mode": "container:other"}, "network_mode"),
    ({"network_mode": "service:main"}, "network_mode"),
    ({"external_links": ["other"]}, "external_links"),
    ({"volumes_from": ["container:other"]}, "volumes_from"),
    ({"group_add": [0]}, "group_add"),
    ({"sysctls": {"net.x": 1}}, "sysctls"),
    ({"oom_kill_disable": True}, "oom_kill_disable"),
    ({"oom_score_adj": -1000}, "oom_score_adj"),
    ({"storage_opt": {"size": "1t"}}, "storage_opt"),
    ({"use_api_socket": True}, "use_api_socket"),
    ({"provider": {"type": "x"}}, "provider"),
    ({"post_start": [{"command": "x", "privileged": True}]}, "post_start"),
    ({"credential_spec": {"file": "x"}}, "credential_spec"),
    ({"secrets": ["s"]}, "secrets"),
    ({"configs": ["c"]}, "configs"),
    ({"dns": ["1.1.1.1"]}, "dns"),
    ({"mac_address": "00:00:00:00:00:01"}, "mac_address"),
    ({"unheard_of": 1}, "unheard_of"),
    ({"unheard\nof": 1}, "unheard of"),
    ({"security_opt": ["seccomp:unconfined"]}, "security_opt"),
    ({"security_opt": ["apparmor=unconfined"]}, "security_opt"),
    ({"logging": {"driver": "syslog", "options": {"syslog-address": "tcp://x"}}}, "logging"),
    ({"extra_hosts": ["host.docker.internal:host-gateway"]}, "extra_hosts"),
    ({"scale": 2}, "scale"),
    ({"platform": "linux/s390x"}, "platform"),
    ({"links": ["main:other"]}, "links"),
    ({"depends_on": ["nobody"]}, "depends_on"),
    ({"depends_on": {"main": {"condition": "service_healthy"}}}, "depends_on"),
    ({"depends_on": {"main": {"condition": "service_liked"}}}, "depends_on"),
    ({"deploy": {"replicas": 2}}, "deploy.replicas"),
    ({"deploy": {"placement": {"constraints": ["x"]}}}, "deploy.placement"),
    ({"deploy": {"resources": {"reservations": {"devices": [{"capabilities": ["gpu"]}]}}}}, "deploy.resources"),
    ({"deploy": {"resources": {"limits": {"devices": 1}}}}, "deploy.resources"),
    ({"networks": {"back": {"ipv4_address": "10.0.0.1"}}}, "networks.back.ipv4_address"),
    ({"networks": {"back": {"driver_opts": {"x": "y"}}}}, "networks.back.driver_opts"),
    ({"networks": {"back": {"aliases": ["a b"]}}}, "networks.back"),
    ({"image": "-v"}, "image"),
    ({"image": None}, "image"),
    ({"build": {"context": "https://example.org/x.git"}}, "build"),
    ({"build": {"context": "git@example.org:x"}}, "build"),
    ({"build": {"context": HOST}}, "build.context"),
    ({"build": {"context": "../tests"}}, "build.context"),
    ({"build": {"context": "db", "dockerfile": "../../x"}}, "build"),
    ({"build": {"context": "db", "dockerfile": "/etc/passwd"}}, "build"),
    ({"build": {"context": "db", "dockerfile": "../Dockerfile"}}, "build"),
    ({"build": {"context": "db", "dockerfile_inline": "FROM x"}}, "build.dockerfile_inline"),
    ({"build": {"context": "db", "network": "host"}}, "build.network"),
    ({"build": {"context": "db", "privileged": True}}, "build.privileged"),
    ({"build": {"context": "db", "ssh": ["default"]}}, "build.ssh"),
    ({"build": {"context": "db", "secrets": ["x"]}}, "build.secrets"),
    ({"build": {"context": "db", "additional_contexts": {"x": "/"}}}, "build.additional_contexts"),
    ({"build": {"context": "db", "entitlements": ["security.insecure"]}}, "build.entitlements"),
    ({"env_file": ["/etc/environment"]}, "env_file"),
    ({"env_file": ["db/no.env"]}, "env_file"),
    ({"environment": {"A=B": "x"}}, "environment"),
    ({"environment": {"A": ["x"]}}, "environment"),
    ({"mem_limit": "lots"}, "mem_limit"),
    ({"mem_limit": "-1"}, "mem_limit"),
    ({"cpus": "nan"}, "cpus"),
    ({"cpus": -1}, "cpus"),
    ({"pids_limit": -1}, "pids_limit"),
    ({"ulimits": {"nofile": "many"}}, "ulimits"),
    ({"ulimits": {"rtprio": 99}}, "ulimits"),
    ({"ulimits": {"rtprio": {"soft": 0, "hard": -1}}}, "ulimits"),
    ({"healthcheck": {"test": ["SHELL", "x"]}}, "healthcheck"),
    ({"healthcheck": {"test": "x", "interval": "soon"}}, "healthcheck"),
    ({"healthcheck": {"test": "x", "unheard": 1}}, "healthcheck"),
    ({"command": "'"}, "command"),
    ({"working_dir": "app"}, "working_dir"),
    ({"command": [{}]}, "command"),
    ({"command": ["\0"]}, "command"),
    ({"tmpfs": ["/x:remount,rw"]}, "tmpfs"),
    ({"tmpfs": ["/x:size=1m,rbind"]}, "tmpfs"),
    ({"tmpfs": ["/x:shared"]}, "tmpfs"),
    ({"tmpfs": ["x"]}, "tmpfs"),
    ({"volumes": [{"type": "tmpfs", "target": "/x", "tmpfs": {"size": "1,remount"}}]}, "volumes"),
    ({"volumes": ["/etc:/host"]}, "volumes"),
    ({"volumes": ["/etc:/host:ro"]}, "volumes"),
    ({"volumes": ["/var/run/docker.sock:/var/run/docker.sock:ro"]}, "volumes"),
    ({"volumes": [f"{ROOT}/db:/db"]}, "volumes"),
    ({"volumes": [f"{ROOT}/db:/db:rw"]}, "volumes"),
    ({"volumes": [f"{ROOT}/../tests:/t:ro"]}, "volumes"),
    ({"volumes": [f"{ROOT}x/db:/db:ro"]}, "volumes"),
    ({"volumes": [f"{ROOT}/db/none:/x:ro"]}, "volumes"),
    ({"volumes": [f"{LOG_FOLDERS}/verifier:/logs/verifier:rw"]}, "volumes"),
    ({"volumes": ["~/.ssh:/x:ro"]}, "volumes"),
    ({"volumes": ["data:/data:shared"]}, "volumes"),
    ({"volumes": ["data:relative"]}, "volumes"),
    ({"volumes": [{"type": "bind", "source": "/", "target": "/x", "read_only": True}]}, "volumes"),
    ({"volumes": [{"type": "bind", "source": f"{ROOT}/db", "target": "/x"}]}, "volumes"),
    ({"volumes": [{"type": "bind", "source": f"{ROOT}/db", "target": "/x", "bind": {"propagation": "x"}}]}, "volumes"),
    ({"volumes": [{"type": "npipe", "source": "x", "target": "/x"}]}, "volumes"),
    ({"volumes": [{"type": "cluster", "source": "x", "target": "/x"}]}, "volumes"),
    ({"volumes": [{"type": "image", "source": "x", "target": "/x"}]}, "volumes"),
    ({"volumes": [{"type": "volume", "source": "x", "target": "/x", "volume": {"subpath": "../.."}}]}, "volumes"),
]  # fmt: skip


@pytest.mark.parametrize(("service", "key"), REFUSED)
def test_what_is_not_given_is_refused_in_one_line_with_file_service_and_key(service: dict[str, Any], key: str) -> None:
    with pytest.raises(TaskError) as caught:
        judged(service)
    assert str(caught.value).startswith(f"environment/docker-compose.yaml: services.db.{key}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "service",
    [
        {"tmpfs": ["/.envfarm/run"]},
        {"volumes": ["d:/.envfarm"]},
        {"volumes": ["/x/../.envfarm/a"]},
        {"tmpfs": "/:size=1"},
    ],
)
def test_what_is_ours_in_a_box_is_not_mounted_over(service: dict[str, Any]) -> None:
    with pytest.raises(TaskError, match=r"services\.db"):
        judged(service)


@pytest.mark.parametrize(
    ("top", "place"),
    [
        ({"networks": {"default": {"external": True}}}, "networks.default.external"),
        ({"networks": {"default": {"driver": "host"}}}, "networks.default.driver"),
        ({"networks": {"default": {"driver_opts": {"com.docker.network.bridge.name": "x"}}}}, "networks.default"),
        ({"networks": {"default": {"ipam": {"config": [{"gateway": "10.0.0.1"}]}}}}, "networks.default.ipam"),
        ({"networks": {"a b": {}}}, "networks"),
        ({"volumes": {"v": {"external": True}}}, "volumes.v.external"),
        ({"volumes": {"v": {"driver": "nfs"}}}, "volumes.v.driver"),
        ({"volumes": {"v": {"driver_opts": {"type": "none", "o": "bind", "device": "/"}}}}, "volumes.v.driver_opts"),
        ({"secrets": {"s": {"file": "/etc/shadow"}}}, "secrets"),
        ({"configs": {"c": {"external": True}}}, "configs"),
        ({"unheard_of": 1}, "unheard_of"),
    ],
)
def test_networks_volumes_and_more_are_the_groups_own(top: dict[str, Any], place: str) -> None:
    with pytest.raises(TaskError, match=rf"^environment/docker-compose\.yaml: {place}"):
        judged(**top)


def test_too_many_services_are_refused() -> None:
    services = {f"s{number}": {"image": "x"} for number in range(33)}
    with pytest.raises(TaskError, match="services"):
        judge_compose({"services": {"main": {"image": "x"}, **services}}, FILES)


def test_services_of_a_profile_are_no_services() -> None:
    made = judged({"profiles": ["debug"], "privileged": True})
    assert set(made.services) == {"main"}
    services = {"main": {"image": "x", "depends_on": ["db"]}, "db": {"image": "x", "profiles": ["debug"]}}
    with pytest.raises(TaskError, match=r"services\.main\.depends_on"):
        judge_compose({"services": services}, FILES)


def test_old_mounts_of_logs_into_main_are_left_out() -> None:
    mount = f"{LOG_FOLDERS}/verifier:/logs/verifier:rw"
    made = judge_compose({"services": {"main": {"image": "x", "volumes": [mount]}}}, FILES)
    assert made.services["main"].files == ()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


KEYS = sorted(
    {key for service, _ in REFUSED for key in service} | {"tmpfs", "user", "init", "shm_size", "container_name"}
)


@given(st.sampled_from(KEYS), VALUES)
def test_whatever_a_key_holds_it_is_judged_or_refused(key: str, value: Any) -> None:
    with suppress(TaskError):
        judged({key: value})


def test_values_are_read() -> None:
    assert (seconds_of("1h"), seconds_of("1.5s"), seconds_of("1ms")) == (3600.0, 1.5, 1e-3)
    assert (bytes_of("1k"), bytes_of("2MB"), bytes_of("1GiB"), bytes_of(7)) == (1024, 2 << 20, 1 << 30, 7)
    assert plain({"$$A": ["$$$$", 1]}) == {"$A": ["$$", 1]}
    assert variables_of_file('A="x # y"\nB=\n') == {"A": "x # y", "B": ""}
    for line in ("no", "A=$B", "=x"):
        with pytest.raises(ValueError, match="NAME=VALUE"):
            variables_of_file(line)
