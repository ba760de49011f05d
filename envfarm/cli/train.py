"""`envfarm train`: builds a corpus, and pretrains a model on it."""

import typer

from envfarm.cli.train_corpus import FETCH_EXAMPLE, fetch_corpus_command
from envfarm.cli.train_pretrain import PRETRAIN_EXAMPLE, pretrain_command

train_app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Build a corpus, and pretrain a model of MiMo-V2-Flash's architecture on it.",
)


@train_app.callback()
def train_root() -> None:
    """Build a corpus, and pretrain a model of MiMo-V2-Flash's architecture on it."""


train_app.command("fetch-corpus", epilog=FETCH_EXAMPLE)(fetch_corpus_command)
train_app.command("pretrain", epilog=PRETRAIN_EXAMPLE)(pretrain_command)
