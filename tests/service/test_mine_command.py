"""`envfarm mine` and `envfarm ledger` as a user types them: real git, sandboxes and pytest; an index on loopback."""

import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.data.package_index import PackageIndex

COMMAND = [sys.executable, "-c", "from envfarm.cli.main import main; main()"]


class User:
    """Somebody with a cache folder, an index and a shell."""

    def __init__(self, folder: Path, index: "PackageIndex") -> None:
        self.folder = folder
        self.environment = index.environment() | {"ENVFARM_CACHE_FOLDER": str(folder / "cache")}

    def says(self, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *words],
            cwd=cwd or self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory, package_index: "PackageIndex") -> User:
    return User(tmp_path_factory.mktemp("user"), package_index)


@pytest.fixture(scope="module")
def mined(user: User, history: ModuleType) -> subprocess.CompletedProcess[str]:
    history.make_history(user.folder / "repo", fixes=2)
    done = user.says("mine", "--repo", "repo", "--out", "out", "--json")
    assert done.returncode == 0, done.stderr
    return done


def test_json_is_one_object_of_the_agreed_shape_and_nothing_else_is_on_stdout(
    mined: subprocess.CompletedProcess[str], user: User
) -> None:
    assert mined.stdout.count("\n") == 1
    told = json.loads(mined.stdout)
    assert list(told) == ["repo", "candidates", "validated", "published", "rejected", "seconds", "tasks"]
    assert [list(task) for task in told["tasks"]] == [
        ["id", "path", "fail_to_pass", "pass_to_pass", "statement_source", "links"]
    ] * 2
    assert (told["candidates"], told["validated"], told["published"], told["rejected"]) == (2, 2, 2, {})
    newest = told["tasks"][0]
    assert newest["fail_to_pass"] == ["tests/test_tiny.py::test_f1"]
    assert newest["pass_to_pass"] == ["tests/test_tiny.py::test_f0", "tests/test_tiny.py::test_there"]
    assert newest["path"] == str(user.folder / "out" / "tasks" / newest["id"])


def test_without_a_terminal_every_line_is_plain_and_whole(mined: subprocess.CompletedProcess[str]) -> None:
    assert "\x1b" not in mined.stderr
    assert re.search(r"^\[\d/2\+?\] tiny-[0-9a-f]{12} published$", mined.stderr, re.MULTILINE)
    assert re.search(
        r"^2 candidates, 2 validated, 2 published, fallen: none \(\d+\.\d s\)$", mined.stderr, re.MULTILINE
    )
    for task in json.loads(mined.stdout)["tasks"]:
        assert f"│ {task['id']} │" in mined.stderr


def test_neighbours_share_one_environment_and_nothing_is_asked_for_twice(
    mined: subprocess.CompletedProcess[str], user: User, package_index: "PackageIndex"
) -> None:
    assert len(list((user.folder / "cache" / "environments").iterdir())) == 1
    assert len(list((user.folder / "cache" / "locks").iterdir())) == 1
    asked, started = len(package_index.asked), time.monotonic()
    again = json.loads(user.says("mine", "--repo", "repo", "--out", "out", "--json").stdout)
    assert time.monotonic() - started < 10
    assert len(package_index.asked) == asked
    assert again["tasks"] == json.loads(mined.stdout)["tasks"]
    assert [list((user.folder / "cache" / name).iterdir()) for name in ("scratch", "workspaces")] == [[], []]


def test_mining_leaves_the_workspaces_that_gradings_may_be_using(
    mined: subprocess.CompletedProcess[str], user: User
) -> None:
    task = json.loads(mined.stdout)["tasks"][0]
    assert user.says("grade", task["path"], "--oracle").returncode == 0
    (unpacked,) = (user.folder / "cache" / "workspaces").iterdir()
    before = unpacked.stat().st_ino, sorted(path.name for path in unpacked.iterdir())
    again = json.loads(user.says("mine", "--repo", "repo", "--out", "kept", "--limit", "1", "--json").stdout)
    assert again["tasks"][0]["id"] == task["id"]
    assert (unpacked.stat().st_ino, sorted(path.name for path in unpacked.iterdir())) == before
    assert list((user.folder / "cache" / "workspaces").iterdir()) == [unpacked]
    shutil.rmtree(unpacked)  # other tests count what is there


def test_bounds_on_dates_choose_the_fixes(
    mined: subprocess.CompletedProcess[str], user: User, history: ModuleType
) -> None:
    ids = [task["id"] for task in json.loads(mined.stdout)["tasks"]]
    first = time.strftime("%Y-%m-%d", time.gmtime(history.START + history.DAY))
    for bounds, expected in ((("--until", first), ids[1:]), (("--since", first, "--limit", "1"), ids[:1])):
        told = json.loads(user.says("mine", "--repo", "repo", "--out", "out", "--json", *bounds).stdout)
        assert [task["id"] for task in told["tasks"]] == expected


def test_the_ledger_tells_every_stage_and_shows_the_log(mined: subprocess.CompletedProcess[str], user: User) -> None:
    name = json.loads(mined.stdout)["tasks"][0]["id"]
    status = user.says("ledger", "status", "out", "--list").stdout
    assert re.search(rf"^{name}  publish  OK  sha256:", status, re.MULTILINE)
    for stage in ("scan", "screen", "environment", "validate", "package", "gate", "publish"):
        assert re.search(rf"│ {stage} +│ OK ", status)
    explained = user.says("ledger", "explain", "out", name.removeprefix("tiny-")[:6]).stdout
    assert "controls as they have to be" in " ".join(explained.split())
    rows = json.loads(user.says("ledger", "explain", "out", name, "--json").stdout)["stages"]
    assert all((user.folder / "out" / row["log"]).is_file() for row in rows if row["log"])
    assert {row["stage"] for row in rows if row["log"]} >= {"environment", "validate", "gate"}


