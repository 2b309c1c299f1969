"""The `pitune` command: its subcommands, and how it ends."""

from __future__ import annotations

import contextlib
import errno
import io
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Annotated

import typer

from pitune import __version__
from pitune.commands import (
    demo,
    doctor,
    evaluate,
    fit,
    graph,
    init,
    multitask,
    pool,
    pool_check,
    predict,
    predictors,
    report,
    study,
    study_prompts,
    tasks,
    tune,
)
from pitune.commands.groups import flat
from pitune.commands.output import QUIET, VERBOSE, VERBOSITY, is_verbose
from pitune.errors import InputError, printable
from pitune.processes import team

_INTERRUPTED, _TERMINATED = 130, 143  # as shells report a command that was stopped by the keyboard, or by `kill`
_SHARED = ("fit", "multitask", "tune")  # what several processes do together
_AGAIN = "run the same command again to go on where it stopped"
_SURROUNDINGS = {  # what a disk, an account or a system refuses is no fault of the program
    getattr(errno, name, None)
    for name in (
        *("EACCES", "EDQUOT", "EFBIG", "EIO", "ELOOP", "EMFILE", "ENAMETOOLONG", "ENFILE", "ENOSPC", "ENOTDIR"),
        *("ENOENT", "EPERM", "EROFS"),
    )
}

app = typer.Typer(
    name="pitune",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
task_app = typer.Typer(help="What there is to learn.")
data_app = typer.Typer(help="Download and prepare data.")
study_app = typer.Typer(help="Ask the papers' questions of any tasks.")
pool_app = typer.Typer(help="Folders of experts.")

COMMANDS: dict[typer.Typer, dict[str, Callable[..., None]]] = {
    app: {
        "demo": demo.demo,
        "init": init.init,
        "fit": fit.fit,
        "graph": graph.graph,
        "neighbours": graph.neighbours,
        "tune": tune.tune,
        "multitask": multitask.multitask,
        "eval": evaluate.evaluate,
        "predict": predict.predict,
        "report": report.report,
        "doctor": doctor.doctor,
    },
    task_app: {"list": tasks.list_tasks, "show": tasks.show, "check": tasks.check},
    data_app: {"pull": tasks.pull},
    pool_app: {
        "list": pool.list_experts,
        "show": pool.show,
        "check": pool_check.check,
        "verify": pool.verify,
        "add": pool.add,
        "remove": pool.remove,
        "clean": pool.clean,
        "import": pool.import_expert,
        "export": pool.export_expert,
        "push": pool.push,
        "pull": pool.pull,
    },
    study_app: {
        "compare": study.compare,
        "settings": study.settings,
        "transfer": study_prompts.transfer,
        "coop": study_prompts.coop,
        "elevater": study_prompts.elevater,
        "cross-task": study_prompts.cross_task,
        "predictors": predictors.predictors,
    },
}
for group, commands in COMMANDS.items():
    for name, command in commands.items():
        group.command(name)(flat(command))
for name, group in {"tasks": task_app, "data": data_app, "pool": pool_app, "study": study_app}.items():
    app.add_typer(group, name=name)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"pitune {__version__}")
        raise typer.Exit


@app.callback()
def _pitune(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the version.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Tell nothing on stderr but errors.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Let libraries warn, and show where an error was raised.")
    ] = False,
) -> None:
    """The best small expert for a new task, out of a frozen model, a few labels and the experts of other tasks."""  # noqa: D401
    if quiet and verbose:
        raise InputError("--quiet and --verbose: expected one of both")
    if quiet or verbose:
        os.environ[VERBOSITY] = QUIET if quiet else VERBOSE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    It is 0, 2 for bad input, 130 if interrupted, 143 if terminated, and 1 if the system refuses something (a full
    disk, a folder of somebody else) or nobody reads the output any more; the last says nothing. Any other failure is
    raised, so that its traceback is seen; Python then ends with status 1.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    before = os.environ.get(VERBOSITY)
    sys.stdout, sys.stderr = sys.stdout or io.StringIO(), sys.stderr or io.StringIO()  # closed by the shell's `>&-`
    try:
        return _ended(given)
    finally:
        os.environ.pop(VERBOSITY, None)
        os.environ.update({VERBOSITY: before} if before else {})


def _ended(given: list[str]) -> int:
    try:
        _check_shared(given)
        with _terminable():
            status = app(given or ["--help"], prog_name="pitune", standalone_mode=False)
            sys.stdout.flush()
    except (InputError, typer.TyperException) as error:
        if is_verbose():
            traceback.print_exc()
        among = team()
        who = "pitune" if among.first else f"pitune (process {among.index + 1} of {among.size})"
        print(f"{who}: {_one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        status = _INTERRUPTED
    except _Terminated:
        _say(f"terminated; {_AGAIN}")
        return _TERMINATED
    except ConnectionAbortedError as error:
        _say(f"{error.strerror}; {_AGAIN}")
        return 1
    except OSError as error:
        _let_go_of_output()
        if error.errno == errno.EPIPE:
            return 1
        if error.errno not in _SURROUNDINGS:
            raise
        place = f"{error.filename}: " if error.filename else ""
        print(printable(f"pitune: {place}{error.strerror}"), file=sys.stderr)
        return 1
    if status == _INTERRUPTED:
        _say(f"interrupted; {_AGAIN}")
    return int(status or 0)


def _check_shared(given: Sequence[str]) -> None:
    """Raise `InputError` where several processes were started for what one does."""
    command = next((one for one in given if not one.startswith("-")), _SHARED[0])
    if team().size > 1 and command not in _SHARED:
        raise InputError(
            f"`pitune {command}` runs in one process, found {team().size}; start it without torchrun, which is for "
            f"{', '.join(_SHARED)}"
        )


def _say(problem: str) -> None:
    """Tell on stderr what ended a command; of the processes of one run the first does."""
    if team().first:
        print(f"pitune: {problem}", file=sys.stderr)


class _Terminated(BaseException):
    """The process was asked to end; what it was writing is put away on the way out."""


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Raise `_Terminated` where a command is when the process is asked to end, its worker processes ended first."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only there may signals be listened to
        return

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough
        for worker in multiprocessing.active_children():
            worker.terminate()
        raise _Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _let_go_of_output() -> None:
    """Send what is left of stdout nowhere, if it cannot be written, so that Python does not fail on it at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _one_line(error: InputError | typer.TyperException) -> str:
    """Return an error's message on one line; where the flags are wrong, with the command that explains them."""
    if isinstance(error, InputError):
        return " ".join(str(error).split())
    context = getattr(error, "ctx", None)
    hint = f" (see {context.command_path} --help)" if context else ""
    return " ".join(error.format_message().split()) + hint
