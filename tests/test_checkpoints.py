# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""A killed run that is resumed ends as if nothing had happened; a damaged checkpoint is seen, named and passed over."""

import json
import os
import shutil
import signal

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from training_runs import (
    KILLED_SCRIPT,
    assert_same_run,
    checkpoint,
    finish,
    log_of,
    make_weights_infinite,
    start,
    tiny,
    train_here,
)

from hf_autoencoders.training.checkpoint_folders import seal, what_is_wrong


# 23 steps an epoch, checkpoints at 8, 16 and 24; augmentation, accumulation, averaged weights, evaluation, a schedule,
# clipping: all that could make a resume inexact.
FLAGS = (
    "--max_train_steps", "30", "--train_batch_size", "30", "--gradient_accumulation_steps", "2", "--random_crop", "1",
    "--checkpointing_steps", "8", "--eval_steps", "9", "--max_eval_samples", "40", "--ema_weights", "0.9",
    "--lr_scheduler", "cosine", "--max_grad_norm", "1", "--commitment_cost_start", "0", "--commitment_cost_steps", "20",
)  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert train_here(tiny("vqvae", folder, *FLAGS)) == 0
    return folder


@pytest.fixture
def copy(whole, tmp_path):
    """The undisturbed run as if it had been killed right after its checkpoint at step 24."""
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    (folder / "model.safetensors").unlink()
    shutil.rmtree(checkpoint(folder, 30))
    return folder


@pytest.mark.parametrize(
    "point, number, left",
    [("step", 40, [8, 16]), ("checkpoint", 2, [8]), ("epoch", 1, [8, 16])],
    ids=["within a step", "while a checkpoint is written", "between two epochs"],
)
def test_a_killed_run_resumes_bit_for_bit(whole, tmp_path, point, number, left):
    folder = tmp_path / "run"
    code, out, err = finish(start([point, str(number), *tiny("vqvae", folder, *FLAGS)], script=KILLED_SCRIPT))
    assert code == -signal.SIGKILL, err
    assert [path.name for path in sorted((folder / "checkpoints").glob("check*"))] == [
        f"checkpoint-{s:08d}" for s in left
    ]
    assert train_here(tiny("vqvae", folder, *FLAGS, "--resume", "latest")) == 0
    assert_same_run(whole, folder, 24)
    assert_same_run(whole, folder, 30)
    assert (whole / "config.json").read_bytes() == (folder / "config.json").read_bytes()


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_a_vae_with_workers_resumes_bit_for_bit(tmp_path, optimizer):
    """Noise of the posterior comes from the global generator, pictures from worker processes."""
    flags = ("--max_train_steps", "12", "--checkpointing_steps", "5", "--dataloader_num_workers", "1", "--random_flip")
    flags += ("--train_batch_size", "200", "--max_eval_samples", "40", "--binarize", "dynamic")  # 7 steps an epoch
    flags += ("--optimizer", optimizer, "--lr_scheduler", "cosine")
    one, two = tmp_path / "one", tmp_path / "two"
    assert train_here(tiny("vae", one, *flags)) == 0
    shutil.copytree(one, two)
    shutil.rmtree(checkpoint(two, 10))
    shutil.rmtree(checkpoint(two, 12))
    assert train_here(tiny("vae", two, *flags, "--resume", "latest")) == 0
    assert_same_run(one, two, 10)
    assert_same_run(one, two, 12)
    assert (one / "config.json").read_bytes() == (two / "config.json").read_bytes()


def test_sigterm_ends_the_step_writes_a_checkpoint_and_exits_0(whole, tmp_path, monkeypatch):
    """In this process: the signal arrives in the middle of a backward pass."""
    import os

    from accelerate import Accelerator

    from hf_autoencoders.commands import carry_out

    folder, calls, backward = tmp_path / "run", [], Accelerator.backward

    def told_to_stop(accelerator, loss, **kwargs):
        calls.append(None)
        if len(calls) in (21, 22):  # twice: launchers pass on what the group has received
            os.kill(os.getpid(), signal.SIGTERM)
        backward(accelerator, loss, **kwargs)

    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(Accelerator, "backward", told_to_stop)
        # Once more just after the checkpoint, while the process ends.
        patch.setattr(carry_out, "finish_trackers", lambda accelerator: os.kill(os.getpid(), signal.SIGTERM))
        assert train_here(tiny("vqvae", folder, *FLAGS)) == 0
    assert signal.getsignal(signal.SIGTERM) is before
    assert what_is_wrong(checkpoint(folder, 11)) is None
    assert not (folder / "model.safetensors").exists()
    assert train_here(tiny("vqvae", folder, *FLAGS, "--resume", "latest")) == 0
    assert_same_run(whole, folder, 24)


