"""The edge of every command: whatever goes wrong inside ends in words and an exit code, never in a traceback.

0 success, 1 failure, 2 a wrong option or setting, 130 interrupted; commands add their own, above 2.
"""

from __future__ import annotations

import errno
import sys
import tempfile
import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from pydantic import ValidationError

EXIT_FAILURE: Final = 1
EXIT_USAGE: Final = 2

_ADVICE: Final = {
    errno.ENOSPC: "Make room on that disk, or choose another folder.",
    errno.EDQUOT: "Your quota on that disk is used up: make room, or choose another folder.",
    errno.EFBIG: "The file would be larger than this account may write; raise the limit (ulimit -f).",
    errno.EACCES: "Choose a folder that you may use, or change its owner.",
    errno.EPERM: "Choose a folder that you may use, or change its owner.",
    errno.EROFS: "Choose a folder on a disk that can be written.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
    errno.ENOTDIR: "A part of this path is a file; choose another folder.",
    errno.EEXIST: "A file is in the way; choose another folder.",
}


class Failure(Exception):
    """A command cannot do what it was asked; the message says why and what to do."""


class GuardedGroup(TyperGroup):
    """The commands, each behind this edge."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; an error becomes words on stderr and an exit code."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except (typer.Exit, typer.Abort, KeyboardInterrupt, BrokenPipeError):
            raise  # Typer knows these
        except Exception as error:
            if _is_usage(error):
                raise
            raise typer.Exit(report(error)) from error
        return result


def report(error: Exception) -> int:
    """Write on stderr what an error means, and return the exit code."""
    settings = _settings_error(error) or _settings_file_error(error)
    if settings is not None:
        print(settings, file=sys.stderr)
        return EXIT_USAGE
    if isinstance(error, Failure):
        print(error, file=sys.stderr)
        return EXIT_FAILURE
    print(f"{_words(error)}{_written_report(error)}", file=sys.stderr)
    return EXIT_FAILURE


def os_error_words(error: OSError) -> str:
    """Return what an error of the system says, about which file, and what to do."""
    where = f"{error.filename}: " if error.filename is not None else ""
    advice = _ADVICE.get(error.errno or 0)
    return " ".join(filter(None, (f"{where}{error.strerror or error}.", advice)))


def _is_usage(error: Exception) -> bool:
    """Return whether Typer shows an error as one of the command line itself."""
    return hasattr(error, "exit_code") and hasattr(error, "format_message")


def _settings_error(error: Exception) -> str | None:
    """Return the words for an error of the settings, else ``None``; no value is shown, since it may be a secret."""
    from pydantic import ValidationError
    from pydantic_settings import BaseSettings

    if isinstance(error, ValidationError):
        return settings_words(error) if error.title in _names_of_subclasses(BaseSettings) else None
    return None


def _settings_file_error(error: Exception) -> str | None:
    """Return words about a file of settings that cannot be read, if that may be the reason of an error."""
    if not isinstance(error, OSError | UnicodeDecodeError):
        return None
    from shared.settings import env_file

    try:
        if env_file().is_file():
            env_file().read_text("utf-8")
    except UnicodeDecodeError:
        return f"The settings in {env_file()} are no UTF-8 text; save the file again as UTF-8."
    except OSError as reason:
        return f"The settings in {env_file()} cannot be read: {reason.strerror}. Make it readable, or move it away."
    return None


def settings_words(error: ValidationError) -> str:
    """Return one line for each setting that makes no sense, under the name by which it is set."""
    lines = [_line(item["loc"], item["msg"]) for item in error.errors(include_input=False, include_url=False)]
    return "\n".join((*lines, "Change it in the environment, in .env or in the options."))


def _line(location: tuple[int | str, ...], message: str) -> str:
    text = message.removeprefix("Value error, ")
    if not location:
        return f"{text}."
    name = str(location[0])
    return f"{name if name.isupper() else f'FLUX_{name.upper()}'}: {text}."


def _names_of_subclasses(owner: type) -> Iterator[str]:
    child: type
    for child in owner.__subclasses__():
        yield child.__name__
        yield from _names_of_subclasses(child)


def _words(error: Exception) -> str:
    if isinstance(error, OSError):
        return os_error_words(error)
    if isinstance(error, ImportError):
        return f"A part of the program is missing: {error}. Install it again (`make setup`, or the `all` extra)."
    cause = error.__cause__ if _is_of(error, "sqlalchemy") and error.__cause__ else error
    if _is_of(cause, "pysqlite3") or _is_of(error, "sqlalchemy"):
        return f"The database cannot be used: {_first_line(cause)}. `flux-image doctor` says more."
    return f"This should not have happened: {type(error).__name__}: {_first_line(error)}."


def _is_of(error: BaseException, package: str) -> bool:
    return type(error).__module__.partition(".")[0] == package


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _written_report(error: Exception) -> str:
    """Write the traceback to a file that only this user may read, and return a sentence about it."""
    try:
        with tempfile.NamedTemporaryFile("w", prefix="flux-image-", suffix=".log", delete=False) as file:
            file.writelines(traceback.format_exception(error))
    except OSError:
        return ""
    return f" The full report is in {file.name}."
