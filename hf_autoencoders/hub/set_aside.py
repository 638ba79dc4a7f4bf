# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Copies of files that wait for their upload, in the folder for temporary files, and who removes them."""

import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from filelock import FileLock, Timeout


PREFIX_OF_COPIES, LOCK_OF_COPY = "hf_autoencoders-upload-", "lock"


class SetAside:
    """A folder of copies, `files`, which lives as long as its process works on it.

    A process that is killed leaves its copies behind. The system releases its lock, and by that the next one knows
    that they are nobody's.
    """

    def __init__(self):
        remove_abandoned()
        self.root = Path(tempfile.mkdtemp(prefix=PREFIX_OF_COPIES))
        self.lock = FileLock(self.root / LOCK_OF_COPY, thread_local=False)
        self.lock.acquire()
        self.files = self.root / "files"
        self.files.mkdir()

    def copy(self, paths: Iterable[Path]) -> None:
        for path in paths:
            shutil.copy2(path, self.files / path.name, follow_symlinks=False)

    def link_tree(self, folder: Path) -> None:
        """A second name for each file costs nothing, and lives on when the first is deleted. Links are left out."""
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not is_link(path, folder):
                target = self.files / path.relative_to(folder)
                target.parent.mkdir(parents=True, exist_ok=True)
                link_or_copy(path, target)

    def remove(self) -> None:
        shutil.rmtree(self.files, ignore_errors=True)
        self.lock.release()
        shutil.rmtree(self.root, ignore_errors=True)


def remove_abandoned() -> None:
    """Removes what killed processes of this user left. A folder without a lock is just being made."""
    for root in Path(tempfile.gettempdir()).glob(f"{PREFIX_OF_COPIES}*"):
        try:
            if root.is_symlink() or root.stat().st_uid != os.getuid() or not (root / LOCK_OF_COPY).is_file():
                continue
            with FileLock(root / LOCK_OF_COPY, timeout=0, thread_local=False):
                shutil.rmtree(root, ignore_errors=True)
        except (OSError, Timeout):  # in use, or gone by now
            continue


def is_link(path: Path, folder: Path) -> bool:
    """Whether the path, or a folder between it and `folder`, is a symbolic link: what lies behind may be anything."""
    return any(part.is_symlink() for part in (path, *path.parents) if folder in part.parents)


def link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)
