# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The masked prior: what it hides, how many codes each pass fills in, and that it learns."""

import math

import pytest
import torch

from hf_autoencoders.priors.autoregressive import build_prior, generate_image_tokens, load_prior, sequencer_of
from hf_autoencoders.priors.likelihood import sequence_nats
from hf_autoencoders.priors.masked import bound_counts, hide, scores_of, training_counts
from hf_autoencoders.priors.sequences import IGNORED, ImageTokenSequencer


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def make(grid=(4, 4), num_classes=3, class_dropout=0.1, **fields):
    torch.manual_seed(0)
    sequencer = ImageTokenSequencer(5, grid, num_classes=num_classes, class_dropout=class_dropout)
    return build_prior(sequencer, "masked", hidden_size=32, num_layers=2, num_heads=2, **fields).eval(), sequencer


def test_hiding_takes_the_asked_number_of_codes_and_never_the_class():
    _, sequencer = make()
    ids = sequencer(torch.randint(5, (100, 4, 4)), torch.randint(3, (100,)))["input_ids"]
    counts = torch.arange(100) % 16 + 1
    hidden, targets = hide(ids, counts, sequencer.ids.mask, generator())
    assert torch.equal((hidden == sequencer.ids.mask).sum(1), counts)
    assert torch.equal(hidden[:, 0], ids[:, 0]) and (targets[:, 0] == IGNORED).all()
    shown = hidden != sequencer.ids.mask
    assert torch.equal(hidden[shown], ids[shown]) and torch.equal(targets[~shown], ids[~shown])
    assert (targets[shown] == IGNORED).all()
    assert (~shown[:, 1:])[counts == 8].float().mean(0).min() > 0  # everywhere, not always the same places


def test_training_hides_by_the_cosine_and_the_bound_evenly():
    torch.manual_seed(0)
    shares = training_counts(20_000, 64) / 64
    assert shares.mean().item() == pytest.approx(2 / math.pi + 0.5 / 64, abs=0.01)  # the mean of a cosine, rounded up
    assert shares.min() > 0 and shares.max() <= 1
    counts = bound_counts(20_000, 4, generator())
    torch.testing.assert_close(
        torch.bincount(counts) / 20_000, torch.tensor([0, 0.25, 0.25, 0.25, 0.25]), atol=0.02, rtol=0
    )


def test_code_0_has_an_embedding_that_learns():
    """BERT's default padding id is 0, whose embedding never moves."""
    prior, sequencer = make()
    prior(input_ids=sequencer(torch.zeros(1, 4, 4, dtype=torch.int64))["input_ids"]).logits.sum().backward()
    assert prior.get_input_embeddings().weight.grad[0].abs().sum() > 0


@torch.no_grad()
def test_the_bound_of_a_prior_that_knows_nothing_is_the_vocabulary():
    prior, sequencer = make()
    prior.cls.predictions.decoder.weight.zero_()
    prior.cls.predictions.bias.zero_()
    ids = sequencer(torch.randint(5, (10, 4, 4)))["input_ids"]
    knows_nothing = torch.full((10,), 16 * math.log(sequencer.vocab_size))
    torch.testing.assert_close(sequence_nats(prior, sequencer, ids), knows_nothing)


@pytest.mark.parametrize("steps", [1, 4, 8, 16])
def test_each_pass_leaves_the_cosine_hidden_and_changes_nothing_that_stands(steps):
    prior, sequencer = make()
    seen, forward = [], type(prior).forward

    class Watched(type(prior)):
        def forward(self, input_ids=None, **kwargs):
            seen.append(input_ids[:, 1:].clone())
            return forward(self, input_ids=input_ids, **kwargs)

    prior.__class__ = Watched
    tokens = generate_image_tokens(prior, [0, 1, 2], steps=steps, generator=generator()).flatten(1)
    assert len(seen) == steps and tokens.max() < 5
    mask, left = sequencer.ids.mask, 16
    for step, codes in enumerate(seen):
        assert ((codes == mask).sum(1) == left).all()
        stands = codes != mask
        assert torch.equal(codes[stands], tokens[stands])
        left = max(0, min(math.floor(16 * math.cos(math.pi / 2 * (step + 1) / steps)), left - 1))
    assert left == 0


@torch.no_grad()
def test_a_generator_decides_and_guidance_is_the_formula():
    prior, sequencer = make()
    one, two = (generate_image_tokens(prior, [0, 1], generator=generator()) for _ in range(2))
    assert torch.equal(one, two)
    codes = torch.randint(5, (2, 16), generator=generator())
    given, free = (
        prior(torch.cat([prompt, codes], 1)).logits[:, 1:, :5].log_softmax(-1)
        for prompt in (sequencer.prompt([0, 1]), sequencer.prompt(num_images=2))
    )
    led = scores_of(prior, sequencer.ids, sequencer.prompt([0, 1]), codes, guidance_scale=3.0)
    torch.testing.assert_close(led, free + 3 * (given - free))


def test_it_learns_and_is_saved(tmp_path):
    """Pictures of one code: the class says which; without a class the codes still agree, since each sees the others."""
    prior, sequencer = make(num_classes=5)
    optimizer = torch.optim.Adam(prior.train().parameters(), lr=3e-3)
    torch.manual_seed(0)
    for step in range(200):
        code = torch.randint(5, (64, 1, 1))
        ids = sequencer(code.expand(-1, 4, 4), code[:, 0, 0] if step % 2 else None)["input_ids"]
        hidden, targets = hide(ids, training_counts(64, 16), sequencer.ids.mask)
        loss = prior(input_ids=hidden, labels=targets).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    prior.save_pretrained(tmp_path)
    loaded = load_prior(tmp_path)
    assert sequencer_of(loaded).to_dict() == sequencer.to_dict()
    asked = generate_image_tokens(loaded, list(range(5)) * 20, generator=generator())
    assert (asked == torch.arange(5).repeat(20)[:, None, None]).float().mean() > 0.95
    free = generate_image_tokens(loaded, num_images=100, steps=16, generator=generator()).flatten(1)
    assert (free == free.mode(1, keepdim=True).values).float().mean() > 0.9
    assert len(free.mode(1).values.unique()) == 5


def test_mistakes_are_named():
    prior, _ = make()
    with pytest.raises(ValueError, match=r"`steps` must lie in 1\.\.16, the number of codes of a picture, got 17"):
        generate_image_tokens(prior, [0], steps=17)
    with pytest.raises(ValueError, match="`class_dropout` 0 and knows none"):
        generate_image_tokens(make(class_dropout=0.0)[0], [0], guidance_scale=2.0)
