# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Autoregressive priors: trained by the one loop, measured in nats, sampled to pictures, kept in one artefact."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from training_runs import load_script
from transformers import AutoFeatureExtractor, AutoImageProcessor, AutoModel, AutoModelForCausalLM

from hf_autoencoders import (
    AutoencoderImageProcessorPil,
    DVAEConfig,
    DVAEModel,
    VAEConfig,
    VAEModel,
    VQVAEConfig,
    VQVAEModel,
)
from hf_autoencoders.evaluation.likelihood import measure_likelihood
from hf_autoencoders.models.configuration_image_token_lm import ImageTokenLMConfig
from hf_autoencoders.models.modeling_image_token_lm import ImageTokenLM
from hf_autoencoders.perception.digits_classifier import DigitsClassifier, save_digits_classifier
from hf_autoencoders.priors.autoregressive import (
    build_prior,
    generate_image_tokens,
    generate_images,
    load_prior,
    sequencer_of,
)
from hf_autoencoders.priors.likelihood import code_nats
from hf_autoencoders.priors.sequences import ImageTokenSequencer
from hf_autoencoders.priors.sheets import tile_pictures
from hf_autoencoders.training.data import load_images


ROOT = Path(__file__).resolve().parents[1]
SMALL = {"image_size": 8, "num_channels": 1, "block_out_channels": [8, 8, 8], "codebook_size": 16, "codebook_dim": 4}


train_prior, sample = load_script(ROOT / "scripts/train_prior.py"), load_script(ROOT / "scripts/sample.py")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def size_of(path):
    with Image.open(path) as picture:
        return picture.size


def processor():
    return AutoencoderImageProcessorPil(num_channels=1, size={"height": 8, "width": 8})


def make_vqvae(**fields):
    torch.manual_seed(0)
    model = VQVAEModel(VQVAEConfig(**{**SMALL, "residual_channels": 8, "quantizer": "vq", **fields})).eval()
    pixels = load_images("digits", to_uint8=processor().to_uint8).train.batch(range(64))["pixel_values"]
    with torch.no_grad():  # codes among the latents, so that many are used
        z = model.encode(pixels).latents.permute(0, 2, 3, 1).flatten(0, 2)
        model.quantize.embedding.weight.copy_(z[torch.randperm(len(z))[:16]])
    return model


@pytest.fixture(scope="module")
def vqvae():
    return make_vqvae()


@pytest.fixture(scope="module")
def tokenizer(vqvae, tmp_path_factory):
    folder = tmp_path_factory.mktemp("vqvae-digits")
    vqvae.save_pretrained(folder)
    processor().save_pretrained(folder)
    return folder


def run(tokenizer, folder, *flags):
    usual = [
        "--cpu",
        "--num_threads",
        1,
        "--hidden_size",
        32,
        "--num_layers",
        1,
        "--num_heads",
        2,
        "--logging_steps",
        5,
    ]
    return train_prior.main([*map(str, ["--image_tokenizer", tokenizer, "--output_dir", folder, *usual, *flags])])


