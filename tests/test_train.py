# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""scripts/train.py from the command line to the folder that it leaves, and the parts of the loop by themselves."""

import copy
import json
import math
import re
import warnings
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from training_runs import assert_same_run, checkpoint, log_of, tiny, train_here
from transformers import AutoImageProcessor, AutoModel

from hf_autoencoders import VQVAEConfig, VQVAEModel
from hf_autoencoders.evaluation.metrics import count_codes
from hf_autoencoders.training import launch
from hf_autoencoders.training.arguments import MODEL_TYPES
from hf_autoencoders.training.assembly import evaluation_steps, keep_strides_of_gradients
from hf_autoencoders.training.autoencoder_task import AutoencoderTask, build_model
from hf_autoencoders.training.batches import BatchPlan, evaluation_batches
from hf_autoencoders.training.ema import AveragedWeights
from hf_autoencoders.training.health import CodebookHealth
from hf_autoencoders.training.knobs import parse_arguments
from hf_autoencoders.training.logs import LogWindow, TrainingDiverged
from hf_autoencoders.training.pictures import reconstruction_sheet
from hf_autoencoders.training.progress import on_screen
from hf_autoencoders.training.run_files import recorded_files
from hf_autoencoders.training.schedules import Schedules


SHORT = ("--max_train_steps", "3", "--max_eval_samples", "16")


# -- a whole run -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_a_run_leaves_a_model_that_the_auto_classes_load(model_type, tmp_path, capsys):
    folder = tmp_path / "run"
    assert train_here(tiny(model_type, folder, *SHORT, "--eval_steps", "2")) == 0
    model, processor = AutoModel.from_pretrained(folder), AutoImageProcessor.from_pretrained(folder)
    pixels = processor(Image.new("L", (8, 8), 255), return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 1, 8, 8) and pixels.unique().tolist() == [1.0]
    assert model.reconstruct(pixels).shape == (1, 1, 8, 8)
    record = json.loads((folder / "metrics.json").read_text())
    assert {"mse", "psnr", "ssim", "nmse", "images"} <= set(record["metrics"])
    assert record["metrics"]["images"] == 16 and record["steps"] == 3
    assert record["dataset"]["name"] == "digits" and record["seed"] == 0 and record["seconds"] > 0
    with Image.open(folder / "reconstructions.png") as sheet:
        assert sheet.width >= 12 * 56  # digits of 8x8 pixels are enlarged 7 times
    out = capsys.readouterr().out
    assert out.startswith("1 process (NO), device cpu")
    terms = next(line for line in out.splitlines() if line.startswith("loss = "))
    assert [term.split(" x ")[1] for term in terms.split(" + ")] == [*model.loss_terms()]
    assert [line["step"] for line in log_of(folder)] == [2, 3]  # an evaluation, and the last window


@pytest.mark.parametrize(
    "side, flags, chosen", [(128, [], True), (64, [], False), (128, ["--backbone", "conv"], False)]
)
def test_a_run_says_where_the_size_of_the_pictures_chose_the_backbone(side, flags, chosen):
    arguments = parse_arguments(["--model_type", "vqvae", *flags])
    images = SimpleNamespace(train=SimpleNamespace(image_shape=(3, side, side), data_variance=1.0))
    with torch.device("meta"):
        core = build_model(arguments, images)
    task = AutoencoderTask(arguments)
    task.schedules = Schedules({})
    assert core.config.backbone == ("resnet" if chosen else "conv")
    assert ("backbone resnet" in task.describe(SimpleNamespace(core=core))) == chosen