def test_on_a_terminal_a_funnel_is_drawn_and_stdout_stays_clean(
    mined: subprocess.CompletedProcess[str], user: User
) -> None:
    ours, theirs = pty.openpty()
    environment = user.environment | {"TERM": "xterm-256color", "COLUMNS": "120"}
    words = ["mine", "--repo", "repo", "--out", "again", "--limit", "1", "--json"]
    with subprocess.Popen(
        [*COMMAND, *words], cwd=user.folder, env=environment, stdout=subprocess.PIPE, stderr=theirs, text=True
    ) as process:
        os.close(theirs)
        seen = b"".join(iter(lambda: _read(ours), b"")).decode()
        assert process.stdout is not None
        said = process.stdout.read()
    os.close(ours)
    assert json.loads(said)["published"] == 1
    assert "\x1b[" in seen
    assert "1 candidates" in seen
    assert re.search(r"tiny-[0-9a-f]{12}: (environment|validate|package|gate)", seen)
    assert re.search(r"\d\.\d/min", seen)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65_536)
    except OSError:  # the other side is closed
        return b""


def test_a_reason_that_is_mended_is_tried_again_from_any_folder(
    user: User, history: ModuleType, package_index: "PackageIndex"
) -> None:
    needy = history.PYPROJECT.replace('version = "1"', 'version = "1"\ndependencies = ["comes-later"]')
    repo = history.make_history(user.folder / "needy", fixes=1)
    history.commit(repo, "need it", {"pyproject.toml": needy, "src/tiny/__init__.py": history.module(2)})
    history.commit(repo, "Mend f2", {"src/tiny/__init__.py": history.module(3), "tests/test_tiny.py": history.tests(3)})
    words = ("mine", "--repo", "needy", "--out", "needy-out", "--limit", "1", "--json")
    fallen = user.says(*words)
    assert (fallen.returncode, json.loads(fallen.stdout)["rejected"]) == (1, {"LOCK_FAILED": 1})
    assert "envfarm ledger status" in fallen.stderr
    status = user.says("ledger", "status", "needy-out", "--list").stdout
    assert "comes-later" in next(line for line in status.splitlines() if "environment  LOCK_FAILED" in line)
    assert json.loads(user.says(*words).stdout)["rejected"] == {"LOCK_FAILED": 1}

    package_index.add("comes-later", "comes_later-1.0-py3-none-any.whl", package_index.bare_wheel("comes_later"))
    out = str(user.folder / "needy-out")
    again = user.says("ledger", "retry", out, "--reason", "LOCK_FAILED", "--json", cwd=Path("/"))
    assert json.loads(again.stdout)["published"] == 1, again.stderr
    nothing = user.says("ledger", "retry", out, "--reason", "LOCK_FAILED")
    assert (nothing.returncode, nothing.stderr.strip()) == (0, "0 candidates with LOCK_FAILED are taken again")
    unknown = user.says("ledger", "retry", out, "--reason", "NO_SUCH")
    assert unknown.returncode == 2
    assert "INSTALL_FAILED" in unknown.stderr


def test_an_index_out_of_order_is_the_farms_fault_and_the_next_run_tries_again(
    user: User, history: ModuleType, package_index: "PackageIndex", tmp_path: Path
) -> None:
    history.make_history(tmp_path / "repo", fixes=1)
    other = User(tmp_path, package_index)
    other.environment["UV_HTTP_RETRIES"] = "0"
    package_index.broken = True
    try:
        fallen = other.says("mine", "--repo", "repo", "--out", "out", "--json")
    finally:
        package_index.broken = False
    assert (fallen.returncode, json.loads(fallen.stdout)["rejected"]) == (1, {"FARM_ERROR": 1})
    assert "503" in other.says("ledger", "status", "out", "--list").stdout
    assert not list((tmp_path / "cache").glob("*/*partial*"))
    assert json.loads(other.says("mine", "--repo", "repo", "--out", "out", "--json").stdout)["published"] == 1


@contextmanager
def silent_server() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("whole_group", [False, True], ids=["kill -INT", "Ctrl-C at a terminal"])
def test_ctrl_c_while_cloning_ends_cleanly(user: User, *, whole_group: bool) -> None:
    with silent_server() as port:
        words = ["mine", "--repo", f"http://127.0.0.1:{port}/x.git", "--out", "stopped", "--json"]
        with subprocess.Popen(
            [*COMMAND, *words],
            cwd=user.folder,
            env=user.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            assert process.stderr is not None
            assert process.stderr.readline().startswith("cloning ")
            time.sleep(0.5)
            (os.killpg if whole_group else os.kill)(process.pid, signal.SIGINT)
            try:
                said, complained = process.communicate(timeout=20)
            finally:
                process.kill()
    told: dict[str, Any] = json.loads(said)
    assert (process.returncode, told["published"], told["candidates"]) == (130, 0, 0), complained
    assert "interrupted" in complained
    assert "Traceback" not in complained
    assert not (user.folder / "stopped").exists()
    assert not list((user.folder / "cache").glob("clones/*partial*"))
