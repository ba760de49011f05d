"""Harbor task folders, schema 1.4: the public names."""

from envfarm.formats.harbor_digest import package_digest
from envfarm.formats.harbor_package import read_package, write_package
from envfarm.formats.harbor_toml import render_task_toml

__all__ = ["package_digest", "read_package", "render_task_toml", "write_package"]
