# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""A run's folder: only its own files go, a disk that takes no more costs nothing, and the record says what was."""

import json
import math
import os
import re
import resource
import shutil
import signal

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from training_runs import checkpoint, log_of, make_weights_infinite, tiny, train_here

from hf_autoencoders.training.checkpoint_folders import seal, what_is_wrong
from hf_autoencoders.training.run_files import RUN_RECORD, recorded_files, saving
from hf_autoencoders.training.storage import SaveFailed


AE = ("--max_eval_samples", "16", "--logging_steps", "1")


def names(folder) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two steps, a checkpoint at the end."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert train_here(tiny("ae", folder, *AE, "--max_train_steps", "2")) == 0
    return folder


@pytest.fixture
def copy(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


# -- whose files -------------------------------------------------------------------------------------------------------


def test_the_record_names_every_file_of_a_run(copy):
    everything = {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()}
    rest = {name for name in everything - set(recorded_files(copy)) if not name.startswith("checkpoints/")}
    assert rest == {RUN_RECORD, ".run.lock"}


def test_overwrite_leaves_what_only_looks_like_a_runs_file(copy, tmp_path):
    outside = tmp_path / "outside.txt"
    outside.write_text("mine")
    (copy / "linked.json").symlink_to(outside)
    mine = ["checkpoints/checkpoint-2-keep/x.bin", "checkpoints/checkpoint-00000099/x.bin", "README.md", "samples.png"]
    for name in mine:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text("mine")
    with open(copy / RUN_RECORD, "a", encoding="utf-8") as record:  # whatever a record says, it reaches nothing outside
        record.write(f"../outside.txt\n{outside}\nlinked.json\n")
    assert train_here(tiny("ae", copy, *AE, "--max_train_steps", "1", "--overwrite")) == 0
    assert all((copy / name).read_text() == "mine" for name in mine) and outside.read_text() == "mine"
    assert (copy / "linked.json").is_symlink() and not checkpoint(copy, 2).exists() and checkpoint(copy, 1).exists()


def test_a_recipe_that_was_copied_makes_no_folder_a_runs(copy, tmp_path, capsys):
    (tmp_path / "project").mkdir()
    shutil.copy(copy / "arguments.yaml", tmp_path / "project")
    (tmp_path / "project" / "config.json").write_text("mine")
    assert train_here(tiny("ae", tmp_path / "project", *AE, "--overwrite")) == 2
    assert "holds other files" in capsys.readouterr().err
    assert (tmp_path / "project" / "config.json").read_text() == "mine"


def test_a_file_of_the_users_in_the_place_of_a_runs_is_kept(tmp_path):
    (tmp_path / "config.json").write_text("mine")
    with saving(tmp_path, writes=True) as place:
        (place / "config.json").write_text("the run's")
    assert (tmp_path / "config.json").read_text() == "the run's"
    assert (tmp_path / "config.json.kept").read_text() == "mine"


def test_another_runs_folder_is_not_taken_by_resuming_from_elsewhere(copy, tmp_path, capsys):
    other = tmp_path / "other"
    shutil.copytree(copy, other)
    before = {path: path.read_bytes() for path in other.rglob("*") if path.is_file()}
    elsewhere = ("--resume", checkpoint(copy, 2), "--max_train_steps", "3")
    assert train_here(tiny("ae", other, *AE, *elsewhere)) == 2
    assert "holds another run" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in other.rglob("*") if path.is_file()} == before
    assert train_here(tiny("ae", tmp_path / "new", *AE, *elsewhere)) == 0


def test_a_run_of_version_01_is_continued_and_replaced(copy):
    """It kept no record of its files, and its checkpoints say nothing of the data."""
    (copy / RUN_RECORD).unlink()
    path = checkpoint(copy, 2)
    state = json.loads((path / "state.json").read_text())
    for name in ("data", "measured", "asked", "changes"):
        del state[name]
    (path / "state.json").write_text(json.dumps(state))
    (path / "manifest.json").unlink()
    seal(path, step=2, processes=1)
    (copy / "notes.txt").write_text("mine")
    assert train_here(tiny("ae", copy, *AE, "--max_train_steps", "3", "--resume", "latest")) == 0
    (copy / RUN_RECORD).unlink()
    assert train_here(tiny("ae", copy, *AE, "--max_train_steps", "1", "--overwrite")) == 0
    assert names(copy) == ["checkpoint-00000001"] and not list(copy.glob("*.kept"))
    assert (copy / "notes.txt").read_text() == "mine"


# -- checkpoints -------------------------------------------------------------------------------------------------------


