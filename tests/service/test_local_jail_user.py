"""The local jail for people: as an ordinary user, and on machines that lack something or have no room."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import envfarm
from envfarm.sandbox.conformance import CHECKS
from envfarm.sandbox.local.host_facts import find_bubblewrap
from envfarm.sandbox.local.probe import probe_local_jail

if TYPE_CHECKING:
    from tests.data.package_index import PackageIndex
    from tests.data.tiny.task import TinyTask

COMMAND = (sys.executable, "-c", "from envfarm.cli.main import main; main()")
PAGE = 4096
CHECK_AS_USER = """
import json, os, sys
from dataclasses import asdict
from pathlib import Path
import anyio
from envfarm.records.image import Folder, Image
from envfarm.sandbox.conformance import ConformanceMaterial, run_conformance
from envfarm.sandbox.local.provider import open_local_provider

def make_image(folders):
    variables = {"LD_LIBRARY_PATH": "/opt/python/lib", "PATH": "/opt/python/bin:/usr/bin:/bin"}
    python = Folder(source=sys.base_prefix, target="/opt/python")
    return Image(image_id="user", folders=(python, *folders), environment_variables=variables)

async def main():
    folder = Path.home() / "folders"
    folder.mkdir()
    async with open_local_provider({}) as provider:
        material = ConformanceMaterial(provider=provider, make_image=make_image, folder=folder)
        results = [asdict(result) for result in await run_conformance(material)]
    left = os.listdir(os.environ["TMPDIR"])
    print(json.dumps({"uid": os.geteuid(), "left": left, "results": results}))

anyio.run(main)
"""
BECOME_USER = """
set -e
mount -t tmpfs -o mode=755 none /mnt
mkdir -p /mnt/python /mnt/packages /mnt/code /mnt/home/tmp
mount --bind "$1" /mnt/python
mount --bind "$2" /mnt/packages
mount --bind "$3" /mnt/code
chown -R "$4:$4" /mnt/home
cd /mnt/home
exec setpriv --reuid "$4" --regid "$4" --clear-groups --inh-caps=-all --bounding-set=-all env -i PATH=/usr/bin:/bin \\
    HOME=/mnt/home TMPDIR=/mnt/home/tmp LD_LIBRARY_PATH=/mnt/python/lib PYTHONPATH=/mnt/code:/mnt/packages \\
    PYTHONDONTWRITEBYTECODE=1 "/mnt/python/bin/$5" -c "$6"
"""
"""In a mount namespace of its own, what the user needs is shown where every user may look: homes often are private."""
WRITE_TASK = """
import sys
from pathlib import Path
from envfarm.errors import OutputFolderError
from envfarm.formats.harbor import read_package, write_package

package = read_package(Path(sys.argv[1]))
for place in sys.argv[2:]:
    told = "written"
    try:
        write_package(package, Path(place) / "tasks" / "task")
    except OutputFolderError as error:
        told = str(error)
    tasks = Path(place) / "tasks"
    print(told.replace(place, ""), *sorted(path.name for path in tasks.glob("*")), sep="|")
    if told == "written":
        assert read_package(tasks / "task").files == package.files
