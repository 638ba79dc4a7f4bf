# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The output folder of a run: whose it is, what lies in it, and who writes there now.

A folder belongs to a run if it holds `arguments.yaml` with the first line that a run writes. Only there does
--overwrite delete anything, and only files by the names that runs write; --resume goes on only there, too.
"""

import json
import os
import platform
import re
import time
from collections.abc import Callable
from pathlib import Path

import yaml
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from filelock import FileLock, Timeout

from .arguments import Arguments


ARGUMENTS, LOG, METRICS, CHECKPOINTS = "arguments.yaml", "metrics.jsonl", "metrics.json", "checkpoints"
PICTURE, EXAMPLE, CARD = "reconstructions.png", "example.png", "README.md"
LOCK, HOLDER = ".run.lock", ".run.holder.json"
MARK = "# Repeats this run: "

# What runs write, as patterns below their folder. Their code files are those of models/, which travel with a model.
WRITTEN = (
    ARGUMENTS, LOG, METRICS, PICTURE, EXAMPLE, "config.json", "generation_config.json",
    "model.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors", "preprocessor_config.json",
    "image_token_sequencer.json", "code_usage.png", "samples.png",
    "logs/**/events.out.tfevents.*", "logs/**/hparams.yml",
    "image_token_lm/**/*.json", "image_token_lm/**/*.safetensors", "image_token_lm/**/*.py", "image_token_lm/**/*.png",
    "pipeline/**/*.json", "pipeline/**/*.safetensors", "pipeline/**/*.py", "pipeline/**/*.png",
    "checkpoints/checkpoint-[0-9]*/*", "checkpoints/checkpoint-[0-9]*/**/*", "checkpoints/.writing/**/*",
    "checkpoints/.leaving/**/*", "checkpoints/set-aside-*/**/*",
)  # fmt: skip
CARDS = (CARD, "image_token_lm/README.md", "pipeline/README.md")  # deleted only if a run or publish.py wrote them


def output_folder(arguments: Arguments) -> Path:
    """--output_dir, or runs/<recipe>, or runs/<model>-<data set>."""
    if arguments.run.output_dir:
        return Path(arguments.run.output_dir)
    dataset = Path(arguments.data.dataset_name).name
    return Path("runs") / (Path(arguments.recipe).stem if arguments.recipe else f"{arguments.model_type}-{dataset}")


# -- whose a folder is -------------------------------------------------------------------------------------------------


def check_folder(accelerator: Accelerator, folder: Path, arguments: Arguments):
    """Is the folder free for this run? Nothing is changed yet, so a mistake found later costs nothing.

    Raises:
        ValueError: it holds another run, or files that no run wrote; or a finished run that --resume cannot continue.
    """
    _on_main_process(accelerator, lambda: _what_is_wrong(folder, arguments))


def claim_folder(accelerator: Accelerator, folder: Path, arguments: Arguments):
    """Makes the folder this run's: --overwrite deletes what the last one wrote, arguments.yaml repeats this one."""
    _on_main_process(accelerator, lambda: _claim(folder, arguments))


