# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The output folder of a run: whose it is, and who writes there now.

A folder belongs to a run if it holds the mark that a run leaves (run_files.py). Only in such a
folder may --overwrite delete files and --resume continue.
"""

import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import yaml
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from filelock import FileLock, Timeout

from ..own_process import as_typed
from .arguments import Arguments
from .checkpoint_folders import all_checkpoints
from .recipes import TRAINED_BY
from .run_files import (
    ARGUMENTS,
    CHECKPOINTS,
    LOG,
    MARK,
    METRICS,
    RUN_RECORD,
    STAGING,
    holds_run,
    record_files,
    recorded_files,
    remove_run,
)
from .storage import write_atomically


LOCK, HOLDER = ".run.lock", ".run.holder"


def output_folder(arguments: Arguments) -> Path:
    """--output_dir, or runs/<recipe>, or runs/<model>-<data set>."""
    if arguments.run.output_dir:
        return Path(arguments.run.output_dir)
    dataset = Path(arguments.data.dataset_name).name
    return Path("runs") / (Path(arguments.recipe).stem if arguments.recipe else f"{arguments.model_type}-{dataset}")


# -- whose a folder is -------------------------------------------------------------------------------------------------


def check_folder(accelerator: Accelerator, folder: Path, arguments: Arguments) -> None:
    """Checks that this run may use the folder. Nothing is changed, so an error that is found later costs nothing.

    Raises:
        ValueError: another run uses the folder or is saved in it, it holds files that no run wrote, or --resume
            cannot continue the finished run in it.
    """
    lock = FolderLock(accelerator, folder)
    on_main_process(accelerator, lambda: lock.held_by_another() or _what_is_wrong(folder, arguments))


def claim_folder(accelerator: Accelerator, folder: Path, arguments: Arguments) -> None:
    """Takes the folder for this run: deletes the last run if --overwrite was given, and writes arguments.yaml."""
    on_main_process(accelerator, lambda: _claim(folder, arguments))


def on_main_process(accelerator: Accelerator, action: Callable[[], str | None]) -> None:
    """Calls `action` on the main process. If it returns a problem, every process raises it as a ValueError."""
    problem = [action() if accelerator.is_main_process else None]
    if accelerator.num_processes > 1:
        broadcast_object_list(problem)
    if problem[0]:
        raise ValueError(problem[0])


def _what_is_wrong(folder: Path, arguments: Arguments) -> str | None:
    try:
        if folder.exists() and not folder.is_dir():
            return f"--output_dir {folder} is a file."
        ours = {LOCK, HOLDER, RUN_RECORD, STAGING}  # a run writes them first
        found = sorted({path.name for path in folder.iterdir()} - ours) if folder.exists() else []
    except OSError as error:
        return f"--output_dir {str(folder)[:100]} cannot be used: {error.strerror}."
    run = arguments.run
    if not found:
        return None
    if not holds_run(folder):
        files = f"{', '.join(found[:3])}{', ...' if len(found) > 3 else ''}"
        why = "--overwrite replaces runs only" if run.overwrite else "there is no run to continue" if run.resume else ""
        return f"{folder} holds other files ({files}) and no run{why and ': '}{why}; choose another --output_dir."
    if run.resume == "latest" and not all_checkpoints(folder / CHECKPOINTS) and holds_result(folder):
        return (
            f"The run in {folder} is finished and kept no checkpoint to go on from. To train on from its weights: "
            f"--init_from {folder} --output_dir ANOTHER; to replace it: --overwrite."
        )
    of_this_run = run.resume and Path(run.resume).resolve().parent == (folder / CHECKPOINTS).resolve()
    if run.resume == "latest" or of_this_run or run.overwrite:
        return None
    choice = "--resume latest to continue, --overwrite to replace, or another --output_dir"
    return f"{folder} holds another run: give {choice}."


def holds_result(folder: Path) -> bool:
    """Whether the run got as far as saving its model."""
    return any(name == METRICS or Path(name).suffix == ".safetensors" for name in recorded_files(folder))


def _claim(folder: Path, arguments: Arguments) -> str | None:
    problem = _what_is_wrong(folder, arguments)  # again, now that nobody else can change it
    if problem:
        return problem
    try:
        if arguments.run.overwrite:
            remove_run(folder)
        record_files(folder, [ARGUMENTS, LOG])
        text = yaml.safe_dump(arguments.as_recipe(), sort_keys=False)
        trainer = TRAINED_BY.get(arguments.model_type, "train")
        command = as_typed(f"hf-autoencoders {trainer} --recipe {folder / ARGUMENTS}")
        write_atomically(folder / ARGUMENTS, f"{MARK}{command}\n{text}")
    except OSError as error:
        return f"--output_dir {folder} cannot be written: {error.strerror}."
    return None


# -- who writes there --------------------------------------------------------------------------------------------------


class FolderLock:
    """Lets one run at a time use a folder. The operating system releases the lock when the process ends, killed or not.

    Held by the main process; `acquire` and `release` are collective.
    """

    def __init__(self, accelerator: Accelerator, folder: Path):
        self.accelerator, self.folder = accelerator, Path(folder)
        self.lock = FileLock(self.folder / LOCK)

    def acquire(self) -> "FolderLock":
        """Raises ValueError, on every process, where another run holds the folder."""
        on_main_process(self.accelerator, self._acquire)
        return self

    def release(self) -> None:
        if self.lock.is_locked:
            (self.folder / HOLDER).unlink(missing_ok=True)  # the lock itself stays: removing it would race with others
            self.lock.release()

    def held_by_another(self) -> str | None:
        """A line that says which run uses the folder, or None. A folder that no run has locked yet is not changed."""
        try:
            if (self.folder / LOCK).exists():
                self.lock.acquire(timeout=0)
                self.lock.release()
        except Timeout:
            return self._in_use()
        except OSError as error:
            return f"--output_dir {str(self.folder)[:100]} cannot be written: {error.strerror}."
        return None

    def _acquire(self) -> str | None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.lock.acquire(timeout=0)
            holder = {"process": os.getpid(), "host": platform.node(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
            (self.folder / HOLDER).write_text(json.dumps(holder) + "\n", encoding="utf-8")
        except Timeout:
            return self._in_use()
        except OSError as error:
            return f"--output_dir {str(self.folder)[:100]} cannot be written: {error.strerror}."
        return None

    def _in_use(self) -> str:
        try:
            holder = json.loads((self.folder / HOLDER).read_text(encoding="utf-8"))
            who = f"process {holder['process']} on {holder['host']} since {holder['since']}"
        except (OSError, ValueError, KeyError, TypeError):
            who = "it does not say which"
        return f"{self.folder} is in use by another run ({who}): wait for it, or take another --output_dir."
