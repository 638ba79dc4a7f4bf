# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Images from every source arrive as the same bytes, keyed draws depend on nothing but their key, errors say why."""

import gc
import io
import logging
import warnings
from itertools import islice

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader

from hf_autoencoders.training.augmentation import Augmentation, hash_keys
from hf_autoencoders.training.crop_windows import CropWindow
from hf_autoencoders.training.data import CachedImages, DecodedImages, StreamingImages, collate, load_images
from hf_autoencoders.training.fingerprints import fingerprint
from hf_autoencoders.training.image_columns import DataError
from hf_autoencoders.training.image_rows import CorruptImage, open_image
from hf_autoencoders.training.image_sources import find_splits
from hf_autoencoders.training.image_streams import key_of, opener_of, share_of


@pytest.fixture(autouse=True)
def private_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf_cache")


def to_uint8(images):
    """Grey or colour pictures of one size, as they are: what an image processor's method does, at its plainest."""
    arrays = [np.array(image) for image in images]
    return torch.stack([torch.from_numpy(a[..., None] if a.ndim == 2 else a).permute(2, 0, 1) for a in arrays])


def pictures(count, height=6, width=5, seed=0, channels=()):
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, *channels), dtype=np.uint8)


def table(images, **columns):
    features = datasets.Features({"image": datasets.Image()})
    rows = datasets.Dataset.from_dict({"image": [Image.fromarray(i) for i in images]}, features=features)
    for name, values in columns.items():
        rows = rows.add_column(name, values)
    return rows


def write_parquet(folder, **splits):
    folder.mkdir(exist_ok=True)
    for split, rows in splits.items():
        rows.to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return str(folder)


def load(name, **options):
    return load_images(str(name), to_uint8=to_uint8, **options)


# -- sources -----------------------------------------------------------------------------------------------------------


def test_digits_are_sklearns_scaled_to_bytes_and_split_by_class():
    digits, bunch = load("digits"), load_digits()
    assert (len(digits.train), len(digits.eval)) == (1437, 360)
    ours = torch.cat([digits.train.pixels, digits.eval.pixels]).flatten(1).numpy()
    theirs = np.floor(bunch.images.reshape(-1, 64) * 255 / 16 + 0.5).astype(np.uint8)
    assert sorted(map(bytes, ours)) == sorted(map(bytes, theirs))
    assert digits.train.image_shape == (1, 8, 8) and digits.train.names == [str(d) for d in range(10)]
    shares = [torch.bincount(part.labels) / len(part) for part in (digits.train, digits.eval)]
    assert (shares[0] - shares[1]).abs().max() < 0.003


def test_digits_are_the_same_in_every_run():
    assert torch.equal(load("digits", seed=0).eval.pixels, load("digits", seed=1).eval.pixels)


def test_a_folder_of_parquet_gives_its_bytes_labels_and_splits(tmp_path):
    train, test = pictures(20), pictures(7, seed=1)
    folder = write_parquet(tmp_path / "set", train=table(train, label=[i % 3 for i in range(20)]), test=table(test))
    splits = load(folder)
    assert torch.equal(splits.train.pixels[:, 0], torch.from_numpy(train))
    assert torch.equal(splits.eval.pixels[:, 0], torch.from_numpy(test))
    assert splits.train.labels.tolist() == [i % 3 for i in range(20)] and splits.eval.labels is None
    assert (splits.train_split, splits.eval_split, splits.notes) == ("train", "test", [])


def test_parquet_without_metadata_of_ours_is_understood(tmp_path):
    """Other writers leave {"bytes", "path"} or plain bytes, not the Image type."""
    encoded = []
    for picture in pictures(12):
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "PNG")
        encoded.append(buffer.getvalue())
    struct = datasets.Dataset.from_dict({"image": [{"bytes": b, "path": None} for b in encoded]})
    plain = datasets.Dataset.from_dict({"png": encoded})
    for name, rows in (("struct", struct), ("plain", plain)):
        splits = load(write_parquet(tmp_path / name, train=rows, test=rows))
        assert torch.equal(splits.train.pixels[:, 0], torch.from_numpy(pictures(12)))