def test_the_metrics_of_metrics_json_are_those_of_the_saved_model(tmp_path):
    """A second computation: load what was saved, reconstruct the held-out digits, compare by hand."""
    from hf_autoencoders.training.data import load_images

    folder = tmp_path / "run"
    assert train_here(tiny("vqvae", folder, *SHORT, "--ema_weights", "0.5", "--eval_batch_size", "7")) == 0
    processor = AutoImageProcessor.from_pretrained(folder)
    images = load_images("digits", to_uint8=processor.to_uint8, max_eval_samples=16)
    model = AutoModel.from_pretrained(folder).eval()
    pixels = images.eval.batch(range(16))["pixel_values"]
    record = json.loads((folder / "metrics.json").read_text())
    error = ((model.reconstruct(pixels).clamp(-1, 1) - pixels) / 2).square().mean().item()
    assert record["metrics"]["mse"] == pytest.approx(error, rel=1e-5)
    assert record["metrics"]["nmse"] == pytest.approx(error / images.train.data_variance, rel=1e-5)
    assert record["weights"] == "averaged"
    assert sum(record["code_histogram"]) == 16 * 16
    with Image.open(folder / "example.png") as picture:
        example = processor(picture, return_tensors="pt")["pixel_values"]
    assert model.get_image_tokens(example)[0].tolist() == record["example_image_tokens"]


def test_the_variance_in_the_config_is_that_of_the_training_pixels(tmp_path):
    from sklearn.datasets import load_digits

    assert train_here(tiny("vqvae", tmp_path / "run", *SHORT)) == 0
    measured = AutoModel.from_pretrained(tmp_path / "run").config.data_variance
    assert measured == pytest.approx((load_digits().images / 16).var(), rel=0.01)  # of all 1,797; the split has 1,437
    assert train_here(tiny("vqvae", tmp_path / "given", *SHORT, "--data_variance", "0.5")) == 0
    assert AutoModel.from_pretrained(tmp_path / "given").config.data_variance == 0.5


def test_evaluating_on_the_way_changes_nothing(tmp_path):
    """Neither does keeping averages: the last step's weights are the same."""
    plain, watched = tmp_path / "plain", tmp_path / "watched"
    flags = (*SHORT, "--checkpointing_steps", "3")
    assert train_here(tiny("dvae", plain, *flags)) == 0
    assert train_here(tiny("dvae", watched, *flags, "--eval_steps", "1", "--ema_weights", "0.5")) == 0
    one, two = (load_file(checkpoint(folder, 3) / "model.safetensors") for folder in (plain, watched))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_run_is_evaluated_ten_times_and_shows_a_picture_each_time(tmp_path, monkeypatch):
    """At every tenth of 100 steps; the picture is there before anything of the end is saved."""
    monkeypatch.setattr(AutoencoderTask, "save_rest", lambda *_: None)
    flags = ("--max_train_steps", "100", "--max_eval_samples", "16", "--logging_steps", "100")
    assert train_here(tiny("ae", tmp_path / "run", *flags)) == 0
    lines = [line for line in log_of(tmp_path / "run") if "eval_mse" in line]
    assert [line["step"] for line in lines] == list(range(10, 101, 10))
    assert lines[-1]["eval_mse"] < lines[0]["eval_mse"]
    assert "reconstructions.png" in recorded_files(tmp_path / "run")
    with Image.open(tmp_path / "run" / "reconstructions.png") as sheet:
        assert sheet.width >= 12 * 56
    assert train_here(tiny("ae", tmp_path / "off", *flags, "--eval_steps", "0")) == 0
    assert not any("eval_mse" in line for line in log_of(tmp_path / "off"))
    assert not (tmp_path / "off" / "reconstructions.png").exists()


@pytest.mark.parametrize(
    ("total", "images", "passes", "steps"),
    [
        (99, 16, 1, 0),  # too short
        (100, 16, 1, 10),
        (1800, 360, 1, 180),
        (1401, 10_000, 1, 261),  # MNIST: 3 epochs in batches of 128; ten would take 0.19 of the time
        (1401, 10_000, 3, 782),  # a dVAE's three passes
        (1401, 10_000, None, 0),
    ],
)
def test_evaluations_take_at_most_a_tenth_of_the_time(total, images, passes, steps):
    flags = ["--model_type", "ae", "--train_batch_size", "64", "--gradient_accumulation_steps", "2"]
    cost = None if passes is None else passes * images
    assert evaluation_steps(parse_arguments(flags), total, cost) == steps
    if steps and cost:
        assert cost / (3 * 128 * steps) <= 0.1
    assert evaluation_steps(parse_arguments([*flags, "--eval_steps", "7"]), total, cost) == 7


