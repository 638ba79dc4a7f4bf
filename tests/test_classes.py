# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Classes are settled before a prior is trained, and their names travel from the pictures to the drawn ones."""

import json

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset
from PIL import Image
from transformers import AutoModel

from hf_autoencoders import AutoencoderImageProcessorPil, VQVAEConfig, VQVAEModel
from hf_autoencoders.commands import encode_dataset, sample, train_prior
from hf_autoencoders.models.image_token_ids import as_class_numbers
from hf_autoencoders.priors.autoregressive import load_prior, sequencer_of
from hf_autoencoders.priors.classes import settle_classes
from hf_autoencoders.priors.token_datasets import TokenDataset


def split(labels, names=None):
    labels = None if labels is None else torch.tensor(labels)
    return TokenDataset(np.zeros((3 if labels is None else len(labels), 1), np.uint16), (1, 1), labels, names)


# -- settled -----------------------------------------------------------------------------------------------------------


def test_the_training_split_numbers_the_classes():
    count, labels = settle_classes(split([0, 1, 1], ["cat", "eel"]), split([1, 0], ["eel", "cat"]))
    assert count == 2 and labels.tolist() == [0, 1]
    assert settle_classes(split([0, 2, 1]), split([2]))[0] == 3
    assert settle_classes(split(None), split([1])) == (0, None)


def test_a_class_without_a_picture_to_train_on_is_said():
    lines = []
    count, labels = settle_classes(split([0, 0], ["cat", "eel"]), split([1], ["cat", "eel"]), lines.append)
    assert count == 2 and labels.tolist() == [1]
    assert lines == ["1 held-out classes have no picture to train on, such as eel: their metrics mean little"]


WRONG = [
    (split([0, 1]), split([2]), "The held-out split has class 2, the training split only 0..1"),
    (split([0, 1], ["cat", "dog"]), split([0, 1], ["dog", "eel"]), "class 'eel', which the training split (cat, dog)"),
    (split([0, 123456789]), split([0]), "largest label is 123456789, which makes no sense as the number of a class"),
    (split([-1, -1]), split([0]), "2 of 2 pictures of the training split have no class"),
    (split([0, -1]), split([0]), "1 of 2 pictures of the training split have no class"),
    (split([0, 1]), split([-1, -1, -1]), "3 of 3 pictures of the held-out split have no class"),
    (split([0, 1]), split(None), "The training split has labels and the held-out one none"),
]  # fmt: skip


@pytest.mark.parametrize("train, held_out, says", WRONG)
def test_what_cannot_be_settled_is_one_line(train, held_out, says):
    with pytest.raises(ValueError) as caught:
        settle_classes(train, held_out)
    assert says in str(caught.value) and "--unconditional" in str(caught.value) and "\n" not in str(caught.value)


def test_a_name_goes_before_a_number():
    assert as_class_numbers(["3", "1", 0], names=["1", "2", "3"]).tolist() == [2, 0, 0]
    assert as_class_numbers(["3"]).tolist() == [3]
    with pytest.raises(ValueError, match="There is no class 'dog'; the classes: cat, eel"):
        as_class_numbers(["dog"], names=["cat", "eel"])


# -- through the commands ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("vqvae")
    small = {"image_size": 8, "num_channels": 1, "block_out_channels": [8, 8, 8], "residual_channels": 8}
    VQVAEModel(VQVAEConfig(**small, codebook_size=16, codebook_dim=4, quantizer="vq")).save_pretrained(folder)
    AutoencoderImageProcessorPil(num_channels=1, size={"height": 8, "width": 8}).save_pretrained(folder)
    return folder


def pictures(folder, train, test, kind=None):
    """Parquet files of one grey picture a label."""
    for name, labels in (("train", train), ("test", test)):
        cells = [np.full((8, 8), 20 * number, np.uint8) for number in range(len(labels))]
        table = Dataset.from_dict({"image": [Image.fromarray(cell) for cell in cells], "label": labels})
        folder.mkdir(exist_ok=True)
        (table if kind is None else table.cast_column("label", kind)).to_parquet(folder / f"{name}-0.parquet")
    return folder


