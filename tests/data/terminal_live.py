"""What the terminal verifier has to see of a box where something runs, whichever sandbox that is."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio
import msgspec

from envfarm.grading.grade import grade
from envfarm.records.submission import Submission, SubmissionKind
from envfarm.records.verdict import Outcome, Verdict
from envfarm.sandbox.contract import SandboxProviderFactory

if TYPE_CHECKING:
    from tests.data.tiny.task import TinyTask

Run = Callable[..., Verdict]
_ASK = (
    "import time, urllib.request\n"
    "for _ in range(60):\n"
    "    try:\n"
    "        print(urllib.request.urlopen('http://127.0.0.1:8123/a.txt').read().decode())\n"
    "        break\n"
    "    except OSError:\n"
    "        time.sleep(0.05)\n"
)


def run_terminal(
    tiny: "TinyTask",
    open_provider: SandboxProviderFactory,
    changes: dict[str, str | None],
    config: dict[str, Any],
    **files: bytes,
) -> Verdict:
    """Grade changes to the tiny task's workspace with terminal checks; files go to tests/, ``__`` for a dot."""
    task = msgspec.structs.replace(tiny.package.task, verifier="terminal", verifier_config=config)
    known = {f"tests/{name.replace('__', '.')}": content for name, content in files.items()}
    package = replace(tiny.package, task=task, files={**tiny.package.files, **known})
    submission = Submission(task_id=task.task_id, kind=SubmissionKind.PATCH, patch=tiny.patch(changes))

    async def go() -> Verdict:
        async with open_provider({}) as provider:
            with anyio.fail_after(120):
                return await grade(package, submission, provider=provider, image=tiny.image)

    return anyio.run(go)


def values(verdict: Verdict) -> dict[str, float]:
    assert verdict.outcome is Outcome.SCORED, verdict.failure
    return {component.name: component.value for component in verdict.components}


def _server(python: str) -> str:
    return f"{python} -m http.server 8123 --bind 127.0.0.1 --directory /workspace/site > /dev/null 2>&1 &"


def see_answers(run: Run, python: str) -> None:
    """Processes, ports and answers of what setup started are seen; in silence they are not."""
    checks = [
        {
            "name": "answer",
            "kind": "http",
            "url": "http://127.0.0.1:8123/a.txt",
            "regex": "^hello$",
            "within_seconds": 20,
        },
        {"name": "none", "kind": "http", "url": "http://127.0.0.1:8123/b.txt", "status": 404},
        {"name": "port", "kind": "port", "port": 8123},
        {"name": "closed", "kind": "port", "port": 8124, "open": False},
        {"name": "process", "kind": "process", "regex": "http.server 8123", "count_max": 1},
        {"name": "no process", "kind": "process", "regex": "sleep 77"},
        {"name": "asked", "kind": "command", "argv": [python, "-c", _ASK], "stdout": "hello", "alive": True},
        {"name": "asked in silence", "kind": "command", "argv": [python, "-c", _ASK], "stdout": "hello"},
    ]
    verdict = run({"site/a.txt": "hello\n"}, {"checks": checks, "setup": [_server(python)]})
    zero = {"no process", "asked in silence"}
    assert values(verdict) == {item["name"]: float(item["name"] not in zero) for item in checks}


def see_hunted(run: Run, python: str) -> None:
    """Who kills the look earns nothing."""
    hunt = (
        "import os, signal, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    while True:\n"
        "        for name in os.listdir('/proc'):\n"
        "            try:\n"
        "                if name.isdigit() and b'look.py' in open(f'/proc/{name}/cmdline', 'rb').read():\n"
        "                    os.kill(int(name), signal.SIGKILL)\n"
        "            except OSError:\n"
        "                pass\n"
    )
    checks = [{"name": "closed", "kind": "port", "port": 9, "open": False}]
    verdict = run({"hunt.py": hunt}, {"checks": checks, "setup": [f"{python} hunt.py"]})
    assert values(verdict) == {"closed": 0.0}
    assert "disturbed" in verdict.components[0].rationale


def see_ended(run: Run, python: str) -> None:
    """What is left running is ended before files and rewards are looked at."""
    rewrite = (
        "import os\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    while True:\n"
        "        open('/workspace/ticks', 'a').write('x')\n"
        "        try:\n"
        "            open('/logs/verifier/reward.json', 'w').write('{\"reward\": 1}')\n"
        "        except OSError:\n"
        "            pass\n"
    )
    still = "a=$(wc -c < ticks); sleep 0.3; test $a = $(wc -c < ticks)"
    checks = [
        {"name": "runs", "kind": "process", "regex": "work.py"},
        {"name": "quiet", "kind": "command", "argv": ["/bin/sh", "-c", still]},
        {"name": "loud", "kind": "command", "argv": ["/bin/sh", "-c", still], "alive": True},
        {"name": "harbor", "kind": "rewards", "path": "tests/test.sh"},
    ]
    script = b"#!/bin/sh\nsleep 0.2\nrm -f /logs/verifier/reward.json\necho 0 > /logs/verifier/reward.txt\n"
    verdict = run({"work.py": rewrite}, {"checks": checks, "setup": [f"{python} work.py"]}, test__sh=script)
    found = values(verdict)
    assert (found["runs"], found["quiet"], found["loud"], found["harbor"]) == (1.0, 1.0, 0.0, 0.0)
