# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Image tokens as sequences: numbering, round trip, what `generate` is told, and clear errors."""

import math

import pytest
import torch
from transformers import AutoFeatureExtractor, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from hf_autoencoders import DVAEConfig, DVAEModel, VQVAEConfig, VQVAEModel
from hf_autoencoders.models.image_token_ids import ImageTokenIds, generate_ids
from hf_autoencoders.priors.sequences import IGNORED, ImageTokenSequencer


def sequencer(**fields):
    usual = {"codebook_size": 5, "grid_size": (2, 3), "num_classes": 2, "class_dropout": 0.1}
    return ImageTokenSequencer(**{**usual, **fields})


def llama(vocab_size):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocab_size, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2
    )
    return LlamaForCausalLM(config).eval()


def gpt2(vocab_size):
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=vocab_size, n_embd=32, n_layer=2, n_head=2, n_positions=16)).eval()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_a_sequence_that_one_can_check_by_eye():
    tokens = torch.tensor([[[0, 1, 2], [3, 4, 0]]])
    batch = sequencer()(tokens, labels=[1])
    assert batch["input_ids"].tolist() == [[6, 0, 1, 2, 3, 4, 0]]  # class 1 is 5 + 1
    assert batch["labels"].tolist() == [[IGNORED, 0, 1, 2, 3, 4, 0]]
    assert sequencer()(tokens)["input_ids"][0, 0] == 7  # begin
    assert sequencer().vocab_size == 5 + 2 + 2 and sequencer().sequence_length == 7


@pytest.mark.parametrize("grid", [(7, 7), (4, 6), (2, 3, 4)])
def test_the_round_trip_is_exact(grid):
    made = sequencer(codebook_size=70_000, grid_size=grid)
    tokens = torch.randint(70_000, (3, *grid), generator=generator())
    assert torch.equal(made.to_image_tokens(made(tokens, labels=[0, 1, 1])["input_ids"]), tokens)
    assert torch.equal(made.to_image_tokens(tokens.flatten(1)), tokens)


def test_the_loss_of_a_language_model_on_it_is_nats_per_code():
    made, tokens = sequencer(), torch.randint(5, (4, 2, 3), generator=generator())
    model = llama(made.vocab_size)
    batch = made(tokens, labels=[0, 1, 0, 1])
    logits = model(input_ids=batch["input_ids"]).logits.double()
    by_hand = -logits[:, :-1].log_softmax(-1).gather(2, tokens.flatten(1)[..., None]).mean()
    torch.testing.assert_close(model(**batch).loss.double(), by_hand, atol=1e-6, rtol=0)


def test_class_dropout_replaces_its_share_of_the_classes():
    made, tokens = sequencer(), torch.zeros(10_000, 2, 3, dtype=torch.int64)
    labels = torch.zeros(10_000, dtype=torch.int64)
    first = made(tokens, labels, class_dropout=0.25, generator=generator())["input_ids"][:, 0]
    assert set(first.tolist()) == {5, made.ids.begin}
    assert (first == made.ids.begin).float().mean() == pytest.approx(0.25, abs=0.02)


def test_it_is_json_beside_the_prior(tmp_path):
    made = sequencer(image_tokenizer="org/vqvae-mnist", image_tokenizer_revision="abc")
    made.save_pretrained(tmp_path)
    loaded = AutoFeatureExtractor.from_pretrained(tmp_path)
    assert type(loaded) is ImageTokenSequencer and loaded.to_dict() == made.to_dict()


def test_it_reads_its_sizes_off_a_model():
    vqvae = VQVAEModel(VQVAEConfig(image_size=(16, 24), codebook_size=9, quantizer="residual", num_quantizers=3))
    dvae = DVAEModel(DVAEConfig(image_size=16, codebook_size=6, block_out_channels=[8, 8, 8]))
    assert ImageTokenSequencer.for_model(vqvae).grid_size == [4, 6, 3]
    assert ImageTokenSequencer.for_model(dvae, num_classes=10).vocab_size == 18


@pytest.mark.parametrize("make", [llama, gpt2])
def test_generated_sequences_are_whole_pictures_of_valid_codes(make):
    # Llama's default end, id 2, is a code here, and would stop pictures where it is drawn.
    made = sequencer()
    tokens = generate_ids(make(made.vocab_size), made.ids, [0, 1] * 20, generator=generator())
    assert tokens.shape == (40, 6) and tokens.min() >= 0 and tokens.max() < 5
    assert (tokens == 2).any()


