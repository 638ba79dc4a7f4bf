# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Pictures as cameras and instruments leave them: any size, mode and range, windows of originals, broken files."""

import io

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from hf_autoencoders.models.image_processing_autoencoder import AutoencoderImageProcessorPil
from hf_autoencoders.training.augmentation import Augmentation
from hf_autoencoders.training.crop_windows import CropWindow, cut_array, cut_window
from hf_autoencoders.training.data import CachedImages, DecodedImages, collate, load_images
from hf_autoencoders.training.fitted_processor import FittedProcessor
from hf_autoencoders.training.image_columns import DataError


@pytest.fixture(autouse=True)
def private_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf_cache")


def load(folder, size=16, channels=None, **options):
    return load_images(str(folder), to_uint8=FittedProcessor(size, channels, "crop"), **options)


def ramp(height, width):
    """A picture whose red is its column and whose green is its row, so that a crop says where it was cut."""
    columns, rows = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([columns, rows, np.zeros_like(rows)], axis=-1).round().astype(np.uint8))


@pytest.fixture
def photos(tmp_path):
    """A folder of 20 photographs of several sizes, modes and orientations."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(20):
        height, width = [(40, 60), (90, 50), (300, 400), (16, 16)][number % 4]
        image, options = ramp(height, width), {}
        if number % 5 == 1:
            image = image.convert("L")
        elif number % 5 == 2:
            image = image.convert("CMYK")
        elif number % 5 == 3:
            exif = Image.Exif()
            exif[0x0112] = 6
            image, options = image.transpose(Image.Transpose.ROTATE_90), {"exif": exif}
        image.save(folder / f"{number:02d}.jpg", quality=95, **options)
    return folder


# -- windows of originals ----------------------------------------------------------------------------------------------


def test_windows_are_the_same_for_any_workers_batches_and_restarts(photos):
    images = load(photos, random_resized_crop=0.3, random_flip=True, seed=4).train
    assert isinstance(images, DecodedImages) and images.image_shape == (3, 16, 16)
    images.set_epoch(3)
    expected = images.__getitems__(range(len(images)))
    again = load(photos, random_resized_crop=0.3, random_flip=True, seed=4).train
    again.set_epoch(3)
    batches = [[5, 2], [9, 0, 1], [3, 4, 6, 7, 8], list(range(10, len(images)))]
    for workers in (0, 2):
        served = torch.cat(list(DataLoader(again, batch_sampler=batches, num_workers=workers, collate_fn=lambda b: b)))
        assert torch.equal(served[torch.tensor(sum(batches, [])).argsort()], expected)
    again.set_epoch(4)
    assert not torch.equal(again.__getitems__(range(len(images))), expected)


def test_every_part_of_a_photograph_is_seen_and_its_proportions_stay(tmp_path):
    ramp(64, 128).save(tmp_path / "00.png")
    ramp(64, 128).save(tmp_path / "01.png")
    images = load(tmp_path, size=32, random_resized_crop=0.25).train
    lefts, spans = [], []
    for epoch in range(150):
        images.set_epoch(epoch)
        red, green = images[0][:2].float()
        across, along = (red[16, 30] - red[16, 1]) / 255 * 128, (green[30, 16] - green[1, 16]) / 255 * 64
        assert across == pytest.approx(float(along), abs=2.5)  # pixels of the original: a square stays one
        lefts.append(float(red[:, 0].mean()) / 255 * 128)
        spans.append(float(along) * 32 / 29)
    assert min(lefts) < 8 and max(lefts) > 80  # a window of 32 to 64 pixels, anywhere in 128
    assert 31 < min(spans) < 36 and 60 < max(spans) < 66


def test_evaluation_sees_the_centre_as_the_saved_processor_does(photos):
    splits = load(photos, random_resized_crop=0.3)
    saved = splits.eval.pixels[:1]
    processor = AutoencoderImageProcessorPil(
        num_channels=3, size={"shortest_edge": 16}, do_center_crop=True, crop_size={"height": 16, "width": 16}
    )
    all_of_them = torch.cat([processor.to_uint8(Image.open(path)) for path in sorted(photos.iterdir())])
    assert (all_of_them == saved).flatten(1).all(1).any()


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_large_jpeg_is_decoded_at_a_reduced_scale_and_looks_the_same(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    ramp(1200, 1600).save(buffer, "JPEG", quality=95, exif=exif)
    window = CropWindow(area=0.5, down=0.2, right=0.9, height=32, width=48)
    reduced = cut_window(Image.open(buffer), window)
    whole = Image.open(buffer)
    whole.draft = lambda mode, size: None
    whole = cut_window(whole, window)
    assert reduced.width < whole.width / 3 and reduced.width >= 2 * 48
    small = [np.asarray(image.resize((48, 32), Image.Resampling.BICUBIC), dtype=float) for image in (reduced, whole)]
    assert abs(small[0] - small[1]).mean() < 1.5


def test_windows_need_a_size_and_a_share(photos):
    with pytest.raises(ValueError, match=r"`random_resized_crop` is a share in \(0, 1\], got 1.5"):
        load(photos, random_resized_crop=1.5)
    assert Augmentation(random_resized_crop=0.5).for_evaluation().random_resized_crop is None


# -- broken files ------------------------------------------------------------------------------------------------------


@pytest.fixture
def broken(photos):
    for number in (3, 4, 11):
        path = photos / f"{number:02d}.jpg"
        path.write_bytes(path.read_bytes()[:300])
    return photos


@pytest.mark.parametrize("options", [{}, {"cache_limit_gib": 1e-9}, {"random_resized_crop": 0.5}])
def test_a_truncated_photograph_stops_unless_it_may_be_left_out(broken, options):
    with pytest.raises(DataError, match=r"Cannot decode row 3 of split 'train'.*03\.jpg"):
        splits = load(broken, eval_split="train", **options)
        splits.train.__getitems__(range(20))


def test_corrupt_pictures_are_named_and_counted(broken, caplog):
    splits = load(broken, eval_split="train", skip_corrupt=True)
    assert isinstance(splits.train, CachedImages)
    assert (len(splits.train), splits.train.skipped) == (17, 3) and "3 corrupt pictures" in "\n".join(splits.notes)
    assert all(f"{number:02d}.jpg" in caplog.text for number in (3, 4, 11))


@pytest.mark.parametrize("workers", [0, 2])
def test_the_next_picture_stands_in_for_a_corrupt_one(broken, workers):
    plain = {"cache_limit_gib": 1e-9, "eval_split": "train", "skip_corrupt": True}
    images = load(broken, **plain).train
    batches = [[0, 3, 11], [4, 5, 12]]
    served = torch.cat(list(DataLoader(images, batch_sampler=batches, num_workers=workers, collate_fn=lambda b: b)))
    good = images.__getitems__([0, 5, 12, 5, 5, 12])
    assert torch.equal(served, good) and images.skipped == 3


def test_a_stream_leaves_corrupt_pictures_out_too(broken):
    """With 3 channels: which pictures are looked at depends on their paths, and it may be the grey ones."""
    with pytest.raises(DataError, match=r"Cannot decode .*\d\d\.jpg"):
        list(zip(range(3), load(broken, channels=3, streaming=True).train.batches(8), strict=False))
    stream = load(broken, channels=3, streaming=True, skip_corrupt=True, max_eval_samples=2).train
    sizes = [len(batch["pixel_values"]) for batch, _ in zip(stream.batches(8, num_workers=2), range(4), strict=False)]
    assert sizes == [8] * 4 and stream.skipped >= 2


# -- ranges ------------------------------------------------------------------------------------------------------------


def array_set(folder, arrays, dtype, name="image"):
    folder.mkdir()
    shape = arrays[0].shape
    kind = datasets.Array2D(shape, dtype) if len(shape) == 2 else datasets.Array3D(shape, dtype)
    rows = datasets.Dataset.from_dict({name: list(arrays)}, features=datasets.Features({name: kind}))
    for split in ("train", "test"):
        rows.to_parquet(folder / f"{split}.parquet")
    return folder


LEVELS = np.arange(256).reshape(16, 16)


@pytest.mark.parametrize(
    ("dtype", "scale", "options"),
    [
        ("float32", 1 / 255, {}),
        ("float64", 1.0, {}),
        ("uint16", 257, {}),
        ("int64", 1, {}),
        ("float32", 2 / 255, {"pixel_range": (0, 2)}),
        ("int32", 16, {"pixel_range": [0, 4080]}),
        ("uint16", 1, {"pixel_range": (0, 255)}),
    ],
)
def test_the_range_of_an_array_column_is_found_or_given(tmp_path, dtype, scale, options):
    arrays = np.stack([LEVELS * scale, np.zeros_like(LEVELS)]).astype(dtype)  # the second alone would fit any range
    for reading in ({}, {"cache_limit_gib": 1e-9}):
        folder = tmp_path / str(len(reading))
        images = load(array_set(folder, arrays, dtype), size=None, **options, **reading).train
        assert images.__getitems__([0, 1])[0, 0].tolist() == LEVELS.tolist()


def test_minus_one_to_one_is_asked_for(tmp_path):
    folder = array_set(tmp_path / "set", np.stack([LEVELS / 127.5 - 1] * 2).astype(np.float32), "float32")
    with pytest.raises(DataError, match=r"holds float32 pixels from -1 to 1 .*`pixel_range` says .* such as -1 1"):
        load(folder, size=None)
    assert load(folder, size=None, pixel_range=[-1, 1]).train[0][0].tolist() == LEVELS.tolist()
    inverted = load(folder, size=None, pixel_range=[1, -1]).train[0][0]
    assert inverted.tolist() == (255 - LEVELS).tolist()


def test_a_value_outside_of_the_range_is_named_by_its_row(tmp_path):
    arrays = np.stack([LEVELS / 255] * 3000).astype(np.float32)
    arrays[1234, 3, 3] = 7.5  # between the rows that the range is found from, or among them
    folder = array_set(tmp_path / "set", arrays[1230:1240], "float32")
    with pytest.raises(DataError, match=r"row 4 of split 'train'.* holds values from 0 to 7.5, outside of 0\.\.1"):
        load(folder, size=None, pixel_range=[0, 1])
    arrays[1234, 3, 3] = np.nan
    with pytest.raises(DataError, match="row 4 of split 'train'.* nan"):
        load(array_set(tmp_path / "nan", arrays[1230:1240], "float32"), size=None)
    with pytest.raises(DataError, match="`pixel_range` 0 255 or 0 65535"):
        load(array_set(tmp_path / "dark", np.stack([LEVELS] * 2).astype(np.uint16), "uint16"), size=None)
    with pytest.raises(DataError, match="`pixel_range` is two numbers"):
        load(folder, size=None, pixel_range=[1, 1])


def test_a_range_that_was_asked_for_holds_for_what_has_one(tmp_path):
    folder = array_set(tmp_path / "masks", np.stack([LEVELS % 2] * 2).astype(np.uint8), "uint8")
    assert load(folder, size=None, pixel_range=(0, 1)).train[0][0].tolist() == (LEVELS % 2 * 255).tolist()
    for name in ("00.png", "01.png"):
        (tmp_path / "deep").mkdir(exist_ok=True)
        Image.fromarray((LEVELS * 16).astype(np.uint16)).save(tmp_path / "deep" / name)
    deep = load(tmp_path / "deep", size=None, pixel_range=(0, 4080), eval_split="train").train
    assert deep[0][0].tolist() == LEVELS.tolist()
    for name in ("00.png", "01.png"):
        ramp(8, 8).save(tmp_path / "deep" / name)
    with pytest.raises(DataError, match=r"has 8-bit levels \(mode RGB\): leave out `pixel_range`"):
        load(tmp_path / "deep", size=None, pixel_range=(0, 1), eval_split="train")


def test_arrays_are_cut_as_pictures_are():
    window = CropWindow(area=0.5, down=0.3, right=0.8, height=8, width=8)
    picture = np.asarray(ramp(40, 60))
    expected = np.asarray(cut_window(Image.fromarray(picture), window))
    assert np.array_equal(cut_array(picture, window), expected)
    assert np.array_equal(cut_array(picture.transpose(2, 0, 1), window), expected.transpose(2, 0, 1))
    assert np.array_equal(cut_array(picture[:, :, 0], window), expected[:, :, 0])


def test_a_stream_of_arrays_has_the_same_range(tmp_path):
    arrays = np.stack([LEVELS / 255 for _ in range(4)]).astype(np.float32)
    stream = load(array_set(tmp_path / "set", arrays, "float32"), size=None, streaming=True).train
    assert next(iter(stream))[0].tolist() == LEVELS.tolist()


# -- channels and sizes ------------------------------------------------------------------------------------------------


def test_a_grey_picture_at_the_start_does_not_make_the_set_grey(tmp_path):
    for number in range(20):
        picture = ramp(16, 16)
        (picture.convert("L") if number == 0 else picture).save(tmp_path / f"{number:02d}.png")
    splits = load(tmp_path, size=None)
    assert splits.train.image_shape == (3, 16, 16)
    assert any("are grey, others are not: all get 3 channels" in note for note in splits.notes)
    assert load(tmp_path, size=None, channels=1).train.image_shape == (1, 16, 16)


def test_a_coloured_picture_in_a_grey_set_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("hf_autoencoders.training.data.LOOKED_AT", 2)
    for number in range(9):
        picture = ramp(16, 16)
        (picture if number == 5 else picture.convert("L")).save(tmp_path / f"{number:02d}.png")
    with pytest.raises(DataError, match=r"row 5 of split 'train'.*--num_channels 3 keeps colours, 1 drops them"):
        load(tmp_path, size=None, eval_split="train")


def test_a_size_that_is_no_square_is_cropped_not_stretched(photos):
    red, green = load(photos, size=[16, 32], eval_split="train").train[2][:2].float()  # of a picture of 300 x 400
    across, along = (red[8, 30] - red[8, 1]) / 255 * 400 / 29, (green[14, 16] - green[1, 16]) / 255 * 300 / 13
    assert across == pytest.approx(400 / 32, rel=0.05) and along == pytest.approx(400 / 32, rel=0.1)


def test_a_held_out_split_of_another_size_is_refused_before_anything_is_trained(tmp_path):
    for split, size in (("train", 16), ("test", 24)):
        (tmp_path / split).mkdir()
        for number in range(2):
            ramp(size, size).save(tmp_path / split / f"{number}.png")
    with pytest.raises(DataError, match=r"'train' are 3x16x16, those of 'test' 3x24x24 .*: --image_size"):
        load(tmp_path, size=None)
    with pytest.raises(DataError, match=r"'train' are 3x16x16"):
        load(tmp_path, size=None, streaming=True)


def test_pictures_of_mixed_sizes_say_which_flag_helps(photos):
    with pytest.raises(DataError, match=r"those before it .*: --image_size brings all to one size"):
        load(photos, size=None)
    batch = collate(load(photos, size=16).train.__getitems__([0, 1, 2, 3]))
    assert batch["pixel_values"].shape == (4, 3, 16, 16)


def test_a_malformed_exif_tag_costs_no_picture(tmp_path):
    tags = (
        b"Exif\0\0II*\0\x08\0\0\0\x02\0"
        + b"\x12\x01\x03\0\x01\0\0\0\x03\0\0\0"
        + b"\0\x01\x07\0\x04\0\0\0junk"
        + bytes(4)
    )
    for name, exif in (("00.jpg", tags), ("01.jpg", b"")):
        ramp(16, 16).save(tmp_path / name, quality=95, exif=exif)
    images = load(tmp_path, size=None, eval_split="train").train
    assert torch.equal(images[0], images[1].flip(-1).flip(-2))
