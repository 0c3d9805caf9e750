"""`flux-image backup` and `flux-image restore`: the database and every picture it names, while the server runs.

Both are all or nothing: the database gets its name last, and what a failure left half made is removed.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

import pysqlite3.dbapi2 as sqlite
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from cli.boundary import Failure, os_error_words
from cli.host.data_dir_lock import DataDirInUse, hold_data_dir
from shared.db.audit import audit
from shared.db.engine import Database
from shared.db.models import ImageRow, InputRow
from shared.paths import sqlite_url
from shared.settings import CoreSettings

DATABASE_FILE: Final = "flux-image.db"
MEDIA_FOLDER: Final = "media"
EXIT_REFUSED: Final = 1
EXIT_IN_USE: Final = 3
_STAGE: Final = "restore.partial"
_UNNAMED: Final = "flux-image.db.partial"


def run_backup(settings: CoreSettings, target: Path) -> int:
    """Copy the data into a new folder; return the exit code. The server may run and take jobs meanwhile.

    Raises:
      Failure: the copy could not be made; nothing of it is left.
    """
    if settings.database_url is not None:
        return _refuse(
            "FLUX_DATABASE_URL is set: back that database up with its own tools, and the media directory too."
        )
    source = settings.data_dir / DATABASE_FILE
    if not source.exists():
        return _refuse(f"There is no database in {settings.data_dir}.")
    if target.exists() and any(target.iterdir()):
        return _refuse(f"{target} is not empty; give a new folder.")
    with _removed_on_failure(target, "backup"):
        copy_database(source, target / _UNNAMED)
        # After the database: every file a row names was on disk before the row was committed, and stays.
        count = _copy_pictures(target / _UNNAMED, settings.media_dir, target / MEDIA_FOLDER)
        (target / _UNNAMED).rename(target / DATABASE_FILE)
    return _verdict(target, f"{count} pictures")


def run_restore(settings: CoreSettings, source: Path) -> int:
    """Bring a backup into an empty data directory; return the exit code. The server must not run.

    Raises:
      Failure: the copy could not be made; the data directory is as it was.
    """
    if not (source / DATABASE_FILE).exists():
        return _refuse(f"{source} is no backup: it has no {DATABASE_FILE}.")
    try:
        with hold_data_dir(settings.data_dir, settings.run_dir):
            if (settings.data_dir / DATABASE_FILE).exists():
                return _refuse(f"{settings.data_dir} has a database already; move it away first.")
            if settings.media_dir.exists() and any(settings.media_dir.iterdir()):
                return _refuse(f"{settings.media_dir} has pictures already; move them away first.")
            _bring_in(source, settings)
    except DataDirInUse as error:
        print(error, file=sys.stderr)
        return EXIT_IN_USE
    return _verdict(settings.data_dir, "the backup")


def copy_database(source: Path, target: Path, *, at_rest: bool = False) -> None:
    """Copy a SQLite database as one consistent snapshot, while others write (https://sqlite.org/backup.html).

    One that is ``at_rest`` may lie on a disk that cannot be written; else reading a WAL database needs files beside it.
    """
    whole = at_rest and not source.with_name(f"{source.name}-wal").exists()
    mode = "immutable=1" if whole else "mode=rw"
    reader = sqlite.connect(f"file:{quote(str(source))}?{mode}", uri=True)
    writer = sqlite.connect(str(target))
    try:
        reader.backup(writer)
    finally:
        writer.close()
        reader.close()


def _bring_in(source: Path, settings: CoreSettings) -> None:
    """Copy beside the place, on the same disk, and take the place only once everything is there."""
    stage = settings.data_dir / _STAGE
    shutil.rmtree(stage, ignore_errors=True)  # of a restore that was killed
    with _removed_on_failure(stage, "restore"):
        if (source / MEDIA_FOLDER).exists():
            shutil.copytree(source / MEDIA_FOLDER, stage / MEDIA_FOLDER)
        copy_database(source / DATABASE_FILE, stage / DATABASE_FILE, at_rest=True)
        if (stage / MEDIA_FOLDER).exists():
            (stage / MEDIA_FOLDER).rename(settings.media_dir)
        (stage / DATABASE_FILE).rename(settings.data_dir / DATABASE_FILE)
    stage.rmdir()


@contextmanager
def _removed_on_failure(folder: Path, what: str) -> Iterator[None]:
    """Make a folder for the block; when the block fails, remove everything in it, and itself if it was not there.

    Raises:
      Failure: the block ran out of room, was not allowed to write, or the database could not be read.
    """
    was_there = folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException as error:
        _remove(folder, keep_itself=was_there)
        if isinstance(error, OSError):
            words = os_error_words(error)
        elif isinstance(error, sqlite.Error | SQLAlchemyError):
            words = f"{str(error.__cause__ or error).rstrip('.')}."
        else:
            raise
        raise Failure(f"The {what} failed, and nothing of it is left: {words}") from error


def _remove(folder: Path, *, keep_itself: bool) -> None:
    if not keep_itself:
        shutil.rmtree(folder, ignore_errors=True)
        return
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def _copy_pictures(database_file: Path, media_dir: Path, target: Path) -> int:
    target.mkdir(parents=True, exist_ok=True)
    database = Database(sqlite_url(database_file))
    try:
        with database.read() as connection:
            keys = [row.path for table in (ImageRow, InputRow) for row in connection.execute(select(table.path))]
    finally:
        database.dispose()
    for key in keys:
        (target / key).parent.mkdir(parents=True, exist_ok=True)
        if (media_dir / key).is_file():  # one that is gone is named by the audit
            shutil.copy2(media_dir / key, target / key)
    return len(keys)


def _verdict(folder: Path, what: str) -> int:
    database = Database(sqlite_url(folder / DATABASE_FILE))
    # A job that was running is in the copy as running; its lease is no concern here, the next worker rescues it.
    violations = [item for item in audit(database, folder / MEDIA_FOLDER) if item.invariant != "I6"]
    database.dispose()
    for violation in violations:
        print(f"{violation.invariant} {violation.subject}: {violation.message}", file=sys.stderr)
    print(f"{folder}: {what}, {len(violations)} problems")
    return EXIT_REFUSED if violations else 0


def _refuse(message: str) -> int:
    print(message, file=sys.stderr)
    return EXIT_REFUSED