def test_training_longer_deletes_no_checkpoint_that_was_asked_for(tmp_path):
    folder = tmp_path / "run"
    assert train_here(tiny("ae", folder, *AE, "--max_train_steps", "5", "--checkpointing_steps", "2")) == 0
    assert names(folder) == [f"checkpoint-0000000{step}" for step in (2, 4, 5)]
    assert train_here(tiny("ae", folder, *AE, "--max_train_steps", "7", "--resume", "latest")) == 0
    assert names(folder) == [f"checkpoint-0000000{step}" for step in (2, 4, 7)]


def test_a_resume_that_is_refused_changes_nothing(copy, capsys):
    assert train_here(tiny("ae", copy, *AE, "--max_train_steps", "3", "--resume", "latest")) == 0
    manifest = checkpoint(copy, 3) / "manifest.json"
    shutil.copytree(checkpoint(copy, 3), checkpoint(copy, 1))
    manifest = checkpoint(copy, 1) / "manifest.json"
    content = json.loads(manifest.read_text())
    content |= {"step": 1, "processes": 2}
    shutil.copy(checkpoint(copy, 1) / "random_states_0.pkl", checkpoint(copy, 1) / "random_states_1.pkl")
    content["files"]["random_states_1.pkl"] = content["files"]["random_states_0.pkl"]
    manifest.write_text(json.dumps(content))
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    assert train_here(tiny("ae", copy, *AE, "--max_train_steps", "4", "--resume", checkpoint(copy, 1))) == 2
    assert "was written by 2 processes" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before


def test_the_record_says_which_knobs_a_resume_changed(copy):
    flags = ("--max_train_steps", "3", "--resume", "latest", "--learning_rate", "0.0005")
    assert train_here(tiny("ae", copy, *AE, *flags)) == 0
    changed = json.loads((copy / "metrics.json").read_text())["changed_on_resume"]
    assert changed == [{"step": 2, "learning_rate": [0.001, 0.0005], "max_train_steps": [2, 3]}]
    assert train_here(tiny("ae", copy, *AE, *flags, "--max_train_steps", "4")) == 0  # they add up
    assert len(json.loads((copy / "metrics.json").read_text())["changed_on_resume"]) == 2


def test_what_was_measured_when_the_run_began_stays_in_force(tmp_path, monkeypatch):
    """As another version of a decoder may measure it a little otherwise."""
    from hf_autoencoders.training.data import CachedImages

    folder = tmp_path / "run"
    assert train_here(tiny("vqvae", folder, *AE, "--max_train_steps", "1")) == 0
    measured = json.loads((folder / "config.json").read_text())["data_variance"]
    monkeypatch.setattr(CachedImages, "data_variance", property(lambda self: 0.5))
    assert train_here(tiny("vqvae", folder, *AE, "--max_train_steps", "2", "--resume", "latest")) == 0
    assert json.loads((folder / "config.json").read_text())["data_variance"] == measured


# -- the end -----------------------------------------------------------------------------------------------------------


def test_weights_that_are_no_numbers_do_not_replace_good_ones(copy, monkeypatch, capsys):
    """Without checkpoints, too, which would have looked at them."""
    before = (copy / "model.safetensors").read_bytes()
    flags = ("--max_train_steps", "3", "--resume", "latest", "--checkpointing_steps", "0")
    make_weights_infinite(monkeypatch)
    assert train_here(tiny("ae", copy, *AE, *flags)) == 1
    assert "Weights are NaN or infinite after step 3" in capsys.readouterr().err
    assert (copy / "model.safetensors").read_bytes() == before


def test_a_run_that_diverged_stops_at_the_next_evaluation_and_replaces_no_picture(copy, monkeypatch, capsys):
    """Before the next line of the log is due, which would name the loss, too."""
    before = (copy / "reconstructions.png").read_bytes()
    flags = ("--max_train_steps", "40", "--eval_steps", "6", "--logging_steps", "40", "--resume", "latest")
    make_weights_infinite(monkeypatch)
    assert train_here(tiny("ae", copy, *AE, *flags)) == 1
    error = capsys.readouterr().err
    assert re.search(r"The loss became (nan|inf) at step \d; .*--learning_rate", error) and error.count("\n") == 1
    assert (copy / "reconstructions.png").read_bytes() == before
    assert not [line for line in log_of(copy) if line["step"] > 2]


def test_a_held_out_metric_that_is_no_number_ends_the_run_in_one_line(copy, monkeypatch, capsys):
    from hf_autoencoders.training.autoencoder_task import AutoencoderTask

    before = (copy / "model.safetensors").read_bytes()
    monkeypatch.setattr(AutoencoderTask, "evaluate", lambda *given: {"mse": math.nan, "psnr": math.inf})
    assert train_here(tiny("ae", copy, *AE, "--max_train_steps", "6", "--eval_steps", "4", "--resume", "latest")) == 1
    error = capsys.readouterr().err
    assert "Held-out mse is nan after step 4;" in error and "--learning_rate" in error and error.count("\n") == 1
    assert (copy / "model.safetensors").read_bytes() == before
    assert not (copy / "checkpoints/checkpoint-00000006").exists()


