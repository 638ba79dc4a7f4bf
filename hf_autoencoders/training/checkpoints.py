# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Checkpoints that are whole or not there, and a resume that is exact.

A checkpoint is written as a hidden folder beside its final place, sealed with a manifest (SHA-256 of every file, step,
number of processes) and then renamed. Only after that are older ones pruned. A reader checks every checksum before it
reads a single value, so nothing is loaded that this module did not write as it stands.

    checkpoints/
      .writing/                     of a run that was killed here; never read
      set-aside-1/                  later checkpoints of a run that went back to an earlier one, with their log
      checkpoint-00000300/
        manifest.json               step, processes, versions, {file: sha256}
        state.json                  what the loop knows besides tensors
        model.safetensors           weights and buffers (codebooks, their statistics)
        averages.safetensors        averaged weights, if the run keeps them
        adversary.bin               the adversary's net and optimizer, if the run has one
        optimizer.bin  random_states_0.pkl  random_states_1.pkl  ...
"""

import errno
import hashlib
import importlib.metadata
import itertools
import json
import os
import random
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from accelerate.utils import load as load_tensors
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from .folder import checkpoints_in


MANIFEST, STATE, AVERAGES, ADVERSARY = "manifest.json", "state.json", "averages.safetensors", "adversary.bin"
PREFIX, WRITING, LEAVING, ASIDE = "checkpoint-", ".writing", ".leaving", "set-aside-"


class SaveFailed(OSError):
    """The disk did not take what was to be saved; what lay there before is untouched."""


@contextmanager
def one_line_if_the_disk_is_full(folder: Path) -> Iterator[None]:
    """Each library reports a full disk by an error of its own: they become one `SaveFailed`."""
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        place = next(path for path in (folder, *folder.parents) if path.exists())
        full = shutil.disk_usage(place).free < 2**20 or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        if not full and not re.search("No space left|PytorchStreamWriter|quota", str(error)):
            raise
        raise SaveFailed(f"The disk is full: {folder} could not be written. The state before it was kept.") from error


def write_atomically(path: Path, text: str):
    """Writes beside and renames, so that a reader sees the old text or the new one."""
    beside = path.with_name(f".{path.name}.writing")
    beside.write_text(text, encoding="utf-8")
    _flush_to_disk(beside)
    os.replace(beside, path)


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _sha256(file)


def save_state_file(path: Path, state: Any):
    path.write_text(json.dumps(state), encoding="utf-8")


def seal(folder: Path, step: int, processes: int):
    """Writes the manifest of a complete folder and flushes everything to the disk."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        _flush_to_disk(path)
    manifest = {
        "step": step,
        "processes": processes,
        "versions": versions(),
        "files": {path.relative_to(folder).as_posix(): sha256(path) for path in files},
    }
    write_atomically(folder / MANIFEST, json.dumps(manifest, indent=1))
    _flush_to_disk(folder)


def versions() -> dict[str, str]:
    """Installed versions of what decides a result."""
    return {name: importlib.metadata.version(name) for name in ("torch", "transformers", "accelerate")}


