# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The contract that every model keeps, on each backbone, likelihood and quantizer."""

import inspect
import json
import math
import subprocess
import sys
import warnings

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from small_nets import CLASSES as MODELS
from torch import nn
from transformers import AutoConfig, AutoModel

from hf_autoencoders.models.configuration_vqvae import QUANTIZER_FIELDS
from hf_autoencoders.models.losses import LIKELIHOODS
from hf_autoencoders.models.quantizers import QUANTIZERS


SMALL = {
    "image_size": 8,
    "num_channels": 1,
    "block_out_channels": [8, 16, 16],
    "layers_per_block": 1,
    "residual_channels": 8,
    "norm_num_groups": 4,
    "hidden_sizes": [32],
}
WITH_CODES = {"codebook_size": 16, "codebook_dim": 8}
EVERY_NET = [
    *((kind, backbone, {}) for kind in ("ae", "vae") for backbone in ("mlp", "conv", "resnet")),
    *(("vqvae", backbone, {}) for backbone in ("conv", "resnet")),
    *(("vqvae", "conv", {"quantizer": name}) for name in QUANTIZER_FIELDS if name != "ema"),
    ("vqvae", "conv", {"quantizer": "ema", "normalize_codes": True}),
    ("vqvae", "conv", {"quantizer": "vq", "gradient": "rotation"}),
    *(("dvae", backbone, {}) for backbone in ("dalle", "conv", "resnet")),
]
NAMES = [f"{kind}-{backbone}-{'-'.join(map(str, rest.values())) or 'default'}" for kind, backbone, rest in EVERY_NET]
every_net = pytest.mark.parametrize("kind, backbone, overrides", EVERY_NET, ids=NAMES)
with_codes = pytest.mark.parametrize(
    "kind, backbone, overrides",
    [net for net in EVERY_NET if net[0] in ("vqvae", "dvae")],
    ids=[name for name in NAMES if name.startswith(("vqvae", "dvae"))],
)


def make(kind: str, backbone: str | None = None, seed: int = 0, **overrides):
    config_class, model_class = MODELS[kind]
    fields = {**SMALL, **(WITH_CODES if kind in ("vqvae", "dvae") else {}), **overrides}
    if backbone:
        fields["backbone"] = backbone
    torch.manual_seed(seed)
    return model_class(config_class(**fields))


def images(batch: int = 4, channels: int = 1, size: int | tuple = 8, seed: int = 0):
    height, width = (size, size) if isinstance(size, int) else size
    return 2 * torch.rand(batch, channels, height, width, generator=torch.Generator().manual_seed(seed)) - 1


# ---- shapes and names ------------------------------------------------------------------------------------------------


@every_net
def test_forward_gives_the_loss_first_and_a_picture_of_the_input_s_shape(kind, backbone, overrides):
    model, pixels = make(kind, backbone, **overrides), images()
    output = model(pixels)
    assert next(iter(output)) == "loss" and output.loss.dim() == 0 and output.loss.isfinite()
    assert output.reconstruction.shape == pixels.shape
    assert all(isinstance(value, torch.Tensor) for value in output.values())
    assert output.negative_log_likelihood.dtype == torch.float32
    output.loss.backward()
    idle = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert not idle, f"no gradient reaches {idle}"


@every_net
def test_a_model_comes_back_bit_for_bit(kind, backbone, overrides, tmp_path):
    model = make(kind, backbone, **overrides)
    model(images())  # a training step's worth of state
    model.eval().save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path)
    assert type(again) is type(model)
    ours, theirs = model.state_dict(), again.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) and ours[name].dtype == theirs[name].dtype for name in ours)
    for name, value in model(images(seed=1)).items():
        assert torch.equal(value, again(images(seed=1))[name]), name


@every_net
def test_eval_repeats_itself_and_leaves_the_state_alone(kind, backbone, overrides):
    model = make(kind, backbone, **overrides).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first, second = model(images()), model(images())
    assert torch.equal(first.loss, second.loss)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@every_net
