# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The page of a report on photographs: what no number says, pixel by pixel, and the metrics of a named net."""

import torch
from PIL import Image
from torch import Tensor

from ..perception.feature_nets import FeatureNet
from .jpeg import jpeg_of_batch
from .photo_metrics import PhotoMetrics, measure_photographs
from .photo_plots import FULL_SCALE, as_images, difference_maps, sheet_of_columns, where_errors_are, window_of_worst
from .protocol import protocol_line
from .report_parts import Knobs, Page, Picture
from .subject import Subject


PHOTOGRAPH_SIDE = 48  # of pictures that are shown at 1:1; smaller ones are enlarged on the page of reconstructions
SHEET_ROWS = 6  # of a sheet
MOST_SIDE = 256  # of a picture on a sheet; of a larger one its middle is shown
CROP, ENLARGED = 48, 4  # pixels of a side, and of each pixel


def photographs_page(subject: Subject, knobs: Knobs) -> Page | None:
    """For pictures of at least PHOTOGRAPH_SIDE pixels, and whenever a net is given."""
    small = min(subject.pixels.shape[2:]) < PHOTOGRAPH_SIDE
    if knobs.feature_net is None and small:
        return None
    page, badness, unit = Page("Photographs"), subject.errors, "squared error"
    if knobs.feature_net is None:
        page.notes.append(
            "Perceptual and Frechet distances need --feature_model (efficientnet-lite1, or a model of transformers)."
        )
    else:
        found = photo_metrics_of(subject, knobs.feature_net, knobs.feature_size)
        badness, unit = found.distances[: len(subject.pixels)], "perceptual distance"
        page.metrics, page.columns, page.protocol = found.metrics, found.columns, found.protocol
        page.notes += [*found.notes, protocol_line(found.protocol)]
    if not small:
        page.pictures = pictures_of_photographs(subject, badness, unit)
    return page


def photo_metrics_of(subject: Subject, net: FeatureNet, size: int | None = None) -> PhotoMetrics:
    """`measure_photographs` of the held-out pictures."""
    return measure_photographs(
        subject.reconstructed(), subject.held_out, net.to(subject.model.device), size=size, reading=subject.reading,
        dtype=str(subject.model.dtype).removeprefix("torch."), seed=subject.seed,
    )  # fmt: skip


def pictures_of_photographs(subject: Subject, badness: Tensor, unit: str) -> list[Picture]:
    """Sheets at 1:1, crops of the worst, where errors are. `badness`: of each of `subject.pixels`, in this unit."""
    order = badness.argsort()
    rows = min(SHEET_ROWS, len(order))
    spread = order[torch.linspace(0, len(order) - 1, rows).round().long()]
    worst = order[-rows:].flip(0)
    beside = " JPEG: at the bits of the codes." if subject.code_bits is not None else ""
    scale = f"Difference: black 0, bright yellow {FULL_SCALE:g} of [0, 1] and more."
    return [
        Picture(
            "photographs",
            side_by_side(subject, spread, badness, unit, MOST_SIDE),
            f"One pixel of the file is one pixel here. Held-out pictures from best to worst by {unit}.{beside} {scale}",
        ),
        Picture(
            "worst_crops",
            side_by_side(subject, worst, badness, unit, CROP, ENLARGED),
            f"The windows of {CROP}x{CROP} pixels with the largest squared error, of the worst pictures by {unit}; "
            f"each pixel is {ENLARGED}x{ENLARGED} here.",
        ),
        Picture(
            "error_map",
            where_errors_are(subject.reconstructions, subject.pixels, f"{subject.name}: where errors are"),
            f"Over {len(subject.pixels):,} held-out pictures. A regular pattern is a grid that the decoder paints; one "
            "colour all over on the right, a shift of brightness; means of unlike sign, a shift of colour; "
            "bright borders, padding.",
        ),
    ]


def side_by_side(
    subject: Subject, numbers: Tensor, badness: Tensor, unit: str, side: int, scale: int = 1
) -> Image.Image:
    """Picture, reconstruction, JPEG at equal bits where there is one, and difference, of windows of at most `side`.

    Windows are the middle of a picture, or, where pixels are enlarged, the one with the largest error.
    """
    pixels, decoded = subject.pixels[numbers], subject.reconstructions[numbers]
    sets = {"picture": pixels, "reconstruction": decoded}
    if subject.code_bits is not None and pixels.shape[1] in (1, 3):
        sets["JPEG"], _ = jpeg_of_batch(pixels, subject.code_bits)
    windows = [
        middle(picture, side) if scale == 1 else window_of_worst(made, picture, side)
        for picture, made in zip(pixels, decoded, strict=True)
    ]
    cut = {
        name: torch.stack([one[:, rows, columns] for one, (rows, columns) in zip(shown, windows, strict=True)])
        for name, shown in sets.items()
    }
    images = {name: as_images(part) for name, part in cut.items()}
    images["difference"] = difference_maps(cut["reconstruction"], cut["picture"])
    captions = [f"number {number}, {unit} {badness[number]:.4g}" for number in numbers.tolist()]
    return sheet_of_columns(images, captions, scale)


def middle(picture: Tensor, side: int) -> tuple[slice, slice]:
    """Rows and columns of the middle of (C, H, W), at most `side` of each."""
    height, width = (min(side, whole) for whole in picture.shape[1:])
    top, left = (picture.shape[1] - height) // 2, (picture.shape[2] - width) // 2
    return slice(top, top + height), slice(left, left + width)
