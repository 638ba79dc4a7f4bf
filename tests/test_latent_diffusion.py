# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Latent diffusion: trained by the one loop on our latents, left as pipelines that diffusers opens alone."""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiffusionPipeline, DiTPipeline, LDMPipeline, UNet2DModel, VQModel
from loopback_hub import LoopbackHub
from small_nets import CLASSES
from training_runs import load_script
from transformers import AutoModel

from hf_autoencoders import AEConfig, AEModel, AutoencoderImageProcessorPil, VAEConfig, VAEModel
from hf_autoencoders.hub.diffusers_export import to_diffusers
from hf_autoencoders.hub.pipelines import latent_diffusion_pipeline
from hf_autoencoders.priors.diffusion_knobs import parse_diffusion_arguments
from hf_autoencoders.priors.diffusion_task import DiffusionInTraining
from hf_autoencoders.priors.latent_diffusion import (
    NULL_CLASS,
    build_scheduler,
    build_unet,
    classes_of,
    generate_images,
    sample_latents,
)
from hf_autoencoders.priors.latents import Latents, NoisedLatents, encode_latents
from hf_autoencoders.training.config_knobs import build_config
from hf_autoencoders.training.data import load_images
from hf_autoencoders.training.fitted_processor import FittedProcessor
from hf_autoencoders.training.image_sources import read_tables
from hf_autoencoders.training.knobs import parse_arguments


ROOT = Path(__file__).resolve().parents[1]
RECIPES = ROOT / "scripts" / "recipes"
MNIST = Path(os.environ.get("HF_AUTOENCODERS_DATA", ROOT.parent / "shared")) / "data" / "mnist"
NET = {
    "image_size": 8, "num_channels": 1, "backbone": "resnet", "block_out_channels": [8, 8], "layers_per_block": 1,
    "norm_num_groups": 4, "mid_block_add_attention": False,
}  # fmt: skip
CODES = {"codebook_size": 16, "codebook_dim": 3}
SMALL_UNET = {"block_out_channels": (8, 16), "layers_per_block": 1}


script = load_script(ROOT / "scripts/train_latent_diffusion.py")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@cache
def digits():
    return load_images("digits", to_uint8=processor().to_uint8)


def processor():
    return AutoencoderImageProcessorPil(num_channels=1, size={"height": 8, "width": 8})


def make(kind, **fields):
    config_class, model_class = CLASSES[kind]
    torch.manual_seed(0)
    model = model_class(config_class(**{**NET, **fields})).eval()
    model.measure_latents([digits().train.batch(range(256))["pixel_values"]], generator())
    return model


def vae(**fields):
    return make("vae", latent_channels=3, **fields)


def vqvae(**fields):
    return make("vqvae", quantizer="vq", **CODES, **fields)


def saved(model, folder):
    model.save_pretrained(folder)
    processor().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def vae_folder(tmp_path_factory):
    return saved(vae(), tmp_path_factory.mktemp("vae-digits"))


def run(image_model, folder, *flags):
    usual = ["--cpu", "--num_threads", 1, "--block_out_channels", 8, 16, "--layers_per_block", 1, "--sample_steps", 2]
    return script.main([*map(str, ["--image_model", image_model, "--output_dir", folder, *usual, *flags])])


@pytest.fixture(scope="module")
def trained(vae_folder, tmp_path_factory):
    """With classes, on a VAE."""
    folder = tmp_path_factory.mktemp("runs") / "diffusion"
    flags = ("--max_train_steps", 60, "--learning_rate", 1e-2, "--optimizer", "adamw", "--weight_decay", 0.1)
    assert run(vae_folder, folder, *flags, "--ema_weights", 0.9, "--sample_guidance_scale", 2) == 0
    return folder


@pytest.fixture(scope="module")
def unconditional(tmp_path_factory):
    """Without classes, on a VQ-VAE."""
    folder = tmp_path_factory.mktemp("runs")
    vq_folder = saved(vqvae(), folder / "vqvae-digits")
    assert run(vq_folder, folder / "diffusion", "--max_train_steps", 2, "--unconditional") == 0
    return folder / "diffusion"


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())["metrics"]


