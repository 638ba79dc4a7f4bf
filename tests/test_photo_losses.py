# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Perceptual and adversarial losses in training: every split of the work is the same, a killed run goes on bit for bit,
and the gradient of each term reaches what it should and nothing else."""

import json
import shutil

import pytest
import torch
from accelerate import Accelerator
from training_runs import KILLED_SCRIPT, ROOT, assert_same_run, checkpoint, finish, log_of, start, tiny, train_here
from transformers.utils import ModelOutput

from hf_autoencoders import VAEConfig, VAEModel, VQVAEConfig, VQVAEModel
from hf_autoencoders.training.arguments import LossArguments
from hf_autoencoders.training.checkpoint_folders import seal
from hf_autoencoders.training.discriminator_game import build_game
from hf_autoencoders.training.knobs import parse_arguments
from hf_autoencoders.training.perceptual_term import PerceptualTerm, gradient_energy


PLAY = ROOT / "tests" / "play_game.py"
SMALL = {"image_size": 16, "num_channels": 1, "block_out_channels": [8, 8], "layers_per_block": 1}
GAME = LossArguments(
    adversarial_weight=0.5, discriminator_start=0, adversarial_start=0, adversarial_ramp_steps=1, discriminator_width=4
)
# Of the digits: terms that count early, so that a short run sees all of them.
FLAGS = (
    "--max_train_steps", "9", "--checkpointing_steps", "3", "--max_eval_samples", "8", "--logging_steps", "1",
    "--perceptual_model", "digits", "--perceptual_weight", "0.05", "--adversarial_weight", "0.05", "--r1_weight", "0.1",
    "--discriminator_start", "1", "--adversarial_start", "3", "--adversarial_ramp_steps", "4",
    "--discriminator_width", "4", "--discriminator_levels", "2", "--ema_weights", "0.9",
    "--gradient_accumulation_steps", "2",
)  # fmt: skip


def play(folder, discriminator: str, processes: int, micro_batches: int) -> dict:
    output = folder / f"{processes}-{micro_batches}.pt"
    code, _, err = finish(start([str(micro_batches), str(output), discriminator], PLAY, processes=processes))
    assert code == 0, err
    return torch.load(output, weights_only=True)


@pytest.mark.parametrize("discriminator", ["pooled", "features"])
def test_every_split_of_the_work_trains_both_nets_alike(tmp_path, discriminator):
    """Two processes of 8, and four micro-batches of 4, like one batch of 16: float64, 20 steps."""
    whole = play(tmp_path, discriminator, 1, 1)
    for split in (play(tmp_path, discriminator, 2, 1), play(tmp_path, discriminator, 1, 4)):
        for net in ("model", "game"):
            for name, tensor in whole[net].items():
                assert (split[net][name].double() - tensor.double()).abs().max() <= 1e-10, name
    assert whole["game"]["mean_fake"] != 0  # LeCam's averages moved


@pytest.fixture(scope="module")
def judged_by_features(tmp_path_factory):
    folder = tmp_path_factory.mktemp("features") / "run"
    assert train_here(tiny("vqvae", folder, *FLAGS, "--discriminator", "features")) == 0
    return folder


def test_a_checkpoint_holds_the_heads_alone_and_resumes_bit_for_bit(judged_by_features, tmp_path):
    folder = shutil.copytree(judged_by_features, tmp_path / "run")
    shutil.rmtree(checkpoint(folder, 9))
    flags = tiny("vqvae", folder, *FLAGS, "--discriminator", "features")
    assert train_here([*flags, "--resume", "latest"]) == 0
    assert_same_run(judged_by_features, folder, 9)
    state = torch.load(checkpoint(folder, 9) / "adversary.bin", weights_only=True)
    assert {name.split(".")[1] for name in state["net"] if "." in name} == {"heads"}
    trained = sum(weight.dim() > 0 for weight in state["net"].values())
    assert len(state["optimizer"]["state"]) == len(state["optimizer"]["param_groups"][0]["params"]) == trained


def rewritten(path, state):
    """The checkpoint with this state of the discriminator, sealed again."""
    manifest = json.loads((path / "manifest.json").read_text())
    if state is None:
        (path / "adversary.bin").unlink()
    else:
        torch.save(state, path / "adversary.bin")
    (path / "manifest.json").unlink()
    seal(path, manifest["step"], manifest["processes"])


def with_the_net_in_it(state):
    return {**state, "net": {**state["net"], "net.net.net.conv1.weight": torch.zeros(24, 1, 5, 5)}}


@pytest.mark.parametrize(
    "change, words",
    [(with_the_net_in_it, "of other layers than this version"), (lambda state: None, "no discriminator")],
)
def test_a_checkpoint_with_another_discriminator_is_refused_in_one_line(
    judged_by_features, tmp_path, capsys, change, words
):
    folder = shutil.copytree(judged_by_features, tmp_path / "run")
    path = checkpoint(folder, 9)
    rewritten(path, change(torch.load(path / "adversary.bin", weights_only=True)))
    flags = tiny("vqvae", folder, *FLAGS, "--discriminator", "features", "--max_train_steps", "10")
    assert train_here([*flags, "--resume", str(path)]) == 2
    said = capsys.readouterr().err
    assert words in said and "--init_from" in said and "Traceback" not in said


def test_one_feature_net_serves_both_losses():
    """In a step it sees reconstructions once and pictures once, and no gradient goes where it should not."""
    torch.manual_seed(0)
    accelerator, pixels = Accelerator(cpu=True), torch.rand(4, 1, 16, 16) * 2 - 1
    knobs = LossArguments(
        **{**vars(GAME), "discriminator": "features", "perceptual_model": "digits", "discriminator_levels": 2}
    )
    model = VQVAEModel(VQVAEConfig(**SMALL)).train()
    perceptual = PerceptualTerm(knobs, model.loss_per_element, accelerator)
    game = build_game(knobs, model, 1, measure_every=50, perceptual=perceptual)
    game.attach(accelerator)
    passes = []
    perceptual.distance.net.register_forward_hook(lambda *seen: passes.append(1))
    output = model(pixels)
    compared = perceptual(output.reconstruction, pixels)
    output["seen"] = compared.seen
    term = game.generator_term(output, {"pixel_values": pixels}, 0)
    (compared.term + term).backward()
    assert game.last_layer.grad.abs().sum() > 0 and all(p.grad is None for p in game.net.parameters())
    model.zero_grad()
    game.update(output, {"pixel_values": pixels}, 0)
    assert all(p.grad is None for p in model.parameters()) and len(passes) == 2
    assert all(p.grad is None for p in perceptual.distance.parameters())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert train_here(tiny("vqvae", folder, *FLAGS)) == 0
    return folder


@pytest.mark.parametrize("point, number", [("step", 12), ("checkpoint", 2)])
def test_a_killed_run_goes_on_bit_for_bit(whole, tmp_path, point, number):
    """Killed in a backward pass while both terms count, or while a checkpoint is written."""
    folder = tmp_path / "run"
    code, _, err = finish(start([point, str(number), *tiny("vqvae", folder, *FLAGS)], script=KILLED_SCRIPT))
    assert code == -9, err
    assert train_here(tiny("vqvae", folder, *FLAGS, "--resume", "latest")) == 0
    assert (checkpoint(folder, 9) / "adversary.bin").exists()
    assert_same_run(whole, folder, 9)


def test_the_log_says_how_the_game_stands(whole):
    lines = [line for line in log_of(whole) if "loss" in line]
    assert all("perceptual_distance" in line and "gradient_energy" in line for line in lines)
    playing = [line for line in lines if "discriminator_accuracy_real" in line]
    assert [line["step"] for line in playing] == list(range(2, 10))  # it learns from step 1 on, the second one
    assert [line["step"] for line in lines if "adversarial_share" in line] == list(range(4, 10))
    assert all(0 <= line["discriminator_accuracy_fake"] <= 1 for line in playing)


@pytest.mark.parametrize("kind, config", [(VQVAEModel, VQVAEConfig), (VAEModel, VAEConfig)])
def test_the_gradient_of_each_term_reaches_what_it_should(kind, config):
    torch.manual_seed(0)
    accelerator, pixels = Accelerator(cpu=True), torch.rand(4, 1, 16, 16) * 2 - 1
    model = kind(config(**SMALL))
    decoder = [p for p in model.decoder.parameters() if p.requires_grad]
    perceptual = PerceptualTerm(LossArguments(perceptual_model="digits"), model.loss_per_element, accelerator)
    perceptual(model(pixels).reconstruction, pixels).term.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in decoder[-2:])
    assert all(p.grad is None for p in perceptual.distance.parameters())

    model.zero_grad()
    game = build_game(GAME, model, 1, measure_every=1)
    game.attach(accelerator)
    output = model(pixels)
    game.generator_term(output, {"pixel_values": pixels}, 0).backward()
    assert decoder[-2].grad.abs().sum() > 0 and all(p.grad is None for p in game.net.parameters())

    model.zero_grad()
    before = [p.detach().clone() for p in game.net.parameters()]
    game.update(output, {"pixel_values": pixels}, 0)
    assert all(p.grad is None for p in model.parameters())
    assert any(not torch.equal(old, new) for old, new in zip(before, game.net.parameters(), strict=True))


def test_the_term_is_in_the_unit_of_the_models_loss():
    """A VAE's loss is a sum over pixel values, a VQ-VAE's a mean: the same weight means the same in both."""
    torch.manual_seed(0)
    pixels, painted = torch.zeros(2, 1, 16, 16), torch.rand(2, 1, 16, 16)
    terms = [
        PerceptualTerm(LossArguments(perceptual_model="digits"), flag, Accelerator(cpu=True)) for flag in (True, False)
    ]
    mean, total = (term(painted, pixels) for term in terms)
    assert mean.term == mean.distance and total.term.item() == pytest.approx(256 * mean.term.item(), rel=1e-6)


def test_the_terms_weight_is_a_function_of_the_step():
    knobs = LossArguments(adversarial_weight=0.8, discriminator_start=2, adversarial_start=4, adversarial_ramp_steps=4)
    game = build_game(knobs, VQVAEModel(VQVAEConfig(**SMALL)), 1, measure_every=50)
    assert [round(game.weight(step), 3) for step in range(10)] == [0, 0, 0, 0, 0.2, 0.4, 0.6, 0.8, 0.8, 0.8]
    assert [step for step in range(5) if game.due(step)] == [2, 3, 4]
    assert build_game(LossArguments(), torch.nn.Module(), 1, 50) is None


def test_the_adaptive_weight_balances_the_gradients_at_the_last_layer():
    torch.manual_seed(0)
    knobs = LossArguments(**{**vars(GAME), "adversarial_adaptive": True, "adversarial_weight": 1.0})
    model, pixels = VQVAEModel(VQVAEConfig(**SMALL)).train(), torch.rand(4, 1, 16, 16) * 2 - 1
    game = build_game(knobs, model, 1, measure_every=50)
    game.attach(Accelerator(cpu=True))
    output = model(pixels)
    game.generator_term(output, {"pixel_values": pixels}, 0)
    factor, share = game.measured["adaptive_weight"], game.measured["adversarial_share"]
    assert 0.1 <= factor <= 10
    if 0.1 < factor < 10:
        assert share.item() == pytest.approx(0.5, abs=1e-3)


def test_diagnoses_name_the_knob_that_mends_it():
    game = build_game(GAME, VQVAEModel(VQVAEConfig(**SMALL)), 1, measure_every=50)
    sure = {"discriminator_accuracy_real": 1.0, "discriminator_accuracy_fake": 0.99, "adversarial_share": 0.9}
    assert [cure.count("--") > 0 for cure in game.cures(sure)] == [True, True]
    asleep = {"discriminator_accuracy_real": 0.9, "discriminator_accuracy_fake": 0.1}
    (cure,) = game.cures(asleep)
    assert "hardly above chance" in cure and "--discriminator_learning_rate" in cure
    assert game.cures({"discriminator_accuracy_real": 0.8, "discriminator_accuracy_fake": 0.7}) == game.cures({}) == []


def test_gradient_energy_tells_blur_from_grids():
    pictures = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    blurred = torch.nn.functional.avg_pool2d(pictures, 3, stride=1, padding=1)
    assert gradient_energy(pictures, pictures).item() == pytest.approx(1)
    assert gradient_energy(blurred, pictures) < 0.6 < 1.3 < gradient_energy(1.5 * pictures, pictures)


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--perceptual_weight", "1"], "--perceptual_weight: has no effect without --perceptual_model"),
        (["--discriminator", "patch"], "--discriminator: has no effect without an --adversarial_weight"),
        (["--adversarial_weight", "1", "--adversarial_start", "5"], "lies before --discriminator_start"),
        (["--adversarial_weight", "-1"], "--adversarial_weight must be at least 0"),
        (["--perceptual_model", "digits", "--perceptual_weight", "0"], "above 0"),
        (["--adversarial_weight", "1", "--discriminator", "features"], "judges the maps of a feature net"),
        (
            ["--adversarial_weight", "1", "--discriminator", "features", "--perceptual_model", "lpips-vgg"],
            "judges the maps of a feature net",
        ),
        (["--perceptual_model", "lpips-vgg", "--perceptual_size", "64"], "--perceptual_size: has no effect with lpips"),
    ],
)
def test_knobs_that_do_not_fit_are_one_line(flags, message):
    with pytest.raises(ValueError, match=message):
        parse_arguments(flags)


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--perceptual_model", "/no/such/net"], "No feature net"),
        (["--perceptual_model", "digits", "--perceptual_layers", "9"], "has the maps 0..2"),
        (["--perceptual_model", "lpips-resnet"], "LPIPS has the trunks alex, vgg, squeeze, as in lpips-vgg"),
        (["--feature_model", "lpips-vgg"], "lpips-vgg is a distance between two pictures, so it has no features"),
        (["--perceptual_model", "efficientnet-lite0"], "from 32 pixels a side on, got 8x8"),
    ],
)
def test_a_net_that_cannot_look_ends_the_run_in_one_line(tmp_path, capsys, flags, message):
    assert train_here(tiny("vqvae", tmp_path / "run", "--max_train_steps", "1", *flags)) == 2
    assert message in capsys.readouterr().err


def test_outputs_of_models_take_more_scalars():
    """What a task adds to an output is logged like the model's own."""
    output = ModelOutput(loss=torch.zeros(()))
    output["perceptual_distance"] = torch.ones(())
    assert dict(output.items())["perceptual_distance"] == output.perceptual_distance == 1
