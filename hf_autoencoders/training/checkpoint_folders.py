# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Folders of checkpoints: their names, their manifests, and which of them may be deleted."""

import hashlib
import importlib.metadata
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

from .storage import flush_to_disk, write_atomically


MANIFEST, STATE, AVERAGES, ADVERSARY = "manifest.json", "state.json", "averages.safetensors", "adversary.bin"
PREFIX, WRITING, LEAVING, SET_ASIDE = "checkpoint-", ".writing", ".leaving", "set-aside-"


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _sha256(file)


def seal(folder: Path, step: int, processes: int):
    """Writes the manifest of a complete folder and flushes everything to the disk."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        flush_to_disk(path)
    manifest = {
        "step": step,
        "processes": processes,
        "versions": versions(),
        "files": {path.relative_to(folder).as_posix(): sha256(path) for path in files},
    }
    write_atomically(folder / MANIFEST, json.dumps(manifest, indent=1))
    flush_to_disk(folder)


def versions() -> dict[str, str]:
    """Installed versions of the libraries that decide a result."""
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


def all_checkpoints(folder: Path) -> list[Path]:
    """Folders that have the exact name of a checkpoint, in the order of their steps."""
    found = [path for path in folder.glob(f"{PREFIX}*") if step_of(path) >= 0 and path.is_dir()]
    return sorted(found, key=step_of)


def is_ours(path: Path) -> bool:
    """Whether a run wrote this folder under this name: not a link, a renamed copy, or another folder of this name."""
    try:
        step = json_of(path / MANIFEST)["step"]
    except (OSError, ValueError, TypeError, KeyError):
        return False
    return not path.is_symlink() and step == step_of(path) and (path / STATE).is_file()


def holds_checkpoints(folder: Path) -> bool:
    return any(map(is_ours, all_checkpoints(folder)))


def delete_checkpoint(path: Path) -> None:
    leaving = path.with_name(LEAVING)
    shutil.rmtree(leaving, ignore_errors=True)
    os.replace(path, leaving)  # a kill in the middle of a deletion leaves no half checkpoint behind
    shutil.rmtree(leaving, ignore_errors=True)


def delete_checkpoints(folder: Path) -> None:
    """Deletes all checkpoints of a run, also incomplete ones and those set aside, and then the empty folders."""
    for name in (WRITING, LEAVING):
        shutil.rmtree(folder / name, ignore_errors=True)
    for place in (*folder.glob(f"{SET_ASIDE}*"), folder):
        ours = [path for path in all_checkpoints(place) if is_ours(path)]
        for path in ours:
            delete_checkpoint(path)
        if ours and place != folder:
            (place / "metrics.jsonl").unlink(missing_ok=True)
        if place.is_dir() and not place.is_symlink() and not any(place.iterdir()):
            place.rmdir()


def step_of(path: Path) -> int:
    """The step in the name of a checkpoint; -1 if this is not exactly such a name."""
    found = re.fullmatch(rf"{PREFIX}(\d{{8,}})", path.name)
    return int(found.group(1)) if found else -1


def json_of(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _sha256(file) -> str:
    digest = hashlib.sha256()
    while block := file.read(2**20):
        digest.update(block)
    return digest.hexdigest()
