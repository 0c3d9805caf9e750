"""`flux-image backup` and `flux-image restore`: the database and every picture it names, while the server runs."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Final

import pysqlite3.dbapi2 as sqlite
from sqlalchemy import select

from cli.host.data_dir_lock import DataDirInUse, hold_data_dir
from shared.db.audit import audit
from shared.db.engine import Database
from shared.db.models import ImageRow, InputRow
from shared.settings import CoreSettings

DATABASE_FILE: Final = "flux-image.db"
MEDIA_FOLDER: Final = "media"
EXIT_REFUSED: Final = 1
EXIT_IN_USE: Final = 3


def run_backup(settings: CoreSettings, target: Path) -> int:
    """Copy the data into a new folder; return the exit code. The server may run and take jobs meanwhile."""
    if settings.database_url is not None:
        return _refuse(
            "FLUX_DATABASE_URL is set: back that database up with its own tools, and the media directory too."
        )
    source = settings.data_dir / DATABASE_FILE
    if not source.exists():
        return _refuse(f"There is no database in {settings.data_dir}.")
    if target.exists() and any(target.iterdir()):
        return _refuse(f"{target} is not empty; give a new folder.")
    target.mkdir(parents=True, exist_ok=True)
    copy_database(source, target / DATABASE_FILE)
    # After the database: every file a row names was on disk before the row was committed, and stays.
    count = _copy_pictures(target / DATABASE_FILE, settings.media_dir, target / MEDIA_FOLDER)
    return _verdict(target, f"{count} pictures")


def run_restore(settings: CoreSettings, source: Path) -> int:
    """Bring a backup into an empty data directory; return the exit code. The server must not run."""
    if not (source / DATABASE_FILE).exists():
        return _refuse(f"{source} is no backup: it has no {DATABASE_FILE}.")
    try:
        with hold_data_dir(settings.data_dir, settings.run_dir):
            if (settings.data_dir / DATABASE_FILE).exists():
                return _refuse(f"{settings.data_dir} has a database already; move it away first.")
            shutil.copytree(source / MEDIA_FOLDER, settings.media_dir, dirs_exist_ok=True)
            copy_database(source / DATABASE_FILE, settings.data_dir / DATABASE_FILE)
    except DataDirInUse as error:
        print(error, file=sys.stderr)
        return EXIT_IN_USE
    return _verdict(settings.data_dir, "the backup")


def copy_database(source: Path, target: Path) -> None:
    """Copy a SQLite database as one consistent snapshot, while others write (https://sqlite.org/backup.html)."""
    reader, writer = sqlite.connect(str(source)), sqlite.connect(str(target))
    try:
        reader.backup(writer)
    finally:
        writer.close()
        reader.close()


def _copy_pictures(database_file: Path, media_dir: Path, target: Path) -> int:
    target.mkdir(parents=True, exist_ok=True)
    database = Database(f"sqlite:///{database_file}")
    with database.read() as connection:
        keys = [row.path for table in (ImageRow, InputRow) for row in connection.execute(select(table.path))]
    database.dispose()
    for key in keys:
        (target / key).parent.mkdir(parents=True, exist_ok=True)
        if (media_dir / key).is_file():  # one that is gone is named by the audit
            shutil.copy2(media_dir / key, target / key)
    return len(keys)


def _verdict(folder: Path, what: str) -> int:
    database = Database(f"sqlite:///{folder / DATABASE_FILE}")
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
