# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Pictures by tiles: what the whole picture gives, from a part of the memory."""

import math

import pytest
import torch
import torch.nn.functional as F
from small_nets import make
from torch import nn

from hf_autoencoders.models.tiled_maps import Region, Span, TiledMap, TilePlan, region_of
from hf_autoencoders.models.tiled_operations import TiledTensor, through_tiles
from hf_autoencoders.models.tiling import blended_tiles


HEIGHT, WIDTH, TILE = 44, 36, 16  # no multiple of a tile on either side
NETS = {
    "ae-conv": ("ae-conv", {}),
    "vae-resnet": ("vae-resnet", {}),  # GroupNorm, attention at both places
    "vqvae-inplace_relu": ("vqvae-ema", {"conv_style": "inplace_relu"}),
    "vqvae-dalle_pytorch": ("vqvae-vq", {"conv_style": "dalle_pytorch", "block_out_channels": [16, 16]}),
    "vqvae-residual": ("vqvae-residual", {}),
    "dvae-dalle": ("dvae-dalle", {}),
    "dvae-dalle-stride-4": ("dvae-dalle", {"block_out_channels": [8, 8, 16]}),
}


def model_and_pictures(name: str, dtype=torch.float32):
    net, overrides = NETS[name]
    model = make(net, **overrides).eval().to(dtype)
    return model, 2 * torch.rand(2, 1, HEIGHT, WIDTH, dtype=dtype) - 1


@torch.no_grad()
def encoded_and_decoded(model, pictures):
    encoded = model.encode(pictures)
    return encoded, model.decode(encoded.latents).sample


@pytest.mark.parametrize("memory_gib", [0, 1e-5, 2], ids=["nothing held", "some maps held", "all maps held"])
@pytest.mark.parametrize("net", NETS)
def test_tiles_give_what_the_whole_picture_gives(net, memory_gib):
    model, pictures = model_and_pictures(net, torch.float64)
    whole, whole_pictures = encoded_and_decoded(model, pictures)
    model.enable_tiling(TILE, memory_gib)
    tiled, tiled_pictures = encoded_and_decoded(model, pictures)
    torch.testing.assert_close(tiled.latents, whole.latents, rtol=0, atol=1e-10)
    torch.testing.assert_close(tiled_pictures, whole_pictures, rtol=0, atol=1e-10)
    if hasattr(model, "get_image_tokens"):
        assert torch.equal(tiled.image_tokens, whole.image_tokens)


@pytest.mark.parametrize("net", NETS)
def test_in_single_precision_tiles_differ_by_rounding_alone(net):
    model, pictures = model_and_pictures(net)
    whole, whole_pictures = encoded_and_decoded(model, pictures)
    model.enable_tiling(TILE)
    tiled, tiled_pictures = encoded_and_decoded(model, pictures)
    torch.testing.assert_close(tiled.latents, whole.latents, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(tiled_pictures, whole_pictures, rtol=1e-5, atol=1e-5)
    if hasattr(model, "get_image_tokens"):
        assert torch.equal(tiled.image_tokens, whole.image_tokens)


def test_tiles_run_under_autocast():
    model, pictures = model_and_pictures("vae-resnet")
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        whole = model.encode(pictures).latents
        model.enable_tiling(TILE)
        tiled = model.encode(pictures).latents
    assert tiled.dtype == whole.dtype == torch.bfloat16
    torch.testing.assert_close(tiled, whole, rtol=0.02, atol=0.02)


def test_disabling_gives_the_whole_picture_again():
    model, pictures = model_and_pictures("ae-conv")
    sizes = []
    model.encoder.downsamplers[0].register_forward_hook(lambda layer, args, out: sizes.append(type(args[0]).__name__))
    model.enable_tiling(TILE)
    model.encode(pictures[:1])
    model.encode(pictures[:1, :, :TILE, :TILE])  # one tile: nothing to divide
    model.disable_tiling()
    model.encode(pictures[:1])
    assert sizes == ["TiledTensor", "Tensor", "Tensor"]


# -- memory ------------------------------------------------------------------------------------------------------------


class Blocks(nn.Module):
    """Three convolutions of four channels, each behind a normalisation, with a skip around them."""

    def __init__(self):
        super().__init__()
        self.norms = nn.ModuleList(nn.GroupNorm(2, 4) for _ in range(3))
        self.convolutions = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in range(3))

    def forward(self, x):
        y = x
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            y = convolution(F.silu(norm(y)))
        return x + y