def test_gradient_checkpointing_changes_nothing(kind, backbone, overrides):
    gradients = []
    for checkpointing in (False, True):
        model = make(kind, backbone, **overrides).double()
        if checkpointing:
            getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()  # renamed in 5.23
        torch.manual_seed(1)
        model(images().double()).loss.backward()
        gradients.append([*(p.grad for p in model.parameters()), *model.buffers()])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, checkpointed, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("channels, size", [(2, (8, 12)), (3, (16, 8))])
def test_any_channels_and_any_size_that_the_stride_divides(kind, channels, size):
    model = make(kind, num_channels=channels, image_size=list(size)).eval()
    pixels = images(2, channels, size)
    assert model(pixels).reconstruction.shape == pixels.shape
    assert model.grid_size == (size[0] // 4, size[1] // 4)
    other = images(2, channels, (20, 4))
    assert model(other).reconstruction.shape == other.shape


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("loss", LIKELIHOODS)
def test_every_likelihood_trains_every_model(kind, loss):
    model = make(kind, reconstruction_loss=loss)
    output = model(images())
    output.loss.backward()
    assert output.reconstruction.shape == (4, 1, 8, 8)
    if loss in ("bce", "logit_laplace"):
        assert output.reconstruction.abs().max() <= 1


@pytest.mark.parametrize("kind", MODELS)
def test_reconstruct_interpolate_and_sample(kind):
    model, a, b = make(kind).eval(), images(3), images(3, seed=1)
    assert torch.equal(model.reconstruct(a), model(a).reconstruction)
    path = model.interpolate(a, b, 5)
    assert path.shape == (3, 5, 1, 8, 8)
    model.measure_latents([a, b])
    first, second = (model.sample(6, generator=torch.Generator().manual_seed(0)) for _ in range(2))
    assert first.shape == (6, 1, 8, 8) and torch.equal(first, second)


@pytest.mark.parametrize("kind", ["ae", "vae", "vqvae"])
def test_the_ends_of_an_interpolation_are_the_reconstructions(kind):
    model, a, b = make(kind).eval(), images(2), images(2, seed=1)
    path = model.interpolate(a, b, 3)
    torch.testing.assert_close(path[:, 0], model.reconstruct(a))
    torch.testing.assert_close(path[:, -1], model.reconstruct(b))


@pytest.mark.parametrize("kind", MODELS)
@torch.no_grad()
def test_an_interpolation_is_a_straight_line_in_the_models_own_latent_space(kind):
    """AE and VAE: codes and means. VQ-VAE: vectors before they are quantised. dVAE: probabilities of the codes."""
    model, a, b = make(kind).eval(), images(2), images(2, seed=1)
    for step, pictures in enumerate(model.interpolate(a, b, 4).unbind(1)):
        near, far = 1 - step / 3, step / 3
        if kind == "dvae":
            probabilities = near * model.get_codebook_probs(a, 1.0) + far * model.get_codebook_probs(b, 1.0)
            vectors = (probabilities @ model.quantize.embedding.weight).transpose(1, 2)  # (B, D, h * w)
            expected = model.decode(vectors.unflatten(2, model.grid_size), force_not_quantize=True).sample
        else:
            line = near * model.encode(a).latents + far * model.encode(b).latents
            if kind == "vqvae":
                rows, codebook = line.permute(0, 2, 3, 1).flatten(0, 2), model.quantize.embedding.weight
                expected = model.decode_image_tokens(torch.cdist(rows, codebook).argmin(1).view(2, *model.grid_size))
            else:
                expected = model.decode(line).sample
        torch.testing.assert_close(pictures, expected, atol=1e-5, rtol=1e-5)


def test_an_autoencoder_samples_only_after_its_latents_were_measured(tmp_path):
    model = make("ae").eval()
    with pytest.raises(ValueError, match="measure_latents"):
        model.sample(1)
    batches = [images(8), images(5, seed=1)]
    model.measure_latents(batches)
    latents = model.encode(torch.cat(batches)).latents.double()
    torch.testing.assert_close(torch.tensor(model.config.latents_mean), latents.mean((0, 2, 3)).float())
    torch.testing.assert_close(
        torch.tensor(model.config.latents_std),
        latents.var((0, 2, 3), correction=0).sqrt().float(),
        rtol=1e-4,
        atol=1e-6,
    )
    assert model.config.scaling_factor == pytest.approx(1 / latents.std(correction=0).item(), rel=1e-4)
    model.save_pretrained(tmp_path)
    assert AutoModel.from_pretrained(tmp_path).sample(2).shape == (2, 1, 8, 8)


def test_a_schedule_is_passed_by_name_and_an_unknown_one_is_an_error():
    keywords = {
        kind: {p.name for p in inspect.signature(model.forward).parameters.values() if p.kind is p.KEYWORD_ONLY}
        for kind, (_, model) in MODELS.items()
    }
    assert keywords == {
        "ae": set(),
        "vae": {"kl_weight"},
        "vqvae": {"commitment_cost"},
        "dvae": {"temperature", "kl_weight", "hard"},
    }
    with pytest.raises(TypeError):
        make("ae")(images(), temperature=1.0)


# ---- what each loss is -----------------------------------------------------------------------------------------------


def test_the_vae_loss_is_the_negative_elbo_with_a_weight():
    model = make("vae")
    output = model(images(), kl_weight=0.3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(output.loss, output.negative_log_likelihood + 0.3 * output.kl)
    posterior = torch.distributions.Normal(output.mean, (output.logvar / 2).exp())
    kl = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).sum((1, 2, 3)).mean()
    torch.testing.assert_close(output.kl, kl)


def test_a_reparametrised_sample_has_the_posterior_s_moments():
    model = make("vae", "mlp", latent_channels=2).eval()
    posterior = model.encode(images(1)).latent_dist
    draws = torch.cat([posterior.sample(torch.Generator().manual_seed(seed)) for seed in range(4000)])
    torch.testing.assert_close(draws.mean(0), posterior.mean[0], atol=0.06, rtol=0)
    torch.testing.assert_close(draws.std(0), posterior.std[0], atol=0.06, rtol=0)


def test_the_log_variance_is_clamped():
    from hf_autoencoders.models.modeling_vae import DiagonalGaussian

    posterior = DiagonalGaussian(torch.tensor([0.0, 0.0, 1e9, -1e9]).view(1, 4, 1, 1))
    assert posterior.std.isfinite().all() and posterior.kl().isfinite().all()


def test_one_importance_sample_is_the_elbo_in_expectation_and_more_are_tighter():
    model = make("vae", "mlp", latent_channels=2, reconstruction_loss="bce").double()
    pixels = images(2).double()
    posterior = model.encode(pixels).latent_dist
    generator = torch.Generator().manual_seed(0)
    weights = torch.stack([model.log_importance_weights(posterior, pixels, generator) for _ in range(4000)])
    nll = torch.stack([model(pixels, generator=generator).negative_log_likelihood for _ in range(2000)]).mean()
    elbo = -(nll + posterior.kl().mean())
    assert weights.mean().item() == pytest.approx(elbo.item(), abs=0.1)
    model.config.num_importance_samples = 8
    bound = -torch.stack([model(pixels, generator=generator).loss for _ in range(500)]).mean()
    assert bound > weights.mean()


def test_the_vqvae_loss_is_the_sum_of_its_named_terms():
    for legacy, weights in ((False, (1.0, 0.7)), (True, (0.7, 1.0))):
        model = make("vqvae", quantizer="vq", data_variance=0.25, legacy_commitment=legacy)
        output = model(images(), commitment_cost=0.7)
        expected = output.reconstruction_loss + weights[0] * output.codebook_loss + weights[1] * output.commitment_loss
        torch.testing.assert_close(output.loss, expected)
        error = ((output.reconstruction - images()) / 2).square().mean()
        torch.testing.assert_close(output.reconstruction_loss, error / 0.25)
        assert output.kl.item() == pytest.approx(4 * math.log(16))  # 2 x 2 codes, K = 16


def test_the_commitment_weight_sits_on_the_encoder_s_term():
    # beta = 0: nothing pulls the encoder to the codes, so only the picture's gradient reaches it.
    gradients = {}
    for beta in (0.0, 1.0):
        model = make("vqvae", quantizer="vq")
        output = model(images(), commitment_cost=beta)
        (output.loss - output.reconstruction_loss).backward()
        gradients[beta] = (model.encoder.conv_in.weight.grad, model.quantize.embedding.weight.grad)
    assert gradients[0.0][0] is None or not gradients[0.0][0].any()
    assert gradients[1.0][0].any()
    torch.testing.assert_close(gradients[0.0][1], gradients[1.0][1])  # the codebook's term has no beta


def test_the_dvae_loss_in_sums_is_proportional_to_dall_e_s_means():
    # Sums: nll + beta KL. Means: nll / (H W C) per element + beta h w / (H W C) KL / (h w) per position.
    model, beta = make("dvae"), 6.6
    output = model(images(), kl_weight=beta, generator=torch.Generator().manual_seed(0))
    elements, positions = 8 * 8, 2 * 2
    per_element, per_position = output.negative_log_likelihood / elements, output.kl / positions
    means = per_element + beta * positions / elements * per_position
    torch.testing.assert_close(output.loss, elements * means)
    model.zero_grad()


def test_the_dvae_relaxes_in_training_and_decodes_the_likeliest_code_in_eval():
    model, pixels = make("dvae"), images()
    first = model(pixels, temperature=1.0, generator=torch.Generator().manual_seed(0)).reconstruction
    second = model(pixels, temperature=1.0, generator=torch.Generator().manual_seed(1)).reconstruction
    assert not torch.equal(first, second)
    model.eval()
    torch.testing.assert_close(model(pixels).reconstruction, model.decode_image_tokens(model.get_image_tokens(pixels)))
    relaxed = model(pixels, hard=False, temperature=1.0, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(relaxed.reconstruction, first)  # asked for, eval gives the relaxed sample, too


def test_the_output_bias_starts_at_the_data_s_mean():
    mean_image = torch.linspace(0.05, 0.95, 64).view(1, 8, 8)
    for kind in MODELS:
        model = make(kind, "mlp" if kind in ("ae", "vae") else None, reconstruction_loss="bce")
        bias = model.decoder.output_layer.bias.detach().clone()
        model.initialize_output_bias(mean_image)
        painted = model.decoder.output_layer.bias.sigmoid()
        expected = mean_image.flatten() if bias.numel() == 64 else mean_image.mean().view(1)
        torch.testing.assert_close(painted, expected)


# ---- image tokens ----------------------------------------------------------------------------------------------------


@with_codes
def test_decoding_the_codes_of_encode_equals_forward(kind, backbone, overrides):
    model, pixels = make(kind, backbone, **overrides), images(8)
    model(pixels)
    model.eval()
    tokens = model.get_image_tokens(pixels)
    assert tokens.dtype == torch.int64 and tokens.min() >= 0 and tokens.max() < model.codebook_size
    assert torch.equal(tokens, model.encode(pixels).image_tokens) and torch.equal(tokens, model.encode(pixels).codes)
    expected = model(pixels).reconstruction
    assert torch.equal(model.decode_image_tokens(tokens), expected)
    assert torch.equal(model.decode(tokens.flatten(1), return_dict=False)[0], expected)
    assert torch.equal(model.decode(tokens.flatten(), shape=(8, 2, 2, 8)).sample, expected)
    if kind == "vqvae":
        latents = model.encode(pixels).latents
        assert torch.equal(model.decode(latents).sample, expected)
        assert torch.equal(model.decode(model.encode(pixels).quantized, force_not_quantize=True).sample, expected)


@with_codes
def test_codebook_probabilities_are_probabilities_and_peak_at_the_token(kind, backbone, overrides):
    model, pixels = make(kind, backbone, **overrides).eval(), images()
    probabilities = model.get_codebook_probs(pixels, 0.1)
    assert probabilities.shape == (4, model.num_image_tokens, 16)  # a residual quantizer's level by level
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(4, model.num_image_tokens))
    chosen = probabilities.gather(-1, model.get_image_tokens(pixels).flatten(1)[..., None]).squeeze(-1)
    assert (chosen >= probabilities.amax(-1) - 1e-4).all()


def test_the_dvae_decodes_logits_probabilities_and_code_vectors():
    model, pixels = make("dvae", codebook_size=16, codebook_dim=8).eval(), images()
    encoded = model.encode(pixels)
    tokens, expected = encoded.image_tokens, model(pixels).reconstruction
    one_hot = nn.functional.one_hot(tokens, 16).movedim(-1, 1).float()
    torch.testing.assert_close(model.decode(encoded.latents).sample, expected)
    torch.testing.assert_close(model.decode(one_hot, force_not_quantize=True).sample, expected)
    torch.testing.assert_close(model.decode(model.quantize.get_codebook_entry(tokens)).sample, expected)
    mixed = torch.einsum("bkhw,kd->bdhw", encoded.latents.softmax(1), model.quantize.embedding.weight)
    torch.testing.assert_close(encoded.quantized, mixed)


@with_codes
def test_names_that_generators_ask_for(kind, backbone, overrides):
    model = make(kind, backbone, **overrides)
    assert (model.codebook_size, model.grid_size, model.downsample_factor) == (16, (2, 2), 4)
    assert model.config.num_vq_embeddings == 16 and model.config.vq_embed_dim == 8
    assert model.quantize.get_codebook_entry(model.eval().get_image_tokens(images(3))).shape == (3, 8, 2, 2)


# ---- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MODELS)
def test_wrong_pictures_are_refused_with_what_fits(kind):
    model = make(kind).eval()
    with pytest.raises(ValueError, match="multiples of 4"):
        model(images(1, 1, 10))
    with pytest.raises(ValueError, match=r"\(B, 1, H, W\)"):
        model(images(1, 3))
    with pytest.raises(ValueError, match="at least 2"):
        model.interpolate(images(1), images(1), 1)


def test_pixels_out_of_range_warn_once():
    model = make("vae").eval()
    with pytest.warns(UserWarning, match=r"\[-1, 1\]"):
        model(255 * torch.rand(1, 1, 8, 8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(255 * torch.rand(1, 1, 8, 8))


@with_codes
def test_wrong_codes_are_refused_with_what_fits(kind, backbone, overrides):
    model = make(kind, backbone, **overrides).eval()
    tokens = model.get_image_tokens(images(2))
    with pytest.raises(ValueError, match=r"0\.\.15"):
        model.decode(tokens + 16)
    with pytest.raises(ValueError, match="shape"):
        model.decode(torch.zeros(2, 5, dtype=torch.long))
    with pytest.raises(ValueError):
        model.decode(torch.zeros(2, 5, 2, 2))


@pytest.mark.parametrize(
    "kind, field, value, says",
    [
        ("vqvae", "codebook_size", -1, "codebook_size"),
        ("vqvae", "codebook_size", "many", "expected int"),
        ("vqvae", "codebook_size", 10**12, "codebook_size"),
        ("vqvae", "quantizer", "kmeans", "vq, l2, ema"),
        ("vqvae", "backbone", "mlp", "conv, resnet"),
        ("dvae", "quantizer", "ema", "gumbel"),
        ("dvae", "gumbel_temperature", 0, "positive"),
        ("ae", "backbone", "dalle", "mlp, conv, resnet"),
        ("ae", "image_size", 30, "multiple of 4"),
        ("vae", "latent_channels", 0, "at least 1"),
        ("vae", "reconstruction_loss", "huber", "bce, mse"),
        ("ae", "image_size", [8], "height, width"),
        ("ae", "image_size", 10**12, "at most 32768"),
        ("ae", "layers_per_block", 10**9, "at most 1024"),
        ("vae", "block_out_channels", [16, 10**12], "at most 16384"),
        ("vae", "block_out_channels", [4] * 10**6, "at most 32 entries"),
        ("vae", "hidden_sizes", [10**12], "at most 1048576"),
        ("vae", "block_out_channels", [16384] * 8, "weights"),
        ("vqvae", "codebook_dim", 65536 + 1, "at most 65536"),
        ("vqvae", "num_quantizers", 10**9, "at most 256"),
        ("ae", "norm_num_groups", 0, "norm_num_groups"),
        ("ae", "hidden_act", "nope", "hidden_act.*relu"),
        ("ae", "scaling_factor", 0, "must not be 0"),
    ],
)
def test_a_config_that_cannot_be_is_refused(kind, field, value, says):
    with pytest.raises((StrictDataclassError, ValueError), match=says):
        MODELS[kind][0](**{**SMALL, field: value})


NUMBERS = {
    "ae": ["scaling_factor", "shift_factor", "latents_mean", "latents_std"],
    "vae": ["kl_weight", "scaling_factor"],
    "vqvae": ["commitment_cost", "ema_decay", "ema_epsilon", "dead_code_threshold", "data_variance"],
    "dvae": ["gumbel_temperature", "kl_weight"],
}


@pytest.mark.parametrize("kind, field", [(kind, field) for kind, fields in NUMBERS.items() for field in fields])
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_none_is_refused_in_every_field(kind, field, number, tmp_path):
    values = [1.0, number] if field.startswith("latents") else number
    with pytest.raises((StrictDataclassError, ValueError), match=f"`{field}` must be finite"):
        MODELS[kind][0](**SMALL, **{field: values})


def test_every_field_of_a_config_that_holds_a_float_is_among_those_above():
    for kind, (config_class, _) in MODELS.items():
        floats = {name for name, hint in inspect.get_annotations(config_class).items() if "float" in str(hint)}
        inherited = {"scaling_factor", "shift_factor", "latents_mean", "latents_std"}
        assert floats - inherited <= set(NUMBERS[kind]), floats


def test_a_damaged_number_in_a_saved_config_is_refused(tmp_path):
    make("vqvae").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "commitment_cost": math.nan}))
    with pytest.raises((StrictDataclassError, ValueError), match="`commitment_cost` must be finite, got nan"):
        AutoModel.from_pretrained(tmp_path)