def train(tokenizer, folder, *flags):
    usual = ["--cpu", "--num_threads", 1, "--hidden_size", 16, "--num_heads", 2, "--num_layers", 1]
    usual += ["--max_train_steps", 1, "--train_batch_size", 2, "--checkpointing_steps", 0]
    return train_prior.main([*map(str, ["--image_tokenizer", tokenizer, "--output_dir", folder, *usual, *flags])])


@pytest.mark.parametrize(
    "labels, test, says",
    [
        ([0, 1, 0, 1], [2], "The held-out split has class 2"),
        ([0, 1, 0, 123456789], [0], "largest label is 123456789"),
        ([-1] * 4, [-1], "4 of 4 pictures of the training split have no class"),
        ([0, None, 1, 1], [0], "1 of 4 pictures of the training split have no class"),
    ],
)
@pytest.mark.parametrize("from_tokens", [False, True])
def test_a_prior_stops_before_its_first_step(tokenizer, tmp_path, capsys, labels, test, says, from_tokens):
    source = ["--dataset_name", pictures(tmp_path / "pictures", labels, test)]
    if from_tokens:
        encode = ["--model", tokenizer, "--output_dir", tmp_path / "tokens", "--cpu", *source]
        assert encode_dataset.main([*map(str, encode)]) == 0
        source = ["--token_dataset", tmp_path / "tokens"]
    assert train(tokenizer, tmp_path / "prior", *source) == 2
    captured = capsys.readouterr()
    assert (
        captured.err.splitlines()[-1].startswith("hf-autoencoders train_prior: ")
        and says in captured.err.splitlines()[-1]
    )
    assert "Traceback" not in captured.err and "step" not in captured.out
    assert train(tokenizer, tmp_path / "prior", *source, "--unconditional") == 0


def test_names_travel_from_pictures_to_sequencer_config_card_and_sampling(tokenizer, tmp_path, capsys):
    names = ["cat", "a big dog", "e*l"]
    source = pictures(tmp_path / "animals", [0, 1, 2, 1], [2], ClassLabel(names=names))
    encode = ["--model", tokenizer, "--output_dir", tmp_path / "tokens", "--cpu", "--dataset_name", source]
    assert encode_dataset.main([*map(str, encode)]) == 0
    record = json.loads((tmp_path / "tokens" / "image_tokenizer.json").read_text())
    assert record["class_names"] == {"train": names, "test": names}
    assert train(tokenizer, tmp_path / "prior", "--token_dataset", tmp_path / "tokens") == 0
    prior = load_prior(tmp_path / "prior")
    assert sequencer_of(prior).class_names == names and prior.config.image_token_sequencer["class_names"] == names
    assert r"3 classes (cat, a big dog, e\*l)" in (tmp_path / "prior" / "README.md").read_text()
    both = AutoModel.from_pretrained(tmp_path / "prior" / "image_token_lm")
    draws = [both.generate_images(labels, generator=torch.Generator().manual_seed(0)) for labels in (["e*l"], [2])]
    assert torch.equal(*draws)
    given = ["--image_tokenizer", tokenizer, "--prior", tmp_path / "prior", "--device", "cpu", "--num_images", 2]
    for number, labels in enumerate((["a big dog", "e*l"], [1, 2])):
        output = tmp_path / f"{number}.png"
        assert sample.main([*map(str, [*given, "--output", output, "--labels", *labels])]) == 0
    assert (tmp_path / "0.png").read_bytes() == (tmp_path / "1.png").read_bytes()
    assert sample.main([*map(str, [*given, "--labels", "eel"])]) == 2
    assert "There is no class 'eel'; the classes: cat, a big dog, e*l." in capsys.readouterr().err