# -- latents -----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_latents_are_what_the_model_says_at_unit_spread():
    images = digits().train
    for model in (vae(), vqvae()):
        latents = encode_latents(model, images, batch_size=100)
        encoded = model.encode(images.batch([5, 700])["pixel_values"])
        scale = model.config.scaling_factor
        torch.testing.assert_close(
            latents.__getitems__([5, 700])["latents"], scale * encoded.latents, atol=1e-5, rtol=0
        )
        spread = 0 if latents.spread is None else latents.spread * torch.randn(latents.spread.shape)
        assert (latents.latents + spread).std().item() == pytest.approx(1, abs=0.1)
        assert torch.equal(latents.labels, images.labels) and latents.num_classes == 10


def test_held_out_draws_do_not_depend_on_the_batch():
    latents = Latents(torch.randn(6, 2, 4, 4), torch.ones(6, 2, 4, 4), torch.arange(6))
    held_out = NoisedLatents(latents, num_timesteps=1000)
    whole, again = held_out.__getitems__(range(6)), NoisedLatents(latents, num_timesteps=1000).__getitems__([4, 2])
    assert set(whole) == {"latents", "labels", "noise", "timesteps"}
    assert all(torch.equal(whole[name][[4, 2]], again[name]) for name in whole)
    assert not torch.equal(whole["latents"], latents.latents)  # drawn from the posterior


def test_the_loss_is_that_of_the_noise():
    core = DiffusionInTraining(build_unet(2, (4, 4), **SMALL_UNET), build_scheduler(), class_dropout=0.0).eval()
    z, noise, timesteps = torch.randn(5, 2, 4, 4), torch.randn(5, 2, 4, 4), torch.tensor([0, 10, 500, 900, 999])
    keeps = core.scheduler.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
    predicted = core.unet(keeps.sqrt() * z + (1 - keeps).sqrt() * noise, timesteps).sample
    loss = core(z, noise=noise, timesteps=timesteps).loss
    assert loss.item() == pytest.approx((predicted - noise).square().mean().item(), rel=1e-5)


# -- training ----------------------------------------------------------------------------------------------------------


def test_training_takes_noise_off(trained, unconditional):
    assert metrics(trained)["noise_mse"] < 0.8 < 1  # 1: nothing is predicted
    assert metrics(trained)["images"] == 360 and "noise_mse_unconditional" in metrics(trained)
    assert "noise_mse_unconditional" not in metrics(unconditional)


@torch.no_grad()
def test_the_figure_is_that_of_the_saved_pipeline(trained):
    pipeline = DiffusionPipeline.from_pretrained(trained / "pipeline")
    images = digits().eval
    posterior = pipeline.vae.encode(images.batch(range(360))["pixel_values"]).latent_dist
    draws, scale = generator(), pipeline.vae.config.scaling_factor
    z = scale * (posterior.mean + posterior.std * torch.randn(posterior.mean.shape, generator=draws))
    noise = torch.randn(z.shape, generator=draws)
    timesteps = torch.randint(1000, (360,), generator=draws)
    noised = pipeline.scheduler.add_noise(z, noise, timesteps)
    predicted = pipeline.transformer(noised, timesteps, class_labels=images.labels).sample
    assert metrics(trained)["noise_mse"] == pytest.approx((predicted - noise).square().mean().item(), rel=1e-4)


def test_classes_that_do_not_exist_stay_zero(trained):
    unet = UNet2DModel.from_pretrained(trained / "pipeline" / "transformer")
    assert unet.class_embedding.weight.shape[0] == NULL_CLASS + 1 and classes_of(unet) == 10
    assert not unet.class_embedding.weight[10:NULL_CLASS].any() and unet.class_embedding.weight[NULL_CLASS].any()


