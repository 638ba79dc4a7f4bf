# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Every picture of a folder is used, or named: what is a split, what is a class, and how classes are numbered."""

import json

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from hf_autoencoders.training.data import load_images
from hf_autoencoders.training.image_columns import DataError
from hf_autoencoders.training.image_folders import read_layout
from hf_autoencoders.training.image_sources import read_source


@pytest.fixture(autouse=True)
def private_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf_cache")


def to_uint8(images):
    arrays = [np.array(image) for image in images]
    return torch.stack([torch.from_numpy(a[..., None] if a.ndim == 2 else a).permute(2, 0, 1) for a in arrays])


@pytest.fixture
def folder(tmp_path):
    """Names of files -> a folder that holds pictures of these names, all different."""

    def make(*names):
        for number, name in enumerate(names):
            path = tmp_path / "set" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix in (".png", ".jpg"):
                levels = np.full((4, 4), number % 256, np.uint8)
                levels[0, 0] = number // 256
                Image.fromarray(levels).save(path)
            else:
                path.write_text("{}")
        return tmp_path / "set"

    return make


def several(folder, count, *more):
    return [f"{folder}/{number:02d}.png" for number in range(count)] + list(more)


def load(folder, **options):
    return load_images(str(folder), to_uint8=to_uint8, **options)


def counts(folder):
    return {split: len(paths) for split, paths in read_layout(folder)[1].splits.items()}


WORDS_IN_NAMES = [*(f"cat {number:02d}.png" for number in range(20)), "train station.png", "a test of time.png"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (WORDS_IN_NAMES, {"train": 22}),
        (["train.png", "bus.png", "car.png"], {"train": 3}),
        ([*several("train", 10), *several("bus", 10), *several("car", 10)], {"train": 30}),
        ([*several("dev kit", 3), *several("eval", 4), *several("cat", 5)], {"train": 12}),
        ([*several("train", 5), *several("extra", 3)], {"train": 5, "extra": 3}),
        ([*several("train", 5), *several("test", 2), *several("more", 3)], {"train": 5, "test": 2, "more": 3}),
        ([*several("Training", 5), *several("Test", 2)], {"train": 5, "test": 2}),
        ([*several("TRAIN", 5), *several("VALID", 2)], {"train": 5, "validation": 2}),
        (
            [*several("trainA", 5), *several("testA", 2), *several("trainB", 4), *several("testB", 1)],
            {"train": 9, "test": 3},
        ),
        ([*several("train2017", 5), *several("val2017", 2)], {"train": 5, "validation": 2}),
        ([*several("DIV2K_train_HR", 5), *several("DIV2K_valid_HR", 2)], {"train": 5, "validation": 2}),
        ([*several("set/images/train", 5), *several("set/images/val", 2)], {"train": 5, "validation": 2}),
        (["train_01.png", "train_02.png", "test_01.png"], {"train": 2, "test": 1}),
        (several("images", 6), {"train": 6}),
    ],
)
def test_what_is_a_split(folder, names, expected):
    assert counts(folder(*names)) == expected


def test_what_is_left_out_is_named(folder):
    names = [*several("train", 5), *several("test", 2), *several("extra", 3), "stray.png", "raw.heic"]
    splits = load(folder(*names))
    notes = "\n".join(splits.notes)
    assert (len(splits.train), len(splits.eval)) == (5, 2)
    assert "split extra (3 images)" in notes and "1 files (stray.png)" in notes and "1 .heic files" in notes


def test_a_class_folder_called_train_is_a_class(folder):
    splits = load(folder(*several("train", 10), *several("bus", 10), *several("car", 10)))
    assert splits.train.names == ["bus", "car", "train"]
    labels = torch.cat([splits.train.labels, splits.eval.labels])
    assert torch.bincount(labels).tolist() == [10, 10, 10]


def test_classes_that_are_numbers_are_in_their_order(folder):
    splits = load(folder(*(name for kind in range(12) for name in several(f"train/{kind}", 1)), *several("test/10", 2)))
    assert splits.train.names == [str(kind) for kind in range(12)]
    assert splits.eval.labels.tolist() == [10, 10]
    assert sorted(splits.train.labels.tolist()) == list(range(12))


def test_pictures_below_a_class_folder_are_of_that_class(folder):
    names = [*several("train/cat/old", 2), *several("train/cat", 2), *several("train/dog", 3), *several("test/dog", 1)]
    splits = load(folder(*names))
    assert splits.train.names == ["cat", "dog"] and splits.train.labels.tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert splits.eval.labels.tolist() == [1]


def test_a_stray_picture_keeps_the_classes_of_the_others(folder):
    splits = load(folder(*several("cat", 10), *several("dog", 10), "stray.png"))
    labels = torch.cat([splits.train.labels, splits.eval.labels])
    assert sorted(labels.tolist()) == [-1] + [0] * 10 + [1] * 10
    assert any("lie beside the class folders (stray.png): they have no class" in note for note in splits.notes)


