"""Grades under Harbor's contract: run by tests/test.sh in a container, writes /logs/verifier/reward.json.

Standard library only. The container is the one that the policy worked in, so this trusts nothing in the workspace: it
places the protected files, runs the tests with a private pipe and a fresh nonce, and compares with expected.json. It
cannot undo what a policy did to the container itself; `envfarm grade` uses a fresh box instead.
"""

import binascii
import json
import marshal
import os
import shutil
import subprocess
import sys

TESTS = os.path.dirname(os.path.abspath(__file__))
LOGS = "/logs/verifier"
PYTHON = "/opt/venv/bin/python"


def main():
    """Place, run, compare, write."""
    sys.path.insert(0, TESTS)
    import place_files

    with open(os.path.join(TESTS, "expected.json"), "rb") as file:
        expected = json.loads(file.read().decode("utf-8"))
    with open(os.path.join(TESTS, "reference.tar.xz"), "rb") as file:
        members = place_files.members_of(file.read())
    place_files.place({"protected": expected["protected"], "removed": expected["removed_paths"], "members": members})
    outcomes, ended = run(expected)
    wanted = list(expected["fail_to_pass"]) + list(expected["pass_to_pass"])
    wrong = [name for name in wanted if outcomes.get(name) != "passed"]
    reward = 1.0 if ended and not wrong else 0.0
    print(
        "{} of {} tests passed; the session {}".format(
            len(wanted) - len(wrong), len(wanted), "ended" if ended else "was cut"
        )
    )
    for name in wrong[:50]:
        print("not passed: {} ({})".format(name, outcomes.get(name, "missing")))
    write_reward(reward)


def run(expected):
    """Run the tests and return their outcomes, and whether the session ended."""
    nonce = binascii.hexlify(os.urandom(16)).decode()
    reading, writing = os.pipe()
    job = {name: expected[name] for name in ("paths", "plugins", "options", "test_timeout_seconds")}
    job["nonce"] = nonce
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
    environment.update(PYTHONHASHSEED="0", TZ="UTC", LC_ALL="C.UTF-8", COLUMNS="80", PYTHONDONTWRITEBYTECODE="1")
    environment.update(expected["environment_variables"])
    environment["ENVFARM_REPORT_FD"] = str(writing)
    process = subprocess.Popen(
        [PYTHON, "-s", os.path.join(TESTS, "launch.py")],
        stdin=subprocess.PIPE,
        pass_fds=(writing,),
        env=environment,
        cwd="/workspace",
    )
    os.close(writing)
    process.stdin.write(marshal.dumps(job, 2))
    process.stdin.close()
    outcomes, ended = {}, False
    with os.fdopen(reading, "rb") as lines:
        for line in lines:
            record = parse(line, nonce)
            if record.get("kind") == "test":
                outcomes[record["id"]] = record["outcome"]
            if record.get("kind") == "end":
                ended = True
                break
    process.kill() if not ended else None
    process.wait()
    return outcomes, ended


def parse(line, nonce):
    """Return the record of a line; an empty one for a line that is not ours."""
    try:
        record = json.loads(line.decode("utf-8"))
    except ValueError:
        return {}
    return record if isinstance(record, dict) and record.get("nonce") == nonce else {}


def write_reward(reward):
    """Write the reward where Harbor reads it, over whatever was planted there."""
    if os.path.islink(LOGS):
        os.remove(LOGS)
    os.makedirs(LOGS, exist_ok=True)
    for name in ("reward.txt", "reward.json"):
        path = os.path.join(LOGS, name)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        elif os.path.lexists(path):
            os.remove(path)
    descriptor = os.open(os.path.join(LOGS, "reward.json"), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    with os.fdopen(descriptor, "w") as file:
        json.dump({"reward": reward}, file)


if __name__ == "__main__":
    main()
