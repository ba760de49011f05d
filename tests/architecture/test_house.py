"""The house's rules that no linter knows: sizes, names, purity, errors, side effects, facts of machines."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("envfarm", "task_miner", "verifiers/envfarm_verifiers")
MOST_LINES, MOST_FUNCTION_LINES, MOST_PARAMETERS = 600, 60, 8
FORBIDDEN_NAMES = frozenset("utils helpers common base core manager handler types misc".split())  # noqa: SIM905 -- a list
BROAD_EXCEPTS = frozenset({"envfarm/grading/grade.py", "envfarm/cli/main.py"})
"""Where a rollout's failure becomes data, and where any error becomes one line and an exit code."""
IMPURE = frozenset(
    {
        "subprocess",
        "socket",
        "time",
        "random",
        "secrets",
        "anyio",
        "asyncio",
        "tempfile",
        "shutil",
        "git",
        "rich",
        "typer",
    }
)
HEAVY = ("torch", "docker", "kubernetes", "playwright", "ray", "cv2", "grpc")


def product_files() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def names_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def trees() -> Iterator[tuple[str, ast.Module]]:
    for path in product_files():
        yield names_of(path), ast.parse(path.read_bytes())


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    yield from (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_files_stay_small() -> None:
    every = [*product_files(), *(ROOT / "tests").rglob("*.py"), *(ROOT / "bench").rglob("*.py")]
    every += (ROOT / "envfarm" / "sandbox" / "agent" / "source").glob("*.[ch]")
    every += (ROOT / "envfarm" / "model" / "kernels" / "source").glob("*.[ch]")
    long = {names_of(path): count for path in every if (count := len(path.read_text().splitlines())) > MOST_LINES}
    assert long == {}


def test_functions_stay_small_and_take_few_parameters() -> None:
    long, wide = [], []
    for name, tree in trees():
        for node in functions(tree):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MOST_FUNCTION_LINES:
                long.append(f"{name}:{node.lineno} {node.name} has {length} lines")
            parameters = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            count = len([parameter for parameter in parameters if parameter.arg not in {"self", "cls"}])
            if count > MOST_PARAMETERS and not node.name.endswith("_command"):
                wide.append(f"{name}:{node.lineno} {node.name} has {count} parameters")
    assert (long, wide) == ([], [])


def test_no_file_is_named_after_nothing() -> None:
    assert [names_of(path) for path in product_files() if path.stem in FORBIDDEN_NAMES] == []


def test_broad_excepts_stand_in_two_places_only() -> None:
    found = set()
    for name, tree in trees():
        if "/box_programs/" in name or name.endswith(("local/box_mounts.py", "local/holder.py", "local/keeper.py")):
            continue  # programs of their own: what they cannot do is told by their exit code
        for node in ast.walk(tree):
            if isinstance(node, ast.ExceptHandler):
                kinds = [node.type] if node.type is None or not isinstance(node.type, ast.Tuple) else node.type.elts
                broad = {kind.id for kind in kinds if isinstance(kind, ast.Name)} & {"Exception"}
                if broad or node.type is None:
                    found.add(name)
    assert found <= BROAD_EXCEPTS


def test_no_exception_is_swallowed() -> None:
    found = []
    for name, tree in trees():
        for node in ast.walk(tree):
            silent = isinstance(node, ast.ExceptHandler) and all(isinstance(item, ast.Pass) for item in node.body)
            if silent:
                found.append(f"{name}:{node.lineno}")
    assert found == []


def test_files_that_say_they_are_pure_import_nothing_impure() -> None:
    found = []
    for name, tree in trees():
        docstring = ast.get_docstring(tree) or ""
        if not re.search(r"\bPURE\b(?! but)", docstring):
            continue
        for node in ast.walk(tree):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found += [f"{name}: {module}" for module in modules if module.split(".")[0] in IMPURE]
    assert found == []


def test_there_is_no_init_in_the_source_root_of_verifiers_nor_in_tests() -> None:
    assert not (ROOT / "verifiers" / "__init__.py").exists()
    assert list((ROOT / "tests").rglob("__init__.py")) == []


@pytest.mark.parametrize("package", ["envfarm", "envfarm_verifiers", "task_miner"])
def test_importing_has_no_side_effects(package: str, tmp_path: Path) -> None:
    program = (
        "import importlib, pkgutil, sys, threading\n"
        f"package = importlib.import_module({package!r})\n"
        "for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "    needs_torch = module.name.startswith(('envfarm.model.', 'envfarm.training.'))  # see tests/model\n"
        "    if '.box_programs' in module.name or module.name.endswith(('.keeper', '.holder')) or needs_torch:\n"
        "        continue\n"
        "    importlib.import_module(module.name)\n"
        f"heavy = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "assert not heavy, heavy\n"
        "assert threading.active_count() == 1\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys\nfrom envfarm.cli.main import main\nsys.argv = ['envfarm', '--help']\n"
        "try:\n    main()\nexcept SystemExit: pass\n"
        "heavy = ('git', 'tomlkit', 'requests', 'task_miner', 'msgspec', 'anyio')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_tree_tells_nothing_of_any_machine() -> None:
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    patterns = re.compile(r"(?<![\w.])/(?:root/\.|work/)|files\.pythonhosted|pypi\.org")
    found = []
    for name in filter(None, tracked.split("\0")):
        if name == "tests/architecture/test_house.py":
            continue
        content = (ROOT / name).read_bytes()
        text = content.decode("utf-8", "replace") if b"\0" not in content[:4096] else ""
        found += [f"{name}: {match[0]}" for match in patterns.finditer(text)]
    assert found == []


def test_the_reasons_page_names_every_code() -> None:
    from task_miner.reasons import ReasonCode

    page = (ROOT / "docs" / "reasons.md").read_text()
    assert set(re.findall(r"`([A-Z][A-Z_0-9]+)`", page)) == {str(code) for code in ReasonCode}


def test_every_benchmark_explains_itself() -> None:
    for path in (ROOT / "bench").glob("*.py"):
        done = subprocess.run([sys.executable, path, "--help"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, path
        assert "usage" in done.stdout.lower(), path