def test_one_numbering_from_the_training_split(folder):
    place = folder(*several("train/cat", 2), *several("train/dog", 2), *several("test/dog", 2), *several("test/eel", 3))
    with pytest.raises(
        DataError, match=r"3 pictures of split 'test' have a class that is not in .*: 'eel'; .*: cat, dog"
    ):
        load(place)
    splits = load(place, unknown_labels="ignore")
    assert splits.train.labels.tolist() == [0, 0, 1, 1] and splits.eval.labels.tolist() == [1, 1, -1, -1, -1]
    assert splits.eval.names == ["cat", "dog"]


def test_words_in_a_column_are_numbered_as_in_the_training_split(tmp_path):
    def rows(words):
        images = [Image.fromarray(np.full((4, 4), n, np.uint8)) for n in range(len(words))]
        features = datasets.Features({"image": datasets.Image(), "kind": datasets.Value("string")})
        return datasets.Dataset.from_dict({"image": images, "kind": words}, features=features)

    (tmp_path / "set").mkdir()
    rows(["cat", "dog", "ant"]).to_parquet(tmp_path / "set" / "train.parquet")
    rows(["dog", "dog"]).to_parquet(tmp_path / "set" / "test.parquet")
    splits = load(tmp_path / "set", label_column="kind")
    assert splits.train.labels.tolist() == [1, 2, 0] and splits.eval.labels.tolist() == [2, 2]
    rows(["dog", "eel"]).to_parquet(tmp_path / "set" / "test.parquet")
    with pytest.raises(DataError, match="'eel'"):
        load(tmp_path / "set", label_column="kind")


@pytest.mark.parametrize("streaming", [False, True])
def test_links_brackets_colons_and_sidecars(folder, tmp_path, streaming):
    sidecars = [f"x/dog/{n:02d}.{end}" for n in range(4) for end in ("txt", "json")]
    place = folder(*several("x/[v1] a::b", 4), *several("x/dog", 4), *sidecars)
    (place / "x" / "eel").symlink_to(folder(*several("../elsewhere", 4)).parent / "elsewhere", target_is_directory=True)
    (place / "x" / "loop").symlink_to(place, target_is_directory=True)
    source = read_source(str(place), None, streaming)
    assert list(source.splits) == ["train"] and source.splits["train"].features["label"].names == [
        "[v1] a::b",
        "dog",
        "eel",
    ]
    splits = load(place, streaming=streaming)
    if not streaming:
        assert len(splits.train) + len(splits.eval) == 12


@pytest.mark.parametrize("name", ["set [v1]", "a::b", "what*?"])
def test_tables_in_a_folder_of_any_name(tmp_path, name):
    plain = tmp_path / "plain"
    plain.mkdir()
    images = [Image.fromarray(np.full((4, 4), n, np.uint8)) for n in range(3)]
    rows = datasets.Dataset.from_dict({"image": images}, features=datasets.Features({"image": datasets.Image()}))
    for split in ("train", "test"):
        rows.to_parquet(plain / f"{split}-00000-of-00001.parquet")
    assert len(load(plain.rename(tmp_path / name)).train) == 3


def test_what_metadata_says_stands_beside_the_pictures(folder):
    place = folder(*several("train", 3), "test/00.png")
    lines = [{"file_name": f"{n:02d}.png", "kind": kind} for n, kind in ((0, "ant"), (2, "bee"))]
    (place / "train" / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    splits = load(place, label_column="kind")
    assert splits.train.labels.tolist() == [0, -1, 1] and splits.train.names == ["ant", "bee"]
    assert splits.eval.labels is None


def test_tables_that_hold_pictures_go_before_pictures_beside_them(folder):
    place = folder("assets/logo.png")
    images = [Image.fromarray(np.full((4, 4), n, np.uint8)) for n in range(20)]
    rows = datasets.Dataset.from_dict({"image": images}, features=datasets.Features({"image": datasets.Image()}))
    rows.to_parquet(place / "photos.parquet")
    splits = load(place)
    assert len(splits.train) + len(splits.eval) == 20 and "1 files (assets/logo.png)" in splits.notes[0]


def test_a_folder_without_pictures_says_so(folder):
    with pytest.raises(DataError, match=r"holds no pictures and no data files .*; Left out: 1 \.heic files"):
        load(folder("raw.heic", "notes.md"))


def test_pictures_found_and_pictures_used_are_as_many_in_a_thousand_layouts(folder, tmp_path):
    """Random trees of words that mean splits, classes or nothing: each picture is in one split, or in a note."""
    random = np.random.default_rng(0)
    words = ["train", "test", "Val", "cat", "dog", "images", "extra", "7", "train station", "trainA"]
    from hf_autoencoders.training.image_folders import layout_of_pictures

    for _ in range(1000):
        depths = random.integers(0, 4, random.integers(1, 12))
        names = {"/".join([*random.choice(words, depth), f"{n}.png"]) for n, depth in enumerate(depths)}
        paths = sorted((tmp_path / name for name in names), key=lambda path: path.parts)
        layout = layout_of_pictures(tmp_path, paths)
        used = [path for files in layout.splits.values() for path in files]
        beside = [note for note in layout.notes if note.startswith("Left out beside")]
        named = int(beside[0].split(": ")[1].split()[0]) if beside else 0
        assert len(set(used)) == len(used) and len(used) + named == len(paths)
        for split, classes in layout.classes.items():
            assert len(classes) == len(layout.splits[split])
