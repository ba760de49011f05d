"""The public interface has the types that it promises, for a strict checker; a wrong use is found."""

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
WRONG = """
from envfarm.grading.grade import grade
from envfarm.records.versioned import decode_line
from envfarm.records.claim import Claim
from envfarm.records.verdict import Verdict
from task_miner.languages.contract import Language


def wrong(line: bytes) -> Verdict:
    return decode_line(line, Claim)


async def missing() -> None:
    await grade()


class Half:
    name = "half"


language: Language = Half()
"""


def check(path: Path, cache: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", str(ROOT / "pyproject.toml"), str(path)]
    return subprocess.run([*command, "--cache-dir", str(cache)], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def test_the_public_interface_has_the_types_that_it_promises(cache: Path) -> None:
    done = check(HERE / "public_interface.py", cache)
    assert done.returncode == 0, done.stdout


def test_a_wrong_use_is_found(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text(WRONG)
    done = check(tmp_path / "wrong.py", cache)
    assert done.returncode == 1
    lines = [line for line in done.stdout.splitlines() if "error" in line]
    assert {"return-value", "call-arg", "assignment"} <= {line.rsplit("[", 1)[-1].rstrip("]") for line in lines}
