"""Harbor's lint rules about images and commands, in Dockerfiles and test scripts. PURE.

A line is read as a shell would split it; what a here-document holds is not looked into.
"""

import json
import re
import shlex
from collections.abc import Iterator
from urllib.parse import urlsplit

from packaging.requirements import InvalidRequirement, Requirement

Finding = tuple[str, int, str]

_HIDDEN = re.compile(r"(?:^|/)(?:solution/solve\.sh|tests/(?:test\.sh|test_[^/]+\.py))$")
_HEREDOC = re.compile(r""""(?:\\.|[^"\\])*"|'[^']*'|<<-?\s*(['"]?)(?P<end>\w+)\1""")
_TAKES_VALUE = frozenset(
    {
        *("-r", "--requirement", "-c", "--constraint", "-i", "--index-url", "--extra-index-url", "-t", "--target"),
        *("--prefix", "--root", "--cache-dir", "--python", "-p", "--log", "--src", "--find-links", "-f", "--platform"),
        *("--config-settings", "-C", "--index", "--default-index", "--from"),
    }
)
_INSTALLERS = (
    ("pip", "install"),
    ("pip3", "install"),
    ("python", "-m", "pip", "install"),
    ("python3", "-m", "pip", "install"),
    ("uv", "pip", "install"),
    ("uv", "tool", "install"),
    ("uvx",),
)
_RUNNERS = frozenset({"pytest", "pytest-json-ctrf"})
_SEPARATORS = frozenset({";", "&&", "||", "&", "|"})


def lint_image(image: str, what: str) -> Iterator[tuple[str, str]]:
    """Yield (rule, message) when an image is named by anything but its digest."""
    if image != "scratch" and "$" not in image and not re.search(r"@sha256:[0-9a-fA-F]{64}$", image):
        yield "unpinned-image", f"{what} {image} is not named by its digest (@sha256:...)"


def lint_dockerfile(text: str, *, of_agent: bool) -> Iterator[Finding]:
    """Yield (rule, line, message) of a Dockerfile; `of_agent` says that policies work in its image."""
    stages: set[str] = set()
    for number, line in logical_lines(text):
        word, _, rest = line.strip().partition(" ")
        rest = re.sub(r"^(?:--\S+\s+)+", "", rest.strip())
        arguments = _arguments(rest)
        if arguments is None:
            continue
        match word.upper():
            case "FROM" if arguments:
                if arguments[0].lower() not in stages:
                    yield from ((rule, number, said) for rule, said in lint_image(arguments[0], "the base image"))
                if len(arguments) > 2 and arguments[1].upper() == "AS":  # noqa: PLR2004 -- FROM image AS name
                    stages.add(arguments[2].lower())
            case "RUN":
                command = shlex.join(arguments) if rest.startswith("[") else rest
                yield from _lint_commands(command, number, is_separate=False)
            case "COPY" | "ADD" if of_agent:
                hidden = next((source for source in arguments[:-1] if _HIDDEN.search(source)), None)
                if hidden is not None:
                    yield "agent-image-test-leak", number, f"{hidden} would be in the image that the agent works in"


def lint_script(text: str, *, is_separate: bool) -> Iterator[Finding]:
    """Yield (rule, line, message) of a test or solution script.

    Args:
        text: The script.
        is_separate: It judges in a container of its own, which can hold all that it needs.
    """
    for number, line in logical_lines(text):
        yield from _lint_commands(line, number, is_separate=is_separate)


def logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield lines with their numbers: continued ones joined, without comments, blank lines and here-documents."""
    start, waiting = 1, ""
    ends: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if ends:
            if line.strip() == ends[0]:
                ends.pop(0)
            continue
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        start = start if waiting else number
        if line.rstrip().endswith("\\"):
            waiting += line.rstrip()[:-1] + " "
            continue
        whole, waiting = waiting + line, ""
        ends = [match["end"] for match in _HEREDOC.finditer(whole) if match["end"]]
        if not ends:
            yield start, whole
    if waiting:
        yield start, waiting


def _arguments(rest: str) -> list[str] | None:
    try:
        found = json.loads(rest) if rest.startswith("[") else shlex.split(rest)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, list) and all(isinstance(item, str) for item in found) else None


def _lint_commands(line: str, number: int, *, is_separate: bool) -> Iterator[Finding]:
    commands = _commands(line)
    for index, (command, separator) in enumerate(commands):
        packages = _packages(command)
        is_constrained = any(word.split("=", 1)[0] in {"-c", "--constraint"} for word in command)
        if not is_constrained and (loose := [package for package in packages if _is_loose(package)]):
            yield "unpinned-python-dependency", number, f"{loose[0]} is not pinned to one version"
        if not is_separate:
            continue
        names = {re.split(r"[<>=!~\[]", package)[0].lower().replace("_", "-") for package in packages}
        if names & _RUNNERS and not {"--offline", "--no-index"} & set(command):
            yield "verifier-runtime-install", number, "the verifier installs its test runner while it judges"
        piped_to = commands[index + 1][0][0] if separator == "|" and index + 1 < len(commands) else ""
        if _downloads(command, piped_to):
            yield "verifier-network-download", number, f"the verifier downloads with {command[0]} while it judges"


def _commands(line: str) -> list[tuple[list[str], str]]:
    """Return the simple commands of a line, each with what stands after it."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|")
    lexer.whitespace_split = True
    found: list[tuple[list[str], str]] = []
    command: list[str] = []
    try:
        for word in [*lexer, ";"]:
            if word not in _SEPARATORS:
                command.append(word)
            elif command:
                found.append((command, word))
                command = []
    except ValueError:
        return []
    return found


def _packages(command: list[str]) -> list[str]:
    """Return what a command installs from an index or an address."""
    start = next((words for words in _INSTALLERS if tuple(command[: len(words)]) == words), None)
    if start is None:
        return []
    words = iter(command[len(start) :])
    found: list[str] = []
    for word in words:
        flag, equals, value = word.partition("=")
        if flag in {"--with", "-w"}:
            found.append(value if equals else next(words, ""))
        elif flag in {"-e", "--editable"}:
            source = value if equals else next(words, "")
            found += [source] if "://" in source else []
        elif flag in _TAKES_VALUE:
            if not equals:
                next(words, None)
        elif not word.startswith("-"):
            if start == ("uvx",):
                break
            found.append(word)
    is_upgrade_of_pip = found == ["pip"] and bool({"-U", "--upgrade"} & set(command))
    return [] if is_upgrade_of_pip else found


def _is_loose(package: str) -> bool:
    if not package or "$" in package or package.startswith((".", "/", "file:")):
        return False
    if "://" in package:
        return not re.search(r"@[0-9a-fA-F]{40}(?:#|$)|#sha256=[0-9a-fA-F]{64}$", package)
    if package.endswith((".whl", ".tar.gz", ".zip")):
        return False
    try:
        specifiers = Requirement(package).specifier
    except (InvalidRequirement, RecursionError):
        return False
    return not any(item.operator in {"==", "==="} and "*" not in item.version for item in specifiers)


def _downloads(command: list[str], piped_to: str) -> bool:
    """Say whether a command brings something of the network that is kept or run; probes of a service are allowed."""
    program, *words = command
    if program not in {"curl", "wget", "git"} or not any(map(_is_far, words)):
        return False
    if program == "git":
        return words[:1] == ["clone"]
    if piped_to in {"sh", "bash"}:
        return True
    if {"--spider", "-O-", "-qO-"} & set(words):
        return False
    for number, word in enumerate(words):
        output: str
        if program == "curl" and word == "-O":
            return True
        if word in {"-o", "--output", "-O", "--output-document", ">"}:
            output = words[number + 1] if number + 1 < len(words) else ""
        elif word.startswith(("--output=", "--output-document=")):
            output = word.split("=", 1)[1]
        elif program == "curl" and word.startswith("-o"):
            output = word[2:]
        else:
            continue
        return bool(output and output not in {"-", "/dev/null"} and "$" not in output)
    return program == "wget" or any(word.startswith(">") and word != ">/dev/null" for word in words)


def _is_far(word: str) -> bool:
    if re.match(r"git@[^:]+\.[^:]+:", word):
        return True
    try:
        host = urlsplit(word.removeprefix("--url=")).hostname
    except ValueError:
        return False
    return bool(host and "." in host and not host.startswith("127.") and not host.endswith(".localhost"))