@pytest.fixture(scope="module")
def trained(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "prior"
    flags = ("--max_train_steps", 60, "--learning_rate", 1e-2, "--optimizer", "adamw", "--train_batch_size", 32)
    assert run(tokenizer, folder, *flags, "--max_grad_norm", 1.0, "--ema_weights", 0.9) == 0
    return folder


# -- the prior itself --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_prior_is_a_stock_model_that_draws_pictures_by_itself(architecture, vqvae, tmp_path):
    sequencer = ImageTokenSequencer.for_model(vqvae, num_classes=10, class_dropout=0.1)
    prior = build_prior(sequencer, architecture, hidden_size=16, num_layers=1, num_heads=2)
    assert type(prior).__module__.startswith("transformers.models")
    prior.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    sequences = loaded.generate(sequencer.prompt([3, 7] * 10))
    assert sequencer.to_image_tokens(sequences).shape == (20, 2, 2)
    assert sequencer_of(loaded).to_dict() == sequencer.to_dict()


def test_generated_pictures_are_the_decoded_tokens(vqvae):
    prior = build_prior(ImageTokenSequencer.for_model(vqvae, num_classes=10), hidden_size=16)
    tokens = generate_image_tokens(prior, [3, 7], generator=generator())
    pictures = generate_images(prior, vqvae, [3, 7], generator=generator())
    assert torch.equal(pictures, vqvae.decode_image_tokens(tokens))
    assert not torch.equal(pictures, generate_images(prior, vqvae, [3, 7], generator=generator(1)))


def test_batches_share_the_generator(vqvae):
    prior = build_prior(ImageTokenSequencer.for_model(vqvae), hidden_size=16)
    pictures = generate_images(prior, vqvae, num_images=5, batch_size=2, generator=generator())
    assert pictures.shape == (5, 1, 8, 8) and not torch.equal(pictures[:2], pictures[2:4])


def test_residual_codes_are_drawn_in_depth(vqvae):
    torch.manual_seed(0)
    deep = VQVAEModel(VQVAEConfig(**SMALL, quantizer="residual", num_quantizers=3)).eval()
    prior = build_prior(ImageTokenSequencer.for_model(deep), hidden_size=16)
    assert generate_image_tokens(prior, num_images=2).shape == (2, 2, 2, 3)
    assert generate_images(prior, deep, num_images=2).shape == (2, 1, 8, 8)


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda p, m: generate_images(p, m, [10]), r"Labels must lie in 0\.\.9, got 10\.\.10"),
        (lambda p, m: generate_images(p, m), "`num_images` must say how many"),
        (lambda p, m: generate_images(p, m, [1], guidance_scale=2.0), "`class_dropout` 0"),
        (lambda p, m: generate_images(p, make_vqvae(image_size=16), [1]), "16 codes on a 2x2 .* has 16 codes on a 4x4"),
        (lambda p, m: build_prior(sequencer_of(p), "lstm"), "must be one of llama, gpt2, pixelcnn, masked, got 'lstm'"),
        (
            lambda p, m: build_prior(sequencer_of(p), hidden_size=10, num_heads=4),
            "multiple of `num_heads`, got 10 and 4",
        ),
        (lambda p, m: generate_images(p, other_codes(), [1]), "codebook .* its codes mean other pictures"),
        (lambda p, m: code_nats(p, other_codes(), [1]), "codebook .* its codes mean other pictures"),
        (lambda p, m: code_nats(p, m), "give `labels`"),
        (lambda p, m: sequencer_of(m), "does not say which of its ids are image tokens"),
    ],
)
def test_mistakes_are_named(vqvae, call, says):
    prior = build_prior(ImageTokenSequencer.for_model(vqvae, num_classes=10), hidden_size=16)
    with pytest.raises(ValueError, match=says):
        call(prior, vqvae)


def other_codes():
    """A model of the same sizes that learned other codes."""
    model = make_vqvae()
    with torch.no_grad():
        model.quantize.embedding.weight[0] += 1
    return model


def test_a_model_with_another_decoder_or_in_half_precision_still_has_the_priors_codes(vqvae, tokenizer):
    prior = build_prior(ImageTokenSequencer.for_model(vqvae), hidden_size=16)
    tuned = make_vqvae()
    with torch.no_grad():
        next(tuned.decoder.parameters()).add_(1)
    half = AutoModel.from_pretrained(tokenizer, dtype=torch.bfloat16)
    for model in (tuned, half, make_vqvae().to(torch.bfloat16)):
        assert generate_images(prior, model, num_images=2).shape == (2, 1, 8, 8)


# -- likelihood --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["llama", "pixelcnn"])
@torch.no_grad()
def test_the_nats_of_codes_are_those_of_drawing_them_one_by_one(architecture, vqvae):
    """The probability of each code, given those before it, multiplied by hand."""
    torch.manual_seed(0)
    sequencer = ImageTokenSequencer.for_model(vqvae, num_classes=10, class_dropout=0.1)
    prior = build_prior(sequencer, architecture, hidden_size=16, num_layers=2)
    tokens = torch.randint(16, (3, 2, 2))
    nats = code_nats(prior, vqvae, labels=[4, 5, 6])
    by_hand = torch.zeros(3)
    for position in range(4):
        known = tokens.flatten(1).clone()
        known[:, position:] = 0  # what comes later must not matter
        logits = prior(torch.cat([sequencer.prompt([4, 5, 6]), known], 1)).logits[:, position].log_softmax(-1)
        by_hand -= logits.gather(1, tokens.flatten(1)[:, position : position + 1])[:, 0]
    torch.testing.assert_close(torch.cat([nats(tokens[:2]), nats(tokens[2:])]), by_hand)
    torch.testing.assert_close(nats(tokens), by_hand)  # the labels begin again
    torch.testing.assert_close(code_nats(prior)(tokens).mean(), 4 * prior(**sequencer(tokens)).loss)  # without a class


