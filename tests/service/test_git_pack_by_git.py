"""Real git reads the repository that we write byte by byte."""

import subprocess
from pathlib import Path

from envfarm.formats.git_pack import GitObject, build_index, build_pack
from task_miner.packaging.archive import ArchiveEntry, write_archive


def git(folder: Path, *args: str, stdin: bytes = b"") -> bytes:
    environment = {
        "PATH": "/usr/bin:/bin",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
        "HOME": "/nowhere",
    }
    who = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    done = subprocess.run(
        ["git", *who, *args], cwd=folder, input=stdin, capture_output=True, check=True, env=environment
    )
    return done.stdout


def all_objects(folder: Path) -> list[GitObject]:
    listed = [line.split()[0] for line in git(folder, "rev-list", "--objects", "--all").decode().splitlines()]
    objects = []
    for oid in listed:
        kind = git(folder, "cat-file", "-t", oid).decode().strip()
        objects.append(GitObject(oid, kind, git(folder, "cat-file", kind, oid)))
    return objects


def test_git_verifies_the_pack_and_finds_the_tree_clean(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    git(source, "init", "-q", "-b", "main")
    for number in range(3):
        (source / "a file").write_text(f"{number}\n")
        (source / "folder").mkdir(exist_ok=True)
        (source / "folder" / "empty").write_bytes(b"")
        git(source, "add", "-A")
        git(source, "commit", "-qm", f"step {number}")
    name, pack, index = build_pack(all_objects(source))

    copy = tmp_path / "copy"
    (copy / ".git" / "objects" / "pack").mkdir(parents=True)
    (copy / ".git" / "refs" / "heads").mkdir(parents=True)
    (copy / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    (copy / ".git" / "refs" / "heads" / "main").write_bytes(git(source, "rev-parse", "HEAD"))
    (copy / ".git" / "objects" / "pack" / f"pack-{name}.pack").write_bytes(pack)
    (copy / ".git" / "objects" / "pack" / f"pack-{name}.idx").write_bytes(index)
    staged = {}
    for line in git(source, "ls-tree", "-r", "-z", "HEAD").split(b"\0")[:-1]:
        facts, path = line.split(b"\t", 1)
        mode, _, oid = facts.split()
        staged[path] = (int(mode, 8), oid.decode())
    (copy / ".git" / "index").write_bytes(build_index(staged))
    (copy / "folder").mkdir()
    (copy / "folder" / "empty").write_bytes(b"")
    (copy / "a file").write_text("2\n")

    git(copy, "verify-pack", "-v", f".git/objects/pack/pack-{name}.idx")
    git(copy, "fsck", "--strict", "--full")
    assert git(copy, "status", "--porcelain") == b""
    assert git(copy, "log", "--format=%s") == b"step 2\nstep 1\nstep 0\n"


def test_archives_do_not_depend_on_the_order_of_their_entries(tmp_path: Path) -> None:
    entries = [
        ArchiveEntry("b", b"2"),
        ArchiveEntry("a/x", b"1", executable=True),
        ArchiveEntry("l", b"", link_target="b"),
    ]
    data = write_archive(entries, modified_at=12345)
    assert data == write_archive(reversed(entries), modified_at=12345)
    (tmp_path / "archive.tar.xz").write_bytes(data)
    subprocess.run(["tar", "xf", "archive.tar.xz"], cwd=tmp_path, check=True)
    assert (tmp_path / "l").read_text() == "2"
    assert (tmp_path / "a" / "x").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "b").stat().st_mtime == 12345
