# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The PixelCNN prior: what it may see, drawing code by code equal to full passes, the interface of a language model."""

import time

import pytest
import torch
from transformers import AutoModelForCausalLM

from hf_autoencoders import VQVAEConfig, VQVAEModel
from hf_autoencoders.priors.autoregressive import build_prior, generate_image_tokens, generate_images
from hf_autoencoders.priors.drawing import draw_codes
from hf_autoencoders.priors.pixelcnn import PixelCNNConfig
from hf_autoencoders.priors.sequences import ImageTokenSequencer


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def make(grid=(5, 6), kernel_size=5, layers=4, **fields):
    torch.manual_seed(0)
    sequencer = ImageTokenSequencer(codebook_size=11, grid_size=grid, num_classes=3, class_dropout=0.1)
    prior = build_prior(sequencer, "pixelcnn", hidden_size=12, num_layers=layers, **fields)
    if kernel_size != 5:
        prior = type(prior)(PixelCNNConfig(**{**prior.config.to_dict(), "kernel_size": kernel_size}))
    with torch.no_grad():  # else all classes are alike
        for layer in prior.layers:
            layer.shift.weight.normal_()
    return prior.double().eval(), sequencer


def draw_naively(prior, sequencer, labels, choose):
    """A full pass for each code."""
    ids = torch.cat(
        [sequencer.prompt(labels), torch.zeros(len(labels), sequencer.ids.num_tokens, dtype=torch.int64)], 1
    )
    for position in range(sequencer.ids.num_tokens):
        ids[:, 1 + position] = choose(prior(ids).logits[:, position])
    return sequencer.to_image_tokens(ids)


@pytest.mark.parametrize("kernel_size", [3, 5, 7])
def test_a_position_depends_on_all_codes_before_it_and_on_nothing_else(kernel_size):
    prior, sequencer = make(grid=(4, 4), kernel_size=kernel_size, layers=5)
    hidden = torch.randn(1, 12, 4, 4, dtype=torch.float64, requires_grad=True)
    v, h = hidden, hidden
    for layer in prior.layers:
        v, h = layer(v, h, torch.tensor([0]))
    for position in range(16):
        (gradient,) = torch.autograd.grad(h.flatten(2)[0, :, position].sum(), hidden, retain_graph=True)
        seen = gradient.abs().sum(1).flatten() > 0
        assert seen.tolist() == [before < position for before in range(16)]


@pytest.mark.parametrize("kernel_size", [3, 5, 7])
@torch.no_grad()
def test_drawing_code_by_code_equals_full_passes(kernel_size):
    prior, sequencer = make(kernel_size=kernel_size)
    noise = generator(1)
    naive = draw_naively(prior, sequencer, [0, 1, 2, 2], lambda logits: draw_codes(logits, noise))
    assert torch.equal(generate_image_tokens(prior, [0, 1, 2, 2], sequencer=sequencer, generator=generator(1)), naive)
    assert len(naive.unique()) > 5


@torch.no_grad()
def test_the_scores_on_the_way_are_those_of_a_full_pass():
    prior, sequencer = make()
    scores = []

    def choose(logits):
        scores.append(logits)
        return draw_codes(logits, noise)

    noise = generator(2)
    codes = prior.draw(sequencer.prompt([0, 1]), choose)
    full = prior(torch.cat([sequencer.prompt([0, 1]), codes], 1)).logits
    torch.testing.assert_close(torch.stack(scores, 1), full, atol=1e-12, rtol=1e-12)


@torch.no_grad()
def test_guidance_is_the_formula():
    prior, sequencer = make()

    def guided(logits):
        given, free = logits.log_softmax(-1).chunk(2)
        return (free + 3 * (given - free)).argmax(-1).repeat(2)

    ids = torch.cat([sequencer.prompt([0, 2]), sequencer.prompt(num_images=2)])
    ids = torch.cat([ids, torch.zeros(4, 30, dtype=torch.int64)], 1)
    for position in range(30):
        ids[:, 1 + position] = guided(prior(ids).logits[:, position])
    drawn = generate_image_tokens(prior, [0, 2], guidance_scale=3.0, do_sample=False)
    assert torch.equal(drawn, sequencer.to_image_tokens(ids[:2]))


def test_codes_differ_from_the_start_and_classes_do_not():
    """Also where there are as many codes as classes and no class together."""
    torch.manual_seed(0)
    prior = build_prior(ImageTokenSequencer(codebook_size=4, grid_size=(2, 2), num_classes=3), "pixelcnn")
    assert prior.embedding.weight.std().item() == pytest.approx(0.1, rel=0.3)
    assert not any(layer.shift.weight.any() for layer in prior.layers)


def test_it_is_saved_loaded_and_asked_like_a_language_model(tmp_path):
    torch.manual_seed(0)
    vqvae = VQVAEModel(VQVAEConfig(image_size=8, num_channels=1, block_out_channels=[8, 8], codebook_size=11)).eval()
    prior = build_prior(ImageTokenSequencer.for_model(vqvae, num_classes=3), "pixelcnn", hidden_size=8, num_layers=2)
    prior.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    one, two = (generate_images(model, vqvae, [0, 2], generator=generator()) for model in (prior, loaded))
    assert one.shape == (2, 1, 8, 8) and torch.equal(one, two)


def test_it_learns():
    """Stripes: each row is one code, drawn at random; all but the first code of a row are certain."""
    sequencer = ImageTokenSequencer(codebook_size=4, grid_size=(4, 4))
    torch.manual_seed(0)
    prior = build_prior(sequencer, "pixelcnn", hidden_size=16, num_layers=3)
    optimizer = torch.optim.Adam(prior.parameters(), lr=3e-3)
    for _ in range(150):
        loss = prior(**sequencer(torch.randint(4, (64, 4, 1)).expand(-1, -1, 4))).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 1.15 * torch.log(torch.tensor(4.0)) / 4


def test_options_of_drawing():
    logits = torch.tensor([[0.0, 2.0, 1.0, -3.0]]).expand(200, -1)
    assert draw_codes(logits, do_sample=False).unique().tolist() == [1]
    assert draw_codes(logits, generator(), top_k=2).unique().tolist() == [1, 2]
    assert draw_codes(logits, generator(), top_p=0.5).unique().tolist() == [1]
    assert draw_codes(logits, generator(), temperature=1e-3).unique().tolist() == [1]
    shares = torch.bincount(draw_codes(logits.repeat(100, 1), generator()), minlength=4) / 20_000
    torch.testing.assert_close(shares, logits[0].softmax(0), atol=0.02, rtol=0)


def test_several_codes_a_position_are_refused():
    with pytest.raises(Exception, match=r"one code at each of \(h, w\) positions, got `grid_size` \(2, 2, 3\)"):
        build_prior(ImageTokenSequencer(codebook_size=4, grid_size=(2, 2, 3)), "pixelcnn")


@pytest.mark.slow
@torch.no_grad()
def test_it_is_five_times_as_fast_as_full_passes():
    prior, sequencer = make(grid=(7, 7), layers=10)
    prior, labels = prior.float(), [0] * 64
    started = time.perf_counter()
    draw_naively(prior, sequencer, labels, draw_codes)
    naive, started = time.perf_counter() - started, time.perf_counter()
    generate_image_tokens(prior, labels)
    assert naive > 5 * (time.perf_counter() - started)
