# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Checkpoints that are complete or not there, and an exact resume.

A checkpoint is written as a hidden folder beside its final place, sealed with a manifest (SHA-256 of every file, step,
number of processes) and then renamed. Only after that are older ones pruned. A reader checks every checksum before it
reads a single value, so it loads only files that this module wrote and nobody changed.

    checkpoints/
      .writing/                     of a run that was killed here; never read
      set-aside-1/                  later checkpoints of a run that went back to an earlier one, with their log
      checkpoint-00000300/
        manifest.json               step, processes, versions, {file: sha256}
        state.json                  the state of the loop besides tensors
        model.safetensors           weights and buffers (codebooks, their statistics)
        averages.safetensors        averaged weights, if the run keeps them
        adversary.bin               the adversary's net and optimizer, if the run has one
        optimizer.bin  random_states_0.pkl  random_states_1.pkl  ...
"""

import itertools
import json
import os
import random
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from accelerate.utils import load as load_tensors
from safetensors.torch import load_file, save_file
from torch import Tensor

from .checkpoint_folders import (
    ADVERSARY,
    AVERAGES,
    LEAVING,
    MANIFEST,
    PREFIX,
    SET_ASIDE,
    STATE,
    WRITING,
    all_checkpoints,
    delete_checkpoint,
    is_ours,
    json_of,
    seal,
    step_of,
    what_is_wrong,
)
from .optimizers import own_options, without_memoryless
from .storage import flush_to_disk, one_line_if_full


ASKED = "asked"  # key of the state: whether --checkpointing_steps asked for this checkpoint


def save_state_file(path: Path, state: Any):
    path.write_text(json.dumps(state), encoding="utf-8")


class Checkpoints:
    """The checkpoints of one run.

    Args:
        accelerator: whose prepared model, optimizer and random states are saved. All methods are collective.
        folder: where they lie; on storage that all machines share.
        total_limit: how many to keep. None: all that --checkpointing_steps asked for (`asked` in their state), and the
            newest of the others, which a signal or the end of a run left.
    """

    def __init__(self, accelerator: Accelerator, folder: Path, total_limit: int | None = None):
        self.accelerator = accelerator
        self.folder = Path(folder)
        self.total_limit = total_limit

    def all(self) -> list[Path]:
        """Folders of checkpoints, oldest first. Other files there are ignored."""
        return all_checkpoints(self.folder)

    def set_aside(self, after: int, log: Path, tell: Callable[[str], None]) -> None:
        """Moves the checkpoints after step `after`, with a copy of the log, into a folder of their own.

        Otherwise they would count as the newest: `latest` would resume from them, and pruning would keep them and
        delete the new ones. A collective call.
        """
        later = [path for path in self.all() if step_of(path) > after]
        if later and self.accelerator.is_main_process:
            number = next(n for n in itertools.count(1) if not (self.folder / f"{SET_ASIDE}{n}").exists())
            aside = self.folder / f"{SET_ASIDE}{number}"
            aside.mkdir()
            if log.exists():
                shutil.copy2(log, aside)
            for path in reversed(later):  # a kill in between leaves the earlier ones, without a gap
                os.replace(path, aside / path.name)
            tell(f"Set aside in {aside}: {', '.join(path.name for path in later)}, of steps that are trained again.")
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
            state: of the loop, besides tensors. `asked` in it: --checkpointing_steps asked for this checkpoint.
            stream: the position of this process in a stream of data.
            adversary: state of the second player, equal on every process.

        Raises:
            SaveFailed: it could not be written; those that were there before are still there.
        """
        path = self.folder / f"{PREFIX}{step:08d}"
        try:
            with one_line_if_full(str(path), "what was saved before was kept"):
                self._save(path, step, state, averages, stream, adversary)
        except BaseException:
            if self.accelerator.is_main_process:  # on a full disk, half a checkpoint takes space that other files need
                shutil.rmtree(self.folder / WRITING, ignore_errors=True)
            raise
        return path

    def _save(self, path: Path, step: int, state: dict[str, Any], averages: Any, stream: Any, adversary: Any) -> None:
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
        if accelerator.is_main_process:
            self._check_shared(beside)
            seal(beside, step, accelerator.num_processes)
            self._rename(beside, path)
            self.prune()
        accelerator.wait_for_everyone()

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
        """The `state` that `save` was given; nothing is restored yet."""
        return json_of(path / STATE)

    def load(self, path: Path) -> tuple[dict[str, Tensor] | None, Any, dict[str, Any] | None]:
        """Restores weights, optimizer and random states. Returns what else `save` got: (averages, stream, adversary).

        Raises:
            ValueError: written by another number of processes, or a random state that cannot be restored.
        """
        manifest = json_of(path / MANIFEST)
        processes = self.accelerator.num_processes
        if manifest["processes"] != processes:
            raise ValueError(
                f"{path} was written by {manifest['processes']} processes and each has its own random state, so it can "
                f"only be resumed by as many; this run has {processes}."
            )
        with ExitStack() as stack:
            for optimizer in self.accelerator._optimizers:
                stack.enter_context(own_options(optimizer))
            stack.enter_context(without_memoryless(self.accelerator))
            self.accelerator.load_state(str(path))
        self._check_random_state(path)
        averages = load_file(path / AVERAGES) if (path / AVERAGES).exists() else None
        stream = path / f"stream_{self.accelerator.process_index}.json"
        adversary = path / ADVERSARY
        return (
            averages,
            json_of(stream) if stream.exists() else None,
            torch.load(adversary, map_location="cpu", weights_only=True) if adversary.exists() else None,
        )

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
            raise ValueError(f"{path} is not a complete checkpoint: {problem}.")
        return path

    def _check_shared(self, folder: Path):
        for rank in range(self.accelerator.num_processes):
            if not (folder / f"random_states_{rank}.pkl").is_file():
                raise ValueError(
                    f"Process {rank} did not write into {folder}: `output_dir` must be on storage that all share."
                )

    def _check_random_state(self, path: Path):
        """Raises ValueError for a random state that was not restored: Accelerate only logs it, at level info."""
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
        flush_to_disk(self.folder)
        shutil.rmtree(leaving, ignore_errors=True)

    def prune(self) -> None:
        """Deletes the checkpoints that the run does not keep. To be called on the main process."""
        ours = [path for path in self.all() if is_ours(path)]
        if self.total_limit is None:
            ours = [path for path in ours if not json_of(path / STATE).get(ASKED, True)]
        for path in ours[: -(self.total_limit or 1)]:
            delete_checkpoint(path)