# -- training ----------------------------------------------------------------------------------------------------------


def test_training_learns_the_codes(trained, vqvae):
    """After 60 steps the prior beats the entropy of the codes taken one by one, position by position."""
    metrics = json.loads((trained / "metrics.json").read_text())["metrics"]
    images = load_images("digits", to_uint8=processor().to_uint8)
    tokens = vqvae.get_image_tokens(images.eval.batch(range(360))["pixel_values"]).flatten(1)
    each = [torch.bincount(column, minlength=16).float() for column in tokens.T]
    independent = torch.stack([torch.distributions.Categorical(probs=counts).entropy() for counts in each]).mean()
    assert metrics["nats_per_code"] < independent < math.log(16)
    assert metrics["nats_per_code"] < metrics["nats_per_code_unconditional"]


@torch.no_grad()
def nats_of_saved(folder, vqvae):
    """(nats per code, nats per image of prior and decoder) of the saved prior, over all held-out digits at once."""
    prior, sequencer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoFeatureExtractor.from_pretrained(folder)
    images = load_images("digits", to_uint8=processor().to_uint8).eval
    pixels = images.batch(range(len(images)))["pixel_values"]
    nats_per_code = prior(**sequencer(vqvae.get_image_tokens(pixels), images.labels)).loss.item()
    return nats_per_code, 4 * nats_per_code + vqvae(pixels).negative_log_likelihood.item()


@torch.no_grad()
def test_the_metrics_are_those_of_the_saved_prior(trained, vqvae):
    metrics = json.loads((trained / "metrics.json").read_text())["metrics"]
    nats_per_code, nats = nats_of_saved(trained, vqvae)
    assert metrics["nats_per_code"] == pytest.approx(nats_per_code, rel=1e-5)
    assert metrics["nats"] == pytest.approx(nats, rel=1e-5)
    prior, images = load_prior(trained), load_images("digits", to_uint8=processor().to_uint8).eval
    pixels = images.batch(range(len(images)))["pixel_values"]
    assert metrics["bits_per_dim_continuous"] == pytest.approx(nats / (64 * math.log(2)) + 8, rel=1e-5)
    report = measure_likelihood(
        vqvae, lambda: pixels.split(100), "grey levels", code_nats=code_nats(prior, vqvae, images.labels)
    )
    assert report.prior == "learned codes" and report.rate == pytest.approx(4 * nats_per_code, rel=1e-5)
    assert metrics["bits_per_dim_continuous"] == pytest.approx(report.bits_per_dim, rel=1e-5)


def test_the_folder_holds_what_a_reader_needs(trained, tokenizer, vqvae):
    assert size_of(trained / "samples.png") == (10 * 58, 8 * 58)
    text = (trained / "README.md").read_text()
    assert tokenizer.name in text and str(tokenizer.parent) not in text and "labels=[3, 7]" in text
    prior = AutoModelForCausalLM.from_pretrained(trained)
    assert generate_images(prior, vqvae, [3, 7], guidance_scale=1.5).shape == (2, 1, 8, 8)
    assert prior.config.image_token_sequencer["class_dropout"] == 0.1
    record = json.loads((trained / "metrics.json").read_text())
    for shown in (f"{record['metrics']['nats_per_code']:.5g} | nats", "| seed | 0 |", record["command"].split()[-1]):
        assert shown in text


def test_null_takes_a_knob_out_of_the_recipe():
    flags = ["--recipe", str(ROOT / "scripts" / "recipes" / "prior-digits.yaml"), "--image_tokenizer", "x"]
    assert train_prior.parse_prior_arguments(flags).training.max_grad_norm == 1.0
    arguments = train_prior.parse_prior_arguments([*flags, "--max_grad_norm", "null", "--max_train_steps", "5"])
    assert arguments.training.max_grad_norm == 0.0 and "num_train_epochs" not in arguments.given