def bytes_held(net, pixels, plan, monkeypatch) -> list[int]:
    """Of all maps together, each time that one more is held; the last is the result."""
    held, hold = [], TiledMap.hold

    def watched(tiled, value):
        hold(tiled, value)
        held.append(sum(each.size for each in plan.held))

    monkeypatch.setattr(TiledMap, "hold", watched)
    through_tiles(net, pixels, plan)
    return held


@pytest.mark.parametrize("maps", [0, 2, 3, 5])
def test_no_more_maps_are_held_than_memory_allows(maps, monkeypatch):
    pixels = torch.randn(1, 4, 20, 20)
    plan = TilePlan(2, 2, maps * pixels.nbytes)
    *before, last = bytes_held(Blocks(), pixels, plan, monkeypatch)
    assert len(before) == (2 if maps >= 3 else 0)  # the picture is there anyway, and two maps are read twice
    assert all(size <= plan.memory for size in before) and last <= plan.memory + pixels.nbytes


def test_a_large_map_does_not_keep_smaller_ones_out(monkeypatch):
    """Of two large maps that are read twice none stays, since three would not fit; of the smaller ones both do."""
    pixels = torch.randn(1, 4, 20, 20)
    plan = TilePlan(2, 2, 1.5 * pixels.nbytes)
    *before, _ = bytes_held(nn.Sequential(Blocks(), nn.MaxPool2d(2), Blocks()), pixels, plan, monkeypatch)
    assert before and max(before) <= 3 * pixels.nbytes // 4


def test_a_region_is_computed_from_its_neighbourhood_alone():
    nines = torch.ones(1, 1, 3, 3)  # a pixel becomes the sum of itself and its neighbours
    picture = TiledTensor(TiledMap(torch.ones(1, 1, 64, 64), TilePlan(4, 4, 0)))
    tiled = F.conv2d(F.conv2d(picture, nines, padding=1), nines, padding=1).tiled
    region = Region(Span(16, 32), Span(0, 16))
    assert tiled.operation.needs(region) == [Region(Span(15, 33), Span(0, 17))]
    part = region_of(tiled, region)
    assert part.shape == (1, 1, 16, 16)
    assert part[0, 0, 5, :3].tolist() == [6 * 3 + 9 * 3, 6 * 3 + 9 * 6, 81]  # a column beyond the left edge is zero


# -- operations --------------------------------------------------------------------------------------------------------

OPERATIONS = {
    "3x3": nn.Conv2d(2, 2, 3, padding=1),
    "without padding": nn.Conv2d(2, 2, 3),
    "stride 3, dilation 2": nn.Conv2d(2, 2, 3, stride=3, padding=2, dilation=2),
    "oblong, in groups": nn.Conv2d(2, 2, (1, 5), stride=(1, 2), padding=(0, 2), groups=2, bias=False),
    "transposed": nn.ConvTranspose2d(2, 2, 4, stride=2, padding=1),
    "transposed 3x3": nn.ConvTranspose2d(2, 2, 3, stride=2, padding=1),
    "transposed with one row more": nn.ConvTranspose2d(2, 2, 3, stride=2, padding=1, output_padding=1),
    "transposed stride 3": nn.ConvTranspose2d(2, 2, 5, stride=3, padding=2, dilation=2),
    "max pool": nn.MaxPool2d(2),
    "max pool that overlaps": nn.MaxPool2d(3, stride=2),
    "max pool with padding": nn.MaxPool2d(3, stride=2, padding=1),
    "average pool": nn.AvgPool2d(2),
    "up": nn.Upsample(scale_factor=3),
    "up to a size": nn.Upsample(size=(50, 50)),
    "up, bilinear": nn.Upsample(scale_factor=2, mode="bilinear"),
    "pad": nn.ZeroPad2d((2, 1, 0, 3)),
    "crop": nn.ZeroPad2d((-2, -1, 0, -3)),
    "pad with a value": nn.ConstantPad2d((0, 1, 0, 1), 7.0),
    "norm": nn.GroupNorm(2, 2),
    "norm without weights": nn.GroupNorm(1, 2, affine=False),
    "layer norm": nn.LayerNorm(17),
    "batch norm": nn.BatchNorm2d(2).eval(),
    "gelu": nn.GELU(),
    "softmax": nn.Softmax(1),
}


@pytest.mark.parametrize("before", [nn.Identity(), nn.Conv2d(2, 2, 3, padding=1)], ids=["alone", "after a 3x3"])
@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_each_operation_by_tiles_is_the_operation(operation, before):
    net = nn.Sequential(before, operation).double()
    pixels = torch.randn(2, 2, 23, 17, dtype=torch.float64)
    with torch.no_grad():
        tiled, whole = through_tiles(net, pixels, TilePlan(3, 2, 0)), net(pixels)
    assert type(tiled) is torch.Tensor
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-12)


