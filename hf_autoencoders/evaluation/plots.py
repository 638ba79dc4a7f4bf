# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Plots of a trained model in one style: numbers and pixels -> a matplotlib Figure.

Pixels are (N, C, H, W) in [-1, 1]. The numbers are computed in `latent_space`, `codes` and `likelihood`. The colours of
Okabe & Ito can be told apart by colour-blind people; classes also differ by marker and are labelled.
"""

import io
import math
from collections.abc import Callable, Sequence
from functools import wraps

import numpy as np
import torch
from matplotlib import patheffects, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from torch import Tensor

from .codes import RelaxationGap
from .latent_space import Gaps, Plane, PlaneWindow
from .likelihood import ACTIVE_VARIANCE, LatentUse


BLUE, ORANGE, GREEN, PINK = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
SKY, AMBER, BLACK, GREY = "#56B4E9", "#E69F00", "#000000", "#999999"
OLIVE, PURPLE = "#B8A800", "#5D3A9B"  # Okabe & Ito's yellow, darker for a white page; a tenth colour
CLASS_COLOURS = (BLUE, ORANGE, GREEN, PINK, AMBER, SKY, BLACK, OLIVE, GREY, PURPLE)
MARKERS = ("o", "s", "^", "D", "v")
STYLE = {
    "figure.dpi": 110,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "image.cmap": "gray",
    "image.interpolation": "nearest",
}
SCATTERED = 10_000  # a scatter plot shows at most so many points
AXES_TO_DRAG = (0.17, 0.11, 0.81, 0.87)  # left, bottom, width, height: shares of the figure


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Decorator: draws in our style, and leaves the user's settings of matplotlib unchanged."""

    @wraps(draw)
    def in_style(*args, **kwargs) -> Figure:
        with rc_context(STYLE):
            return draw(*args, **kwargs)

    return in_style


def to_png(figure: Figure | Image.Image) -> bytes:
    """The figure, or the image pixel by pixel, as a PNG file."""
    save = figure.save if isinstance(figure, Image.Image) else figure.savefig
    with rc_context(STYLE), io.BytesIO() as file:
        save(file, format="png")
        return file.getvalue()


# -- pixels ------------------------------------------------------------------------------------------------------------


def to_picture(pixels: Tensor) -> np.ndarray:
    """(C, H, W) in [-1, 1] -> an array for imshow in [0, 1]: (H, W) for one channel, (H, W, 3) for more."""
    unit = ((pixels.float().clamp(-1, 1) + 1) / 2).cpu()
    return unit[0].numpy() if len(unit) in (1, 2) else unit[:3].permute(1, 2, 0).numpy()


def mosaic(pixels: Tensor, columns: int, gap: int = 1) -> np.ndarray:
    """(N, C, H, W) -> one picture, row by row, with `gap` white pixels between them; the last row may be incomplete."""
    pictures = [to_picture(picture) for picture in pixels]
    height, width = pictures[0].shape[:2]
    rows = math.ceil(len(pictures) / columns)
    canvas = np.ones((rows * (height + gap) - gap, columns * (width + gap) - gap, *pictures[0].shape[2:]))
    for number, picture in enumerate(pictures):
        top, left = number // columns * (height + gap), number % columns * (width + gap)
        canvas[top : top + height, left : left + width] = picture
    return canvas


def show(axes: Axes, picture: np.ndarray, **kwargs) -> None:
    """Shows an image without ticks or frame."""
    axes.imshow(picture, vmin=0, vmax=1, **kwargs)
    axes.set_axis_off()


def figure_for(picture: np.ndarray, width: float = 8.0, extra: float = 0.5) -> tuple[Figure, Axes]:
    """A figure of the given width (inches), as high as the picture needs, plus `extra` for its title."""
    height = width * picture.shape[0] / picture.shape[1]
    figure = Figure(figsize=(width, height + extra))
    return figure, figure.subplots()