def test_a_resumed_run_is_the_same_run(vae_folder, tmp_path):
    flags = ("--max_train_steps", 6, "--checkpointing_steps", 3)
    assert run(vae_folder, tmp_path / "whole", *flags) == 0
    assert run(vae_folder, tmp_path / "halves", *flags) == 0
    checkpoint = tmp_path / "halves" / "checkpoints" / "checkpoint-00000003"
    assert run(vae_folder, tmp_path / "halves", *flags, "--resume", checkpoint) == 0
    one, two = (
        UNet2DModel.from_pretrained(tmp_path / name / "pipeline" / "transformer").state_dict()
        for name in ("whole", "halves")
    )
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "halves")
    assert run(vae_folder, tmp_path / "halves", *flags, "--resume", checkpoint, "--dropout", 0.5) == 2  # another UNet


def test_an_unknown_scale_is_measured(tmp_path, capsys):
    model = vae()
    expected, model.config.scaling_factor = model.config.scaling_factor, 1.0
    folder = saved(model, tmp_path / "unmeasured")
    assert run(folder, tmp_path / "run", "--max_train_steps", 1, "--class_dropout", 0) == 0
    assert "does not know its scaling_factor" in capsys.readouterr().out
    pipeline = DiffusionPipeline.from_pretrained(tmp_path / "run" / "pipeline")
    assert pipeline.vae.config.scaling_factor == pytest.approx(expected, rel=0.05)  # of all, not of 256 pictures
    assert classes_of(pipeline.transformer) == 10 and pipeline.transformer.config.num_class_embeds == 10
    assert "guidance_scale=1.0" in (tmp_path / "run" / "pipeline" / "README.md").read_text()


@pytest.mark.slow
def test_two_processes_train_together(vae_folder, tmp_path):
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
        "scripts/train_latent_diffusion.py", "--image_model", vae_folder, "--output_dir", tmp_path / "run", "--cpu",
        "--max_train_steps", "4", "--block_out_channels", "8", "--sample_steps", "2", "--expected_processes", "2",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*map(str, command)], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert metrics(tmp_path / "run")["images"] == 360


# -- drawing -----------------------------------------------------------------------------------------------------------


def as_pixels(pictures):
    """(B, H, W, C) in [0, 1], as pipelines give them -> (B, C, H, W) in [-1, 1]."""
    return torch.as_tensor(pictures).permute(0, 3, 1, 2) * 2 - 1


def test_our_pictures_are_those_of_the_pipelines():
    model, scheduler, steps = vae(), build_scheduler(), {"num_inference_steps": 3}
    torch.manual_seed(0)
    unet = build_unet(3, (4, 4), num_classes=10, **SMALL_UNET).eval()
    pipeline = latent_diffusion_pipeline(model, unet, scheduler, [str(digit) for digit in range(10)])
    assert type(pipeline) is DiTPipeline and pipeline.get_label_ids(["3"]) == [3]
    for scale in (1.0, 2.0):
        ours = generate_images(unet, scheduler, model, [3, 7], guidance_scale=scale, generator=generator(), **steps)
        theirs = pipeline([3, 7], guidance_scale=scale, generator=generator(), output_type="np", **steps).images
        torch.testing.assert_close(ours.clamp(-1, 1), as_pixels(theirs), atol=1e-5, rtol=0)
    free = build_unet(3, (4, 4), **SMALL_UNET).eval()
    pipeline = latent_diffusion_pipeline(model, free, scheduler)
    assert type(pipeline) is LDMPipeline
    ours = generate_images(free, scheduler, model, num_images=2, generator=generator(), **steps)
    theirs = pipeline(2, generator=generator(), output_type="np", **steps).images
    torch.testing.assert_close(ours.clamp(-1, 1), as_pixels(theirs), atol=1e-5, rtol=0)


