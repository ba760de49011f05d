"""The `envfarm` command: verbs are imported when they are used, and errors become one line and an exit code.

Exit codes: 0 done; 1 nothing published, unscored, or the farm failed; 2 a user's mistake; 130 interrupted.
"""

import importlib
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

_VERBS = {
    "mine": ("envfarm.cli.mine", "mine_command", "Mine a repository's history into verified tasks."),
    "ledger": ("envfarm.cli.ledger", "ledger_app", "Look into an output folder: the funnel, and why a candidate fell."),
    "grade": ("envfarm.cli.grade", "grade_command", "Grade one submission to a task."),
    "audit": ("envfarm.cli.audit", "audit_command", "Try the cheat collection on a task: which cheats does it pay?"),
    "task": ("envfarm.cli.task", "task_app", "Check, show, export and import tasks."),
    "images": ("envfarm.cli.images", "images_app", "Make the images that containers are made from."),
    "model": ("envfarm.cli.model", "model_app", "Look into a checkpoint, and serve it."),
    "train": ("envfarm.cli.train", "train_app", "Build a corpus, and pretrain a model on it."),
    "doctor": ("envfarm.cli.doctor", "doctor_command", "Say what works on this machine, and what mends the rest."),
}
# typer carries a click of its own or uses the installed one, by version; its public error leads to the right classes.
_ClickException = typer.BadParameter.__mro__[2]
_EXIT_FARM, _EXIT_USER, _EXIT_INTERRUPTED = 1, 2, 130


class LazyGroup(TyperGroup):
    """A group that knows its verbs by name, and imports a verb's file when it is called."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 -- the group's own signature
        """Return the verbs in the order of a first use."""
        return list(_VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the verb; only its name and line are known while help is shown."""
        if cmd_name not in _VERBS:
            return None
        module, attribute, line = _VERBS[cmd_name]
        if ctx.resilient_parsing or _only_listing(ctx):
            return TyperCommand(cmd_name, help=line, short_help=line)
        return _load(cmd_name, module, attribute)


def _only_listing(ctx: Any) -> bool:
    words = sys.argv[1:]
    return ctx.parent is None and (not words or words[0].startswith("-"))


def _load(name: str, module: str, attribute: str) -> Any:
    target: Any = getattr(importlib.import_module(module), attribute)
    if isinstance(target, typer.Typer):
        command = typer.main.get_command(target)
    else:
        examples = getattr(importlib.import_module(module), "_EXAMPLES", None)
        single = typer.Typer(add_completion=False, rich_markup_mode=None)
        single.command(name, epilog=examples)(target)
        command = typer.main.get_command(single)
    command.name = name
    return command


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Mine software tasks from repositories, run them in sandboxes, and grade what was done.",
)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    *,
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    """Mine software tasks from repositories, run them in sandboxes, and grade what was done."""
    if version:
        from importlib.metadata import version as installed_version

        sys.stdout.write(f"envfarm {installed_version('envfarm')}\n")
        raise typer.Exit
    if context.invoked_subcommand is None:
        sys.stdout.write(context.get_help() + "\n")


def main() -> None:
    """Run the command line, and leave with its exit code."""
    try:
        status = app(standalone_mode=False)
    except typer.Exit as error:
        status = error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        status = _EXIT_INTERRUPTED
    except BaseExceptionGroup as group:
        from envfarm.errors import only_error

        status = _tell(only_error(group))
    except Exception as error:  # noqa: BLE001 -- where an error becomes one line and an exit code
        status = _tell(error)
    raise SystemExit(status if isinstance(status, int) else 0)


def _tell(error: BaseException) -> int:
    """Say an expected error in one line; raise one that is a defect of ours."""
    from envfarm.errors import BoundaryError, UserError

    if isinstance(error, KeyboardInterrupt):
        return _EXIT_INTERRUPTED
    if isinstance(error, _ClickException):
        error.show()  # type: ignore[attr-defined] # every ClickException has it
        return _EXIT_USER
    if not isinstance(error, UserError | BoundaryError):
        raise error
    sys.stderr.write(f"envfarm: {' '.join(str(error).split())}\n")
    return _EXIT_USER if isinstance(error, UserError) else _EXIT_FARM


if __name__ == "__main__":
    main()