def test_an_override_at_load_time_is_checked_too(tmp_path):
    make("vqvae").save_pretrained(tmp_path)
    with pytest.raises((StrictDataclassError, ValueError), match="multiple of 4"):
        AutoModel.from_pretrained(tmp_path, image_size=30)


@pytest.mark.parametrize("kind", MODELS)
def test_an_ignored_field_changes_nothing(kind):
    """`config.ignored_fields` is what train.py refuses: each of them must really be without effect."""
    different = {
        "block_out_channels": [4, 4, 4], "layers_per_block": 2, "residual_channels": 4, "norm_num_groups": 2,
        "hidden_sizes": [8], "hidden_act": "tanh", "mid_block_add_attention": False, "attention_levels": [0],
    }  # fmt: skip
    model = make(kind)
    for field in different.keys() & model.config.ignored_fields:
        other = make(kind, **{field: different[field]})
        assert torch.equal(model.eval()(images()).reconstruction, other.eval()(images()).reconstruction), field
    for field in different.keys() - model.config.ignored_fields:
        other = make(kind, **{field: different[field]})
        same = [a.shape for a in model.parameters()] == [b.shape for b in other.parameters()]
        pictures = (one.eval()(images()).reconstruction for one in (model, other))
        assert not same or not torch.equal(*pictures), field


# ---- the Auto classes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MODELS)
def test_the_auto_classes_know_every_model(kind):
    config = AutoConfig.for_model(kind)
    assert type(config) is MODELS[kind][0]


def test_importing_the_package_does_not_import_diffusers():
    script = "import sys, hf_autoencoders; print(sorted({'diffusers', 'datasets', 'matplotlib'} & set(sys.modules)))"
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


def test_the_quantizer_table_and_the_config_know_the_same_names():
    assert set(QUANTIZERS) == {*QUANTIZER_FIELDS, "gumbel"}
