"""Importing the model's modules does nothing but import; what inspects a checkpoint does not import torch."""

import subprocess
import sys
from pathlib import Path


def test_importing_the_model_has_no_side_effects(tmp_path: Path) -> None:
    program = (
        "import importlib, pkgutil, sys, threading\n"
        "import torch\n"
        "threads = threading.active_count()\n"
        "import envfarm.model, envfarm.training\n"
        "names = [\n"
        "    module.name\n"
        "    for package in (envfarm.model, envfarm.training)\n"
        "    for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.')\n"
        "]\n"
        "for name in names:\n"
        "    importlib.import_module(name)\n"
        "others = {'transformers', 'safetensors', 'tokenizers'} & set(sys.modules)\n"
        "print(len(names), threading.active_count() - threads, sorted(others), torch.get_num_threads() > 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    count, started, others, _ = done.stdout.split(maxsplit=3)
    assert (int(count) > 60, started, others) == (True, "0", "[]")
    assert list(tmp_path.iterdir()) == []
