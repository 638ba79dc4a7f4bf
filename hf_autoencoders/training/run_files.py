# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Which files of a folder a run wrote, so that nothing else is ever deleted or replaced.

folder/
  .run-files     the run's mark: names of the files that it wrote
  .saving/       left by a run that was killed while it saved; never read
"""

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .checkpoint_folders import delete_checkpoints, holds_checkpoints
from .storage import flush_to_disk, one_line_if_full, write_atomically


ARGUMENTS, LOG, METRICS, CHECKPOINTS = "arguments.yaml", "metrics.jsonl", "metrics.json", "checkpoints"
PICTURE, EXAMPLE, CARD = "reconstructions.png", "example.png", "README.md"
RUN_RECORD, STAGING = ".run-files", ".saving"
MARK = "# Repeats this run: "  # the beginning of arguments.yaml
TRACKER_FILES = ("logs/**/events.out.tfevents.*", "logs/**/hparams.yml")  # trackers choose these names
_HEADER = "# Written by a run of hf_autoencoders: --overwrite deletes these files and its checkpoints, nothing else.\n"
# What runs of version 0.1 left when they were finished, as patterns; they kept no record.
_OF_OLD_RUNS = (
    ARGUMENTS, LOG, METRICS, PICTURE, EXAMPLE, "config.json", "generation_config.json", "model.safetensors",
    "model.safetensors.index.json", "model-*-of-*.safetensors", "preprocessor_config.json",
    "image_token_sequencer.json", "code_usage.png", "samples.png",
    "image_token_lm/**/*.json", "image_token_lm/**/*.safetensors", "image_token_lm/**/*.py", "image_token_lm/**/*.png",
    "pipeline/**/*.json", "pipeline/**/*.safetensors", "pipeline/**/*.py", "pipeline/**/*.png",
)  # fmt: skip
WRITTEN = (*_OF_OLD_RUNS, *TRACKER_FILES, CHECKPOINTS, RUN_RECORD, STAGING)  # patterns of all files but cards
_OLD_CARDS = (CARD, f"image_token_lm/{CARD}", f"pipeline/{CARD}")


def holds_run(folder: Path) -> bool:
    """Whether a run's mark is here. Other files do not count, even if they have the names of a run's files."""
    return (folder / RUN_RECORD).is_file() or _holds_old_run(folder)


def recorded_files(folder: Path) -> list[str]:
    """Names, relative to `folder`, of the files that its run wrote and that are there; checkpoints are not among them.

    Links are left out, and so are names that lead out of `folder`.
    """
    if (folder / RUN_RECORD).is_file():
        lines = (folder / RUN_RECORD).read_text(encoding="utf-8").splitlines()
        names = [line for line in lines if line and not line.startswith("#")]
    else:
        names = _files_of_old_run(folder) if _holds_old_run(folder) else []
    return [name for name in names if _is_plain_file(folder, name)]


def record_files(folder: Path, names: Iterable[str]) -> None:
    """Adds names to the record. This comes before the files are moved: a kill leaves no file that is not recorded."""
    known = sorted({*recorded_files(folder), *names})
    write_atomically(folder / RUN_RECORD, _HEADER + "".join(f"{name}\n" for name in known))


@contextmanager
def saving(folder: Path, writes: bool) -> Iterator[Path]:
    """An empty folder to write to. When the block ends without error, its files are moved into `folder` and recorded.

    A full disk or a kill within the block changes no file in `folder`. If `folder` holds a file of the same name that
    no run wrote, that file is kept as NAME.kept.

    Args:
        writes: True on the one process that writes. The others get the same path, and nothing happens to it.

    Raises:
        SaveFailed: the files could not be written.
    """
    place = folder / STAGING
    if writes:
        shutil.rmtree(place, ignore_errors=True)
    try:
        with one_line_if_full(str(folder), "what was there before was kept"):
            if writes:
                place.mkdir(parents=True)
            yield place
            if writes:
                _move(place, folder)
    finally:
        if writes:
            shutil.rmtree(place, ignore_errors=True)


def remove_run(folder: Path) -> None:
    """Deletes what a run wrote, and folders that are empty then; other files stay."""
    names = recorded_files(folder)
    trackers = [path for pattern in TRACKER_FILES for path in folder.glob(pattern)] if names else []
    for path in (*(folder / name for name in names), *trackers):
        path.unlink(missing_ok=True)
        for parent in path.relative_to(folder).parents:
            _remove_if_empty(folder / parent) if parent.parts else None
    delete_checkpoints(folder / CHECKPOINTS)
    shutil.rmtree(folder / STAGING, ignore_errors=True)
    (folder / RUN_RECORD).unlink(missing_ok=True)


def _move(place: Path, folder: Path) -> None:
    paths = sorted(path for path in place.rglob("*") if path.is_file())
    for path in paths:
        flush_to_disk(path)
    names = [path.relative_to(place).as_posix() for path in paths]
    for name in sorted(set(names) - set(recorded_files(folder))):
        if os.path.lexists(folder / name):
            os.replace(folder / name, folder / f"{name}.kept")
    record_files(folder, names)
    for path, name in zip(paths, names, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, folder / name)


def _is_plain_file(folder: Path, name: str) -> bool:
    parts = Path(name).parts
    if not parts or Path(name).is_absolute() or ".." in parts:
        return False
    steps = [folder.joinpath(*parts[: length + 1]) for length in range(len(parts))]
    return steps[-1].is_file() and not any(step.is_symlink() for step in steps)


def _holds_old_run(folder: Path) -> bool:
    try:
        with open(folder / ARGUMENTS, encoding="utf-8") as file:
            repeats = file.readline().startswith(MARK)
    except (OSError, UnicodeDecodeError):
        repeats = False
    return holds_checkpoints(folder / CHECKPOINTS) or (repeats and (folder / LOG).is_file())


def _files_of_old_run(folder: Path) -> list[str]:
    """People copy arguments.yaml as a recipe, so only metrics.json shows that a finished run is here."""
    try:
        record = json.loads((folder / METRICS).read_text(encoding="utf-8"))
        finished = {"metrics", "settings", "versions"} <= set(record)
    except (OSError, ValueError, TypeError):
        finished = False
    if not finished:
        return [ARGUMENTS, LOG]
    code = {path.name for path in (Path(__file__).resolve().parents[1] / "models").glob("*.py")}
    found = {path for pattern in _OF_OLD_RUNS for path in folder.glob(pattern)}
    found |= {path for path in folder.glob("*.py") if path.name in code}
    found |= {folder / name for name in _OLD_CARDS if _is_our_card(folder / name)}
    return sorted(path.relative_to(folder).as_posix() for path in found)


def _is_our_card(path: Path) -> bool:
    """Whether the card's settings name this package, as those that we write do."""
    try:
        head = path.read_text(encoding="utf-8").partition("---\n")[2].partition("---\n")[0]
    except (OSError, UnicodeDecodeError):
        return False
    return "hf_autoencoders" in head


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir()):
        folder.rmdir()