def test_a_signal_while_the_model_is_judged_ends_at_once_and_loses_nothing(copy, monkeypatch, capsys):
    from hf_autoencoders.training.autoencoder_task import AutoencoderTask

    flags = tiny("ae", copy, *AE, "--max_train_steps", "3", "--resume", "latest")
    with monkeypatch.context() as patch:
        patch.setattr(AutoencoderTask, "evaluate", lambda *args: os.kill(os.getpid(), signal.SIGINT))
        assert train_here(flags) == 0
    assert "Stopped by SIGINT after the training: the model is saved in" in capsys.readouterr().out
    saved = (copy / "model.safetensors").read_bytes()
    assert what_is_wrong(checkpoint(copy, 3)) is None
    assert train_here(flags) == 0
    assert (copy / "model.safetensors").read_bytes() == saved
    assert json.loads((copy / "metrics.json").read_text())["steps"] == 3


def test_a_held_out_picture_that_cannot_be_read_loses_nothing(tmp_path, capsys):
    """Decoded at each access (--cache_limit_gib 0), it is met at the end only; the line says where the model is."""
    rng, pictures = np.random.default_rng(0), tmp_path / "pictures"
    for split, count in (("train", 20), ("test", 4)):
        for number in range(count):
            path = pictures / split / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 255, (8, 8), dtype=np.uint8)).save(path)
    (pictures / "test" / "3.png").write_bytes(b"")
    folder = tmp_path / "run"
    flags = ("--dataset_name", pictures, "--cache_limit_gib", "0", "--max_train_steps", "2", "--logging_steps", "1")
    assert train_here(tiny("ae", folder, *flags)) == 2
    error = capsys.readouterr().err
    assert "test" in error and f"(The trained model is saved in {folder}; it could not be judged.)" in error
    assert error.count("\n") == 1 and "Traceback" not in error


# -- disks -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_files(request):
    """No file may grow beyond so many bytes: the system's own refusal, as torch, safetensors and Python meet it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size: int):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_takes_no_more_is_one_line_and_costs_nothing(copy, small_files, capsys):
    whole = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file() and path.name != "metrics.jsonl"}
    small_files(4096)
    code = train_here(tiny("ae", copy, *AE, "--max_train_steps", "3", "--resume", "latest"))
    small_files(resource.RLIM_INFINITY)
    error = capsys.readouterr().err
    assert code == 2 and "could not be written" in error and error.count("\n") == 1
    kept = ("arguments.yaml", RUN_RECORD)
    assert all(path.read_bytes() == content for path, content in whole.items() if path.name not in kept)
    assert names(copy) == ["checkpoint-00000002"]
    assert train_here(tiny("ae", copy, *AE, "--max_train_steps", "3", "--resume", "latest")) == 0
    assert [line["step"] for line in log_of(copy)] == [1, 2, 3]


@pytest.mark.parametrize("write", ["python", "torch", "safetensors"])
def test_what_a_library_says_of_a_full_disk_becomes_one_line(write, tmp_path, small_files):
    from safetensors.torch import save_file

    weights = {"weight": torch.zeros(10_000)}
    ways = {
        "python": lambda path: path.write_bytes(bytes(40_000)),
        "torch": lambda path: torch.save(weights, path),
        "safetensors": lambda path: save_file(weights, path),
    }
    (tmp_path / "file").write_text("before")
    small_files(4096)
    with (
        pytest.raises(SaveFailed, match="could not be written; what was there before was kept"),
        saving(tmp_path, writes=True) as place,
    ):
        ways[write](place / "file")
    small_files(resource.RLIM_INFINITY)
    assert (tmp_path / "file").read_text() == "before" and not (tmp_path / ".saving").exists()


def test_a_model_is_replaced_as_a_whole(copy, monkeypatch):
    """A crash in the middle of saving leaves the model that was there."""
    from hf_autoencoders.training.autoencoder_task import AutoencoderTask

    before, save = (copy / "model.safetensors").read_bytes(), AutoencoderTask.save_model

    def crash(*args):
        save(*args)
        raise ZeroDivisionError

    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(AutoencoderTask, "save_model", crash)
        train_here(tiny("ae", copy, *AE, "--max_train_steps", "3", "--resume", "latest"))
    assert (copy / "model.safetensors").read_bytes() == before and load_file(copy / "model.safetensors")