def test_values_of_channels_and_of_pixels_stand_beside_a_map():
    pixels, others = torch.randn(1, 3, 12, 10), torch.randn(1, 3, 12, 10)
    scale, row = torch.randn(1, 3, 1, 1), torch.randn(1, 1, 1, 10)

    def net(x):
        return torch.where(x > 0, x * scale + others, 2 - x) * torch.tensor(3.0) + row

    torch.testing.assert_close(through_tiles(net, pixels, TilePlan(2, 3, 0)), net(pixels))


def test_what_changes_its_input_in_place_is_refused():
    with pytest.raises(NotImplementedError, match="in place"):
        through_tiles(nn.ReLU(inplace=True), torch.zeros(1, 1, 8, 8), TilePlan(2, 2, 0))


# -- approximate tiles -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("upscale", "downscale", "size"), [(1, 1, 8), (2, 1, 8), (1, 2, 8), (1, 1, 100)])
def test_blending_leaves_alone_what_depends_on_no_neighbour(upscale, downscale, size):
    def net(x):
        return F.interpolate(x[..., ::downscale, ::downscale], scale_factor=float(upscale))

    pixels = torch.randn(1, 2, 30, 22)
    blended = blended_tiles(net, pixels, size, upscale, downscale)
    torch.testing.assert_close(blended, net(pixels))


@pytest.mark.parametrize("net", NETS)
def test_approximate_tiles_have_the_right_shapes_and_are_not_exact(net):
    model, pictures = model_and_pictures(net)
    whole, whole_pictures = encoded_and_decoded(model, pictures)
    model.enable_tiling(TILE, approximate=True)
    tiled, tiled_pictures = encoded_and_decoded(model, pictures)
    assert tiled.latents.shape == whole.latents.shape and tiled_pictures.shape == whole_pictures.shape
    assert not torch.allclose(tiled.latents, whole.latents, atol=1e-5)


# -- what tiling is not ------------------------------------------------------------------------------------------------


def test_a_model_in_training_takes_pictures_whole():
    model, pictures = model_and_pictures("vae-resnet")
    model.enable_tiling(TILE)
    model.train()(pictures, generator=torch.Generator().manual_seed(0)).loss.backward()
    tiled = [parameter.grad for parameter in model.parameters()]
    model.disable_tiling()
    model.zero_grad()
    model(pictures, generator=torch.Generator().manual_seed(0)).loss.backward()
    assert all(torch.equal(*pair) for pair in zip(tiled, (p.grad for p in model.parameters()), strict=True))


def test_tiles_say_that_they_have_no_gradient():
    model, pictures = model_and_pictures("ae-conv")
    model.enable_tiling(TILE)
    assert not model.encode(pictures).latents.requires_grad
    with pytest.raises(ValueError, match=r"no gradient.*disable_tiling"):
        model.encode(pictures.requires_grad_())


def test_tiles_have_no_hidden_states():
    model, pictures = model_and_pictures("ae-conv")
    model.enable_tiling(TILE)
    with pytest.raises(ValueError, match=r"hidden states.*disable_tiling"):
        model(pictures, output_hidden_states=True)


def test_tiling_is_not_saved(tmp_path):
    model, _ = model_and_pictures("ae-conv")
    model.enable_tiling(TILE)
    model.save_pretrained(tmp_path)
    assert type(model).from_pretrained(tmp_path).tiling is None
    assert "til" not in (tmp_path / "config.json").read_text()


@pytest.mark.parametrize(
    "wrong",
    [
        {"tile_size": 0}, {"tile_size": 17}, {"tile_size": 16.0}, {"tile_size": "16"}, {"memory_gib": -1},
        {"memory_gib": math.nan}, {"memory_gib": "2"},
    ],
    ids=str,
)  # fmt: skip
def test_wrong_numbers_are_refused(wrong):
    model, _ = model_and_pictures("ae-conv")
    with pytest.raises(ValueError, match=next(iter(wrong))):
        model.enable_tiling(**wrong)


def test_memory_without_a_limit_holds_every_map():
    model, pictures = model_and_pictures("ae-conv")
    whole = model.reconstruct(pictures)
    model.enable_tiling(TILE, memory_gib=math.inf)
    torch.testing.assert_close(model.reconstruct(pictures), whole, rtol=0, atol=1e-5)


def test_the_mlp_has_no_tiles():
    with pytest.raises(ValueError, match="mlp"):
        make("ae-mlp").enable_tiling()