def test_a_generator_decides_the_pictures_and_the_global_state_stays():
    made = sequencer()
    model = llama(made.vocab_size)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    a, b, c = (generate_ids(model, made.ids, [0, 1], generator=generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c)
    assert torch.equal(before, torch.get_rng_state())


def test_greedy_generation_with_a_cache_is_the_full_pass_at_each_step():
    made = sequencer()
    model = llama(made.vocab_size)
    cached = generate_ids(model, made.ids, [0, 1], do_sample=False)
    sequences = made.prompt([0, 1])
    for _ in range(6):
        step = model(input_ids=sequences).logits[:, -1, :5].argmax(-1, keepdim=True)
        sequences = torch.cat([sequences, step], 1)
    assert torch.equal(cached, sequences[:, 1:])


def test_guidance_is_the_formula():
    made = sequencer()
    model = llama(made.vocab_size)
    guided = generate_ids(model, made.ids, [0, 1], guidance_scale=3.0, do_sample=False)
    given, null = made.prompt([0, 1]), made.prompt(num_images=2)
    for position in range(6):
        scores, uncond = (model(input_ids=ids).logits[:, -1].log_softmax(-1) for ids in (given, null))
        step = (uncond + 3.0 * (scores - uncond))[:, :5].argmax(-1, keepdim=True)
        assert torch.equal(step[:, 0], guided[:, position])
        given, null = torch.cat([given, step], 1), torch.cat([null, step], 1)


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda s: s(torch.zeros(1, 3, 2, dtype=torch.int64)), r"shape \(B, 2, 3\) or \(B, 6\), got \(1, 3, 2\)"),
        (lambda s: s(torch.full((1, 2, 3), 5)), r"0\.\.4 \(the codebook's size\), got 5\.\.5"),
        (lambda s: s(torch.zeros(1, 2, 3)), "whole numbers, got torch.float32"),
        (lambda s: s.prompt([0, 2]), r"Labels must lie in 0\.\.1, got 0\.\.2"),
        (lambda s: s.prompt(), "`num_images` must say how many"),
        (lambda s: sequencer(num_classes=0, class_dropout=0.0).prompt([0]), "made without classes"),
        (lambda s: sequencer(num_classes=0), "be 0 without classes"),
        (lambda s: s.to_image_tokens(torch.zeros(1, 4, dtype=torch.int64)), r"has 7 ids \(6 without its prompt\)"),
        (lambda s: s.to_image_tokens(torch.full((1, 7), 8)), r"must lie in 0\.\.4"),
        (lambda s: sequencer(grid_size=(6,)), r"\(h, w\) or \(h, w, depth\), got \(6,\)"),
        (lambda s: sequencer(order="column"), "must be 'raster'"),
        (lambda s: sequencer(grid_size=None), r"\(h, w\) or \(h, w, depth\), got None"),
        (lambda s: sequencer(grid_size=(2, None)), r"whole numbers of at least 1, got \(2, None\)"),
        (lambda s: sequencer(grid_size=(2**13, 2**13)), "has more than 16777216 positions"),
        (lambda s: sequencer(codebook_size="x"), "Sizes are whole numbers, got `codebook_size` 'x'"),
        (lambda s: sequencer(num_classes=10**12), "at most 16777216, got 5 and 1000000000000"),
        (lambda s: sequencer(class_dropout=math.nan), r"`class_dropout` must be a number in \[0, 1\), got nan"),
        (lambda s: sequencer(class_names="ab"), "`class_names` must name 2 classes, got 'ab'"),
        (lambda s: sequencer(class_names=["cat"]), r"`class_names` must name 2 classes, got \['cat'\]"),
        (lambda s: generate_ids(llama(9), s.ids, num_images=2, guidance_scale=2.0), "towards a class: give `labels`"),
        (lambda s: generate_ids(llama(9), ImageTokenIds(5, 6, 2), [0], guidance_scale=2.0), "`class_dropout` 0"),
    ],
)
def test_mistakes_are_named(call, says):
    with pytest.raises(ValueError, match=says):
        call(sequencer())