@styled
def picture_grid(pixels: Tensor, columns: int, title: str) -> Figure:
    """Pictures (N, C, H, W) side by side."""
    picture = mosaic(pixels, columns)
    figure, axes = figure_for(picture)
    show(axes, picture)
    axes.set_title(title)
    return figure


@styled
def reconstructions(rows: Sequence[tuple[str, Tensor, Tensor, Tensor]]) -> Figure:
    """Originals above reconstructions for each of `rows` (title, originals, reconstructions (n, C, H, W), errors (n,)).

    The error is printed below each pair.
    """
    pictures = [mosaic(torch.cat([originals, decoded]), len(errors)) for _, originals, decoded, errors in rows]
    figure = Figure(figsize=(8.5, sum(8.5 * p.shape[0] / p.shape[1] + 0.55 for p in pictures)))
    for axes, picture, (title, _, _, errors) in zip(
        figure.subplots(len(rows), squeeze=False).flat, pictures, rows, strict=True
    ):
        show_ticked(axes, picture, [f"{error:.3g}" for error in errors.tolist()])
        axes.set_title(title)
    return figure


def show_ticked(axes: Axes, picture: np.ndarray, names: Sequence[str]) -> None:
    """Shows a mosaic with a label below each of its columns."""
    axes.imshow(picture, vmin=0, vmax=1, aspect="equal")
    axes.grid(False)
    axes.spines[["left", "bottom"]].set_visible(False)
    width = picture.shape[1] / len(names)
    axes.set_xticks([(number + 0.5) * width for number in range(len(names))], names)
    axes.set_yticks([])
    axes.tick_params(length=0)


@styled
def strips(left: Tensor, paths: Tensor, right: Tensor, title: str) -> Figure:
    """Each row leads from one picture to another: (R, C, H, W), (R, steps, C, H, W), (R, C, H, W)."""
    steps = paths.shape[1]
    whole = torch.cat([left[:, None], paths, right[:, None]], 1)
    picture = mosaic(whole.flatten(0, 1), steps + 2)
    figure, axes = figure_for(picture, width=8.5, extra=0.8)
    names = ["original", *(f"{share:.2g}" for share in np.linspace(0, 1, steps)), "original"]
    show_ticked(axes, picture, names)
    axes.set_title(title)
    axes.set_xlabel("share of the way from the left to the right latents")
    return figure


# -- the latent plane --------------------------------------------------------------------------------------------------


def label_plane(axes: Axes, plane: Plane) -> None:
    x, y = plane.axis_labels()
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def set_window(axes: Axes, window: PlaneWindow, margin: float = 0.0) -> None:
    width, height = window.right - window.left, window.top - window.bottom
    axes.set_xlim(window.left - margin * width, window.right + margin * width)
    axes.set_ylim(window.bottom - margin * height, window.top + margin * height)


@styled
def latent_plane(
    points: Tensor, labels: Tensor | None, names: Sequence[str] | None, plane: Plane, window: PlaneWindow, title: str
) -> Figure:
    """Codes (N, 2), coloured by class; a class's name is printed at its median."""
    figure = Figure(figsize=(7.5, 6.5))
    axes = figure.subplots()
    points = points[:SCATTERED].numpy()
    if labels is None:
        axes.scatter(*points.T, s=4, color=BLUE, alpha=0.35, linewidths=0)
    else:
        scatter_classes(axes, points, labels[:SCATTERED].numpy(), names)
    set_window(axes, window, margin=0.1)
    label_plane(axes, plane)
    axes.set_title(title)
    return figure


@styled
def plane_to_drag(
    points: Tensor, labels: Tensor | None, names: Sequence[str] | None, plane: Plane, window: PlaneWindow
) -> Figure:
    """Codes (N, 2) by class on a square figure with its axes at `AXES_TO_DRAG`, so that a page can map its points."""
    figure = Figure(figsize=(5, 5), layout="none")
    axes = figure.add_axes(AXES_TO_DRAG)
    if labels is None:
        axes.scatter(*points.numpy().T, s=6, color=BLUE, alpha=0.4, linewidths=0)
    else:
        scatter_classes(axes, points.numpy(), labels.numpy(), names, legend=False)
    set_window(axes, window)
    label_plane(axes, plane)
    return figure