"""


@pytest.fixture(scope="module")
def told_by_user() -> dict[str, Any]:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user; for one who is not, tests/contract shows the same")
    uid = str(60_000 + os.getpid() % 5_000)
    packages, code = sysconfig.get_path("purelib"), str(Path(envfarm.__file__).parents[1])
    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", BECOME_USER, "sh"]
    argv += [sys.base_prefix, packages, code, uid, python, CHECK_AS_USER]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    assert (told["uid"], told["left"]) == (int(uid), [])
    return told


@pytest.mark.parametrize("name", CHECKS)
def test_for_an_ordinary_user_the_jail_keeps_the_contract(name: str, told_by_user: dict[str, Any]) -> None:
    (result,) = [result for result in told_by_user["results"] if result["name"] == name]
    assert result["kept"], result["detail"]


class Machine:
    """This machine with something changed: commands run in a mount namespace of their own."""

    def __init__(self, folder: Path, *changes: str) -> None:
        self.folder = folder
        self.changes = changes
        self.environment = os.environ | {"ENVFARM_CACHE_FOLDER": str(folder / "cache")}

    def runs(self, *argv: str) -> subprocess.CompletedProcess[str]:
        words = [find_bubblewrap(), "--dev-bind", "/", "/", *self.changes, "--", *argv]
        return subprocess.run(
            words, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False, timeout=120
        )

    def findings(self) -> dict[str, dict[str, Any]]:
        """What `envfarm doctor` says, by name, where mining and grading cannot work."""
        done = self.runs(*COMMAND, "doctor", "--json")
        assert done.returncode == 1, done.stderr
        told = json.loads(done.stdout)
        assert told["ready"] is False
        return {finding["name"]: finding for finding in told["findings"]}


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    """The one line for the user."""
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("envfarm: ")]
    return line


@pytest.fixture
def commands(tmp_path: Path, tiny_task: "TinyTask", history: ModuleType) -> dict[str, tuple[str, ...]]:
    """A command line of each verb that needs boxes, in a folder with a task and a repository."""
    history.make_history(tmp_path / "repo")
    tiny_task.write(tmp_path / "task", tmp_path / "cache")
    return {
        "grade": (*COMMAND, "grade", "task", "--oracle"),
        "mine": (*COMMAND, "mine", "--repo", "repo", "--out", "out"),
    }


def test_without_bubblewrap_each_command_names_what_installs_it(
    tmp_path: Path, commands: dict[str, tuple[str, ...]]
) -> None:
    (tmp_path / "empty").touch()
    places = {Path(place, "bwrap").resolve() for place in [*os.get_exec_path(), "/usr/bin", "/usr/local/bin", "/bin"]}
    hidden = [("--ro-bind", str(tmp_path / "empty"), str(place)) for place in places if place.is_file()]
    machine = Machine(tmp_path, *chain.from_iterable(hidden))
    for argv in commands.values():
        done = machine.runs(*argv)
        assert done.returncode == 2, done.stderr
        assert complaint(done).startswith("envfarm: bubblewrap (bwrap) is not installed: ")
        assert complaint(done).endswith("apt-get install bubblewrap")
    row = machine.findings()["bubblewrap"]
    assert (row["works"], row["detail"], row["mend"]) == (False, "not installed", "apt-get install bubblewrap")


def test_where_user_namespaces_are_forbidden_each_command_says_what_allows_them(
    tmp_path: Path, commands: dict[str, tuple[str, ...]], package_index: "PackageIndex"
) -> None:
    machine = Machine(tmp_path, "--unshare-user", "--disable-userns")
    machine.environment |= package_index.environment()
    for argv in commands.values():
        done = machine.runs(*argv)
        assert done.returncode == 2, done.stderr
        assert complaint(done).startswith("envfarm: user namespaces are forbidden here")
        assert "sysctl -w kernel.unprivileged_userns_clone=1 user.max_user_namespaces=" in complaint(done)
    assert not (tmp_path / "out" / "tasks").exists()
    rows = machine.findings()
    assert [(rows[name]["works"], rows[name]["mend"][:23]) for name in ("user namespaces", "jail")] == [
        (False, "allow them with: sysctl")
    ] * 2


def test_bubblewrap_beside_the_path_is_seen_by_doctor_as_by_the_jail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("bwrap", path="/usr/bin:/usr/local/bin:/bin") is None:
        pytest.skip("bubblewrap lies at no usual place: apt-get install bubblewrap")
    unshare = shutil.which("unshare")
    assert unshare is not None
    (tmp_path / "unshare").symlink_to(unshare)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = {finding.name: finding.works for finding in anyio.run(probe_local_jail)}
    assert (found["bubblewrap"], found["jail"]) == (True, True)


def test_a_full_disk_leaves_a_task_whole_or_none(tmp_path: Path, tiny_task: "TinyTask") -> None:
    source = tiny_task.write(tmp_path / "source", tmp_path / "cache")
    whole = sum(-(-file.stat().st_size // PAGE) for file in source.rglob("*") if file.is_file())
    changes = []
    for pages in (1, whole // 2, whole - 1, whole + 8):
        place = tmp_path / str(pages)
        place.mkdir()
        changes.append(("--size", str(pages * PAGE), "--tmpfs", str(place)))
    machine = Machine(tmp_path, *chain.from_iterable(changes))
    done = machine.runs(sys.executable, "-c", WRITE_TASK, str(source), *(change[-1] for change in changes))
    assert done.returncode == 0, done.stderr
    *full, roomy = done.stdout.splitlines()
    assert full == ["no space left for /tasks/task: free some, or name another folder"] * 3
    assert roomy == "written|task"


@pytest.mark.parametrize("pages", [1, 8, 20])
def test_mining_into_a_full_disk_is_one_clear_line(
    tmp_path: Path, commands: dict[str, tuple[str, ...]], package_index: "PackageIndex", pages: int
) -> None:
    (tmp_path / "out").mkdir()
    machine = Machine(tmp_path, "--size", str(pages * PAGE), "--tmpfs", str(tmp_path / "out"))
    machine.environment |= package_index.environment()
    done = machine.runs("sh", "-c", '"$@"; code=$?; ls -A out/tasks; exit $code', "sh", *commands["mine"])
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert re.search("disk|space", complaint(done))


def test_mining_with_a_full_cache_publishes_nothing(
    tmp_path: Path, commands: dict[str, tuple[str, ...]], package_index: "PackageIndex"
) -> None:
    (tmp_path / "small").mkdir()
    machine = Machine(tmp_path, "--size", str(20 * PAGE), "--tmpfs", str(tmp_path / "small"))
    machine.environment |= package_index.environment() | {"ENVFARM_CACHE_FOLDER": str(tmp_path / "small")}
    done = machine.runs(*commands["mine"])
    assert done.returncode in {1, 2}, done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "out").glob("tasks/*"))
