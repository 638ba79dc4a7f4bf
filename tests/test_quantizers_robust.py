# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Quantizers meet what they should not: broken numbers, loaded values, other precisions, devices whose values no one
may read, and classes from outside."""

import copy

import pytest
import torch
import torch.nn.functional as F
from small_nets import make, trained
from test_quantizers import VQ_NAMES, build, build_gumbel, vectors, worst_excess
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModel

import hf_autoencoders
from hf_autoencoders import Quantized, Quantizer, VQVAEConfig, VQVAEModel, register_quantizer
from hf_autoencoders.models import nearest_codes as look_up
from hf_autoencoders.models.configuration_vqvae import QUANTIZER_FIELDS
from hf_autoencoders.models.precision import float32_island
from hf_autoencoders.models.quantizers import QUANTIZERS


FOLLOWERS = ("vq", "l2", "ema", "residual")  # those whose codebook may be written to in training
BROKEN = pytest.mark.parametrize("broken", [torch.nan, torch.inf, -torch.inf])


def follower(name: str, **overrides):
    fields = {"codebook_init": "data", "revive_dead_codes": True, "dead_code_threshold": 0.9, "ema_decay": 0.5}
    return build(name, **{**fields, **overrides})


def spoilt(z_e: torch.Tensor, broken: float, picture: int = 1) -> torch.Tensor:
    z_e = z_e.clone()
    z_e[picture, :, 1, 2] = broken
    return z_e


# ---- Vectors that are not finite -------------------------------------------------------------------------------------


@BROKEN
@pytest.mark.parametrize("name", [*VQ_NAMES, "gumbel"])
def test_a_broken_latent_has_a_valid_code_and_spoils_no_other_picture(name, broken):
    quantizer = (build_gumbel() if name == "gumbel" else build(name)).eval()
    z_e = vectors(3, 16 if name == "gumbel" else 4, 3, 5)
    codes, expected = quantizer.encode(spoilt(z_e, broken)), quantizer.encode(z_e)
    assert codes.min() >= 0 and codes.max() < 16
    assert torch.equal(codes[0], expected[0]) and torch.equal(codes[2], expected[2])
    assert quantizer(spoilt(z_e, broken)).latents[0].isfinite().all()


@BROKEN
@pytest.mark.parametrize("name", FOLLOWERS)
def test_a_broken_vector_never_enters_a_codebook(name, broken):
    """In the first batch, which sets the codebook, and in later ones, whose rows revive dead codes."""
    quantizer = follower(name)
    for step in range(4):
        quantizer(spoilt(vectors(2, 4, 3, 5, seed=step), broken))
    assert all(value.isfinite().all() for value in quantizer.state_dict().values())


@pytest.mark.parametrize("name", ["vq", "ema"])
def test_a_batch_with_a_broken_vector_counts_as_the_batch_without_it(name):
    without = follower(name, revive_dead_codes=False).double()
    rows = vectors(30, 4, dtype=torch.float64)
    without(rows.T.reshape(1, 4, 1, 30))
    with_one = copy.deepcopy(without)
    without(rows.T.reshape(1, 4, 1, 30))
    with_one(torch.cat([rows, torch.full((1, 4), torch.nan)]).T.reshape(1, 4, 1, 31))
    for name, value in without.state_dict().items():
        torch.testing.assert_close(with_one.state_dict()[name], value, rtol=1e-13, atol=1e-13)


def test_a_first_batch_of_broken_vectors_leaves_the_codebook_waiting():
    quantizer = follower("ema")
    quantizer(torch.full((2, 4, 3, 5), torch.nan))
    assert quantizer.wants_data and all(value.isfinite().all() for value in quantizer.state_dict().values())
    quantizer(vectors(2, 4, 3, 5))
    assert not quantizer.wants_data


def test_without_decay_and_epsilon_an_unused_code_keeps_its_place():
    quantizer = build("ema", codebook_size=3, codebook_dim=1, ema_decay=0, ema_epsilon=0)
    quantizer.embedding.weight.copy_(torch.tensor([[0.0], [1.0], [9.0]]))
    for _ in range(2):
        quantizer(torch.tensor([0.2, 0.4, 1.1, 1.5]).view(1, 1, 2, 2))
    torch.testing.assert_close(quantizer.embedding.weight, torch.tensor([[0.3], [1.3], [9.0]]))


# ---- Values that come later, and codebooks that stay where they are --------------------------------------------------


@pytest.mark.parametrize("way", ["copy_", "setattr", "load_state_dict", "assign"])
def test_a_codebook_that_is_loaded_after_somebody_asked_is_not_replaced_by_k_means(way):
    loaded, fresh = trained("vqvae-ema"), make("vqvae-ema")
    assert fresh.quantize.wants_data
    tensors = loaded.quantize.state_dict()
    if way == "copy_":
        for name, tensor in fresh.quantize.state_dict().items():
            tensor.copy_(tensors[name])
    elif way == "setattr":  # as accelerate's dispatch does
        for name, tensor in tensors.items():
            owner, _, buffer = name.rpartition(".")
            fresh.quantize.get_submodule(owner)._buffers[buffer] = tensor.clone()
    else:
        fresh.quantize.load_state_dict(tensors, assign=way == "assign")
    assert not fresh.quantize.wants_data
    before = fresh.quantize.embedding.weight.clone()
    fresh.quantize.defer_state_updates(True)
    fresh.train().quantize(vectors(2, 8, 4, 4))
    assert torch.equal(fresh.quantize.embedding.weight, before)


def test_another_codebook_size_at_load_time_starts_from_data(tmp_path):
    trained("vqvae-ema").save_pretrained(tmp_path)
    model = AutoModel.from_pretrained(tmp_path, codebook_size=32, ignore_mismatched_sizes=True)
    assert model.quantize.wants_data and model.quantize.state.steps == 0
    assert torch.equal(model.quantize.state.counts, torch.ones(32))
    same = AutoModel.from_pretrained(tmp_path)
    assert not same.quantize.wants_data


@pytest.mark.parametrize("name", FOLLOWERS)
def test_a_codebook_that_is_held_still_does_not_move_in_training(name):
    quantizer = follower(name)
    quantizer(vectors(2, 4, 3, 5))
    before = {key: value.clone() for key, value in quantizer.state_dict().items()}
    quantizer.hold_still()
    quantizer(vectors(2, 4, 3, 5, seed=1))
    quantizer.initialize_from_data(vectors(2, 4, 3, 5, seed=2))
    assert all(torch.equal(value, before[key]) for key, value in quantizer.state_dict().items())
    quantizer.hold_still(False)
    quantizer(vectors(2, 4, 3, 5, seed=1))
    assert any(not torch.equal(value, before[key]) for key, value in quantizer.state_dict().items())


def test_statistics_that_are_never_applied_are_an_error_and_not_a_leak(monkeypatch):
    monkeypatch.setattr("hf_autoencoders.models.quantizer_vq.MOST_WAITING", 3)
    quantizer = build("ema")
    quantizer.defer_state_updates(True)
    for _ in range(2):  # each update lets three more wait
        for step in range(3):
            quantizer(vectors(2, 4, 3, 5, seed=step))
        quantizer.apply_state_updates()
    with pytest.raises(RuntimeError, match=r"`defer_state_updates\(False\)`"):
        for step in range(4):
            quantizer(vectors(2, 4, 3, 5, seed=step))


# ---- Precision -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", ["medium", "high", "highest"])
def test_inside_the_island_float32_products_are_float32_and_behind_it_what_they_were(setting):
    matmul = torch.backends.mkldnn.matmul
    try:
        torch.set_float32_matmul_precision(setting)
        before = matmul.fp32_precision
        with float32_island(torch.zeros(1)), float32_island(torch.zeros(1)):
            assert matmul.fp32_precision in ("ieee", "none")
        assert matmul.fp32_precision == before and torch.get_float32_matmul_precision() == setting
    finally:
        torch.set_float32_matmul_precision("highest")


def test_the_newer_name_of_the_setting_is_no_obstacle():
    # Once it was used, reading the older one (`allow_tf32`) raises.
    matmul = torch.backends.mkldnn.matmul
    before = matmul.fp32_precision
    try:
        matmul.fp32_precision = "bf16"
        codes = look_up.nearest_codes(vectors(50, 8), vectors(20, 8, seed=1))
        assert matmul.fp32_precision == "bf16"
    finally:
        matmul.fp32_precision = before
    assert torch.equal(codes, look_up.nearest_codes(vectors(50, 8), vectors(20, 8, seed=1)))


# ---- A queue that is not stopped -------------------------------------------------------------------------------------


class Stops(TorchDispatchMode):
    """Names of the operations that read a value, make a shape of one, or copy numbers from the host."""

    NAMES = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "equal", "lift_fresh", "bincount")

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.__name__.split(".")[0]
        if name in self.NAMES or (name in ("_to_copy", "copy_") and self.crosses(args, kwargs or {})):
            self.found.append(name)
        return function(*args, **(kwargs or {}))

    def crosses(self, args, kwargs) -> bool:
        devices = {each.device.type for each in args if isinstance(each, torch.Tensor)}
        return len(devices | ({kwargs["device"].type} if kwargs.get("device") else set())) > 1


@pytest.mark.parametrize("name", [*VQ_NAMES, "gumbel"])
def test_a_training_step_of_a_quantizer_reads_nothing_from_the_device(name):
    """On the meta device, which takes the same way as an accelerator, and where reading is an error."""
    with torch.device("meta"):
        quantizer = build_gumbel() if name == "gumbel" else follower(name, codebook_size=2048, fsq_levels=[8, 8, 8, 4])
        z_e = torch.zeros(2, 16 if name == "gumbel" else 4, 3, 5, requires_grad=True)
        with Stops() as stops:
            result = quantizer(z_e)
            (result.latents.sum() + result.codebook_loss + result.commitment_loss).backward()
    assert stops.found == []


def test_the_count_finds_what_it_looks_for():
    with Stops() as stops:
        torch.ones(3).sum().item()
        torch.ones(3).nonzero()
        torch.ones(3).to("meta")
        torch.tensor([1.0, 2.0])
    assert {"_local_scalar_dense", "nonzero", "_to_copy", "lift_fresh"} <= set(stops.found)


@pytest.mark.parametrize("offset", [0.0, 3.0])
@pytest.mark.parametrize("size, dim", [(1, 4), (3, 4), (100, 8), (1500, 8)])
def test_the_way_of_accelerators_finds_the_codes_of_the_cpu(size, dim, offset):
    latents, codebook = vectors(700, dim) + offset, vectors(size, dim, seed=1) + offset
    codes = look_up._nearest_of_five(latents, codebook)
    assert torch.equal(codes, look_up.nearest_codes(latents, codebook))
    assert worst_excess(latents, codebook, codes) <= 1e-5


@pytest.mark.parametrize("size", [50, 1500])
def test_among_many_ties_the_way_of_accelerators_finds_a_code_that_is_as_near(size):
    latents, codebook = vectors(500, 3).mul(3).round(), vectors(size, 3, seed=1).mul(2).round()
    ways = (look_up._nearest_of_five, look_up.nearest_codes)
    five, exact = ((latents - codebook[way(latents, codebook)]).square().sum(1) for way in ways)
    assert torch.equal(five, exact)


def test_the_way_of_accelerators_gives_ties_to_the_lowest_index_and_broken_rows_a_valid_one():
    repeated = vectors(3, 8).repeat(400, 1)  # code k again at k + 3, k + 6, ...
    assert look_up._nearest_of_five(repeated, repeated).tolist() == [0, 1, 2] * 400
    codes = look_up._nearest_of_five(torch.full((2, 8), torch.nan), vectors(1100, 8))
    assert codes.min() >= 0 and codes.max() < 1100


# ---- A class from outside --------------------------------------------------------------------------------------------


class SignQuantizer(Quantizer):
    """Each number becomes its sign: 2 ** D codes and nothing to learn."""

    def __init__(self, config):
        super().__init__()
        self.size, self.dim, self.length = config.codebook_size, config.codebook_dim, config.code_length

    def encode(self, z_e):
        return ((z_e > 0) * 2 ** torch.arange(self.dim).view(1, -1, 1, 1)).sum(1)

    def code_vectors(self, codes=None):
        codes = torch.arange(self.size) if codes is None else codes
        return self.length * ((codes[..., None] >> torch.arange(self.dim)) % 2 * 2.0 - 1)

    def log_affinities(self, z_e):
        return -torch.cdist(z_e.flatten(2).transpose(1, 2), self.code_vectors()).square()

    def forward(self, z_e):
        codes = self.encode(z_e)
        latents = z_e + (self.get_codebook_entry(codes) - z_e).detach()
        zero = z_e.new_zeros(())
        return Quantized(latents, codes, zero, F.mse_loss(z_e, latents.detach()), *self.usage(codes), zero + 1)


@pytest.fixture
def sign_quantizer():
    register_quantizer("sign", SignQuantizer)
    yield {"quantizer": "sign", "codebook_size": 16, "codebook_dim": 4, "code_length": 0.5}
    del QUANTIZERS["sign"], QUANTIZER_FIELDS["sign"]


def test_a_quantizer_from_outside_trains_saves_and_loads(sign_quantizer, tmp_path):
    model = VQVAEModel(VQVAEConfig(image_size=8, block_out_channels=[8, 8], **sign_quantizer))
    pixels = 2 * torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) - 1
    model(pixels).loss.backward()
    assert model.encoder.conv_in.weight.grad.abs().sum() > 0
    with pytest.warns(UserWarning, match="SignQuantizer is not saved.*register_quantizer"):
        model.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path)
    assert type(again.quantize) is SignQuantizer and "SignQuantizer" in again._no_split_modules
    assert torch.equal(again.get_image_tokens(pixels), model.eval().get_image_tokens(pixels))
    assert torch.equal(again.get_codebook_probs(pixels).argmax(2), again.get_image_tokens(pixels).flatten(1))
    assert torch.equal(again.reconstruct(pixels), model.reconstruct(pixels))
    del QUANTIZERS["sign"], QUANTIZER_FIELDS["sign"]
    with pytest.raises(Exception, match=r"register_quantizer\('sign', YourClass\)"):
        AutoModel.from_pretrained(tmp_path)
    register_quantizer("sign", SignQuantizer)


def test_a_name_of_the_package_and_a_class_that_is_none_are_refused():
    with pytest.raises(ValueError, match="`ema` is a quantizer of this package"):
        hf_autoencoders.register_quantizer("ema", SignQuantizer)
    with pytest.raises(ValueError, match="subclass of `Quantizer`"):
        hf_autoencoders.register_quantizer("mine", torch.nn.Linear)