def test_an_evaluation_that_the_signal_left_out_is_made_up_for(whole, tmp_path, monkeypatch):
    import os

    from accelerate import Accelerator

    folder, calls, backward = tmp_path / "run", [], Accelerator.backward

    def told_to_stop(accelerator, loss, **kwargs):
        calls.append(None)
        if len(calls) == 18:  # of step 9, after which an evaluation is due
            os.kill(os.getpid(), signal.SIGINT)
        backward(accelerator, loss, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Accelerator, "backward", told_to_stop)
        assert train_here(tiny("vqvae", folder, *FLAGS)) == 0
    assert "eval_mse" not in log_of(folder)[-1]
    assert train_here(tiny("vqvae", folder, *FLAGS, "--resume", "latest")) == 0
    assert log_of(folder) == log_of(whole)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip_one_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [truncate, flip_one_bit, empty])
@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.bin", "random_states_0.pkl", "manifest.json"])
def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_is_used(copy, whole, damage, name, capsys):
    damage(checkpoint(copy, 24) / name)
    there = sorted(path.relative_to(copy) for path in (copy / "checkpoints").rglob("*"))
    if (damage, name) == (flip_one_bit, "model.safetensors"):  # one of them to the end
        assert train_here(tiny("vqvae", copy, *FLAGS, "--resume", "latest")) == 0
        assert_same_run(whole, copy, 24)
    else:
        assert train_here(tiny("vqvae", copy, *FLAGS, "--resume", "latest", "--max_train_steps", "16")) == 0
        aside = copy / "checkpoints" / "set-aside-1"
        shutil.move(aside / "checkpoint-00000024", copy / "checkpoints")
        assert [path.name for path in aside.iterdir()] == ["metrics.jsonl"]
        shutil.rmtree(aside)
        assert sorted(path.relative_to(copy) for path in (copy / "checkpoints").rglob("*")) == there
    lines = [line for line in capsys.readouterr().out.splitlines() if " is damaged: " in line]
    assert len(lines) == 1
    assert "checkpoint-00000024" in lines[0]
    assert name in lines[0] or name == "manifest.json"  # a damaged manifest may misquote the checksum of a sound file


def test_a_missing_random_state_is_an_error(copy, capsys):
    (checkpoint(copy, 24) / "random_states_0.pkl").unlink()
    path = str(checkpoint(copy, 24))
    assert train_here(tiny("vqvae", copy, *FLAGS, "--resume", path)) == 2
    assert "random_states_0.pkl is missing" in capsys.readouterr().err


def test_a_random_state_that_was_never_sealed_is_an_error(copy):
    manifest = checkpoint(copy, 24) / "manifest.json"
    content = json.loads(manifest.read_text())
    del content["files"]["random_states_0.pkl"]
    manifest.write_text(json.dumps(content))
    assert "random_states_0.pkl is not in its manifest" in what_is_wrong(checkpoint(copy, 24))


def test_a_random_state_that_cannot_be_restored_is_an_error(copy, capsys):
    """Accelerate passes over it in silence. Here its checksum is right, and its content is not."""
    path = checkpoint(copy, 24)
    states = torch.load(path / "random_states_0.pkl", weights_only=False)
    states["random_state"] = "nonsense"
    torch.save(states, path / "random_states_0.pkl")
    (path / "manifest.json").unlink()
    seal(path, step=24, processes=1)
    assert train_here(tiny("vqvae", copy, *FLAGS, "--resume", str(path))) == 2
    assert "random state of process 0" in capsys.readouterr().err


def test_when_all_are_damaged_the_run_does_not_silently_start_anew(copy, capsys):
    for path in (copy / "checkpoints").iterdir():
        empty(path / "state.json")
    assert train_here(tiny("vqvae", copy, *FLAGS, "--resume", "latest")) == 2
    assert "All 3 checkpoints" in capsys.readouterr().err
    assert len(list((copy / "checkpoints").iterdir())) == 3