def test_class_directories_saved_sets_and_parquet_agree(tmp_path):
    images = pictures(6)
    for index, image in enumerate(images):
        for split in ("train", "test"):
            folder = tmp_path / "dirs" / split / "ab"[index // 3]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{index}.png")
    saved = datasets.DatasetDict(train=table(images), test=table(images))
    saved.save_to_disk(tmp_path / "saved")
    from_dirs, from_disk = load(tmp_path / "dirs"), load(tmp_path / "saved")
    assert torch.equal(from_dirs.train.pixels, from_disk.train.pixels)
    assert from_dirs.train.labels.tolist() == [0, 0, 0, 1, 1, 1] and from_dirs.train.names == ["a", "b"]


def test_colour_pictures_keep_their_channels_apart(tmp_path):
    images = pictures(4, channels=(3,))
    splits = load(write_parquet(tmp_path / "set", train=table(images), test=table(images)))
    assert torch.equal(splits.train.pixels, torch.from_numpy(images).permute(0, 3, 1, 2))


def test_without_a_split_to_evaluate_on_a_tenth_is_held_out_and_said(tmp_path, caplog):
    folder = write_parquet(tmp_path / "set", train=table(pictures(40)))
    with caplog.at_level(logging.WARNING):
        one, two = load(folder, seed=0), load(folder, seed=1)
    assert (len(one.train), len(one.eval)) == (36, 4) and one.eval_split == "train (held out)"
    assert "4 of the 40 images" in one.notes[0] and one.notes[0] in caplog.text
    both = torch.cat([one.train.pixels, one.eval.pixels])[:, 0].flatten(1).numpy()
    assert sorted(map(bytes, both)) == sorted(map(bytes, pictures(40).reshape(40, -1)))
    assert torch.equal(one.eval.pixels, two.eval.pixels)


@pytest.mark.parametrize(
    ("available", "asked", "expected"),
    [
        (["train", "test"], {}, ("train", "test")),
        (["train", "validation", "test"], {}, ("train", "test")),
        (["valid", "train"], {}, ("train", "valid")),
        (["train"], {}, ("train", None)),
        (["all"], {}, ("all", None)),
        (["train", "extra", "test"], {"train": "extra", "evaluation": "train"}, ("extra", "train")),
        (["test", "train"], {"train": "test"}, ("test", None)),
    ],
)
def test_splits_are_found_by_their_usual_names(available, asked, expected):
    assert find_splits(available, **asked) == expected


def test_classes_may_be_words_and_may_be_missing(tmp_path):
    labels = ["cat", "ant", None, "cat"]
    folder = write_parquet(
        tmp_path / "set", train=table(pictures(4), kind=labels), test=table(pictures(4), kind=[None] * 4)
    )
    splits = load(folder, label_column="kind")
    assert splits.train.labels.tolist() == [1, 0, -1, 1] and splits.train.names == ["ant", "cat"]
    assert splits.eval.labels is None


def test_samples_are_limited_from_the_front(tmp_path):
    folder = write_parquet(tmp_path / "set", train=table(pictures(20)), test=table(pictures(20)))
    splits = load(folder, max_train_samples=5, max_eval_samples=50)
    assert torch.equal(splits.train.pixels[:, 0], torch.from_numpy(pictures(20)[:5])) and len(splits.eval) == 20


# -- fingerprints ------------------------------------------------------------------------------------------------------


def test_a_fingerprint_depends_on_the_pictures_alone(tmp_path):
    rows = table(pictures(20), label=list(range(20)))
    folder = write_parquet(tmp_path / "set", train=rows, test=table(pictures(4)))
    moved = write_parquet(tmp_path / "moved", train=rows, test=table(pictures(4)))
    expected = load(folder).train.fingerprint
    assert expected.startswith("20-") and len(expected) == 19
    for other in (
        load(moved),
        load(folder, cache_limit_gib=1e-7),
        load(folder, random_flip=True, label_column="label"),
    ):
        assert other.train.fingerprint == expected
    assert load(folder).eval.fingerprint != expected


@pytest.mark.parametrize("read_whole", [2**28, 0])
def test_a_fingerprint_sees_another_number_order_or_pixel(tmp_path, monkeypatch, read_whole):
    monkeypatch.setattr("hf_autoencoders.training.fingerprints.READ_WHOLE", read_whole)
    one_pixel = pictures(20)
    one_pixel[7, 2, 3] ^= 1
    changed = [pictures(20), pictures(19), pictures(20)[::-1], one_pixel]
    prints = [
        load(write_parquet(tmp_path / str(n), train=table(images), test=table(images))).train.fingerprint
        for n, images in enumerate(changed)
    ]
    assert len(set(prints)) == 4


def test_of_many_large_pictures_only_some_are_read(monkeypatch):
    monkeypatch.setattr("hf_autoencoders.training.fingerprints.READ_WHOLE", 1000)
    read = []

    def cells(rows):
        read.extend(rows)
        return [{"bytes": bytes(100), "path": f"{row}.png"} for row in rows]

    fingerprint(1_000_000, cells)
    assert len(read) < 1100 and (min(read), max(read)) == (0, 999_999)


def test_a_stream_has_a_fingerprint_of_its_first_pictures(tmp_path):
    folder = write_parquet(tmp_path / "set", train=table(pictures(21)), test=table(pictures(9)))
    one, two = (load(folder, streaming=True).train.fingerprint for _ in range(2))
    assert one == two and one.startswith("stream-")


# -- bad input ---------------------------------------------------------------------------------------------------------


def corrupt(rows, at, payload=b"\x89PNG not a picture"):
    cells = list(rows.cast_column("image", datasets.Image(decode=False))["image"])
    cells[at] = payload if payload is None else {"bytes": payload, "path": None}
    return datasets.Dataset.from_dict({"image": cells}, features=rows.features)


@pytest.mark.parametrize("payload", [b"\x89PNG not a picture", None, "truncated"])
def test_a_corrupt_image_is_named_by_split_and_row(tmp_path, payload):
    rows = table(pictures(20, 32, 32))
    if payload == "truncated":
        payload = rows.cast_column("image", datasets.Image(decode=False))[13]["image"]["bytes"][:600]
    folder = write_parquet(tmp_path / "set", train=table(pictures(20, 32, 32)), test=corrupt(rows, 13, payload))
    with pytest.raises(DataError, match=r"row 13 of split 'test', column 'image'") as error:
        load(folder)
    assert "\n" not in str(error.value)


def test_the_file_of_a_corrupt_image_is_closed(tmp_path):
    Image.fromarray(pictures(1, 40, 40, channels=(3,))[0]).save(tmp_path / "whole.jpg")
    (tmp_path / "half.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:-500])
    for window in (None, CropWindow(0.5, 0.5, 0.5, 8, 8)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with pytest.raises(CorruptImage, match="half.jpg"):
                open_image({"bytes": None, "path": str(tmp_path / "half.jpg")}, "row 0", window)
            gc.collect()
        assert not [warning for warning in caught if warning.category is ResourceWarning]


def test_a_corrupt_image_that_is_held_out_is_named_by_its_row_in_the_file(tmp_path):
    folder = write_parquet(tmp_path / "set", train=corrupt(table(pictures(20)), 17))
    with pytest.raises(DataError, match=r"row 17 of split 'train"):
        load(folder)


def test_a_picture_that_the_processor_refuses_is_named(tmp_path):
    def grey_only(images):
        if any(image.mode != "L" for image in images):
            raise ValueError("Expected 1 channel, got 3.")
        return to_uint8(images)

    images = [Image.fromarray(i) for i in pictures(8)]
    images[5] = images[5].convert("RGB")
    rows = datasets.Dataset.from_dict({"image": images}, features=datasets.Features({"image": datasets.Image()}))
    folder = write_parquet(tmp_path / "set", train=rows, test=rows)
    with pytest.raises(DataError, match=r"row 5 of split 'train'.*Expected 1 channel, got 3"):
        load_images(folder, to_uint8=grey_only)


def test_pictures_of_two_sizes_are_refused(tmp_path):
    images = [Image.fromarray(i) for i in [*pictures(4), *pictures(4, height=9)]]
    rows = datasets.Dataset.from_dict({"image": images}, features=datasets.Features({"image": datasets.Image()}))
    message = r"Row 4 of split 'train'.* has .*\(1, 9, 5\), those before it \(1, 6, 5\): --image_size brings all to one"
    with pytest.raises(DataError, match=message):
        load(write_parquet(tmp_path / "set", train=rows, test=rows))


def test_missing_things_are_named_with_what_is_there(tmp_path):
    words = datasets.Dataset.from_dict({"text": ["a", "b"], "n": [1, 2]})
    folder = write_parquet(tmp_path / "words", train=words, test=words)
    with pytest.raises(DataError, match=r"No column holds images; columns: text \(string\), n \(int64\)"):
        load(folder)
    images = table(pictures(4), label=[0, 1, 0, 1])
    folder = write_parquet(tmp_path / "images", train=images, test=images)
    with pytest.raises(DataError, match=r"No column 'img' .*columns: image \(Image\), label \(int64\)"):
        load(folder, image_column="img")
    with pytest.raises(DataError, match="'label' .* holds no images"):
        load(folder, image_column="label")
    with pytest.raises(DataError, match="No column 'digit'.*columns: image, label"):
        load(folder, label_column="digit")
    with pytest.raises(DataError, match=r"No split 'val' \(`eval_split`\).*train, test"):
        load(folder, eval_split="val")
    with pytest.raises(DataError, match="`max_train_samples` must be at least 1"):
        load(folder, max_train_samples=0)
    with pytest.raises(DataError, match="no such folder"):
        load(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="data files"):
        load(tmp_path / "empty")
    with pytest.raises(DataError, match="is a file"):
        load(tmp_path / "images" / "train-00000-of-00001.parquet")


def test_two_image_columns_need_a_choice(tmp_path):
    images = [Image.fromarray(i) for i in pictures(3)]
    rows = datasets.Dataset.from_dict(
        {"photo": images, "mask": images},
        features=datasets.Features({"photo": datasets.Image(), "mask": datasets.Image()}),
    )
    folder = write_parquet(tmp_path / "set", train=rows, test=rows)
    with pytest.raises(DataError, match="2 columns hold images, choose `image_column`"):
        load(folder)
    assert len(load(folder, image_column="mask").train) == 3


def test_an_empty_split_and_a_broken_file_are_one_line(tmp_path):
    rows = table(pictures(4))
    folder = write_parquet(tmp_path / "set", train=rows, test=rows.select([]))
    with pytest.raises(DataError, match="empty"):
        load(folder)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "train.parquet").write_bytes(b"PAR1 no parquet")
    with pytest.raises(DataError, match="Cannot read data set") as error:
        load(broken)
    assert "\n" not in str(error.value)


# -- batches -----------------------------------------------------------------------------------------------------------


def test_rows_that_are_not_asked_for_are_not_decoded(tmp_path):
    rows = table(pictures(4))
    folder = write_parquet(tmp_path / "set", train=corrupt(rows, 3), test=rows)
    assert len(load(folder, max_train_samples=3).train) == 3


def test_batches_are_in_minus_one_to_one_and_as_the_image_processor_scales():
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    values = collate(pixels)["pixel_values"]
    assert values.dtype == torch.float32 and (values.min(), values.max()) == (-1, 1)
    assert torch.allclose((values + 1) / 2 * 255, pixels.float(), atol=1e-4)
    processor = pytest.importorskip("hf_autoencoders.models.image_processing_autoencoder").AutoencoderImageProcessorPil
    processed = processor(num_channels=1, size={"height": 16, "width": 16})(pixels, return_tensors="pt")["pixel_values"]
    assert torch.allclose(values, processed, atol=1e-6)


def test_variance_and_mean_image_agree_with_numpy():
    pixels = torch.from_numpy(pictures(50, channels=(3,))).permute(0, 3, 1, 2).contiguous()
    images = CachedImages(pixels)
    assert images.data_variance == pytest.approx(np.var(pixels.numpy() / 255), rel=1e-12)
    assert torch.allclose(images.mean_image, (pixels.double() / 255).mean(0).float())


def test_variance_of_binarised_images_is_that_of_the_batches():
    pixels = torch.from_numpy(pictures(400))[:, None]
    images = CachedImages(pixels, augmentation=Augmentation(binarize="dynamic"))
    served = (images.batch(range(400))["pixel_values"] + 1) / 2
    assert images.data_variance == pytest.approx(float(served.var()), rel=0.01)


# -- keyed draws -------------------------------------------------------------------------------------------------------

EVERYTHING = Augmentation(random_flip=True, random_crop=2, binarize="dynamic", seed=3)


def every_image(images, batch_size, order=None, **options):
    order = list(range(len(images))) if order is None else order
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    loader = DataLoader(images, batch_sampler=batches, collate_fn=collate, **options)
    served = torch.cat([batch["pixel_values"] for batch in loader])
    return served[torch.tensor(order).argsort()]


def test_draws_depend_on_no_batch_order_worker_or_restart():
    pixels = torch.from_numpy(pictures(40))[:, None]
    reference = every_image(CachedImages(pixels, augmentation=EVERYTHING), 40)
    shuffled = torch.randperm(40, generator=torch.Generator().manual_seed(0)).tolist()
    again = CachedImages(pixels, augmentation=EVERYTHING)
    assert torch.equal(every_image(again, 7, shuffled), reference)
    assert torch.equal(every_image(again, 8, num_workers=2), reference)
    assert torch.equal(again[11], again.__getitems__([3, 11])[1])


def test_running_workers_hear_of_the_next_epoch():
    pixels = torch.from_numpy(pictures(12))[:, None]
    images = CachedImages(pixels, augmentation=EVERYTHING)
    loader = DataLoader(images, batch_size=4, num_workers=1, persistent_workers=True, collate_fn=collate)
    first = torch.cat([b["pixel_values"] for b in loader])
    images.set_epoch(1)
    second = torch.cat([b["pixel_values"] for b in loader])
    assert not torch.equal(first, second) and torch.equal(second, every_image(images, 12))


def test_epochs_differ_unless_the_draw_is_fixed():
    pixels = torch.from_numpy(pictures(30))[:, None]
    for binarize, same in (("dynamic", False), ("fixed", True)):
        images = CachedImages(pixels, augmentation=Augmentation(binarize=binarize))
        first = images.__getitems__(range(30))
        images.set_epoch(1)
        assert torch.equal(first, images.__getitems__(range(30))) is same


def test_binarised_pixels_are_on_as_often_as_they_are_bright():
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).repeat(4000, 1, 1, 1)
    images = CachedImages(levels, augmentation=Augmentation(binarize="dynamic"))
    on = images.__getitems__(range(4000)).float() / 255
    rates, brightness = on.mean(0).flatten(), torch.arange(256) / 255
    assert set(on.unique().tolist()) == {0.0, 1.0} and rates[0] == 0 and rates[255] == 1
    error = (rates - brightness)[1:-1] / (brightness * (1 - brightness) / 4000).sqrt()[1:-1]
    assert error.abs().max() < 4.5 and 0.8 < error.square().mean() < 1.2  # chi square of 254 binomials


def test_pixels_images_and_epochs_are_drawn_independently():
    grey = torch.full((2000, 1, 16, 16), 128, dtype=torch.uint8)
    images = CachedImages(grey, augmentation=Augmentation(binarize="dynamic"))
    draws = images.__getitems__(range(2000)).flatten(1).double() / 255 - 128 / 255
    images.set_epoch(1)
    next_epoch = images.__getitems__(range(2000)).flatten(1).double() / 255 - 128 / 255
    bound = 5 * 0.25 / draws.numel() ** 0.5  # five standard deviations
    for lag in (1, 2, 16, 128):
        assert (draws[:, lag:] * draws[:, :-lag]).mean().abs() < bound * 1.5
        assert (draws[lag:] * draws[:-lag]).mean().abs() < bound * 1.5
    assert (draws * next_epoch).mean().abs() < bound
    correlations = (draws.T @ draws / len(draws) / 0.25).fill_diagonal_(0)  # of all pairs of pixels over the images
    assert correlations.abs().max() < 6 / 2000**0.5


def test_crop_is_a_window_of_the_padded_picture_and_every_place_is_as_likely():
    pixels = torch.from_numpy(pictures(900))[:, None]
    cropped = CachedImages(pixels, augmentation=Augmentation(random_crop=1)).__getitems__(range(900))
    padded = torch.nn.functional.pad(pixels.float(), (1, 1, 1, 1), mode="replicate").byte()
    windows = torch.stack([padded[:, :, y : y + 6, x : x + 5] for y in range(3) for x in range(3)])
    matches = (windows == cropped).flatten(2).all(2)  # (9 places, 900)
    assert matches.sum(0).eq(1).all()
    assert ((matches.sum(1) - 100) / (100 * 8 / 9) ** 0.5).abs().max() < 4


def test_flip_mirrors_half_of_the_pictures():
    pixels = torch.from_numpy(pictures(1000))[:, None]
    served = CachedImages(pixels, augmentation=Augmentation(random_flip=True)).__getitems__(range(1000))
    mirrored = (served == pixels.flip(-1)).flatten(1).all(1)
    assert ((served == pixels).flatten(1).all(1) ^ mirrored).all() and 430 < mirrored.sum() < 570


def test_the_hash_is_splitmix64():
    """Against whole numbers of any size, cut to 64 bits; and no two of a million images share a key."""

    def mixed(x):
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
        return x ^ (x >> 31)

    stream = 0
    for number in (7, 2, 1):
        stream = mixed(((stream ^ number) + 0x9E3779B97F4A7C15) % 2**64)
    expected = [mixed((stream + index * 0x9E3779B97F4A7C15) % 2**64) for index in range(5)]
    assert [key % 2**64 for key in hash_keys(7, 2, 1, torch.arange(5)).tolist()] == expected
    million = hash_keys(1, 2, 3, torch.arange(1_000_000))
    assert million.unique().numel() == 1_000_000
    bits = torch.stack([(million >> shift & 1).double().mean() for shift in range(64)])
    assert (bits - 0.5).abs().max() < 5 * 0.5 / 1000


def test_evaluation_is_binarised_once_and_never_moved():
    options = {"random_flip": True, "random_crop": 2, "binarize": "dynamic"}
    images = load("digits", **options).eval
    first = images.__getitems__(range(20))
    images.set_epoch(5)
    assert torch.equal(first, images.__getitems__(range(20)))
    assert images.augmentation.random_crop == 0 and not images.augmentation.random_flip


def test_unknown_draws_are_refused():
    with pytest.raises(ValueError, match="none, dynamic, fixed"):
        load("digits", binarize="static")
    with pytest.raises(ValueError, match="cannot be negative"):
        load("digits", random_crop=-1)


# -- what does not fit -------------------------------------------------------------------------------------------------


def test_above_the_limit_images_are_decoded_at_each_access_and_stay_the_same(tmp_path):
    folder = write_parquet(tmp_path / "set", train=table(pictures(20), label=list(range(20))), test=table(pictures(4)))
    options = {"random_flip": True, "random_crop": 1, "binarize": "dynamic"}
    cached, decoded = load(folder, **options), load(folder, cache_limit_gib=1e-7, **options)
    assert isinstance(cached.train, CachedImages) and isinstance(decoded.train, DecodedImages)
    assert "cache_limit_gib" in decoded.notes[0]
    assert torch.equal(every_image(decoded.train, 6), every_image(cached.train, 6))
    assert torch.equal(every_image(decoded.train, 6, num_workers=2), every_image(cached.train, 6))
    assert decoded.train.data_variance == pytest.approx(cached.train.data_variance)
    assert torch.equal(decoded.train.labels, cached.train.labels)


def test_streams_deal_every_image_to_one_process_and_go_round(tmp_path):
    folder = write_parquet(tmp_path / "set", train=table(pictures(21)), test=table(pictures(9)))
    stream = load(folder, streaming=True, max_eval_samples=5)
    assert isinstance(stream.train, StreamingImages) and len(stream.eval) == 5
    table_of = datasets.load_dataset(folder, split="train", streaming=True).cast_column(
        "image", datasets.Image(decode=False)
    )
    shares = [StreamingImages(table_of, "image", "train", to_uint8, rank=r, processes=2) for r in range(2)]
    rows = [list(islice(share, length)) for share, length in zip(shares, (11, 10), strict=True)]
    expected = sorted(picture.tobytes() for picture in pictures(21))
    assert sorted(image.numpy().tobytes() for share in rows for image in share) == expected
    twice = [image.numpy().tobytes() for image in islice(stream.train, 42)]
    assert sorted(twice[:21]) == sorted(twice[21:]) == expected and twice[:21] != twice[21:]
    unshuffled = list(islice(load(folder, streaming=True, stream_shuffle=0).train, 42))
    assert torch.equal(torch.stack(unshuffled)[:, 0], torch.from_numpy(pictures(21)).repeat(2, 1, 1))


@pytest.mark.parametrize("processes", [1, 2, 3, 5])
def test_shards_and_groups_of_rows_are_dealt_to_processes_without_loss(tmp_path, processes):
    (tmp_path / "set").mkdir()
    for shard in range(3):
        rows = table(pictures(40, seed=shard))
        rows.to_parquet(tmp_path / "set" / f"train-{shard:05d}-of-00003.parquet", batch_size=10)
    stream = datasets.load_dataset(str(tmp_path / "set"), split="train", streaming=True)
    stream = stream.cast_column("image", datasets.Image(decode=False))
    shares = [[key_of(row["image"]) for row in share_of(stream, rank, processes)] for rank in range(processes)]
    whole = [key_of(row["image"]) for row in stream]
    assert sorted(sum(shares, [])) == sorted(whole) and len(set(whole)) == 120
    assert max(map(len, shares)) - min(map(len, shares)) <= 20


@pytest.mark.parametrize("stop", [3, 64, 70, 150])
def test_a_stream_continues_exactly_where_its_state_was_taken(tmp_path, stop):
    folder = write_parquet(tmp_path / "set", train=table(pictures(100)), test=table(pictures(4)))
    options = {"streaming": True, "binarize": "dynamic", "random_flip": True}
    whole, part, resumed = (load(folder, **options).train for _ in range(3))
    expected = list(islice(whole, 200))
    for _ in islice(part, stop):
        pass
    resumed.load_state_dict(part.state_dict())
    rest = list(islice(resumed, 200 - stop))
    assert all(torch.equal(a, b) for a, b in zip(expected[stop:], rest, strict=True)) and len(rest) == 200 - stop


@pytest.mark.parametrize("limit", [None, 3])
def test_a_stream_without_a_split_to_evaluate_on_holds_out_a_tenth_of_all_of_it(tmp_path, limit):
    folder = write_parquet(tmp_path / "set", train=table(pictures(100)))
    splits = load(folder, streaming=True, max_eval_samples=limit)
    held = [bytes(picture) for picture in splits.eval.pixels.flatten(1).numpy()]
    trained = [image.numpy().tobytes() for image in islice(splits.train, 100 - len(held))]
    assert 4 < len(held) < 20 if limit is None else len(held) == 3
    assert sorted(held + trained) == sorted(picture.tobytes() for picture in pictures(100))
    kept = np.stack([np.frombuffer(image, np.uint8) for image in trained])
    assert splits.train.data_variance == pytest.approx(np.var(kept / 255), rel=1e-9)


def test_of_a_stream_that_is_sorted_by_class_every_class_is_met_at_once(tmp_path):
    """One file of ten groups of rows, each of one class; 4,200 pictures once gave 104 of one class."""
    classes = np.repeat(np.arange(10), 42)
    rows = table(
        [np.full((4, 4), 20 * kind + n % 20, np.uint8) for n, kind in enumerate(classes)], label=classes.tolist()
    )
    (tmp_path / "set").mkdir()
    rows.to_parquet(tmp_path / "set" / "train-00000-of-00001.parquet", batch_size=42)
    splits = load(tmp_path / "set", streaming=True, stream_shuffle=200)
    first = torch.stack(list(islice(splits.train, 64)))
    assert len(set((first[:, 0, 0, 0] // 20).tolist())) >= 8
    assert len(set(splits.eval.labels.tolist())) >= 5


@pytest.mark.parametrize("stops", [[1], [3, 3, 5], [2, 4, 1, 6, 3]])
@pytest.mark.parametrize("workers", [0, 2])
def test_no_picture_is_lost_or_doubled_over_several_resumes_with_workers(tmp_path, stops, workers):
    (tmp_path / "set").mkdir()
    for shard in range(3):
        rows = table(pictures(40, seed=shard))
        rows.to_parquet(tmp_path / "set" / f"train-{shard:05d}-of-00003.parquet", batch_size=10)
    options = {"streaming": True, "binarize": "dynamic", "random_flip": True, "stream_shuffle": 25}
    expected = [batch["pixel_values"] for batch in islice(load(tmp_path / "set", **options).train.batches(8), 30)]
    served, state = [], None
    for length in [*stops, 30 - sum(stops)]:
        stream = load(tmp_path / "set", **options).train
        if state is not None:
            stream.load_state_dict(state)
        batches = stream.batches(8, num_workers=workers)
        served += [batch["pixel_values"] for batch in islice(batches, length)]
        state = stream.state_dict()
        batches.close()
    assert all(torch.equal(a, b) for a, b in zip(served, expected, strict=True))
    plain = load(tmp_path / "set", streaming=True, stream_shuffle=25)
    epoch = 120 - len(plain.eval)
    served = torch.cat([batch["pixel_values"] for batch in islice(plain.train.batches(1, workers), epoch)])
    assert len(served.unique(dim=0)) == epoch


def test_an_opener_finds_the_range_of_a_stream_once(tmp_path):
    """A dark picture alone would look like one on the scale 0..1."""
    levels = np.stack([np.full((4, 4), 1.0), np.full((4, 4), 200.0)]).astype(np.float32)
    features = datasets.Features({"image": datasets.Array2D((4, 4), "float32")})
    rows = datasets.Dataset.from_dict({"image": list(levels)}, features=features)
    stream = rows.to_iterable_dataset()
    opened = [opener_of(stream, "image")(row["image"], "a place") for row in stream]
    assert [picture.dtype for picture in opened] == [np.uint8] * 2 and [p[0, 0] for p in opened] == [1, 200]


def test_workers_of_a_plain_loader_would_double_a_stream_and_are_refused(tmp_path):
    folder = write_parquet(tmp_path / "set", train=table(pictures(12)))
    with pytest.raises(ValueError, match=r"use `batches\(num_workers=...\)`"):
        next(iter(DataLoader(load(folder, streaming=True).train, batch_size=2, num_workers=1)))


def test_a_stream_feeds_a_loader_and_names_a_corrupt_image(tmp_path):
    rows = table(pictures(10))
    folder = write_parquet(tmp_path / "set", train=corrupt(rows, 7), test=rows)
    stream = load(folder, streaming=True).train
    with pytest.raises(DataError, match="image 7 of the stream of split 'train'"):
        list(islice(DataLoader(stream, batch_size=5, collate_fn=collate), 2))
    sizes = [Image.fromarray(i) for i in [*pictures(64), *pictures(4, height=9)]]
    rows_of_two = datasets.Dataset.from_dict({"image": sizes}, features=rows.features)
    stream = load(
        write_parquet(tmp_path / "sizes", train=rows_of_two, test=rows), streaming=True, stream_shuffle=0
    ).train
    with pytest.raises(DataError, match=r"Image 64 of the stream.* \(1, 9, 5\), those before it \(1, 6, 5\)"):
        list(islice(stream, 68))
    good = load(write_parquet(tmp_path / "good", train=rows, test=rows), streaming=True).train
    batch = next(iter(DataLoader(good, batch_size=5, collate_fn=collate)))
    assert batch["pixel_values"].shape == (5, 1, 6, 5)