def test_a_resumed_run_is_the_same_run(tokenizer, tmp_path):
    flags = ("--max_train_steps", 6, "--train_batch_size", 32, "--checkpointing_steps", 3)
    assert run(tokenizer, tmp_path / "whole", *flags) == 0
    assert run(tokenizer, tmp_path / "halves", *flags) == 0
    checkpoint = tmp_path / "halves" / "checkpoints" / "checkpoint-00000003"
    assert run(tokenizer, tmp_path / "halves", *flags, "--resume", checkpoint) == 0
    one, two = (AutoModelForCausalLM.from_pretrained(tmp_path / name).state_dict() for name in ("whole", "halves"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert run(tokenizer, tmp_path / "halves", *flags, "--resume", checkpoint, "--dropout", 0.5) == 2  # another model


def test_gpt2_ties_its_weights_through_a_checkpoint(tokenizer, tmp_path):
    flags = ("--max_train_steps", 2, "--architecture", "gpt2", "--checkpointing_steps", 1, "--unconditional")
    assert run(tokenizer, tmp_path, *flags) == 0
    assert run(tokenizer, tmp_path, *flags, "--resume", tmp_path / "checkpoints" / "checkpoint-00000001") == 0
    prior = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert prior.lm_head.weight is prior.transformer.wte.weight
    assert sequencer_of(prior).num_classes == 0 and "num_images=2" in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize("architecture", ["pixelcnn", "masked"])
def test_other_priors_train_and_draw_the_same_way(architecture, tokenizer, tmp_path):
    flags = ["--image_tokenizer", tokenizer, "--output_dir", tmp_path, "--cpu", "--num_threads", 1, "--hidden_size", 16]
    flags += ["--max_train_steps", 3, "--architecture", architecture]
    assert train_prior.main([*map(str, flags)]) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())["metrics"]
    assert 1 < metrics["nats_per_code"] < 5 and "bits_per_dim_continuous" in metrics
    given = ["--image_tokenizer", tokenizer, "--prior", tmp_path, "--output", tmp_path / "grid.png", "--device", "cpu"]
    assert sample.main([*map(str, [*given, "--labels", 3, "--num_images", 2, "--guidance_scale", 2])]) == 0


def test_two_processes_train_together(tokenizer, vqvae, tmp_path):
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
        "scripts/train_prior.py", "--image_tokenizer", tokenizer, "--output_dir", tmp_path / "prior", "--cpu",
        "--max_train_steps", "4", "--hidden_size", "16", "--num_heads", "2", "--expected_processes", "2",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*map(str, command)], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "prior" / "metrics.json").read_text())["metrics"]
    nats_per_code, nats = nats_of_saved(tmp_path / "prior", vqvae)  # by one process
    assert metrics["images"] == 360
    assert metrics["nats_per_code"] == pytest.approx(nats_per_code, rel=1e-5)
    assert metrics["nats"] == pytest.approx(nats, rel=1e-5)


@pytest.mark.parametrize(
    "flags, says",
    [
        (("--hidden_sice", 3), "nearest known name is 'hidden_size'"),
        (("--token_dataset", "x", "--dataset_name", "digits"), "--dataset_name has no effect with --token_dataset"),
        (("--unconditional", "--class_dropout", 0.1), "--class_dropout has no effect with --unconditional"),
        (("--class_dropout", 1.0), "Dropouts lie in [0, 1)"),
        (("--init_output_bias",), "Unknown argument '--init_output_bias'"),
        (("--token_dataset", "./nothing"), "nothing is no data set of image tokens"),
        (("--architecture", "masked", "--image_token_lm", "true"), "holds a causal language model (llama, gpt2)"),
        (("--num_layers", 0), "must be at least 1"),
        (("--hub_model_id", "x"), "has no effect without --push_to_hub"),
        (("--learning_rate", -1), "--learning_rate must be at least 0"),
    ],
)
def test_wrong_knobs_are_one_line(tokenizer, tmp_path, capsys, flags, says):
    assert run(tokenizer, tmp_path / "prior", *flags) == 2
    error = capsys.readouterr().err.strip()
    assert says in error and "\n" not in error


def test_every_recipe_of_a_prior_parses():
    recipes = sorted((ROOT / "scripts" / "recipes").glob("prior-*.yaml"))
    assert recipes
    for recipe in recipes:
        train_prior.parse_prior_arguments(["--recipe", str(recipe), "--image_tokenizer", "x"])


# -- sampling ----------------------------------------------------------------------------------------------------------


