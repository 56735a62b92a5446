"""Write files and folders so that neither a crash nor another writer leaves a part of one.

Every writer creates a folder of its own with a random name in `.vqvideo.tmp/` beside its target,
writes there, and renames the result. No name depends on the process id, which threads share and
which containers on one disk often have in common.

A writer holds a lock (`flock`) on its folder, which the operating system releases when it ends,
even if it is killed. The next writer in the same place removes folders whose lock is free. Where
the file system has no such locks (Windows, some network file systems), a folder is removed once
nothing in it has changed for a day.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

if sys.platform != "win32":
    import fcntl

TEMPORARY_DIR = ".vqvideo.tmp"  # beside the targets; exists only while something is written
UNLOCKED_LIFETIME = 24 * 3600.0  # seconds, where the file system has no locks
MAX_ATTEMPTS = 100  # other writers may remove the empty `TEMPORARY_DIR` at any time
_PathLike = str | os.PathLike[str]
_thread_lock = threading.Lock()  # where there are no locks between processes


@contextmanager
def temporary_folder(parent: _PathLike) -> Iterator[Path]:
    """Yield a new, empty folder on the file system of `parent`; remove it after the block.

    Rename files from it, or the folder itself, to their final names in `parent`: that is atomic.
    The folder's name ends in `.tmp`. Folders that killed writers left in `parent` are removed.

    Args:
        parent: an existing folder.

    Raises:
        FileNotFoundError: `parent` does not exist.
    """
    remove_abandoned(parent)
    folder, handle = _create_locked(Path(parent) / TEMPORARY_DIR)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _close(handle)
        with suppress(OSError):  # other writers still use it
            folder.parent.rmdir()


@contextmanager
def replace_file(path: _PathLike, *, sync: bool = True) -> Iterator[Path]:
    """Yield a path of the same name to write to; move it to `path` if the block succeeds.

    Whatever happens, `path` is the complete new file or unchanged. Of several writers, the last
    one to finish wins.

    Args:
        path: path of the finished file; its folder must exist.
        sync: wait until the file is on disk, so that this holds after a power failure as well.
    """
    target = Path(path).absolute()
    with temporary_folder(target.parent) as folder:
        temporary = folder / target.name
        yield temporary
        if sync:
            fsync(temporary)
        os.replace(temporary, target)
        if sync:
            fsync(target.parent)


@contextmanager
def replace_files(folder: _PathLike, names: Sequence[str], *, overwrite: bool) -> Iterator[Path]:
    """Yield a temporary folder whose files move to `folder` when the block ends without an error.

    All files of these names then come from one run: with `overwrite`, those of an earlier run are
    removed, so that no page shows plots of another model.

    Args:
        folder: the output folder; created if it does not exist.
        names: names of all files that may be written.
        overwrite: replace existing files.

    Raises:
        FileExistsError: a file of these names appeared during the block, and `overwrite` is false.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    with temporary_folder(target) as temporary:
        yield temporary
        for name in names:
            if (target / name).exists() and not overwrite:
                raise FileExistsError(
                    f"{target / name} exists; give another folder or overwrite=True"
                )
        for name in names:
            if (temporary / name).is_file():
                fsync(temporary / name)
                os.replace(temporary / name, target / name)
            else:
                (target / name).unlink(missing_ok=True)
        fsync(target)


def write_text(path: _PathLike, text: str) -> None:
    """Write a UTF-8 text file atomically, with the same bytes on every system."""
    with replace_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


@contextmanager
def lock_folder(folder: _PathLike) -> Iterator[None]:
    """Exclude other threads and processes that lock the same folder during the block.

    Where the file system has no locks, other processes are not excluded.
    """
    with _thread_lock if sys.platform == "win32" else nullcontext():
        handle = _open(Path(folder))
        try:
            _lock(handle, wait=True)
            yield
        finally:
            _close(handle)


def replace_folder(new: Path, folder: Path) -> None:
    """Replace `folder` by `new` on the same file system, with the folder of both locked.

    The old folder has its backup name (`get_backup_path`) until the new one is in place.
    """
    shutil.rmtree(get_backup_path(folder), ignore_errors=True)
    if folder.exists():
        folder.rename(get_backup_path(folder))
    try:
        new.rename(folder)
    except BaseException:
        restore_backup(folder)
        raise
    fsync(folder.parent)
    shutil.rmtree(get_backup_path(folder), ignore_errors=True)


def get_backup_path(folder: Path) -> Path:
    """Return where the old folder is between the two renames of `replace_folder`."""
    return folder.with_name(f".{folder.name}.old")


def restore_backup(folder: Path) -> None:
    """Restore the old folder if a writer was killed between the two renames.

    The folder that holds it must be locked, or a living writer may be between them.
    """
    if get_backup_path(folder).is_dir() and not folder.exists():
        get_backup_path(folder).rename(folder)


def recover(folder: Path) -> None:
    """Lock the folder that holds `folder`, and call `restore_backup`."""
    if get_backup_path(folder).is_dir() and not folder.exists():
        with lock_folder(folder.parent):
            restore_backup(folder)


def remove_abandoned(parent: _PathLike) -> None:
    """Remove the temporary folders that killed writers left in `parent`."""
    root = Path(parent) / TEMPORARY_DIR
    for folder in list(root.glob("*.tmp")) if root.is_dir() else []:
        with suppress(FileNotFoundError):  # its writer has finished
            handle = _open(folder)
            try:
                is_locked = _lock(handle)
                if is_locked or (is_locked is None and _is_outdated(folder)):
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                _close(handle)
    with suppress(OSError):  # missing, or in use
        root.rmdir()


def fsync(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows cannot sync a folder and persists its entries itself
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _create_locked(root: Path) -> tuple[Path, int | None]:
    """Create a folder in `root` and lock it; return it with the handle that holds the lock."""
    for _ in range(MAX_ATTEMPTS):
        with suppress(FileExistsError):
            root.mkdir()
        folder = root / f"{uuid.uuid4().hex}.tmp"
        handle = None
        with suppress(FileNotFoundError):  # another writer removed `root`, or took this for a
            folder.mkdir()  # left-over before it was locked
            handle = _open(folder)
            if _lock(handle) is not False and folder.is_dir():
                return folder, handle
        _close(handle)
    raise OSError(f"no temporary folder could be created in {root}; other programs remove it")


def _open(folder: Path) -> int | None:
    return None if sys.platform == "win32" else os.open(folder, os.O_RDONLY)


def _close(handle: int | None) -> None:
    if handle is not None:
        os.close(handle)  # releases its lock


def _lock(handle: int | None, *, wait: bool = False) -> bool | None:
    """Lock an open folder; return whether it is locked now, None if it cannot be locked."""
    if sys.platform == "win32" or handle is None:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:  # the file system has no locks
        return None
    return True


def _is_outdated(folder: Path) -> bool:
    """Return whether nothing in a folder has changed for `UNLOCKED_LIFETIME`."""
    changed = 0.0
    for path in (folder, *folder.rglob("*")):
        with suppress(FileNotFoundError):
            changed = max(changed, path.stat().st_mtime)
    return time.time() - changed > UNLOCKED_LIFETIME
