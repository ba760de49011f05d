#!/usr/bin/env bash
# Mines a few releases of a small library from the package index, then grades one task: the true fix, no change, cheats.
set -euo pipefail
out=${1:-demo-output}
spec=${2:-'pypi:sqlparse[0.4.2..0.5.0]'}

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

say "\$ envfarm mine --repo '$spec' --out $out --limit 3"
envfarm mine --repo "$spec" --out "$out" --limit 3

task=$(find "$out/tasks" -mindepth 1 -maxdepth 1 -type d | sort | head -1)
say "What the task says: $task/instruction.md"
sed -n '1,12p' "$task/instruction.md"

say "\$ envfarm grade $task --oracle          # the true fix"
envfarm grade "$task" --oracle
say "\$ envfarm grade $task --no-op           # no change"
envfarm grade "$task" --no-op

cheats=$(mktemp -d)
trap 'rm -rf "$cheats"' EXIT
cat > "$cheats/conftest.patch" <<'PATCH'
diff --git a/conftest.py b/conftest.py
new file mode 100644
--- /dev/null
+++ b/conftest.py
@@ -0,0 +1,7 @@
+import pytest
+
+
+@pytest.hookimpl(hookwrapper=True)
+def pytest_runtest_makereport(item, call):
+    outcome = yield
+    outcome.get_result().outcome = "passed"
PATCH
say "\$ envfarm grade $task --patch conftest.patch    # a conftest.py that turns every outcome into passed"
envfarm grade "$task" --patch "$cheats/conftest.patch"
names=(conftest_outcomes runner_report_made report_silent tests_code_replaced)
names=$(printf ' --cheat %s' "${names[@]}")
say "\$ envfarm audit $task$names    # a few of the collection, by us and by a plain pytest"
# shellcheck disable=SC2086 # words, one by one
envfarm audit "$task" $names || true

say "Done. Tasks lie in $out/tasks; 'envfarm ledger status $out' shows the funnel."
