"""Looks at the state of a box and changes nothing: ``python -I -S look.py``, questions on standard input as JSON.

Reads {"nonce": ..., "questions": [...]} and writes {"nonce": ..., "seen": [...]} to the report descriptor, once. Files
are looked at without following a last link. Asks on loopback only. Standard library only, Python 3.6 and newer.

Before it reads anything it makes itself undumpable, so that another process of the same user can neither read its
memory nor write to its descriptors.
"""

import hashlib
import json
import os
import socket
import stat
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

MOST_TEXT = 1 << 20
PR_SET_DUMPABLE = 4
PAUSE_SECONDS = 0.05
ANSWER_SECONDS = 10.0
LOOPBACK = {"127.0.0.1", "localhost", "::1"}


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """Takes a redirection for the answer."""

    def redirect_request(self, *arguments):
        """Follow none."""


def hide():
    """Keep other processes of the same user out of this one."""
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def look_at_file(question):
    """Return what a path is, with its digest and, where asked, its text."""
    path = question["path"]
    try:
        facts = os.lstat(path)
    except OSError:
        return {"type": "missing"}
    kinds = ((stat.S_ISREG, "file"), (stat.S_ISDIR, "folder"), (stat.S_ISLNK, "link"))
    kind = next((name for fits, name in kinds if fits(facts.st_mode)), "device")
    seen = {"type": kind, "mode": stat.S_IMODE(facts.st_mode), "uid": facts.st_uid}
    if kind == "link":
        seen["text"] = os.readlink(path)
    if kind == "file":
        try:
            seen.update(read(path, question["reads"]))
        except OSError as error:
            seen["error"] = str(error)
    return seen


def read(path, with_text):
    """Return digest and text of a file."""
    digest, text = hashlib.sha256(), b""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        for chunk in iter(lambda: file.read(MOST_TEXT), b""):
            digest.update(chunk)
            if with_text and len(text) < MOST_TEXT:
                text += chunk[: MOST_TEXT - len(text)]
    return {"sha256": digest.hexdigest(), "text": text.decode("utf-8", "replace")}


def look_at_processes(question):
    """Return the command lines of all other processes."""
    commands = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                with open("/proc/" + name + "/cmdline", "rb") as file:
                    words = file.read(65536).rstrip(b"\0").split(b"\0")
            except OSError:
                continue
            commands.append(b" ".join(words).decode("utf-8", "replace"))
    return {"commands": commands}


def look_at_port(question):
    """Say whether somebody listens."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(ANSWER_SECONDS)
        return {"open": probe.connect_ex(("127.0.0.1", question["port"])) == 0}


def look_at_answer(question):
    """Return what an address on loopback answers."""
    url = question["url"]
    if urllib.parse.urlsplit(url).hostname not in LOOPBACK or not url.startswith("http://"):
        return {"error": "not an http address on loopback"}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), NoRedirect())
    try:
        with opener.open(url, timeout=ANSWER_SECONDS) as answer:
            return {"status": answer.getcode(), "text": answer.read(MOST_TEXT).decode("utf-8", "replace")}
    except urllib.error.HTTPError as error:
        return {"status": error.code, "text": error.read(MOST_TEXT).decode("utf-8", "replace")}
    except (OSError, ValueError) as error:
        return {"error": str(error)}


def look(question):
    """Answer one question; one about a port or an address again until its time is up."""
    looks = {"file": look_at_file, "process": look_at_processes, "port": look_at_port, "http": look_at_answer}
    end = time.monotonic() + question.get("within_seconds", 0)
    while True:
        seen = looks[question["kind"]](question)
        is_there = seen.get("open", True) and "error" not in seen
        if is_there or time.monotonic() >= end:
            return seen
        time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    hide()
    job = json.loads(sys.stdin.buffer.read().decode())
    told = {"nonce": job["nonce"], "seen": [look(question) for question in job["questions"]]}
    with open(int(os.environ["ENVFARM_REPORT_FD"]), "wb") as report:
        report.write(json.dumps(told).encode())
