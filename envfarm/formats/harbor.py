"""Harbor task folders, schema 1.4: the public names.

Lint is apart (`lint`), so that grading does not pay for its imports.
"""

from envfarm.formats.foreign import HarborTask, expand_variables, read_foreign, strip_canary, write_foreign_task
from envfarm.formats.harbor_digest import package_digest
from envfarm.formats.harbor_package import read_package, write_package
from envfarm.formats.harbor_toml import render_task_toml

__all__ = [
    "HarborTask",
    "expand_variables",
    "package_digest",
    "read_foreign",
    "read_package",
    "render_task_toml",
    "strip_canary",
    "write_foreign_task",
    "write_package",
]
