"""Harbor's lint rules about images and commands, in Dockerfiles and test scripts. PURE."""

import re
import shlex
from collections.abc import Iterator

_PIP = re.compile(r"\b(?:pip3?|uv pip|python3? -m pip)\s+install\b(?P<rest>[^\n;&|]*)")
_INSTALL = re.compile(
    r"\b(?:apt-get|apt|apk|dnf|yum)\s+(?:-\S+\s+)*(?:install|add)\b|\b(?:npm|cargo|gem|go)\s+install\b"
)
_DOWNLOAD = re.compile(r"\b(?:curl|wget)\s+[^\n;&|]*https?://|\bgit\s+clone\s+[^\n;&|]*(?:https?|git)://")
_COPIES_TESTS = re.compile(
    r"^\s*(?:COPY|ADD)\s+(?:--\S+\s+)*(?:\./)?(?:\.\./)?(?:tests|solution)/?\S*\s", re.IGNORECASE
)

Finding = tuple[str, int, str]


def lint_dockerfile(name: str, text: str) -> Iterator[Finding]:
    """Yield (rule, line, message) of a Dockerfile."""
    stages: set[str] = set()
    for number, line in _logical_lines(text):
        words = line.split()
        if words and words[0].upper() == "FROM":
            image = next((word for word in words[1:] if not word.startswith("--")), "")
            if image not in stages and image != "scratch" and not re.search(r"@sha256:|:\d+\.\d+\.\d+", image):
                yield "unpinned-image", number, f"the image {image} is named by neither digest nor full version"
            if len(words) > 3 and words[-2].upper() == "AS":  # noqa: PLR2004 -- FROM image AS name
                stages.add(words[-1])
        if name.startswith("environment/") and _COPIES_TESTS.match(line):
            yield "agent-image-test-leak", number, "the agent's image holds tests or the solution"
        yield from _unpinned(number, line)


def lint_script(text: str) -> Iterator[Finding]:
    """Yield (rule, line, message) of a test script: a verifier that installs or downloads depends on the day."""
    for number, line in _logical_lines(text):
        if _PIP.search(line) or _INSTALL.search(line):
            yield "verifier-runtime-install", number, "the verifier installs while it judges"
        if _DOWNLOAD.search(line):
            yield "verifier-network-download", number, "the verifier downloads while it judges"
        yield from _unpinned(number, line)


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    start, waiting = 1, ""
    for number, line in enumerate(text.splitlines(), start=1):
        if not waiting:
            start = number
        if line.strip().startswith("#"):
            continue
        if line.endswith("\\"):
            waiting += line[:-1] + " "
            continue
        yield start, waiting + line
        waiting = ""
    if waiting:
        yield start, waiting


def _unpinned(number: int, line: str) -> Iterator[Finding]:
    for match in _PIP.finditer(line):
        try:
            words = shlex.split(match["rest"])
        except ValueError:
            continue
        skipped = False
        for word in words:
            if skipped or word.startswith("-"):
                skipped = word in {"-r", "-c", "-e", "--requirement", "--constraint", "--editable", "--index-url", "-i"}
                continue
            package = re.fullmatch(r"[A-Za-z0-9][\w.-]*(\[[\w,.-]+\])?", word)
            if package or re.search(r"[<>~!]=?", word):
                yield "unpinned-python-dependency", number, f"{word} is not pinned to one version"