def test_another_number_of_processes_is_refused(copy, capsys):
    manifest = checkpoint(copy, 24) / "manifest.json"
    content = json.loads(manifest.read_text())
    content["processes"] = 2
    content["files"]["random_states_1.pkl"] = content["files"]["random_states_0.pkl"]
    shutil.copy(checkpoint(copy, 24) / "random_states_0.pkl", checkpoint(copy, 24) / "random_states_1.pkl")
    manifest.write_text(json.dumps(content))
    assert train_here(tiny("vqvae", copy, *FLAGS, "--resume", str(checkpoint(copy, 24)))) == 2
    assert "was written by 2 processes" in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags, message",
    [
        (("--seed", "3"), "was trained with seed 0, now it is 3"),
        (("--codebook_size", "32"), "codebook_size"),
        (("--ema_weights", "null"), "was trained with ema_weights 0.9, now it is None"),
    ],
)
def test_what_decides_model_and_batches_must_not_change(copy, capsys, flags, message):
    arguments = tiny("vqvae", copy, *FLAGS, "--resume", "latest", *flags)
    if flags[-1] == "null":
        at = arguments.index("--ema_weights")
        del arguments[at : at + 2]
    assert train_here(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_other_knobs_may_change_and_are_listed(copy, capsys):
    assert train_here(tiny("vqvae", copy, *FLAGS, "--resume", "latest", "--learning_rate", "0.0005")) == 0
    assert "changed since the checkpoint: learning_rate 0.001 -> 0.0005" in capsys.readouterr().out


def test_only_the_newest_are_kept(tmp_path):
    flags = ("--max_train_steps", "9", "--checkpointing_steps", "2", "--checkpoints_total_limit", "2")
    assert train_here(tiny("ae", tmp_path / "run", *flags, "--max_eval_samples", "16")) == 0
    left = sorted((tmp_path / "run" / "checkpoints").iterdir())
    assert [path.name for path in left] == ["checkpoint-00000008", "checkpoint-00000009"]


def test_latest_without_a_checkpoint_starts_at_step_0(tmp_path, capsys):
    flags = ("--max_train_steps", "2", "--resume", "latest", "--max_eval_samples", "16")
    assert train_here(tiny("ae", tmp_path / "run", *flags)) == 0
    assert "starting at step 0" in capsys.readouterr().out


def test_resume_from_a_path_that_is_not_there(tmp_path, capsys):
    assert train_here(tiny("ae", tmp_path / "run", "--resume", str(tmp_path / "nothing"))) == 2
    assert "There is no checkpoint" in capsys.readouterr().err


# -- going on, going back, and what is not ours ------------------------------------------------------------------------


AE = ("--max_eval_samples", "16", "--logging_steps", "1")


def names(folder) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def test_a_finished_run_can_be_trained_longer(tmp_path):
    """By default: one checkpoint at the end, however often the run is continued."""
    folder, whole = tmp_path / "run", tmp_path / "whole"
    assert train_here(tiny("ae", folder, *AE, "--max_train_steps", "3")) == 0
    assert names(folder) == ["checkpoint-00000003"]
    assert train_here(tiny("ae", folder, *AE, "--max_train_steps", "5", "--resume", "latest")) == 0
    assert names(folder) == ["checkpoint-00000005"]
    assert train_here(tiny("ae", whole, *AE, "--max_train_steps", "5")) == 0
    assert_same_run(whole, folder, 5)


def test_a_finished_run_without_checkpoints_is_not_trained_anew_by_resume(tmp_path, capsys):
    folder, flags = tmp_path / "run", (*AE, "--max_train_steps", "2", "--checkpointing_steps", "0")
    assert train_here(tiny("ae", folder, *flags)) == 0
    assert "--checkpointing_steps 0: no checkpoint is kept" in capsys.readouterr().out
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert train_here(tiny("ae", folder, *flags, "--resume", "latest")) == 2
    error = capsys.readouterr().err
    assert "is finished and kept no checkpoint" in error and "--init_from" in error and error.count("\n") == 1
    assert {path: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_going_back_to_an_earlier_checkpoint_starts_a_new_branch(tmp_path, capsys):
    folder = tmp_path / "run"
    flags = (*AE, "--max_train_steps", "5", "--checkpointing_steps", "1", "--checkpoints_total_limit", "4")
    assert train_here(tiny("ae", folder, *flags)) == 0
    log = (folder / "metrics.jsonl").read_bytes()
    capsys.readouterr()
    back = ("--resume", checkpoint(folder, 2), "--checkpoints_total_limit", "2", "--learning_rate", "1e-4")
    assert train_here(tiny("ae", folder, *flags, *back, "--max_train_steps", "4")) == 0
    assert "Set aside in" in capsys.readouterr().out
    assert names(folder) == ["checkpoint-00000003", "checkpoint-00000004", "set-aside-1"]
    aside = folder / "checkpoints" / "set-aside-1"
    assert sorted(path.name for path in aside.iterdir()) == [
        *(f"checkpoint-0000000{n}" for n in (3, 4, 5)),
        "metrics.jsonl",
    ]
    assert (aside / "metrics.jsonl").read_bytes() == log
    assert [line["step"] for line in log_of(folder)] == [1, 2, 3, 4]


def test_pruning_leaves_alone_what_is_no_checkpoint_of_ours(tmp_path):
    folder = tmp_path / "run"
    flags = (*AE, "--checkpointing_steps", "1", "--checkpoints_total_limit", "2")
    assert train_here(tiny("ae", folder, *flags, "--max_train_steps", "2")) == 0
    mine = [
        folder / "checkpoints" / name for name in ("checkpoint-1-keep", "checkpoint-best", "checkpoint-00000001.old")
    ]
    for path in mine:
        shutil.copytree(checkpoint(folder, 1), path)
    assert train_here(tiny("ae", folder, *flags, "--max_train_steps", "4", "--resume", "latest")) == 0
    assert names(folder) == sorted(["checkpoint-00000003", "checkpoint-00000004", *(path.name for path in mine)])
    assert all(what_is_wrong(path) is None for path in mine)


@pytest.mark.parametrize("flag", [("--overwrite",), ("--resume", "latest")])
def test_a_folder_that_never_held_a_run_is_never_touched(tmp_path, capsys, flag):
    for name in (
        "README.md",
        "config.json",
        "metrics.json",
        "logs/mine.txt",
        "checkpoints/mine.txt",
        "model.safetensors",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    assert train_here(tiny("ae", tmp_path, *AE, "--max_train_steps", "1", *flag)) == 2
    error = capsys.readouterr().err
    assert "holds other files" in error and error.count("\n") == 1
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 6 and all(path.read_text() == "mine" for path in files)


def test_overwrite_deletes_only_what_the_run_wrote(tmp_path):
    flags = (*AE, "--max_train_steps", "1", "--report_to", "tensorboard")
    assert train_here(tiny("ae", tmp_path, *flags)) == 0
    mine = [
        "notes.txt",
        "README.md",
        "logs/mine.txt",
        "checkpoints/checkpoint-best/x.bin",
        "image_token_lm/thesis.tex",
        "my.py",
    ]
    for name in mine:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("mine")
    old_events = list(tmp_path.rglob("events.out.tfevents.*"))
    assert train_here(tiny("vae", tmp_path, *AE, "--max_train_steps", "2", "--overwrite")) == 0
    assert all((tmp_path / name).read_text() == "mine" for name in mine)
    assert old_events and not any(path.exists() for path in old_events)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "vae"
    assert "checkpoint-00000001" not in names(tmp_path)


def test_knobs_of_the_optimizer_that_changed_are_applied(tmp_path, capsys):
    folder, flags = tmp_path / "run", (*AE, "--optimizer", "adamw", "--max_train_steps", "2")
    assert train_here(tiny("ae", folder, *flags)) == 0
    plain, decayed = tmp_path / "plain", tmp_path / "decayed"
    shutil.copytree(folder, plain)
    shutil.copytree(folder, decayed)
    more = ("--max_train_steps", "3", "--resume", "latest")
    assert train_here(tiny("ae", plain, *flags, *more)) == 0
    assert train_here(tiny("ae", decayed, *flags, *more, "--weight_decay", "100", "--adam_beta1", "0.5")) == 0
    said = capsys.readouterr().out
    assert "changed since the checkpoint: weight_decay 0.0 -> 100.0" in said and "adam_beta1 0.9 -> 0.5" in said
    state = torch.load(checkpoint(decayed, 3) / "optimizer.bin", weights_only=True)
    assert state["param_groups"][0]["weight_decay"] == 100 and state["param_groups"][0]["betas"] == (0.5, 0.999)
    lengths = [sum(w.square().sum() for w in load_file(f / "model.safetensors").values()) for f in (plain, decayed)]
    assert lengths[1] < 0.95 * lengths[0]  # lr x decay = 0.1


def test_other_pictures_are_refused_on_resume(tmp_path, capsys):
    folder, flags = tmp_path / "run", (*AE, "--max_train_steps", "1")
    pictures = tmp_path / "pictures"
    for split, count in (("train", 20), ("test", 4)):
        for number in range(count):
            path = pictures / split / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 8), 10 * number).save(path)
    data = ("--dataset_name", pictures)
    assert train_here(tiny("ae", folder, *flags, *data)) == 0
    pictures.rename(tmp_path / "moved")  # the same pictures elsewhere are the same pictures
    more = ("--max_train_steps", "2", "--resume", "latest")
    assert train_here(tiny("ae", folder, *flags, "--dataset_name", tmp_path / "moved", *more)) == 0
    Image.new("L", (8, 8), 255).save(tmp_path / "moved/train/0.png")
    assert train_here(tiny("ae", folder, *flags, "--dataset_name", tmp_path / "moved", *more)) == 2
    assert "was trained on other data: its fingerprint was" in capsys.readouterr().err
    assert train_here(tiny("ae", folder, *flags, *more)) == 2  # the digits
    assert "number of pictures was 20, now it is 1437" in capsys.readouterr().err


def test_weights_that_are_no_numbers_are_not_saved_and_end_the_run_with_1(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"
    make_weights_infinite(monkeypatch)
    assert train_here(tiny("ae", folder, *AE, "--max_train_steps", "1")) == 1
    error = capsys.readouterr().err
    assert "Weights are NaN or infinite after step 1" in error and error.count("\n") == 1
    assert not (folder / "model.safetensors").exists() and not (folder / "checkpoints").exists()


def test_what_fails_after_the_last_step_loses_nothing(tmp_path, monkeypatch, capsys):
    """The model is saved before it is judged, and a signal waits until it is whole."""
    from hf_autoencoders.training.autoencoder_task import AutoencoderTask

    folder, save = tmp_path / "run", AutoencoderTask.save_model

    def told_to_stop_while_saving(*args):
        os.kill(os.getpid(), signal.SIGTERM)
        save(*args)

    with monkeypatch.context() as patch:
        patch.setattr(AutoencoderTask, "save_model", told_to_stop_while_saving)
        assert train_here(tiny("ae", folder, *AE, "--max_train_steps", "2")) == 0
    assert f"Stopped by SIGTERM after the training: the model is saved in {folder}" in capsys.readouterr().out
    whole = load_file(folder / "model.safetensors")
    assert not (folder / "metrics.json").exists()
    assert train_here(tiny("ae", folder, *AE, "--max_train_steps", "2", "--resume", "latest")) == 0
    assert json.loads((folder / "metrics.json").read_text())["steps"] == 2
    assert all(torch.equal(tensor, whole[name]) for name, tensor in load_file(folder / "model.safetensors").items())


def test_a_folder_is_held_by_one_run_at_a_time(tmp_path, capsys):
    from accelerate import Accelerator

    from hf_autoencoders.training.folder import FolderLock

    holder = FolderLock(Accelerator(cpu=True), tmp_path).acquire()
    assert train_here(tiny("ae", tmp_path, *AE, "--max_train_steps", "1")) == 2
    error = capsys.readouterr().err
    assert f"is in use by another run (process {os.getpid()} on " in error and error.count("\n") == 1
    holder.release()
    assert train_here(tiny("ae", tmp_path, *AE, "--max_train_steps", "1")) == 0


def test_a_full_disk_is_one_line_and_the_last_checkpoint_stays(tmp_path, capsys, monkeypatch):
    from accelerate import Accelerator

    folder, flags = tmp_path / "run", (*AE, "--checkpointing_steps", "1")
    assert train_here(tiny("ae", folder, *flags, "--max_train_steps", "1")) == 0

    def full(accelerator, path):
        with open("/dev/full", "wb", buffering=0) as disk:  # a device that has no room, ever
            disk.write(b"weights")

    with monkeypatch.context() as patch:
        patch.setattr(Accelerator, "save_state", full)
        assert train_here(tiny("ae", folder, *flags, "--max_train_steps", "2", "--resume", "latest")) == 2
    error = capsys.readouterr().err
    assert "The disk is full" in error and error.count("\n") == 1
    assert what_is_wrong(checkpoint(folder, 1)) is None
    assert train_here(tiny("ae", folder, *flags, "--max_train_steps", "2", "--resume", "latest")) == 0


def test_latents_are_measured_on_no_more_pictures_than_were_trained_on(tmp_path, monkeypatch):
    from hf_autoencoders.training.data import CachedImages

    asked, plain = [], CachedImages.plain_batch
    monkeypatch.setattr(CachedImages, "plain_batch", lambda self, rows: asked.append(len(rows)) or plain(self, rows))
    assert train_here(tiny("vae", tmp_path / "run", *AE, "--max_train_steps", "2", "--train_batch_size", "3")) == 0
    assert sum(asked) == 6
