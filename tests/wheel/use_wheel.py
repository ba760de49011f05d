"""Uses the installed wheel, without the source: its top-level names, its command, its plug-ins, its data files."""

import subprocess
import sys
import zipfile
from importlib.metadata import entry_points
from pathlib import Path

import envfarm
import envfarm_verifiers
import task_miner
from envfarm.sandbox.agent.programs import TWIN, agent_program


def check(claim: str, *, holds: bool) -> None:
    """Print the claim, and leave when it does not hold."""
    sys.stdout.write(f"{'ok  ' if holds else 'FAIL'} {claim}\n")
    if not holds:
        sys.exit(1)


def main() -> None:
    """Check what a user of the wheel relies on."""
    names = {name.split("/")[0] for name in zipfile.ZipFile(sys.argv[1]).namelist()}
    packages = {name for name in names if not name.endswith(".dist-info")}
    ours = {"envfarm", "envfarm_verifiers", "task_miner"}
    check("the wheel's top-level names are ours alone", holds=packages == ours)
    for module in (envfarm, envfarm_verifiers, task_miner):
        place = Path(str(module.__file__))
        check(f"{module.__name__} comes from the wheel", holds="site-packages" in place.parts)
        check(f"{module.__name__} says that it is typed", holds=(place.parent / "py.typed").is_file())
    for group in ("envfarm.sandboxes", "envfarm.verifiers"):
        for point in entry_points(group=group):
            check(f"{group}: {point.name} can be loaded", holds=callable(point.load()))
    programs = Path(str(envfarm_verifiers.__file__)).parent / "box_programs"
    check("the box programs are in the wheel", holds=(programs / "launch.py").is_file())
    agent = agent_program()
    done = subprocess.run([agent], capture_output=True, text=True, check=False)
    check("the agent's program runs from the wheel", holds=done.returncode == 2 and "usage" in done.stderr)
    done = subprocess.run([sys.executable, "-I", "-S", TWIN], capture_output=True, text=True, check=False)
    check("the agent's twin runs from the wheel", holds=done.returncode == 2 and "usage" in done.stderr)
    shipped = agent.parents[1]
    there = [(shipped / name).is_file() for name in ("source/main.c", "PROTOCOL.md", "programs/envfarm-agent-aarch64")]
    check("the agent's source and protocol are in the wheel", holds=all(there))
    command = Path(sys.executable).with_name("envfarm")
    for words in (
        ["--help"],
        ["mine", "--help"],
        ["grade", "--help"],
        ["ledger", "--help"],
        ["model", "--help"],
        ["model", "inspect", "bundled"],
        ["train", "--help"],
        ["train", "fetch-corpus", "--help"],
        ["doctor", "--json"],
    ):
        done = subprocess.run([command, *words], capture_output=True, text=True, check=False)
        good = done.returncode == 0 or words[0] == "doctor"
        check(f"envfarm {' '.join(words)}", holds=good and "Traceback" not in done.stderr)
    done = subprocess.run([command, "grade", "/nonexistent", "--oracle"], capture_output=True, text=True, check=False)
    check("a user's mistake is one line and exit code 2", holds=done.returncode == 2 and done.stderr.count("\n") == 1)


if __name__ == "__main__":
    main()
