"""What a user may name as --repo: URLs, bundles, worktrees and releases; and what is refused, in one line."""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from envfarm.errors import RepositoryError, SettingsError
from task_miner.history import iterate_units
from task_miner.sources import Source, open_source
from task_miner.sources.git_command import Downloads, GitEndedError, ObjectReader

if TYPE_CHECKING:
    from tests.data.package_index import PackageIndex


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def repository(tmp_path: Path, history: ModuleType) -> Path:
    made: Path = history.make_history(tmp_path / "repo", fixes=2)
    return made


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def opened(name: str, tmp_path: Path) -> Source:
    return open_source(name, cache_folder=tmp_path / "cache", report=lambda _: None)


def refusal(name: str, tmp_path: Path) -> str:
    with pytest.raises(RepositoryError) as caught:
        opened(name, tmp_path)
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "cache").rglob("*partial*")) == []
    return str(caught.value)


def subjects(source: Source) -> list[str]:
    return [unit.message.split("\n")[0] for unit in iterate_units(source.git_folder, source.head)]


def state_of(folder: Path) -> list[tuple[str, int, int]]:
    return sorted((str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*"))


def test_a_url_over_dumb_http_is_cloned_and_kept_up_to_date(
    repository: Path, history: ModuleType, tmp_path: Path, web: str
) -> None:
    history.git(tmp_path, "clone", "-q", "--bare", str(repository), "served.git")
    history.git(tmp_path / "served.git", "update-server-info")
    source = opened(f"{web}/served.git", tmp_path)
    assert (source.kind, source.name, subjects(source)) == ("url", "served", ["Mend f1", "Mend f0", "begin"])
    history.commit(repository, "later", {"a": "1"})
    history.git(tmp_path / "served.git", "fetch", "-q", str(repository), "main:main")
    history.git(tmp_path / "served.git", "update-server-info")
    assert subjects(opened(f"{web}/served.git", tmp_path))[0] == "later"
    (tmp_path / "served.git").rename(tmp_path / "moved.git")
    said = refusal(f"{web}/served.git", tmp_path)
    assert "cannot be brought up to date" in said
    clone = said.rsplit(" ", 1)[1]
    assert subjects(opened(clone, tmp_path))[0] == "later"


def test_a_worktree_and_a_submodule_are_mined_at_their_own_head(
    repository: Path, history: ModuleType, tmp_path: Path
) -> None:
    history.git(repository, "worktree", "add", "-q", str(tmp_path / "tree"), "HEAD~1")
    assert subjects(opened(str(tmp_path / "tree"), tmp_path)) == ["Mend f0", "begin"]
    assert subjects(opened(str(repository), tmp_path))[0] == "Mend f1"
    (tmp_path / "outer").mkdir()
    history.git(tmp_path / "outer", "init", "-q")
    history.git(tmp_path / "outer", "submodule", "--quiet", "add", str(repository), "inner")
    assert (tmp_path / "outer" / "inner" / ".git").is_file()
    assert subjects(opened(str(tmp_path / "outer" / "inner"), tmp_path))[0] == "Mend f1"
    (tmp_path / "tree" / ".git").write_text("gitdir: /nowhere/at/all\n")
    assert "is gone" in refusal(str(tmp_path / "tree"), tmp_path)


def test_a_bundle_without_a_head_is_mined_from_its_newest_branch(
    repository: Path, history: ModuleType, tmp_path: Path
) -> None:
    history.git(repository, "bundle", "create", "-q", str(tmp_path / "one.bundle"), "main")
    assert subjects(opened(str(tmp_path / "one.bundle"), tmp_path))[0] == "Mend f1"
    history.git(repository, "bundle", "create", "-q", str(tmp_path / "half.bundle"), "main~1..main")
    assert "lacks these prerequisite commits" in refusal(str(tmp_path / "half.bundle"), tmp_path)


def test_a_partial_clone_is_refused_and_nothing_is_fetched_into_it(
    repository: Path, history: ModuleType, tmp_path: Path
) -> None:
    history.git(repository, "config", "uploadpack.allowFilter", "true")
    history.git(tmp_path, "clone", "-q", "--bare", "--filter=blob:none", f"file://{repository}", "partial.git")
    before = state_of(tmp_path / "partial.git")
    assert "--filter" in refusal(str(tmp_path / "partial.git"), tmp_path)
    with ObjectReader(tmp_path / "partial.git") as reader, pytest.raises(RepositoryError):
        reader.require(history.git(repository, "rev-parse", "HEAD:pyproject.toml"))
    assert state_of(tmp_path / "partial.git") == before


def test_object_names_of_the_other_kind_are_refused(history: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    history.git(tmp_path / "new", "init", "-q", "--object-format=sha256")
    history.commit(tmp_path / "new", "begin", {"a": "1"})
    assert "SHA-256" in refusal(str(tmp_path / "new"), tmp_path)


def test_numbers_of_pull_and_merge_requests_come_from_refs(
    repository: Path, history: ModuleType, tmp_path: Path
) -> None:
    head = history.git(repository, "rev-parse", "HEAD")
    history.git(repository, "update-ref", "refs/pull/9/head", head)
    history.git(repository, "update-ref", "refs/pull/10/head", head)
    history.git(repository, "update-ref", "refs/pull/11/merge", head)
    history.git(repository, "update-ref", "refs/merge-requests/3/head", "HEAD~1")
    assert opened(f"file://{repository}", tmp_path).pull_heads == {
        head: 10,
        history.git(repository, "rev-parse", "HEAD~1"): 3,
    }


def test_ended_downloads_say_nothing_of_the_repository(repository: Path, tmp_path: Path) -> None:
    downloads = Downloads()
    downloads.end()
    with pytest.raises(GitEndedError, match="SIGTERM"):
        open_source(f"file://{repository}", cache_folder=tmp_path, report=lambda _: None, downloads=downloads)
    assert list((tmp_path / "clones").iterdir()) == []


@pytest.fixture
def releases(package_index: "PackageIndex", monkeypatch: pytest.MonkeyPatch) -> "PackageIndex":
    for name, value in package_index.environment().items():
        monkeypatch.setenv(name, value)
    if "tiny-releases" not in package_index.files:
        for minor, day in ((10, "03"), (2, "02"), (1, "01"), (3, "04")):
            files = {"a.py": f"x = {minor}\n", "src/tiny.egg-info/SOURCES.txt": "", "a.pyc": "no"}
            facts = {"upload-time": f"2024-01-{day}T00:00:00Z", "yanked": "broken" if minor == 3 else False}
            package_index.add_sdist("tiny-releases", f"1.{minor}", files, **facts)
        package_index.add_sdist("tiny-releases", "2.0rc1", {"a.py": "x = 99\n"})
        package_index.add("tiny-releases", "tiny_releases-1.11-py3-none-any.whl", b"no sdist")
        package_index.add_sdist("tiny-single", "1.0", {"a.py": ""})
        package_index.add_sdist("tiny-false", "1.0", {"a.py": ""})
        package_index.add_sdist("tiny-false", "2.0", {"a.py": ""}, hashes={"sha256": "0" * 64})
    return package_index


def test_releases_become_a_history_in_the_order_of_versions(releases: "PackageIndex", tmp_path: Path) -> None:
    source = opened("pypi:Tiny-Releases", tmp_path)
    units = list(iterate_units(source.git_folder, source.head, released=True))
    assert [(unit.message.strip(), unit.committed_at, unit.kind) for unit in units] == [
        ("tiny-releases 1.10", 1704240000, "release"),
        ("tiny-releases 1.2", 1704153600, "release"),
        ("tiny-releases 1.1", 1704067200, "release"),
    ]
    assert {change.path for unit in units for change in unit.changes} == {"a.py"}
    assert opened("pypi:tiny-releases", tmp_path / "elsewhere").head == source.head
    asked = len([path for path in releases.asked if path.startswith("/files/tiny_releases")])
    assert opened("pypi:tiny-releases", tmp_path).git_folder == source.git_folder
    assert len([path for path in releases.asked if path.startswith("/files/tiny_releases")]) == asked


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("pypi:tiny-releases[1.2..]", ["1.10", "1.2"]),
        ("pypi:tiny-releases[..1.2]", ["1.2", "1.1"]),
        ("pypi:tiny-releases[1.10..2.0rc1]", ["2.0rc1", "1.10"]),
    ],
)
def test_bounds_are_inclusive_and_name_pre_releases(
    releases: "PackageIndex", tmp_path: Path, spec: str, said: list[str]
) -> None:
    assert [subject.split()[1] for subject in subjects(opened(spec, tmp_path))] == said


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("pypi:tiny-single", "has 1 releases with an sdist"),
        ("pypi:tiny-releases[1.2..1.2]", "has 1 releases with an sdist"),
        ("pypi:tiny-releases[7..9]", "has 0 releases with an sdist"),
        ("pypi:tiny-unknown", "knows no project 'tiny-unknown'"),
        ("pypi:tiny-false", "is not what the package index says"),
        ("no/such/place", "is neither a folder"),
        ("", "is neither a folder"),
    ],
)
def test_releases_that_cannot_be_had_are_told(releases: "PackageIndex", tmp_path: Path, spec: str, said: str) -> None:
    assert said in refusal(spec, tmp_path)


def test_an_index_that_cannot_be_reached_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple/")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert "cannot be reached" in refusal("pypi:tiny", tmp_path)


@pytest.mark.parametrize("spec", ["pypi:x[1..2", "pypi:x[2..1]", "pypi:x[a..2]", "pypi:", "pypi:x[1,2]"])
def test_malformed_ranges_are_the_users_mistake(spec: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError):
        opened(spec, tmp_path)