def test_the_sampling_script_draws_a_grid(trained, tokenizer, tmp_path, capsys):
    given = ["--image_tokenizer", tokenizer, "--output", tmp_path / "out" / "grid.png", "--device", "cpu"]
    flags = [*given, "--prior", trained, "--labels", 3, 7, "--num_images", 4, "--top_k", 5, "--guidance_scale", 1.5]
    assert sample.main([*map(str, flags)]) == 0
    assert size_of(tmp_path / "out" / "grid.png") == (4 * 58, 2 * 58)
    assert "8 pictures" in capsys.readouterr().out
    assert sample.main([*map(str, given)]) == 0  # the model's own prior
    for wrong, says in (
        (["--temperature", 0, "--prior", trained], "`temperature` must be a finite number above 0, got 0.0"),
        (["--labels", 11, "--prior", trained], "Labels must lie in 0..9"),
        (["--labels", "seven", "--prior", trained], "There is no class 'seven'; the classes: 0, 1, 2"),
        (["--temperature", "nan", "--prior", trained], "`temperature` must be a finite number above 0, got nan"),
        (["--top_p", 1.5, "--prior", trained], "`top_p` must lie in (0, 1], got 1.5"),
        (["--guidance_scale", "inf", "--prior", trained], "`guidance_scale` must be a finite number, got inf"),
        (["--num_images", 10**12, "--prior", trained], "`num_images` must be a whole number in 1..1048576"),
        (["--num_images", 10**12], "`num_images` must be a whole number in 1..1048576"),
        (["--seed", -1], "--seed must lie in 0.."),
        (["--columns", 0], "--batch_size and --columns must be at least 1"),
        (["--prior", tmp_path / "nothing"], "holds no model that can be loaded"),
        (["--judge", "x", "--prior", trained], "--judge has no effect without --measure"),
        (["--top_q", 1], "Unknown argument '--top_q'"),
        (["--labels", 3], "--labels has no effect without --prior"),
        (["--guidance_scale", 2], "--guidance_scale has no effect without --prior"),
        (["--guidance_scale", 2, "--unconditional", "--prior", trained], "leads towards a class: give `labels`"),
    ):
        assert sample.main([*map(str, [*given, *wrong])]) == 2
        error = capsys.readouterr().err.strip()
        assert says in error and "\n" not in error


def test_the_sampling_script_measures_what_it_draws_beside_real_pictures(trained, tokenizer, tmp_path, capsys):
    torch.manual_seed(0)
    save_digits_classifier(
        DigitsClassifier(), tmp_path / "judge.safetensors", seed=0
    )  # knows nothing: a tenth is right by chance
    given = ["--image_tokenizer", tokenizer, "--prior", trained, "--output", tmp_path / "grid.png", "--device", "cpu"]
    given += ["--measure", "digits", "--judge", tmp_path / "judge.safetensors"]
    assert sample.main([*map(str, given)]) == 0
    out, metrics = capsys.readouterr().out, json.loads((tmp_path / "grid.json").read_text())["measure"]
    assert metrics["samples"] == 80 and metrics["reference_images"] == 360
    assert f"fd_cnn {metrics['fd_cnn']:.4g} (real data: {metrics['fd_cnn_of_real_data']:.4g})" in out
    assert metrics["fd_cnn"] > metrics["fd_cnn_of_real_data"] and 0 <= metrics["class_accuracy"] <= 1
    assert sample.main([*map(str, given), "--num_images", "200"]) == 2  # 2,000 pictures, of 1,437 to compare with
    assert "needs as many real pictures" in capsys.readouterr().err