@torch.no_grad()
def test_latents_of_a_codebook_are_quantised_when_they_are_decoded():
    for model in (vqvae(), make("dvae", reconstruction_loss="l1", codebook_size=6, codebook_dim=3)):
        channels = model.config.codebook_size if model.config.model_type == "dvae" else 3
        unet, scheduler = build_unet(channels, (4, 4), **SMALL_UNET).eval(), build_scheduler()
        latents = sample_latents(unet, scheduler, num_images=2, generator=generator(), num_inference_steps=2)
        pictures = generate_images(unet, scheduler, model, num_images=2, generator=generator(), num_inference_steps=2)
        exported = to_diffusers(model)
        codes = exported.quantize(latents / model.config.scaling_factor)[2][2].view(2, 4, 4)
        torch.testing.assert_close(pictures, model.decode_image_tokens(codes), atol=1e-5, rtol=0)
        theirs = LDMPipeline(exported, unet, scheduler)(2, generator(), num_inference_steps=2, output_type="np").images
        # VQModel adds the latents to a code and takes them away again, which rounds.
        torch.testing.assert_close(pictures.clamp(-1, 1), as_pixels(theirs), atol=1e-4, rtol=0)


def test_without_labels_a_unet_with_classes_draws_of_no_class():
    model, unet, scheduler = vae(), build_unet(3, (4, 4), num_classes=10, **SMALL_UNET), build_scheduler()
    options = {"generator": generator(), "num_inference_steps": 2}
    pictures = generate_images(unet, scheduler, model, num_images=3, batch_size=2, **options)
    assert pictures.shape == (3, 1, 8, 8) and unet.training  # as it was