def what_is_wrong(folder: Path) -> str | None:
    """None for a checkpoint that is exactly as it was written; else what is wrong with it, in a few words."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        step, processes, files = int(manifest["step"]), int(manifest["processes"]), dict(manifest["files"])
    except FileNotFoundError:
        return f"{MANIFEST} is missing"
    except (OSError, ValueError, TypeError, KeyError):
        return f"{MANIFEST} cannot be read"
    if step < 0 or processes < 1:
        return f"{MANIFEST} cannot be right: step {step}, {processes} processes"
    for name in [STATE, *(f"random_states_{rank}.pkl" for rank in range(processes))]:
        if name not in files:
            return f"{name} is not in its manifest"
    for name, expected in files.items():
        if not (folder / name).is_file():
            return f"{name} is missing"
        if sha256(folder / name) != expected:
            return f"{name} is not what was written ({(folder / name).stat().st_size} bytes, checksum differs)"
    return None


class Checkpoints:
    """The checkpoints of one run.

    Args:
        accelerator: whose prepared model, optimizer and random states are saved. All methods are collective.
        folder: where they lie; on storage that all machines share.
        total_limit: how many to keep; None keeps all.
    """

    def __init__(self, accelerator: Accelerator, folder: Path, total_limit: int | None = None):
        self.accelerator = accelerator
        self.folder = Path(folder)
        self.total_limit = total_limit

    def all(self) -> list[Path]:
        """Folders of checkpoints, oldest first."""
        return checkpoints_in(self.folder)

    def set_aside(self, after: int, log: Path, tell: Callable[[str], None]) -> None:
        """Moves the checkpoints behind step `after`, with a copy of the log, out of the way of a new branch.

        Else they would count as the newest: `latest` would return to them, and pruning would keep them and delete the
        new ones. A collective call.
        """
        later = [path for path in self.all() if int(path.name.removeprefix(PREFIX)) > after]
        if later and self.accelerator.is_main_process:
            number = next(n for n in itertools.count(1) if not (self.folder / f"{ASIDE}{n}").exists())
            aside = self.folder / f"{ASIDE}{number}"
            aside.mkdir()
            if log.exists():
                shutil.copy2(log, aside)
            for path in later:
                os.replace(path, aside / path.name)
            tell(f"Set aside in {aside}: {', '.join(path.name for path in later)}, of steps that are trained anew.")
        self.accelerator.wait_for_everyone()

    def save(
        self,
        step: int,
        state: dict[str, Any],
        averages: dict[str, Tensor] | None = None,
        stream: Any = None,
        adversary: dict[str, Any] | None = None,
    ) -> Path:
        """Writes checkpoint number `step`, then prunes.

        Args:
            stream: where this process stands in a stream of data.
            adversary: state of the second player, equal on every process.
        """
        with one_line_if_the_disk_is_full(self.folder):
            return self._save(step, state, averages, stream, adversary)

    def _save(self, step, state, averages, stream, adversary) -> Path:
        accelerator, beside = self.accelerator, self.folder / WRITING
        if accelerator.is_main_process:
            shutil.rmtree(beside, ignore_errors=True)
            beside.mkdir(parents=True)
        accelerator.wait_for_everyone()
        accelerator.save_state(str(beside))
        if stream is not None:
            save_state_file(beside / f"stream_{accelerator.process_index}.json", stream)
        if accelerator.is_main_process:
            save_state_file(beside / STATE, state)
            if averages is not None:
                save_file({name: tensor.cpu() for name, tensor in averages.items()}, beside / AVERAGES)
            if adversary is not None:
                torch.save(adversary, beside / ADVERSARY)
        accelerator.wait_for_everyone()
        path = self.folder / f"{PREFIX}{step:08d}"
        if accelerator.is_main_process:
            self._check_shared(beside)
            seal(beside, step, accelerator.num_processes)
            self._rename(beside, path)
            self._prune()
        accelerator.wait_for_everyone()
        return path

    def find(self, wanted: str, tell: Callable[[str], None]) -> Path | None:
        """The checkpoint to resume from; None if there is none yet. All processes get the main one's answer.

        Args:
            wanted: 'latest' or the path of one checkpoint.
            tell: is called with one line for each damaged checkpoint that is passed over. Nothing is deleted.

        Raises:
            ValueError: the wanted checkpoint, or every one, is damaged.
        """
        answer: list[Any] = [None, None]
        if self.accelerator.is_main_process:
            try:
                answer[0] = self._latest(tell) if wanted == "latest" else self._sound(Path(wanted))
            except ValueError as error:
                answer[1] = str(error)
        path, problem = broadcast_object_list(answer) if self.accelerator.num_processes > 1 else answer
        if problem:
            raise ValueError(problem)
        return path

    def state(self, path: Path) -> dict[str, Any]:
        """The `state` that `save` was given; nothing is put back yet."""
        return _read_json(path / STATE)

    def load(self, path: Path) -> tuple[dict[str, Tensor] | None, Any, dict[str, Any] | None]:
        """Puts weights, optimizer and random states back; gives what else `save` got, (averages, stream, adversary).

        Raises:
            ValueError: written by another number of processes, or a random state that cannot be put back.
        """
        manifest = _read_json(path / MANIFEST)
        processes = self.accelerator.num_processes
        if manifest["processes"] != processes:
            raise ValueError(
                f"{path} was written by {manifest['processes']} processes and each has its own random state, so it can "
                f"only be resumed by as many; this run has {processes}."
            )
        knobs = self._optimizer_knobs()
        self.accelerator.load_state(str(path))
        for group, values in zip(self._groups(), knobs, strict=True):
            group.update(values)  # the saved state brings the old ones back
        self._check_random_state(path)
        averages = load_file(path / AVERAGES) if (path / AVERAGES).exists() else None
        stream = path / f"stream_{self.accelerator.process_index}.json"
        adversary = path / ADVERSARY
        return (
            averages,
            _read_json(stream) if stream.exists() else None,
            torch.load(adversary, map_location="cpu", weights_only=True) if adversary.exists() else None,
        )

    def _groups(self) -> list[dict[str, Any]]:
        return [group for optimizer in self.accelerator._optimizers for group in optimizer.param_groups]

    def _optimizer_knobs(self) -> list[dict[str, Any]]:
        """What the user's knobs say of each group: weight decay, betas, ... (the loop sets the rate in each step)."""
        return [
            {name: value for name, value in group.items() if name not in ("params", "lr")} for group in self._groups()
        ]

    def _latest(self, tell: Callable[[str], None]) -> Path | None:
        candidates = self.all()
        for path in reversed(candidates):
            problem = what_is_wrong(path)
            if problem is None:
                return path
            tell(f"{path} is damaged: {problem}; trying the one before.")
        if candidates:
            raise ValueError(f"All {len(candidates)} checkpoints in {self.folder} are damaged; nothing was deleted.")
        return None

    def _sound(self, path: Path) -> Path:
        if not path.is_dir():
            raise ValueError(f"There is no checkpoint {path}.")
        problem = what_is_wrong(path)
        if problem:
            raise ValueError(f"{path} is no whole checkpoint: {problem}.")
        return path

    def _check_shared(self, folder: Path):
        for rank in range(self.accelerator.num_processes):
            if not (folder / f"random_states_{rank}.pkl").is_file():
                raise ValueError(
                    f"Process {rank} did not write into {folder}: `output_dir` must be on storage that all share."
                )

    def _check_random_state(self, path: Path):
        """Accelerate passes over a random state that it cannot restore, with a line at log level info."""
        rank = self.accelerator.process_index
        saved = load_tensors(path / f"random_states_{rank}.pkl")
        numpy_saved, numpy_now = saved["numpy_random_seed"], np.random.get_state()
        restored = (
            torch.equal(saved["torch_manual_seed"], torch.get_rng_state())
            and saved["random_state"] == random.getstate()
            and all(np.array_equal(was, now) for was, now in zip(numpy_saved, numpy_now, strict=True))
        )
        if not restored:
            raise ValueError(f"The random state of process {rank} in {path} could not be restored.")

    def _rename(self, beside: Path, path: Path):
        leaving = self.folder / LEAVING
        shutil.rmtree(leaving, ignore_errors=True)
        if path.exists():  # a damaged one, or one of a longer run that was resumed from an earlier step
            os.replace(path, leaving)
        os.replace(beside, path)
        _flush_to_disk(self.folder)
        shutil.rmtree(leaving, ignore_errors=True)

    def _prune(self):
        if self.total_limit is None:
            return
        for path in self.all()[: -self.total_limit]:
            leaving = self.folder / LEAVING
            os.replace(path, leaving)  # a kill in the middle of a deletion leaves no half checkpoint behind
            shutil.rmtree(leaving, ignore_errors=True)


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _sha256(file) -> str:
    digest = hashlib.sha256()
    while block := file.read(2**20):
        digest.update(block)
    return digest.hexdigest()


def _flush_to_disk(path: Path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