def scatter_classes(
    axes: Axes, points: np.ndarray, labels: np.ndarray, names: Sequence[str] | None, legend: bool = True
) -> None:
    classes = np.unique(labels)
    for number, label in enumerate(classes):
        own, name = points[labels == label], str(label) if names is None else str(names[label])
        look = {"color": CLASS_COLOURS[number % 10], "marker": MARKERS[(number + number // 10) % len(MARKERS)]}
        axes.scatter(*own.T, s=9, alpha=0.5, linewidths=0, label=name, **look)
    if legend:
        handles = axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), markerscale=2, fontsize=9).legend_handles
        for handle in handles:
            handle.set_alpha(1)
    medians = np.stack([np.median(points[labels == label], axis=0) for label in classes])
    for label, (x, y) in zip(classes, pushed_apart(medians), strict=True):
        name = str(label) if names is None else str(names[label])
        outline = [patheffects.withStroke(linewidth=3, foreground="white")]
        axes.text(x, y, name, size=14, weight="bold", ha="center", va="center", path_effects=outline)


def pushed_apart(places: np.ndarray, share: float = 0.08) -> np.ndarray:
    """Moves (n, 2) until no two are closer than a share of their spread, so that labels can be read."""
    scale = np.ptp(places, axis=0).clip(min=1e-9)
    places = places / scale
    for _ in range(100):
        apart = places[:, None] - places[None]
        distance = np.linalg.norm(apart, axis=2) + 1e-9
        push = np.where((distance < share)[..., None], apart / distance[..., None] * (share - distance)[..., None], 0)
        if not push.any():
            break
        places = places + 0.5 * push.sum(1)
    return places * scale


@styled
def manifold(pixels: Tensor, plane: Plane, window: PlaneWindow, title: str) -> Figure:
    """Decodings of a square grid over the window, (side * side, C, H, W), at their places in the plane."""
    side = math.isqrt(len(pixels))
    figure = Figure(figsize=(7.5, 7.5))
    axes = figure.subplots()
    extent = (window.left, window.right, window.bottom, window.top)
    axes.imshow(mosaic(pixels, side, gap=0), vmin=0, vmax=1, extent=extent, aspect="auto")
    axes.grid(False)
    label_plane(axes, plane)
    axes.set_title(title)
    return figure


@styled
def gaps(models: Sequence[tuple[str, Plane, Tensor, Tensor, Gaps]], examples: int = 40) -> Figure:
    """For each of (name, plane, training codes (N, 2), their classes, gaps): its gaps and their decodings.

    Circles are gap points with a plausible decoding; crosses are the others.
    """
    figure = Figure(figsize=(5.6 * len(models), 8.4))
    grid = figure.subplots(2, len(models), squeeze=False, height_ratios=(5, 2.2), gridspec_kw={"hspace": 0.08})
    for column, (name, plane, codes, labels, found) in enumerate(models):
        scatter_gaps(grid[0, column], name, plane, codes, labels, found)
        bottom = grid[1, column]
        bottom.set_axis_off()
        if len(found.pixels):
            show(bottom, mosaic(found.pixels[:examples], 10))
            bottom.set_title(f"what gap points of the {name} decode to", size=10)
    return figure


def scatter_gaps(axes: Axes, name: str, plane: Plane, codes: Tensor, labels: Tensor, found: Gaps) -> None:
    scatter_classes(axes, codes[:SCATTERED].numpy(), labels[:SCATTERED].numpy(), None, legend=False)
    some = slice(0, 600)  # crosses would cover each other
    points, plausible = found.points[some].numpy(), found.plausible[some].numpy()
    for chosen, marker, colour, label in (
        (~plausible, "x", BLACK, "gap, nothing like a digit"),
        (plausible, "o", "none", "gap, plausible"),
    ):
        edge = {} if marker == "x" else {"edgecolors": BLACK}
        axes.scatter(
            *points[chosen].T, s=18, marker=marker, color=colour, linewidths=0.8, label=label, zorder=3, **edge
        )
    set_window(axes, found.window)
    label_plane(axes, plane)
    taken = "no gap" if found.plausible_share is None else f"{found.plausible_share:.0%} of them plausible"
    axes.set_title(f"{name}: gaps are {found.share:.1%} of the codes' hull,\n{taken}", size=10)
    handles, names = axes.get_legend_handles_labels()
    axes.legend(
        handles[-2:], names[-2:], loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2, fontsize=8, markerscale=1.5
    )


# -- curves and bars ---------------------------------------------------------------------------------------------------


@styled
def unit_kl(use: LatentUse, title: str) -> Figure:
    """KL of each latent unit, largest first; bars of active units are filled."""
    order = use.kl.flatten().argsort(descending=True)
    kl, active = use.kl.flatten()[order].numpy(), (use.variance.flatten()[order] > ACTIVE_VARIANCE).numpy()
    figure = Figure(figsize=(8, 3.8))
    axes = figure.subplots()
    rank = np.arange(1, len(kl) + 1)
    axes.bar(rank[active], kl[active], color=BLUE, label=f"active, Var$_x$(E$_q$[z]) > {ACTIVE_VARIANCE}")
    if not active.all():
        axes.bar(rank[~active], kl[~active], color="white", edgecolor=ORANGE, hatch="///", label="inactive")
    axes.set_xlim(0.3, max(4, len(kl)) + 0.7)
    axes.set_xlabel("latent unit, by its KL")
    axes.set_ylabel("KL to the prior [nats per image]")
    axes.locator_params(axis="x", integer=True)
    axes.set_title(title)
    axes.legend()
    return figure


@styled
def code_usage(counts: Tensor, title: str) -> Figure:
    """Share of each code, most frequent first, with a line for each level of (levels, K), and a line for equal use."""
    figure = Figure(figsize=(8, 3.8))
    axes = figure.subplots()
    for number, level in enumerate(counts):
        shares = (level / level.sum()).sort(descending=True).values.numpy()
        used = shares[shares > 0]
        name = "codes" if len(counts) == 1 else f"codes of level {number}"
        colour = CLASS_COLOURS[number % 10]
        axes.step(np.arange(1, len(used) + 1), used, where="mid", color=colour, label=f"{name} ({len(used)} used)")
        if len(counts) == 1:
            axes.fill_between(np.arange(1, len(used) + 1), used, step="mid", color=colour, alpha=0.2)
    size = counts.shape[1]
    axes.axhline(1 / size, color=ORANGE, linestyle="--", label=f"equal use, 1/{size}")
    axes.set_yscale("log")
    axes.set_xlim(0.5, size + 0.5)
    axes.set_xlabel("code, by frequency")
    axes.set_ylabel("share of all positions")
    axes.set_title(title)
    axes.legend()
    return figure


@styled
def draw_code_atlas(patches: Tensor, counts: Tensor, title: str, limit: int = 256) -> Figure:
    """What each code decodes to, (K, C, s, s) in [-1, 1], ordered by `counts` (K,); a frame marks the code's cell."""
    total = int((counts > 0).sum())
    used = counts.argsort(descending=True)[: min(limit, total)]
    if total > limit:
        title += f" (the {limit} most frequent of {total} used)"
    columns = min(16, len(used))
    rows = math.ceil(len(used) / columns)
    figure = Figure(figsize=(8, 8 / columns * rows * 1.25 + 0.6))
    for axes in (grid := figure.subplots(rows, columns, squeeze=False)).flat:
        axes.set_axis_off()
    size = patches.shape[-1]
    for axes, code in zip(grid.flat, used.tolist(), strict=False):
        show(axes, to_picture(patches[code]))
        axes.add_patch(_frame(size))
        axes.set_title(str(code), size=6, pad=1.5, loc="center")
    figure.suptitle(title, x=0.01, ha="left", size=11)
    return figure


def _frame(size: int) -> Rectangle:
    third = size / 3
    return Rectangle((third - 0.5, third - 0.5), third, third, fill=False, edgecolor=AMBER, linewidth=0.8)


@styled
def quantization_error(quantized: Tensor, unquantized: Tensor, title: str) -> Figure:
    """Histograms of the squared error per image with the nearest codes, and without the quantizer."""
    figure = Figure(figsize=(8, 3.8))
    axes = figure.subplots()
    edges = np.linspace(0, np.quantile(np.concatenate([quantized, unquantized]), 0.995), 60)
    for errors, colour, style, name in (
        (unquantized, BLUE, "--", "encoder's own latents"),
        (quantized, ORANGE, "-", "nearest codes"),
    ):
        label = f"{name}: mean {errors.mean():.3g}"
        axes.hist(errors.numpy(), edges, histtype="step", color=colour, linestyle=style, linewidth=1.8, label=label)
    axes.set_xlabel("squared error per image on [0, 1] pixels, summed over pixels and channels")
    axes.set_ylabel("images")
    axes.set_title(title)
    axes.legend()
    return figure


@styled
def relaxation(found: RelaxationGap, title: str) -> Figure:
    """ELBO of relaxed and of one-hot codes over the temperature."""
    figure = Figure(figsize=(8, 3.8))
    axes = figure.subplots()
    axes.plot(found.temperatures, found.relaxed, "o-", color=BLUE, label="relaxed codes")
    axes.plot(found.temperatures, found.hard, "s--", color=ORANGE, label="one-hot codes, as a generator uses them")
    axes.fill_between(found.temperatures, found.hard, found.relaxed, color=GREY, alpha=0.2, label="gap")
    axes.set_xscale("log", base=2)
    axes.set_xticks(found.temperatures, [f"{temperature:g}" for temperature in found.temperatures])
    axes.invert_xaxis()
    axes.set_xlabel("temperature of the Gumbel-softmax (annealing goes to the right)")
    axes.set_ylabel("ELBO [nats per image]")
    axes.set_title(title)
    axes.legend()
    return figure


UNITS_OF_CURVES = {
    "loss": "training objective",
    "negative_log_likelihood": "nats per image",
    "kl": "nats per image",
    "perplexity": "codes",
    "window_perplexity": "codes",
    "commitment_loss": "mean over elements",
    "learning_rate": "step size",
}


@styled
def training_curves(records: Sequence[dict[str, float]], names: Sequence[str], title: str) -> Figure:
    """One panel for each of `names` over the optimizer step: training as a line, evaluation as points."""
    columns = min(2, len(names))
    rows = math.ceil(len(names) / columns)
    figure = Figure(figsize=(4.4 * columns, 2.6 * rows + 0.4))
    grid = figure.subplots(rows, columns, squeeze=False).flat
    for name, axes in zip(names, grid, strict=False):  # `names` ends first, so `grid` still has the empty panels
        for key, style, colour, label in ((name, "-", BLUE, "training"), (f"eval_{name}", "s", ORANGE, "held out")):
            points = [(r["step"], r[key]) for r in records if isinstance(r.get(key), int | float)]
            if points:
                axes.plot(*zip(*points, strict=True), style, color=colour, label=label, markersize=5)
        axes.set_title(name.replace("_", " "), size=10)
        axes.set_xlabel("optimizer step")
        axes.set_ylabel(UNITS_OF_CURVES.get(name, ""))
        axes.legend(fontsize=8)
    for axes in grid:
        axes.set_axis_off()
    figure.suptitle(title, x=0.01, ha="left", size=11)
    return figure