def test_pictures_that_cannot_be_right_are_refused_in_one_line(trained, tokenizer, tmp_path, capsys):
    torch.manual_seed(0)
    for name, model in (
        ("other-codes", other_codes()),
        ("other-grid", make_vqvae(image_size=16)),
        ("no-codes", VAEModel(VAEConfig(image_size=8, num_channels=1, block_out_channels=[8, 8], latent_channels=2))),
    ):
        model.save_pretrained(tmp_path / name)
    blind = build_prior(ImageTokenSequencer.for_model(make_vqvae(), num_classes=10), hidden_size=16)
    blind.save_pretrained(tmp_path / "blind")
    for image_model, prior, flags, says in (
        (tmp_path / "other-codes", trained, (), f"{tokenizer.name}, codebook"),
        (tmp_path / "other-grid", trained, (), "16 codes on a 2x2 grid"),
        (tmp_path / "no-codes", trained, (), "is a vae, which has no image tokens"),
        (tokenizer, tmp_path / "blind", ("--guidance_scale", 2), "`class_dropout` 0 and knows none"),
        (tokenizer, tokenizer, (), "is no prior over image tokens: it is a vqvae"),
    ):
        given = ["--image_tokenizer", image_model, "--prior", prior, "--output", tmp_path / "grid.png", *flags]
        assert sample.main([*map(str, given), "--device", "cpu"]) == 2
        error = capsys.readouterr().err.strip()
        assert says in error and "\n" not in error, error
    assert not (tmp_path / "grid.png").exists()


def test_a_grid_shows_each_picture_in_its_place():
    pictures = torch.full((3, 1, 1, 1), -1.0)
    pictures[1] = 1.0
    grid = tile_pictures(pictures, columns=2, least_side=2)  # cells of 2 + 2 pixels
    assert grid.size == (8, 8)
    assert [grid.getpixel(at)[0] for at in ((1, 1), (5, 1), (1, 5), (5, 5))] == [0, 255, 0, 255]


# -- one artefact ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def combined(trained, vqvae):
    prior = AutoModelForCausalLM.from_pretrained(trained)
    return trained / "image_token_lm", prior, ImageTokenLM.from_parts(vqvae, prior, num_classes=10, class_dropout=0.1)


def test_one_repository_holds_both_models(combined, vqvae):
    folder, prior, model = combined
    loaded = AutoModel.from_pretrained(folder)
    assert type(loaded) is ImageTokenLM
    pictures = loaded.generate_images(labels=[3, 7], generator=generator(), guidance_scale=1.5)
    assert torch.equal(pictures, generate_images(prior, vqvae, [3, 7], generator=generator(), guidance_scale=1.5))
    assert torch.equal(pictures, model.generate_images([3, 7], generator=generator(), guidance_scale=1.5))
    tokens = vqvae.get_image_tokens(pictures)
    expected = prior.eval()(**sequencer_of(prior)(tokens, [3, 7])).loss
    torch.testing.assert_close(loaded.eval()(pictures, torch.tensor([3, 7])).loss, expected)
    assert AutoImageProcessor.from_pretrained(folder).postprocess(pictures)[0].size == (8, 8)
    assert "generate_images(labels=[3, 7], guidance_scale=1.5)" in (folder / "README.md").read_text()


def test_it_loads_without_the_package(combined, tmp_path):
    folder, _, model = combined
    torch.save(model.generate_images(labels=[3, 7], generator=generator()), tmp_path / "pictures.pt")
    code = f"""
import sys, torch
from transformers import AutoModel
model = AutoModel.from_pretrained({str(folder)!r}, trust_remote_code=True)
pictures = model.generate_images(labels=[3, 7], generator=torch.Generator().manual_seed(0))
assert torch.equal(pictures, torch.load({str(tmp_path / "pictures.pt")!r}))
assert not any(name.startswith("hf_autoencoders") for name in sys.modules)
"""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HF_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_dvae_and_a_half_precision_load(tmp_path):
    torch.manual_seed(0)
    dvae = DVAEModel(DVAEConfig(**SMALL)).eval()
    prior = build_prior(ImageTokenSequencer.for_model(dvae), "gpt2", hidden_size=16, num_heads=2)
    ImageTokenLM.from_parts(dvae, prior).save_pretrained(tmp_path)
    half = AutoModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert half.generate_images(num_images=2).shape == (2, 1, 8, 8)
    assert {parameter.dtype for parameter in half.language_model.parameters()} == {torch.bfloat16}


def test_a_language_model_of_another_vocabulary_is_refused(vqvae):
    prior = build_prior(ImageTokenSequencer.for_model(vqvae, num_classes=10), hidden_size=16)
    with pytest.raises(Exception, match="vocabulary of 28, but 16 codes, 3 classes, begin and mask make 21"):
        ImageTokenLM.from_parts(vqvae, prior, num_classes=3)
    with pytest.raises(Exception, match=r"must have image tokens \(vqvae or dvae\), got 'vae'"):
        ImageTokenLMConfig(image_model={"model_type": "vae"})