def test_saved_pipelines_open_in_a_process_without_our_package(trained, unconditional, tmp_path):
    folders = {name: str(folder / "pipeline") for name, folder in (("dit", trained), ("ldm", unconditional))}
    free = latent_diffusion_pipeline(vae(), build_unet(3, (4, 4), **SMALL_UNET), build_scheduler())
    free.save_pretrained(tmp_path / "on_vae")
    code = f"""
import sys, torch
sys.modules["hf_autoencoders"] = None  # an import would fail
from diffusers import DiffusionPipeline
dit = DiffusionPipeline.from_pretrained({folders["dit"]!r})
ldm = DiffusionPipeline.from_pretrained({folders["ldm"]!r})
on_vae = DiffusionPipeline.from_pretrained({str(tmp_path / "on_vae")!r})
generator = torch.Generator().manual_seed(0)
pictures = dit(class_labels=[3, 7], guidance_scale=2.0, num_inference_steps=2, generator=generator).images
pictures += ldm(batch_size=2, num_inference_steps=2, generator=generator).images
pictures += on_vae(batch_size=1, num_inference_steps=2, generator=generator).images
print([type(part).__name__ for part in (dit, dit.vae, dit.transformer, ldm, ldm.vqvae, ldm.unet, on_vae.vqvae)])
print([(picture.mode, picture.size) for picture in pictures])
"""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={**environment, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    classes, pictures = done.stdout.strip().splitlines()
    expected = [DiTPipeline, AutoencoderKL, UNet2DModel, LDMPipeline, VQModel, UNet2DModel, AutoencoderKL]
    assert classes == str([part.__name__ for part in expected])
    assert pictures == str([("L", (8, 8))] * 5)


@pytest.mark.slow
def test_a_pipeline_goes_to_the_hub_and_opens_there_without_our_package(vae_folder, tmp_path):
    publish = [
        sys.executable, ROOT / "scripts" / "train_latent_diffusion.py", "--image_model", vae_folder, "--cpu",
        "--block_out_channels", "8", "--sample_steps", "2", "--max_train_steps", "2", "--output_dir", "run",
        "--push_to_hub", "--hub_model_id", "org/digits-diffusion",
    ]  # fmt: skip
    train_on = [
        sys.executable, ROOT / "scripts" / "train_latent_diffusion.py", "--image_model", vae_folder, "--cpu",
        "--init_from", "org/digits-diffusion", "--init_revision", "main", "--sample_steps", "2",
        "--max_train_steps", "1", "--output_dir", "on",
    ]  # fmt: skip
    open_it = """
import sys
sys.modules["hf_autoencoders"] = None  # an import would fail
from diffusers import DiffusionPipeline
pipeline = DiffusionPipeline.from_pretrained("org/digits-diffusion")
assert pipeline([3, 7], num_inference_steps=2).images[0].size == (8, 8)
"""
    with LoopbackHub() as hub:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        environment |= {**hub.environment(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
        elsewhere = {**environment, "HF_HOME": str(tmp_path / "another home")}
        for command, variables in (
            ([*map(str, publish)], {**environment, "PYTHONPATH": str(ROOT)}),
            ([sys.executable, "-c", open_it], elsewhere),
            ([*map(str, train_on)], {**elsewhere, "PYTHONPATH": str(ROOT)}),
        ):
            done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr
    parent = json.loads((tmp_path / "on" / "metrics.json").read_text())["parent"]
    assert (parent["name"], parent["revision"]) == ("org/digits-diffusion", "main")
    assert "base_model: org/digits-diffusion\n" in (tmp_path / "on" / "pipeline" / "README.md").read_text()


def test_a_run_leaves_a_card_and_samples(trained, vae_folder):
    text = (trained / "pipeline" / "README.md").read_text()
    assert vae_folder.name in text and str(vae_folder.parent) not in text and "class_labels=[0, 1]" in text
    assert (trained / "samples.png").read_bytes() == (trained / "pipeline" / "samples.png").read_bytes()
    scheduler = DDIMScheduler.from_pretrained(trained / "pipeline" / "scheduler")
    assert not scheduler.config.clip_sample  # latents go beyond [-1, 1]


# -- mistakes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model, says",
    [
        (lambda: VAEModel(VAEConfig(image_size=8, num_channels=1)), "`resnet` backbone only, this model has `conv`"),
        (lambda: AEModel(AEConfig(**NET)), "no class for a ae"),
        (lambda: vae(reconstruction_loss="bce"), "takes the decoder's output for the picture, which `bce` is not"),
        (lambda: vae(image_size=28, block_out_channels=[8, 8, 8]), "7x7 latents do not allow it: give fewer"),
        (lambda: vae(image_size=[8, 16]), "draw square latents; these are 4x8"),
    ],
)
def test_an_image_model_that_does_not_fit_is_refused_before_anything_is_encoded(model, says, tmp_path, capsys):
    assert run(saved(model(), tmp_path / "model"), tmp_path / "run", "--max_train_steps", 1) == 2
    error = capsys.readouterr().err.strip()
    assert says in error and "\n" not in error and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "flags, says",
    [
        (("--block_out_chanels", 8), "nearest known name is 'block_out_channels'"),
        (("--block_out_channels", 8, 12), "must be multiples of 8, the groups of GroupNorm, got [8, 12]"),
        (("--block_out_channels", 8, 8, 8, 8), "halves the grid 3 times; 4x4 latents do not allow it"),
        (("--unconditional", "--sample_guidance_scale", 2), "it needs classes and --class_dropout"),
        (("--sample_steps", 1001), "must lie in 1..1000, the levels of noise, got 1001"),
        (("--unconditional", "--class_dropout", 0.1), "--class_dropout has no effect with --unconditional"),
        (
            ("--recipe", RECIPES / "prior-digits.yaml"),
            "is a recipe of a prior, not for hf-autoencoders train_latent",
        ),
        (("--image_model", "./nothing"), "./nothing holds no model that can be loaded"),
        (("--token_dataset", "x"), "Unknown argument '--token_dataset'"),
    ],
)
def test_wrong_knobs_are_one_line(vae_folder, tmp_path, capsys, flags, says):
    assert run(vae_folder, tmp_path / "run", *flags) == 2
    error = capsys.readouterr().err.strip()
    assert says in error and "\n" not in error


def test_guidance_without_classes_is_refused_before_the_training(vae_folder, tmp_path, capsys):
    folder = tmp_path / "pictures"
    folder.mkdir()
    tables = read_tables("digits", None, False)
    for split in tables:
        tables[split].remove_columns("label").to_parquet(folder / f"{split}-00000-of-00001.parquet")
    assert run(vae_folder, tmp_path / "run", "--dataset_name", folder, "--sample_guidance_scale", 2) == 2
    assert "--sample_guidance_scale 2.0: the data set has no classes." in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "classes, dropout, call, says",
    [
        (10, 0.1, {"labels": [3, 10]}, r"Labels must lie in 0\.\.9, at least one, got \[3, 10\]"),
        (10, 0.1, {"labels": []}, "at least one"),
        (10, 0.0, {"labels": [3], "guidance_scale": 2.0}, "needs a null class: train with `class_dropout` above 0"),
        (10, 0.0, {"num_images": 3}, r"draws no picture without a class: give `labels` in 0\.\.9"),
        (0, 0.0, {"labels": [3]}, "knows no classes"),
        (0, 0.0, {"num_images": 3, "guidance_scale": 2.0}, "needs labels"),
        (0, 0.0, {}, "`num_images` must say how many"),
    ],
)
def test_what_a_unet_cannot_draw_is_named(classes, dropout, call, says):
    unet = build_unet(3, (4, 4), classes, dropout, **SMALL_UNET)
    with pytest.raises(ValueError, match=says):
        generate_images(unet, build_scheduler(), None, **call)


