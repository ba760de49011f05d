"""History is read by real git, whatever it holds."""

import os
import subprocess
from pathlib import Path

import pytest

from envfarm.errors import RepositoryError
from task_miner.history import iterate_units
from task_miner.sources import open_source
from task_miner.sources.git_command import ObjectReader, read_tree


def git(folder: Path, *args: str, when: int = 1_700_000_000) -> str:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": "/nowhere",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_DATE": f"{when} +0000",
        "GIT_COMMITTER_DATE": f"{when} +0000",
    }
    who = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main"]
    done = subprocess.run(
        ["git", *who, *args], cwd=folder, capture_output=True, check=True, env=environment, text=True, errors="replace"
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q")
    return folder


def commit(folder: Path, message: str, files: dict[str, str], when: int = 1_700_000_000) -> str:
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    git(folder, "add", "-A", when=when)
    git(folder, "commit", "-q", "--allow-empty", "-m", message, when=when)
    return git(folder, "rev-parse", "HEAD")


def test_units_are_first_parent_diffs_of_plain_squash_and_merge_commits(repository: Path) -> None:
    commit(repository, "root", {"a": "1"})
    commit(repository, "plain", {"a": "2"})
    commit(repository, "squash (#5)", {"b": "1"})
    git(repository, "checkout", "-q", "-b", "side")
    commit(repository, "side one", {"c": "1"})
    commit(repository, "side two", {"c": "2", "d": "1"})
    git(repository, "checkout", "-q", "main")
    git(repository, "merge", "-q", "--no-ff", "-m", "Merge pull request #6 from x/side", "side")
    units = list(iterate_units(repository / ".git", "HEAD"))
    assert [(unit.kind, sorted(change.path for change in unit.changes)) for unit in units] == [
        ("merge", ["c", "d"]),
        ("squash", ["b"]),
        ("plain", ["a"]),
        ("plain", ["a"]),
    ]
    assert [len(unit.parents) for unit in units] == [2, 1, 1, 0]


def test_odd_paths_and_messages_come_through(repository: Path) -> None:
    commit(repository, "root", {"a": "1"})
    odd = {"sp ace/ü\t\n.py": "1", "-dash": "1"}
    commit(repository, 'quote " and \\ and\n\nsecond \x1b paragraph', odd)
    unit = next(iterate_units(repository / ".git", "HEAD"))
    assert {change.path for change in unit.changes} == set(odd)
    assert unit.message.startswith('quote " and \\ and\n\nsecond')


def test_bounds_on_dates_are_exact_even_when_clocks_were_wrong(repository: Path) -> None:
    for number, when in enumerate([1_600_000_000, 1_700_000_000, 1_500_000_000, 1_650_000_000]):
        commit(repository, f"c{number}", {"a": str(number)}, when=when)
    found = [
        unit.message.strip()
        for unit in iterate_units(repository / ".git", "HEAD", since="2020-01-01", until="2023-01-01")
    ]
    assert found == ["c3", "c0"]


def test_a_missing_object_is_told_and_not_made_up(repository: Path) -> None:
    commit(repository, "root", {"a": "1"})
    blob = git(repository, "rev-parse", "HEAD:a")
    (repository / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    with ObjectReader(repository / ".git") as reader:
        assert reader.read(blob) is None
        with pytest.raises(RepositoryError, match="lacks the object"):
            reader.require(blob)
    assert read_tree(repository / ".git", "HEAD") == {"a": (0o100644, blob)}


@pytest.mark.parametrize("bare", [False, True])
def test_a_local_clone_is_read_where_it_lies_and_left_as_it_was(
    repository: Path, tmp_path: Path, *, bare: bool
) -> None:
    head = commit(repository, "root", {"a": "1"})
    place = repository
    if bare:
        git(tmp_path, "clone", "-q", "--bare", str(repository), "bare.git")
        place = tmp_path / "bare.git"
    before = sorted((str(path), path.stat().st_mtime_ns) for path in place.rglob("*"))
    source = open_source(str(place), cache_folder=tmp_path / "cache", report=print)
    assert (source.head, source.kind) == (head, "local")
    assert list(iterate_units(source.git_folder, source.head))
    assert before == sorted((str(path), path.stat().st_mtime_ns) for path in place.rglob("*"))


def test_a_bundle_and_a_url_become_clones_in_the_cache_that_keep_up(repository: Path, tmp_path: Path) -> None:
    commit(repository, "root", {"a": "1"})
    git(repository, "bundle", "create", "-q", str(tmp_path / "all.bundle"), "--all")
    for name in (str(tmp_path / "all.bundle"), f"file://{repository}"):
        source = open_source(name, cache_folder=tmp_path / "cache", report=lambda _: None)
        assert len(list(iterate_units(source.git_folder, source.head))) == 1
    commit(repository, "more", {"a": "2"})
    source = open_source(f"file://{repository}", cache_folder=tmp_path / "cache", report=lambda _: None)
    assert len(list(iterate_units(source.git_folder, source.head))) == 2


def test_bad_repositories_are_refused_in_one_line(repository: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"

    def refusal(name: str) -> str:
        with pytest.raises(RepositoryError) as caught:
            open_source(name, cache_folder=cache, report=lambda _: None)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "no commits" in refusal(str(repository))
    (tmp_path / "plain").mkdir()
    assert "no git repository" in refusal(str(tmp_path / "plain"))
    assert "neither a folder" in refusal(str(tmp_path / "missing"))
    (tmp_path / "file").write_text("no bundle")
    assert "cannot be cloned" in refusal(str(tmp_path / "file"))
    assert "cannot be cloned" in refusal("file:///nowhere/at/all")
    commit(repository, "one", {"a": "1"})
    commit(repository, "two", {"a": "2"})
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{repository}", "shallow")
    assert "shallow" in refusal(str(tmp_path / "shallow"))
    secret = refusal("https://user:secret@localhost:1/x.git")
    assert "secret" not in secret
    assert list(cache.rglob("*partial*")) == []


def test_a_corrupt_pack_is_told(repository: Path) -> None:
    for number in range(3):
        commit(repository, f"c{number}", {"a": str(number) * 100})
    git(repository, "gc", "-q")
    for pack in (repository / ".git" / "objects" / "pack").glob("*.pack"):
        pack.chmod(0o644)
        data = bytearray(pack.read_bytes())
        data[60:90] = b"\0" * 30
        pack.write_bytes(bytes(data))
    with pytest.raises(RepositoryError):
        list(iterate_units(repository / ".git", "HEAD"))
