"""`envfarm train fetch-corpus` with the real package index, two small releases of our own list, and its mistakes."""

import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import msgspec

from envfarm.training.corpus import MANIFEST, read_documents
from envfarm.training.corpus_sources import SourceList, parse_sources

PROGRAM = "from envfarm.cli.main import main; main()"


def envfarm(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True, check=False)


def write_list(path: Path, **changes: str) -> Path:
    listed = parse_sources((files("envfarm.training") / "corpus_sources.json").read_bytes(), "ours")
    chosen = [source for source in listed.sources if source.project in {"attrs", "httpx"}]
    changed = tuple(msgspec.structs.replace(source, **changes) for source in chosen)
    path.write_bytes(msgspec.json.encode(SourceList(1, changed)))
    return path


def test_pinned_releases_become_a_corpus(tmp_path: Path) -> None:
    out = tmp_path / "corpus"
    done = envfarm("train", "fetch-corpus", "--sources", write_list(tmp_path / "list.json"), "--out", out)
    assert done.returncode == 0, done.stderr
    assert "1 projects to train on, 1 held out" in done.stdout
    assert {document.project for document in read_documents(out, "train")} == {"attrs"}
    assert {document.project for document in read_documents(out, "held_out")} == {"httpx"}
    manifest = msgspec.json.decode((out / MANIFEST).read_bytes())
    assert all(project["documents"] > 10 for project in manifest["projects"])


def test_a_release_of_another_digest_is_refused_and_one_line(tmp_path: Path) -> None:
    listed = write_list(tmp_path / "list.json", sha256="0" * 64)
    done = envfarm("train", "fetch-corpus", "--sources", listed, "--out", tmp_path / "corpus")
    assert done.returncode == 1
    assert "is pinned: nothing of it is used" in done.stderr.splitlines()[-1]


def test_a_release_that_the_index_lacks_is_named(tmp_path: Path) -> None:
    listed = write_list(tmp_path / "list.json", filename="attrs-0.0.0.tar.gz")
    done = envfarm("train", "fetch-corpus", "--sources", listed, "--out", tmp_path / "corpus")
    assert done.returncode == 2
    assert "the package index has no attrs-0.0.0.tar.gz any more" in done.stderr.splitlines()[-1]


def test_a_list_that_is_none_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text("[]")
    for name in ("list.json", "missing.json"):
        done = envfarm("train", "fetch-corpus", "--sources", tmp_path / name, "--out", tmp_path / "corpus")
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert name in done.stderr