def test_latents_are_measured_unless_the_user_knows_better(tmp_path):
    assert train_here(tiny("vae", tmp_path / "one", *SHORT)) == 0
    assert train_here(tiny("vae", tmp_path / "two", *SHORT, "--scaling_factor", "0.18215")) == 0
    assert AutoModel.from_pretrained(tmp_path / "one").config.scaling_factor != 1.0
    assert AutoModel.from_pretrained(tmp_path / "two").config.scaling_factor == 0.18215


def test_a_recipe_of_a_run_repeats_it(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    assert train_here(tiny("vae", one, *SHORT, "--checkpointing_steps", "3", "--binarize", "dynamic")) == 0
    assert train_here(["--recipe", str(one / "arguments.yaml"), "--output_dir", str(two)]) == 0
    assert_same_run(one, two, 3)


def test_four_micro_batches_are_one_batch(tmp_path):
    """Also in the order of images that k-means starts from."""
    one, four = tmp_path / "one", tmp_path / "four"
    flags = (*SHORT, "--optimizer", "sgd", "--learning_rate", "0.01", "--checkpointing_steps", "3")
    assert train_here(tiny("vqvae", one, *flags, "--train_batch_size", "64")) == 0
    assert train_here(tiny("vqvae", four, *flags, "--gradient_accumulation_steps", "4")) == 0
    whole, parts = (load_file(checkpoint(folder, 3) / "model.safetensors") for folder in (one, four))
    for name, tensor in whole.items():
        assert torch.allclose(tensor.float(), parts[name].float(), rtol=1e-5, atol=1e-6), name


# -- mistakes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "flags, message",
    [
        (("--image_size", "7"), "must be a multiple of 2"),
        (("--num_channels", "0"), "num_channels"),
        (("--codebook_size", "many"), "expected int, got str (value: 'many')"),
        (("--codebook_size", "-1"), "must lie in 1.."),
        (("--dataset_name", "/nowhere"), "there is no such folder"),
        (("--image_column", "picture"), "its columns: image"),
        (("--train_batch_size", "2000"), "1437 images, fewer than one step takes"),
        (("--expected_processes", "2"), "but 1 train here"),
        (("--exact_resume",), "has no effect with 1 process"),
        (("--mixed_precision", "fp16"), "needs a GPU"),
        (("--report_to", "mlflow"), "--report_to takes none"),
        (("--kl_weight_start", "0", "--kl_weight_steps", "9"), "A vqvae reads no kl_weight"),
        (("--ema_weights", "1.5"), "a decay between 0 and 1"),
        (("--image_fit", "pad"), "give both"),
        (("--streaming",), "--max_train_steps"),
        (("--lerning_rate", "1"), "nearest known name is 'learning_rate'"),
        (("--norm_num_groups", "2"), "never read by this vqvae"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(tmp_path, capsys, flags, message):
    folder = tmp_path / "run"
    assert train_here(tiny("vqvae", folder, *flags)) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("hf-autoencoders train: ") and message in error and "\n" not in error
    assert not folder.exists() or not any(folder.iterdir())  # so that the corrected command just runs


def test_a_folder_that_holds_a_run_is_refused_replaced_or_continued(tmp_path, capsys):
    folder = tmp_path / "run"
    flags = (*SHORT, "--checkpointing_steps", "3")
    assert train_here(tiny("ae", folder, *flags)) == 0
    (folder / "notes.txt").write_text("mine")
    before = (folder / "metrics.json").read_bytes()
    assert train_here(tiny("ae", folder, *flags)) == 2
    assert "holds another run" in capsys.readouterr().err
    assert (
        train_here(tiny("ae", folder, *flags, "--overwrite", "--latent_channels", "0")) == 2
    )  # a mistake costs nothing
    assert (folder / "metrics.json").read_bytes() == before and checkpoint(folder, 3).exists()
    assert train_here(tiny("ae", folder, *flags, "--overwrite", "--seed", "1")) == 0
    assert json.loads((folder / "metrics.json").read_text())["seed"] == 1
    assert (folder / "notes.txt").read_text() == "mine"
    assert train_here(tiny("ae", folder, *flags, "--resume", "latest", "--seed", "1", "--max_train_steps", "4")) == 0


def test_a_folder_with_other_files_is_not_taken(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("x")
    assert train_here(tiny("ae", tmp_path)) == 2
    assert "holds other files (thesis.tex" in capsys.readouterr().err


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_checkpoint(tmp_path, capsys):
    folder = tmp_path / "run"
    flags = ("--optimizer", "sgd", "--learning_rate", "1e18", "--lr_warmup_steps", "0", "--checkpointing_steps", "1")
    assert train_here(tiny("ae", folder, *SHORT, *flags, "--max_train_steps", "40")) == 1
    error = capsys.readouterr().err
    step = int(error.split("at step ")[1].split(";")[0])
    assert error.count("\n") == 1
    assert [path.name for path in sorted((folder / "checkpoints").iterdir())] == [
        f"checkpoint-{done:08d}" for done in range(1, step)
    ]
    weights = load_file(checkpoint(folder, step - 1) / "model.safetensors")
    assert not (folder / "model.safetensors").exists() and weights


# -- the parts of the loop ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "processes, batch_size, accumulation", [(1, 64, 1), (2, 32, 1), (1, 16, 4), (2, 16, 2), (4, 8, 2)]
)
def test_every_split_of_the_work_sees_the_same_images_in_the_same_order(processes, batch_size, accumulation):
    reference = BatchPlan(1000, 64, 1, 1, 0, seed=5)
    for step in (0, 7, 14, 15, 40):
        expected = next(reference.micro_batches(step))
        seen = []
        for rank in range(processes):
            micro_batches = BatchPlan(1000, batch_size, accumulation, processes, rank, seed=5).micro_batches(step)
            seen += [row for _ in range(accumulation) for row in next(micro_batches)]
        assert seen == expected


def test_an_epoch_holds_each_image_at_most_once_and_epochs_differ():
    plan = BatchPlan(100, 8, 1, 1, 0, seed=0)
    epochs = [[row for rows in plan.micro_batches(epoch * plan.steps_per_epoch) for row in rows] for epoch in range(2)]
    assert all(len(set(rows)) == len(rows) == 96 for rows in epochs)
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_evaluation_sees_each_image_on_exactly_one_process(processes):
    from hf_autoencoders.training.data import CachedImages

    images = CachedImages(torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1))
    seen = []
    for rank in range(processes):
        loader = evaluation_batches(images, 3, rank, processes, collate_fn=images.collate)
        seen += [round((float(pixel) + 1) * 127.5) for batch in loader for pixel in batch["pixel_values"].flatten()]
    assert sorted(seen) == list(range(10))


def test_averaged_weights_are_the_recursion_by_hand():
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(0.0)
    averages, by_hand = AveragedWeights(model, decay=0.9), 0.0
    for step, weight in enumerate([1.0, 5.0, -2.0]):
        with torch.no_grad():
            model.weight.fill_(weight)
        averages.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        by_hand = decay * by_hand + (1 - decay) * weight
    with averages.swapped_into(model):
        assert model.weight.item() == pytest.approx(by_hand)
    assert model.weight.item() == -2.0


def test_averaged_weights_carry_the_codebook_of_a_moving_average():
    """diffusers' EMAModel keeps parameters only, so its codebook is the initial one."""
    config = VQVAEConfig(image_size=8, num_channels=1, block_out_channels=(8, 8), codebook_size=8, codebook_dim=4)
    model = VQVAEModel(config).train()
    at_start = model.quantize.embedding.weight.clone()
    averages = AveragedWeights(model, decay=0.9)
    model(torch.rand(4, 1, 8, 8) * 2 - 1)
    trained = copy.deepcopy(model.state_dict())
    with averages.swapped_into(model):
        for name, buffer in model.named_buffers():
            assert torch.equal(buffer, trained[name]), name
        assert not torch.equal(model.quantize.embedding.weight, at_start)


def test_the_window_names_the_first_step_whose_loss_is_no_number():
    window = LogWindow(Accelerator(cpu=True), None, micro_batches=2)
    for loss in (1.0, 2.0, 3.0, 4.0, 5.0, math.nan, math.nan, math.nan):  # steps 11, 12, 13, 14
        window.add({"loss": torch.tensor(loss)})
    with pytest.raises(TrainingDiverged, match="at step 13"):
        window.gather(step=14)


def test_the_window_gives_means_over_every_micro_batch_and_starts_anew():
    window = LogWindow(Accelerator(cpu=True), None)
    for loss in (1.0, 2.0, 6.0):
        window.add({"loss": torch.tensor(loss), "reconstruction": torch.zeros(2, 2)})
        window.gather(step=1)
    means, health = window.flush(step=3)
    assert means == {"loss": 3.0} and health is None
    window.add({"loss": torch.tensor(8.0)})
    assert window.flush(step=4)[0] == {"loss": 8.0}


def test_the_screen_leaves_out_constants_and_what_it_has_said():
    window = LogWindow(Accelerator(cpu=True), None)
    for loss in (1.0, 2.0):
        window.add({name: torch.tensor(value) for name, value in {"loss": loss, "mse": loss, "kl": 66.5}.items()})
    means, _ = window.flush(step=2)
    assert on_screen(means, window.constants) == "loss 1.5"
    assert on_screen({"loss": 3.0, "kl": 66.5}, window.constants) == "loss 3"


def test_a_held_out_line_says_each_error_once_and_no_number_of_the_data(tmp_path, capsys):
    flags = ("--eval_steps", "2", "--max_train_steps", "2", "--max_eval_samples", "16")
    assert train_here(tiny("ae", tmp_path / "run", *flags)) == 0
    said = capsys.readouterr().out
    lines = [line for line in said.splitlines() if "held out: " in line]
    assert [line.split("held out: ")[0].strip() for line in lines] == ["step 2", ""]  # while training, and at the end
    for line in lines:
        assert re.search(r"mse \S+  psnr \S+", line) and "eval_" not in line
        assert not re.search(r"\b(images|squared_error|nmse|bernoulli_floor)\b", line)


def test_codes_are_counted_level_by_level():
    tokens = torch.tensor([[[[0, 1], [0, 0]]], [[[2, 1], [0, 1]]]])  # (2, 1, 2, depth 2)
    assert count_codes(tokens, 3).tolist() == [[3, 0, 1], [1, 3, 0]]


class TestHealth:
    """A codebook of four codes, judged on 1000 tokens."""

    config = VQVAEConfig(image_size=8, quantizer="vq")

    def test_a_healthy_codebook_gets_no_advice(self):
        health = CodebookHealth.of(torch.tensor([[250, 250, 250, 250]]), norm_ratio=1.1)
        assert (health.used, health.perplexity) == (4, 4.0)
        assert health.line() == "codes: 4/4 used, perplexity 4.0 (100% of K), 0 dead, |z|/|e| 1.10"
        assert health.cures(self.config) == []

    def test_dead_codes_are_named_with_the_knob_that_revives_them(self):
        health = CodebookHealth.of(torch.tensor([[1000, 0, 0, 0]]))
        assert "3 of 4 codes are dead: --revive_dead_codes true" in health.cures(self.config)[0]
        revived = VQVAEConfig(image_size=8)  # moving averages revive by default
        assert "--revive_dead_codes" not in health.cures(revived)[0]

    def test_latents_that_run_away_are_named(self):
        health = CodebookHealth.of(torch.tensor([[250, 250, 250, 250]]), norm_ratio=3.0)
        assert "--commitment_cost (now 0.25)" in health.cures(self.config)[0]

    def test_a_window_too_short_to_tell_says_nothing(self):
        assert CodebookHealth.of(torch.tensor([[3, 0, 0, 0]])).cures(self.config) == []


def test_the_sheet_shows_originals_above_reconstructions_enlarged():
    sheet = reconstruction_sheet(torch.ones(3, 1, 8, 8), -torch.ones(3, 1, 8, 8))
    top, bottom = sheet.getpixel((10, 30)), sheet.getpixel((10, 110))
    assert (top, bottom) == ((255, 255, 255), (0, 0, 0))
    assert sheet.size == (3 * 58 + 2, 2 * (58 + 14) + 2)


# -- the end of a run --------------------------------------------------------------------------------------------------


def test_held_out_pictures_of_another_size_are_refused_before_the_first_step(tmp_path, capsys):
    for split, side in (("train", 8), ("test", 12)):
        (tmp_path / "pictures" / split).mkdir(parents=True)
        for number in range(4):
            Image.new("L", (side, side), number).save(tmp_path / "pictures" / split / f"{number}.png")
    flags = ("--dataset_name", str(tmp_path / "pictures"), "--train_batch_size", "4")
    assert train_here(tiny("ae", tmp_path / "run", *SHORT, *flags)) == 2
    assert "are 1x8x8, those of 'test' 1x12x12" in capsys.readouterr().err


def test_averages_of_16_bit_weights_keep_what_16_bits_would_lose():
    model = nn.Linear(1, 1, bias=False).to(torch.bfloat16)
    with torch.no_grad():
        model.weight.fill_(1.0)
    averages, by_hand = AveragedWeights(model, decay=0.999), 1.0
    with torch.no_grad():
        model.weight.fill_(2.0)
    for step in range(10_000, 10_050):
        averages.update(step)
        by_hand = 0.999 * by_hand + 0.001 * 2.0
        with averages.swapped_into(model):
            assert model.weight.item() == torch.tensor(by_hand).to(torch.bfloat16).item()
    assert averages.averages[0].item() == pytest.approx(by_hand, rel=1e-5) and by_hand > 1.04
    assert model.weight.item() == 2.0


@pytest.mark.parametrize(("limit", "expected"), [("0", 0.0), ("5", 5.0)])
def test_deepspeed_clips_gradients_by_the_knob_and_not_by_its_own_default(limit, expected, tmp_path):
    """`gradient_clipping: auto` would become 1.0 in accelerate; a number is left alone."""
    settings = {"gradient_clipping": "auto"}
    plugin = SimpleNamespace(zero_stage=2, deepspeed_config=settings)
    accelerator = SimpleNamespace(state=SimpleNamespace(deepspeed_plugin=plugin))
    flags = tiny("ae", tmp_path, "--max_grad_norm", limit, "--train_batch_size", "8")
    launch.prepare_for_deepspeed(accelerator, parse_arguments(flags))
    assert settings == {"gradient_clipping": expected, "train_micro_batch_size_per_gpu": 8}


@pytest.mark.parametrize("model_type", ["vqvae", "dvae"])
def test_codebook_statistics_come_before_a_backward_that_may_be_a_whole_step(model_type, tmp_path, monkeypatch):
    """DeepSpeed's backward is its optimizer step, too."""
    order = []
    update, backward = AutoencoderTask.update_state, Accelerator.backward
    monkeypatch.setattr(AutoencoderTask, "update_state", lambda *args: (order.append("update"), update(*args)))
    monkeypatch.setattr(Accelerator, "backward", lambda *args: (order.append("backward"), backward(*args)))
    flags = ("--gradient_accumulation_steps", "2", "--train_batch_size", "8", "--max_train_steps", "2")
    assert train_here(tiny(model_type, tmp_path / "run", *SHORT, *flags)) == 0
    assert order == ["backward", "update", "backward"] * 2


# -- strides -----------------------------------------------------------------------------------------------------------


def test_gradients_of_grey_nets_have_the_strides_of_their_weights():
    """DDP warns of others; the only such net is one of one channel in channels-last memory."""
    pixels = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    found = []
    for keep in (False, True):
        torch.manual_seed(0)
        model = VQVAEModel(VQVAEConfig(image_size=64, num_channels=1, block_out_channels=[8, 8, 8])).train()
        if keep:
            keep_strides_of_gradients(model)
        model(pixels).loss.backward()
        found.append([(weight.grad.stride() == weight.stride(), weight.grad) for weight in model.parameters()])
    assert not all(same for same, _ in found[0]) and all(same for same, _ in found[1])
    assert all(torch.equal(one, two) for (_, one), (_, two) in zip(*found, strict=True))


def test_a_warning_of_strides_is_heard(tmp_path):
    with pytest.warns(UserWarning, match="Grad strides do not match"):
        launch.start_accelerator(parse_arguments(tiny("ae", tmp_path / "run", "--cpu")))
        warnings.warn("Grad strides do not match bucket view strides.", UserWarning, stacklevel=1)
