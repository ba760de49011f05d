"""A corpus from archives in memory: digests, splits, copies, interruptions."""

import hashlib
import io
import tarfile
import zipfile
from importlib.resources import files
from pathlib import Path

import msgspec
import pytest

from envfarm.errors import OutputFolderError, RepositoryError, SettingsError
from envfarm.training.corpus import MANIFEST, Document, read_documents, split_file
from envfarm.training.corpus_fetch import SourceMismatchError, fetch_corpus
from envfarm.training.corpus_sources import PERMISSIVE, Source, SourceList, parse_sources


def module(name: str) -> str:
    return "".join(f"def {name}_{number}(value):\n    return value + {number}\n\n\n" for number in range(8))


def sdist(members: dict[str, str]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, text in members.items():
            info = tarfile.TarInfo(f"p-1/{name}")
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
        link = tarfile.TarInfo("p-1/link.py")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    return stream.getvalue()


class Archives:
    """An index of archives; counts what is asked for, and fails where it is told to."""

    def __init__(self, archives: dict[str, bytes]) -> None:
        self.archives = archives
        self.asked: list[str] = []
        self.missing: set[str] = set()

    def read(self, project: str, filename: str) -> bytes:  # noqa: ARG002 -- the index's signature
        self.asked.append(project)
        if project in self.missing:
            message = "the package index cannot be reached"
            raise RepositoryError(message)
        return self.archives[project]

    def listed(self, held_out: str) -> SourceList:
        return SourceList(
            1,
            tuple(
                Source(
                    project=project,
                    version="1",
                    filename=f"{project}-1.{'zip' if content.startswith(b'PK') else 'tar.gz'}",
                    sha256=hashlib.sha256(content).hexdigest(),
                    licence="MIT",
                    split="held_out" if project == held_out else "train",
                )
                for project, content in self.archives.items()
            ),
        )


class Told:
    def __init__(self) -> None:
        self.sources: list[str] = []

    def fetched(self, source: Source, documents: int, text_bytes: int) -> None:  # noqa: ARG002 -- the observer's signature
        self.sources.append(source.project)


@pytest.fixture
def archives() -> Archives:
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("z-1/zipped.py", module("zipped"))
    return Archives(
        {
            "first": sdist({"one.py": module("one"), "copy.py": module("shared"), "data.json": "{}" * 200}),
            "second": sdist(
                {"two.py": module("two"), "_vendor/x.py": module("x"), "s.py": "# AKIA" + "A7" * 8 + "\n" * 200}
            ),
            "third": zipped.getvalue(),
            "kept": sdist({"copied.py": module("shared"), "own.py": module("own")}),
        }
    )


def fetch(archives: Archives, folder: Path, most_project_bytes: int = 1_000_000) -> None:
    fetch_corpus(archives.listed("kept"), archives, folder, most_project_bytes=most_project_bytes, observer=Told())


def paths(folder: Path, split: str) -> list[str]:
    return sorted(f"{document.project}/{document.path}" for document in read_documents(folder, split))  # type: ignore[arg-type]


def test_projects_are_split_and_no_copy_of_what_is_held_out_is_trained_on(archives: Archives, tmp_path: Path) -> None:
    fetch(archives, tmp_path / "corpus")
    assert paths(tmp_path / "corpus", "train") == ["first/one.py", "second/two.py", "third/zipped.py"]
    assert paths(tmp_path / "corpus", "held_out") == ["kept/copied.py", "kept/own.py"]
    manifest = msgspec.json.decode((tmp_path / "corpus" / MANIFEST).read_bytes())
    told = {project["project"]: project for project in manifest["projects"]}
    assert told["first"]["dropped"] == {"duplicate": 1}
    assert told["second"]["dropped"] == {"duplicate": 0, "secret": 1}
    assert {project["licence"] for project in told.values()} == {"MIT"}
    content = split_file(tmp_path / "corpus", "train").read_bytes()
    assert manifest["sha256"]["train"] == hashlib.sha256(content).hexdigest()
    assert {path.name for path in (tmp_path / "corpus").iterdir()} == {"train.jsonl", "held_out.jsonl", MANIFEST}


def test_an_interrupted_fetch_goes_on_with_the_next_release(archives: Archives, tmp_path: Path) -> None:
    fetch(archives, tmp_path / "whole")
    archives.asked.clear()
    archives.missing = {"third"}
    with pytest.raises(RepositoryError):
        fetch(archives, tmp_path / "corpus")
    archives.missing = set()
    fetch(archives, tmp_path / "corpus")
    assert archives.asked == ["first", "second", "third", "third", "kept"]
    fetch(archives, tmp_path / "corpus")
    assert len(archives.asked) == 5
    for name in ("train.jsonl", "held_out.jsonl", MANIFEST):
        assert (tmp_path / "corpus" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_an_archive_that_is_not_the_pinned_one_is_refused(archives: Archives, tmp_path: Path) -> None:
    listed = archives.listed("kept")
    archives.archives["second"] += b"x"
    with pytest.raises(SourceMismatchError, match=r"second-1.tar.gz has the digest .* is pinned"):
        fetch_corpus(listed, archives, tmp_path / "corpus", most_project_bytes=10**6, observer=Told())


def test_an_archive_that_is_none_is_named(archives: Archives, tmp_path: Path) -> None:
    archives.archives["second"] = b"no archive at all"
    with pytest.raises(SourceMismatchError, match=r"second-1.tar.gz cannot be read as an archive"):
        fetch(archives, tmp_path / "corpus")


def test_no_project_has_more_than_its_share(archives: Archives, tmp_path: Path) -> None:
    archives.archives["first"] = sdist({f"m{number}.py": module(f"m{number}_") for number in range(20)})
    fetch(archives, tmp_path / "corpus", most_project_bytes=2_000)
    documents = [document for document in read_documents(tmp_path / "corpus", "train") if document.project == "first"]
    assert 0 < sum(len(document.text) for document in documents) <= 2_000


def test_a_folder_of_something_else_is_left_alone(archives: Archives, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(OutputFolderError, match="something else lies there"):
        fetch(archives, tmp_path)
    assert archives.asked == []
    fetch(archives, tmp_path / "corpus")
    with pytest.raises(OutputFolderError, match="another list's corpus"):
        fetch(archives, tmp_path / "corpus", most_project_bytes=5)


def test_our_list_is_pinned_permissive_and_split() -> None:
    listed = parse_sources((files("envfarm.training") / "corpus_sources.json").read_bytes(), "ours")
    assert all(len(source.sha256) == 64 and source.licence in PERMISSIVE for source in listed.sources)
    assert {source.split for source in listed.sources} == {"train", "held_out"}
    assert len(listed.sources) > 30


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"licence": "GPL-3.0-only"}, "a has the licence 'GPL-3.0-only'"),
        ({"split": "test"}, "split"),
        ({"colour": 1}, "colour"),
    ],
)
def test_a_wrong_list_is_one_line(change: dict[str, object], complaint: str) -> None:
    source = {"project": "a", "version": "1", "filename": "f", "sha256": "0", "licence": "MIT", "split": "train"}
    content = msgspec.json.encode({"version": 1, "sources": [{**source, **change}]})
    with pytest.raises(SettingsError, match=complaint):
        parse_sources(content, "list.json")
    twice = msgspec.json.encode({"version": 1, "sources": [source, source]})
    with pytest.raises(SettingsError, match="a is there twice"):
        parse_sources(twice, "list.json")


def test_a_line_that_is_no_document_is_named(tmp_path: Path) -> None:
    good = msgspec.json.encode(Document("p", "a.py", "python", "x"))
    split_file(tmp_path, "train").write_bytes(good + b"\n{}\n")
    with pytest.raises(SettingsError, match=r"train.jsonl:2: no document"):
        list(read_documents(tmp_path, "train"))
    with pytest.raises(SettingsError, match=r"held_out.jsonl: cannot be read .*fetch-corpus"):
        list(read_documents(tmp_path, "held_out"))
