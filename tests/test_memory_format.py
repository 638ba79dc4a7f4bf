# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Activations lie channels last inside the nets that gain by it; nothing outside a net notices."""

import copy

import pytest
import torch
import torch.nn.functional as F
from small_nets import NETS, images, make, trained
from torch import nn

from hf_autoencoders.models import memory_format
from hf_autoencoders.models.blocks_resnet import GroupNorm, Upsample, doubling_kernel


CHANNELS_LAST = {"memory_format": torch.channels_last}
CONVOLUTIONAL = [net for net in NETS if not net.endswith("mlp")]


@pytest.fixture(autouse=True)
def small_pictures_too(monkeypatch):
    monkeypatch.setattr(memory_format, "LEAST_PIXELS", 1)


def orders_inside(model: nn.Module, pixels: torch.Tensor) -> set[bool]:
    """Whether what 3x3 convolutions of more than one channel give lies channels last: {True}, {False} or both."""
    seen = set()

    def look(module, inputs, output):
        if module.kernel_size == (3, 3) and module.out_channels > 1:
            seen.add(output.is_contiguous(**CHANNELS_LAST) and not output.is_contiguous())

    hooks = [module.register_forward_hook(look) for module in model.modules() if isinstance(module, nn.Conv2d)]
    model(pixels)
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize("net", CONVOLUTIONAL)
def test_a_convolutional_net_runs_channels_last_from_end_to_end(net):
    assert orders_inside(trained(net), images()) == {True}


@pytest.mark.parametrize("net", CONVOLUTIONAL)
def test_training_runs_channels_last_but_for_normalised_groups_on_a_cpu(net):
    assert orders_inside(make(net).train(), images()) == {"resnet" not in net}


@pytest.mark.parametrize("net", NETS)
def test_outputs_and_weights_stay_contiguous(net):
    model = make(net, num_channels=3)
    pixels = images().repeat(1, 3, 1, 1).contiguous(**CHANNELS_LAST)  # whatever the order of the input
    model(pixels)  # in training, where a codebook starts
    model.eval()
    output, encoded = model(pixels), model.encode(pixels)
    tensors = [output.reconstruction, encoded.latents[0], model.decode(encoded.latents).sample, *model.parameters()]
    assert all(tensor.is_contiguous() for tensor in tensors)


@pytest.mark.parametrize("net", CONVOLUTIONAL)
def test_the_order_changes_no_result_beyond_rounding(net, monkeypatch):
    model = trained(net)
    reconstruction, latents = model(images()).reconstruction, model.encode(images()).latents
    monkeypatch.setattr(type(model), "as_net_computes", lambda self, values, stride=1: values)
    torch.testing.assert_close(latents, model.encode(images()).latents, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(reconstruction, model(images()).reconstruction, atol=1e-5, rtol=1e-5)


def test_small_pictures_keep_their_order_on_a_cpu(monkeypatch):
    monkeypatch.setattr(memory_format, "LEAST_PIXELS", 8 * 8 + 1)
    assert orders_inside(trained("ae-conv"), images()) == {False}  # latents, too: their pictures count
    monkeypatch.setattr(memory_format, "LEAST_PIXELS", 8 * 8)
    assert orders_inside(trained("ae-conv"), images()) == {True}


def test_a_graph_keeps_its_own_order():
    model = trained("ae-conv")
    graph = torch.export.export(model, (images(),), strict=False).graph
    orders = [node.kwargs.get("memory_format") for node in graph.nodes]
    assert torch.channels_last not in orders


# -- up-sampling as one transposed convolution -------------------------------------------------------------------------


def two_steps(x: torch.Tensor, conv: nn.Module) -> torch.Tensor:
    return conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


def test_doubled_pixels_and_a_3x3_kernel_are_one_transposed_convolution():
    ones = torch.ones(1, 1, 3, 3)
    assert doubling_kernel(ones).tolist() == [[[[1, 2, 2, 1], [2, 4, 4, 2], [2, 4, 4, 2], [1, 2, 2, 1]]]]


def test_upsampling_equals_its_two_steps_with_their_gradients():
    torch.manual_seed(0)
    upsample = Upsample(6).double()
    x = torch.randn(2, 6, 32, 24, dtype=torch.float64, requires_grad=True)
    inputs = [x, *upsample.parameters()]
    folded, plain = upsample(x), two_steps(x, upsample.conv)
    weights = torch.randn_like(plain)
    torch.testing.assert_close(folded, plain, atol=1e-12, rtol=0)
    assert torch.equal(copy.deepcopy(upsample).eval()(x), plain)  # in eval mode, bit for bit as other packages
    for ours, theirs in zip(
        torch.autograd.grad((folded * weights).sum(), inputs),
        torch.autograd.grad((plain * weights).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-12)


class Adapted(nn.Conv2d):
    """As a LoRA layer does, adds something to what the weights give."""

    def forward(self, x):
        return super().forward(x) + 1


@pytest.mark.parametrize("change", ["subclass", "replaced forward", "hook"])
def test_a_convolution_that_something_was_attached_to_is_called(change):
    torch.manual_seed(0)
    upsample, x = Upsample(4), torch.randn(1, 4, 32, 32)
    expected = two_steps(x, copy.deepcopy(upsample.conv)) + 1
    if change == "subclass":
        upsample.conv.__class__ = Adapted
    elif change == "replaced forward":
        plain = upsample.conv.forward
        upsample.conv.forward = lambda x: plain(x) + 1
    else:
        upsample.conv.register_forward_hook(lambda module, inputs, output: output + 1)
    torch.testing.assert_close(upsample(x), expected)


# -- normalised groups of 16-bit numbers -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("groups, side, gradient, in_float32", [
    (4, 8, False, True), (4, 8, True, False), (1, 8, False, False), (4, 32, False, False),
])  # fmt: skip
def test_small_maps_of_narrow_groups_are_normalised_in_float32(dtype, groups, side, gradient, in_float32, monkeypatch):
    torch.manual_seed(0)
    norm, computed = GroupNorm(groups, 16).to(dtype), []
    nn.init.normal_(norm.weight)
    x = torch.randn(2, 16, side, side).to(dtype).contiguous(**CHANNELS_LAST)
    expected = F.group_norm(x, groups, norm.weight, norm.bias, norm.eps)
    plain = F.group_norm
    monkeypatch.setattr(F, "group_norm", lambda values, *given: computed.append(values.dtype) or plain(values, *given))
    with torch.set_grad_enabled(gradient):
        normalised = norm(x)
    assert normalised.dtype == dtype and normalised.is_contiguous(**CHANNELS_LAST)
    assert computed == [torch.float32 if in_float32 else dtype]
    torch.testing.assert_close(normalised, expected)
