"""The example of docs/model.md runs as it is printed."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from envfarm.model.checkpoint_writer import write_checkpoint

PAGE = Path(__file__).parents[2] / "docs/model.md"


def test_the_page_runs(small_config: Callable[..., Any], make_model: Callable[..., Any], tmp_path: Path) -> None:
    write_checkpoint(make_model(small_config()), tmp_path / "checkpoint")
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    program = block + "print(tuple(logits.shape), bool(logits.isfinite().all()), logits.dtype)\n"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "(1, 97) True torch.bfloat16\n")
