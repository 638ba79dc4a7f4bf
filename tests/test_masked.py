# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The masked prior: what it hides, how many codes each pass fills in, and that it learns."""

import itertools
import math

import pytest
import torch

from hf_autoencoders.priors.autoregressive import build_prior, generate_image_tokens, load_prior, sequencer_of
from hf_autoencoders.priors.likelihood import code_nats, sequence_nats
from hf_autoencoders.priors.masked import bound_counts, hide, scores_of, training_counts
from hf_autoencoders.priors.prior_data import Sequences
from hf_autoencoders.priors.prior_task import PriorInTraining
from hf_autoencoders.priors.sequences import IGNORED, ImageTokenSequencer
from hf_autoencoders.priors.token_datasets import TokenDataset
from hf_autoencoders.training.batches import evaluation_batches
from hf_autoencoders.training.task import as_it_is


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


@torch.no_grad()
def test_the_bound_is_the_mean_cost_of_filling_in_the_codes_in_every_order():
    """Computed by hand over all 24 orders of 4 codes; the cost of their average probability is not above it."""
    prior, sequencer = make(grid=(2, 2))
    prior.get_input_embeddings().weight.mul_(10)  # so that it matters what is known
    codes = sequencer(torch.tensor([[[0, 3], [3, 1]]]), [2])["input_ids"]  # (1, 1 + 4)
    costs = []
    for order in itertools.permutations(range(1, 5)):
        known, cost = codes.clone(), 0.0
        known[:, 1:] = sequencer.ids.mask
        for place in order:
            cost -= prior(input_ids=known).logits[0, place].log_softmax(-1)[codes[0, place]].item()
            known[0, place] = codes[0, place]
        costs.append(cost)
    costs = torch.tensor(costs)
    draws = sequence_nats(prior, sequencer, codes.repeat(4000, 1))
    error = draws.std().item() / 4000**0.5
    assert costs.std() > 0.01 and draws.std() > 0.1
    assert draws.mean().item() == pytest.approx(costs.mean().item(), abs=4 * error)
    assert costs.mean() > -((-costs).logsumexp(0) - math.log(24))


@torch.no_grad()
def test_the_bound_of_a_set_does_not_depend_on_batches_or_processes():
    prior, sequencer = make()
    tokens = TokenDataset(torch.randint(5, (70, 16), generator=generator()).numpy(), (4, 4), torch.arange(70) % 3)
    model = PriorInTraining(prior, sequencer).eval()

    def nats(batch_size, processes):
        total = 0.0
        for rank in range(processes):
            for batch in evaluation_batches(
                Sequences(tokens, sequencer), batch_size, rank, processes, collate_fn=as_it_is
            ):
                total += model(**batch).loss.item() * len(batch["index"])
        return total / 70

    whole = nats(70, 1)
    assert [nats(*way) for way in ((4, 1), (64, 1), (4, 2), (64, 2))] == pytest.approx([whole] * 4, rel=1e-5)
    measure = code_nats(prior, labels=tokens.labels)
    grids = tokens.__getitems__(range(70))["image_tokens"]
    by_parts = torch.cat([measure(part) for part in grids.split(16)])
    assert by_parts.mean().item() / 16 == pytest.approx(whole, rel=1e-5)
    torch.testing.assert_close(measure(grids), by_parts)  # the labels, and the draws, begin again


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