def test_more_mistakes_are_named():
    with pytest.raises(ValueError, match="at most that many, got 1001"):
        build_unet(3, (4, 4), num_classes=1001)
    with pytest.raises(ValueError, match="The UNet knows 10 classes, got 2 names"):
        unet = build_unet(3, (4, 4), num_classes=10, **SMALL_UNET)
        latent_diffusion_pipeline(vae(), unet, build_scheduler(), ["zero", "one"])


# -- recipes -----------------------------------------------------------------------------------------------------------


def test_every_recipe_of_latent_diffusion_parses():
    recipes = sorted(RECIPES.glob("latent-diffusion-*.yaml"))
    assert recipes
    for recipe in recipes:
        parse_diffusion_arguments(["--recipe", str(recipe), "--image_model", "x"])


@pytest.mark.parametrize("name", ["vae-digits-4x4", "vqvae-digits-4x4", "vae-mnist-32", "vqvae-mnist-32"])
def test_the_image_models_of_the_recipes_fit_diffusers(name):
    measured = {"image_size": 8 if "digits" in name else 28, "num_channels": 1}
    config = build_config(parse_arguments(["--recipe", str(RECIPES / f"{name}.yaml")]), measured)
    exported = to_diffusers(AutoModel.from_config(config))
    side = config.grid_size[0]
    assert exported.config.sample_size == config.image_size and side % 2 == 0
    build_unet(4, config.grid_size)


@pytest.mark.mnist
def test_the_recipes_pad_mnist_to_a_grid_that_can_be_halved():
    if not MNIST.is_dir():
        pytest.skip(f"no MNIST in {MNIST}; HF_AUTOENCODERS_DATA names the folder that holds data/mnist")
    few = {"max_train_samples": 16, "max_eval_samples": 1}
    knobs = parse_arguments(["--recipe", str(RECIPES / "vae-mnist-32.yaml")])
    processor = FittedProcessor(knobs.model["image_size"], None, knobs.data.image_fit)
    padded = load_images(str(MNIST), to_uint8=processor, **few).train.batch(range(16))["pixel_values"]
    plain = load_images(str(MNIST), to_uint8=FittedProcessor(None, None, "crop"), **few).train
    expected = torch.full((16, 1, 32, 32), -1.0)
    expected[:, :, 2:30, 2:30] = plain.batch(range(16))["pixel_values"]
    assert torch.equal(padded, expected)