def checkpoints_in(folder: Path) -> list[Path]:
    """Folders by the names that checkpoints have, oldest first; `checkpoint-10-keep` is somebody's own."""
    named = (path for path in folder.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d{8,}", path.name))
    return sorted((path for path in named if path.is_dir()), key=lambda path: int(path.name.split("-")[1]))


def holds_run(folder: Path) -> bool:
    """Whether a run wrote its mark there."""
    try:
        with open(folder / ARGUMENTS, encoding="utf-8") as file:
            return file.read(len(MARK)) == MARK
    except (OSError, UnicodeDecodeError):
        return False


def _on_main_process(accelerator: Accelerator, action: Callable[[], str | None]):
    """Every process hears of the problem that the main one found."""
    problem = [action() if accelerator.is_main_process else None]
    if accelerator.num_processes > 1:
        broadcast_object_list(problem)
    if problem[0]:
        raise ValueError(problem[0])


def _what_is_wrong(folder: Path, arguments: Arguments) -> str | None:
    try:
        if folder.exists() and not folder.is_dir():
            return f"--output_dir {folder} is a file."
        found = (
            sorted(path.name for path in folder.iterdir() if path.name not in (LOCK, HOLDER)) if folder.exists() else []
        )
    except OSError as error:
        return f"--output_dir {str(folder)[:100]} cannot be used: {error.strerror}."
    run = arguments.run
    if not found:
        return None
    if not holds_run(folder):
        files = f"{', '.join(found[:3])}{', ...' if len(found) > 3 else ''}"
        why = "--overwrite replaces runs only" if run.overwrite else "there is no run to continue" if run.resume else ""
        return f"{folder} holds other files ({files}) and no run{why and ': '}{why}; choose another --output_dir."
    trained = [folder / METRICS, *folder.glob("*.safetensors")]
    if run.resume == "latest" and not checkpoints_in(folder / CHECKPOINTS) and any(path.exists() for path in trained):
        return (
            f"The run in {folder} is finished and kept no checkpoint to go on from. To train on from its weights: "
            f"--init_from {folder} --output_dir ANOTHER; to replace it: --overwrite."
        )
    if run.resume or run.overwrite:
        return None
    choice = "--resume latest to continue, --overwrite to replace, or another --output_dir"
    return f"{folder} holds another run: give {choice}."


def _claim(folder: Path, arguments: Arguments) -> str | None:
    try:
        if arguments.run.overwrite:
            remove_run(folder)
        folder.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(arguments.as_recipe(), sort_keys=False)
        (folder / ARGUMENTS).write_text(f"{MARK}train.py --recipe {folder / ARGUMENTS}\n{text}", encoding="utf-8")
    except OSError as error:
        return f"--output_dir {folder} cannot be written: {error.strerror}."
    return None


def remove_run(folder: Path):
    """Deletes the files that a run wrote, and the folders that are empty then; everything else stays."""
    if not holds_run(folder):
        return
    for path in written_files(folder):
        path.unlink()
    for below in sorted((path for path in folder.rglob("*") if path.is_dir() and not path.is_symlink()), reverse=True):
        if below.relative_to(folder).parts[0] in ("logs", "checkpoints", "image_token_lm", "pipeline"):
            _remove_if_empty(below)


def written_files(folder: Path) -> list[Path]:
    """Files of a run's folder that runs write, links left out."""
    code = {path.name for path in (Path(__file__).resolve().parents[1] / "models").glob("*.py")}
    found = {path for pattern in WRITTEN for path in folder.glob(pattern)}
    found |= {path for path in folder.glob("*.py") if path.name in code}
    found |= {folder / name for name in CARDS if is_our_card(folder / name)}
    return sorted(
        path for path in found if path.is_file() and not path.is_symlink() and path.name not in (LOCK, HOLDER)
    )


def is_our_card(path: Path) -> bool:
    """Whether the card's settings name this package, as those that we write do."""
    try:
        head = path.read_text(encoding="utf-8").partition("---\n")[2].partition("---\n")[0]
    except (OSError, UnicodeDecodeError):
        return False
    return "hf_autoencoders" in head


def _remove_if_empty(folder: Path):
    if not any(folder.iterdir()):
        folder.rmdir()


# -- who writes there --------------------------------------------------------------------------------------------------


class FolderLock:
    """Keeps a folder to one run at a time. The operating system opens it when the process ends, however it ends.

    Held by the main process; `acquire` and `release` are collective.
    """

    def __init__(self, accelerator: Accelerator, folder: Path):
        self.accelerator, self.folder = accelerator, Path(folder)
        self.lock = FileLock(self.folder / LOCK)

    def acquire(self) -> "FolderLock":
        """Raises ValueError, on every process, where another run holds the folder."""
        _on_main_process(self.accelerator, self._acquire)
        return self

    def release(self) -> None:
        if self.lock.is_locked:
            (self.folder / HOLDER).unlink(missing_ok=True)  # the lock itself stays: removing it would race with others
            self.lock.release()

    def _acquire(self) -> str | None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.lock.acquire(timeout=0)
        except Timeout:
            return (
                f"{self.folder} is in use by another run ({self._holder()}): wait for it, or take another --output_dir."
            )
        except OSError as error:
            return f"--output_dir {str(self.folder)[:100]} cannot be written: {error.strerror}."
        holder = {"process": os.getpid(), "host": platform.node(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        (self.folder / HOLDER).write_text(json.dumps(holder) + "\n", encoding="utf-8")
        return None

    def _holder(self) -> str:
        try:
            holder = json.loads((self.folder / HOLDER).read_text(encoding="utf-8"))
            return f"process {holder['process']} on {holder['host']} since {holder['since']}"
        except (OSError, ValueError, KeyError, TypeError):
            return "it does not say which"
