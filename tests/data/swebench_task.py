"""A small task of a SWE-bench task repository: a unittest suite in a git repository, and its eval.sh."""

from pathlib import Path

_BROKEN = "def add(a, b):\n    return a - b\n\n\ndef name():\n    return 'adder'\n"
_OLD_TESTS = """\
import unittest

import adder


class Case(unittest.TestCase):
    def test_name(self):
        self.assertEqual(adder.name(), 'adder')
"""
_GOLD = (
    "--- a/adder.py\n+++ b/adder.py\n@@ -1,5 +1,5 @@\n def add(a, b):\n-    return a - b\n+    return a + b\n"
    " \n \n def name():\n"
)
_TEST_PATCH = """\
--- a/test_adder.py
+++ b/test_adder.py
@@ -6,3 +6,6 @@
 class Case(unittest.TestCase):
     def test_name(self):
         self.assertEqual(adder.name(), 'adder')
+
+    def test_add(self):
+        self.assertEqual(adder.add(2, 3), 5)
"""
_EVAL = f"""\
#!/bin/bash
cd /testbed
git checkout -q HEAD -- test_adder.py
git apply - <<'EOF'
{_TEST_PATCH}EOF
echo '>>>>> Start Test Output'
python3 -m unittest -v test_adder
status=$?
echo '>>>>> End Test Output'
echo ">>>>> Test Exit Code: $status"
"""
_META = """\
instance_id: somebody__adder-1
repo: somebody/adder
version: '1'
base_commit: HEAD
image: no/such:image
log_parser: parse_log_django
eval_type: pass_and_fail
split: test
datasets: [somebody/adder]
"""
ADD, NAME = "test_add (test_adder.Case.test_add)", "test_name (test_adder.Case.test_name)"
"""As Python 3.11 and newer print them."""


def write_swebench_task(folder: Path, base: str) -> Path:
    """Write the task's folder; its image is the base with the repository at /testbed."""
    files = {
        "task.yaml": _META,
        "tests.json": f'{{"FAIL_TO_PASS": ["{ADD}"], "PASS_TO_PASS": ["{NAME}"]}}',
        "problem_statement.md": "Adding takes away.\n",
        "gold.patch": _GOLD,
        "test.patch": _TEST_PATCH,
        "eval.sh": _EVAL,
        "adder.py": _BROKEN,
        "test_adder.py": _OLD_TESTS,
        "Dockerfile": f"FROM {base}\nWORKDIR /testbed\nCOPY adder.py test_adder.py ./\n"
        "RUN git init -q . && git add . && git -c user.name=a -c user.email=a@b commit -qm base\n",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder
