# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""A killed run that is resumed ends as if nothing had happened; a damaged checkpoint is seen, named and passed over."""

import json
import shutil
import signal

import pytest
import torch
from training_runs import (
    KILLED_SCRIPT,
    assert_same_run,
    checkpoint,
    finish,
    log_of,
    start,
    tiny,
    train_here,
)

from hf_autoencoders.training.checkpoints import seal, what_is_wrong


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
    assert train_here(tiny("vae", two, *flags, "--resume", "latest")) == 0
    assert_same_run(one, two, 10)


def test_sigterm_ends_the_step_writes_a_checkpoint_and_exits_0(whole, tmp_path, monkeypatch):
    """In this process: the signal arrives in the middle of a backward pass."""
    import os

    from accelerate import Accelerator

    folder, calls, backward = tmp_path / "run", [], Accelerator.backward

    def told_to_stop(accelerator, loss, **kwargs):
        calls.append(None)
        if len(calls) in (21, 22):  # twice: launchers pass on what the group has received
            os.kill(os.getpid(), signal.SIGTERM)
        backward(accelerator, loss, **kwargs)

    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(Accelerator, "backward", told_to_stop)
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
    assert [path.name for path in left] == ["checkpoint-00000006", "checkpoint-00000008"]


def test_latest_without_a_checkpoint_starts_at_step_0(tmp_path, capsys):
    flags = ("--max_train_steps", "2", "--resume", "latest", "--max_eval_samples", "16")
    assert train_here(tiny("ae", tmp_path / "run", *flags)) == 0
    assert "starting at step 0" in capsys.readouterr().out


def test_resume_from_a_path_that_is_not_there(tmp_path, capsys):
    assert train_here(tiny("ae", tmp_path / "run", "--resume", str(tmp_path / "nothing"))) == 2
    assert "There is no checkpoint" in capsys.readouterr().err
