# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The report of a trained model: a folder with PNG files, metrics.json, and index.html, which holds everything.

Each page of the report is a function of a `Subject`. A page that does not fit the model is left out; where a user might
expect it, the report says why.

    write_report(Subject("my VAE", model, images.train, images.eval), "report")
"""

import inspect
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..perception.digits_classifier import load_digits_classifier
from . import plots
from .codes import code_atlas, errors_around_quantizer, relaxation_gap
from .encoded_once import encoded_once
from .features import measure_samples
from .gaps import Judges, gap_metrics, gaps_of
from .likelihood import description_length, measure_latent_use, measure_likelihood
from .metrics import code_metrics, count_codes, evaluate
from .photo_page import photographs_page
from .photo_plots import code_map
from .report_html import build_html
from .report_parts import Knobs, Page, Picture
from .subject import Subject


logger = logging.getLogger(__name__)

ERROR_UNIT = "squared error per image on [0, 1] pixels"
ON_LIKELIHOOD_PAGE = ("elbo", "bits_per_dim_continuous", "bits_per_dim_discrete")  # shown there with the data setting
SAMPLES = 64  # that are shown
RELAXATION_IMAGES = 1000  # images on which the relaxation gap is measured
CURVES = ("loss", "negative_log_likelihood", "kl", "window_perplexity", "commitment_loss", "learning_rate")


# -- pages -------------------------------------------------------------------------------------------------------------


def reconstruction_page(subject: Subject, knobs: Knobs) -> Page:
    pixels = ({"pixel_values": batch} for batch in subject.batches())
    metrics = evaluate(subject.model, pixels, data_variance=subject.train.data_variance, seed=subject.seed)
    metrics = {name: value for name, value in metrics.items() if name not in ON_LIKELIHOOD_PAGE}
    order, shown = subject.errors.argsort(), min(10, len(subject.errors))
    spread = torch.linspace(0, len(order) - 1, shown).round().long()
    rows = []
    for title, chosen in (("best", order[:shown]), ("from best to worst", order[spread]), ("worst", order[-shown:])):
        rows.append((title, subject.pixels[chosen], subject.reconstructions[chosen], subject.errors[chosen]))
    picture = Picture(
        "reconstructions",
        plots.reconstructions(rows),
        f"The {shown} best and worst of {len(order):,} held-out pictures, and {shown} evenly from all of them by rank; "
        f"originals above reconstructions, below them the {ERROR_UNIT}.",
    )
    return Page("Reconstruction", [picture], metrics)


def likelihood_page(subject: Subject, knobs: Knobs) -> Page:
    report = measure_likelihood(
        subject.model, subject.batches, subject.setting, knobs.num_importance_samples, seed=subject.seed
    )
    metrics = {f"likelihood_{name}": value for name, value in report.to_dict().items()}
    page = Page("Likelihood", metrics=metrics, notes=report.lines())
    if knobs.num_importance_samples and report.importance_bound is None:
        page.notes.append("no importance weighted bound: this model has no posterior with a density to draw from")
    if knobs.code_nats is not None:
        add_learned_prior(page, subject, knobs.code_nats)
    if subject.gives_posterior:
        use = measure_latent_use(subject.model, subject.batches())
        title = f"{use.active} of {use.units} latent units are active, KL {use.kl.sum():.2f} nats per image"
        page.pictures.append(Picture("unit_kl", plots.unit_kl(use, title), "How many nats each latent unit carries."))
    return page


def add_learned_prior(page: Page, subject: Subject, code_nats: Callable[[Tensor], Tensor]) -> None:
    """Adds the likelihood of the most likely codes under a learned prior, in place of the uniform prior."""
    if not subject.has_codes:
        raise ValueError(f"{subject.name} has no codes: a learned prior needs image tokens.")
    learned = description_length(subject.model, subject.batches(), subject.setting, code_nats, subject.seed)
    metrics = learned.to_dict()
    for name in ("reconstruction", "rate", "bound", "bits_per_dim"):
        if name in metrics:
            page.metrics[f"likelihood_learned_prior_{name}"] = metrics[name]
    page.notes += [f"with the learned prior: {line}" for line in learned.lines()[1:]]


def plane_page(subject: Subject, knobs: Knobs) -> Page:
    plane, window = subject.plane, subject.window
    shares = plane.variance_share
    what = "The latent plane" if plane.whole else "First two principal components of the latents"
    metrics = {} if plane.whole else {"plane_variance_share_1": shares[0], "plane_variance_share_2": shares[1]}
    title = f"{subject.name}: {what[0].lower()}{what[1:]}, {len(subject.points):,} held-out pictures"
    codes = plots.latent_plane(subject.points, subject.labels, subject.held_out.names, plane, window, title)
    side = 20
    decoded = subject.decode(plane.latents(window.grid(side)))
    manifold = plots.manifold(decoded, plane, window, f"{subject.name}: what the points of the plane decode to")
    elsewhere = "" if plane.whole else " The other components are at their mean."
    caption = f"The plane without its margins: each of {side}x{side} points, decoded.{elsewhere}"
    return Page(
        "Latent plane",
        [
            Picture("latent_plane", codes, f"{what}; a class's name is printed at its median."),
            Picture("manifold", manifold, caption),
        ],
        metrics,
    )


def interpolation_page(subject: Subject, knobs: Knobs) -> Page | None:
    pairs = pairs_of_classes(subject.labels, len(subject.pixels), 6)
    if not pairs:
        return None
    a, b = (subject.pixels[[pair[end] for pair in pairs]].to(subject.model.device) for end in (0, 1))
    paths = subject.model.interpolate(a, b, 11).cpu()  # (R, steps, C, H, W)
    figure = plots.strips(a.cpu(), paths, b.cpu(), f"{subject.name}: paths through the latent space")
    return Page(
        "Interpolation", [Picture("interpolation", figure, "Each row leads from one held-out picture to another.")]
    )


def pairs_of_classes(labels: Tensor | None, number: int, pairs: int) -> list[tuple[int, int]]:
    """Row numbers of pictures next to each other in the set, of different classes where there are classes."""
    found = []
    for left in range(0, number - 1, 2):
        if labels is None or labels[left] != labels[left + 1]:
            found.append((left, left + 1))
        if len(found) == pairs:
            break
    return found


def samples_page(subject: Subject, knobs: Knobs) -> Page:
    page = Page("Samples from the model's own prior")
    try:
        shown = subject.sample(SAMPLES)
    except ValueError as reason:
        page.notes.append(str(reason))
        return page
    figure = plots.picture_grid(shown, 16, f"{subject.name}: {SAMPLES} samples, none left out")
    page.pictures.append(
        Picture("samples", figure, "Drawn from the prior: N(0, I), a fitted Gaussian or uniform codes.")
    )
    if subject.has_codes:
        page.notes.append("Uniform codes do not look like pictures: train a prior on the codes to draw samples.")
    return page


def fidelity_page(subject: Subject, knobs: Knobs) -> Page | None:
    """FD-CNN, coverage and class accuracy of reconstructions and samples, if the classifier knows the classes."""
    if not subject.shows_digits:
        return None
    number = min(knobs.num_samples, len(subject.pixels), len(subject.train))
    real = torch.cat([batch.cpu() for batch in subject.batches(subject.train, number)])
    sets = {"reconstructions": (subject.reconstructions[:number], subject.labels[:number])}
    page = Page("Fidelity")
    try:
        sets["samples"] = (subject.sample(number), None)
    except ValueError as reason:
        page.notes.append(f"No samples: {reason}")
    for name, (pixels, labels) in sets.items():
        metrics = measure_samples(
            pixels,
            subject.pixels,
            real,
            load_digits_classifier(),
            judge=knobs.judge,
            labels=labels,
            real_labels=None if labels is None else subject.train.labels[:number],
        )
        page.metrics |= {f"{name}_{metric}": value for metric, value in metrics.items()}
    page.notes.append(
        f"FD-CNN: Frechet distance in the features of the package's digit classifier (no FID), of {number:,} pictures "
        f"against {len(subject.pixels):,} held-out ones; 'of real data': the same of {number:,} training pictures."
    )
    if knobs.judge is None:
        page.notes.append("Class accuracy and acceptance need --judge, a classifier of another seed.")
    return page


def gaps_page(subject: Subject, knobs: Knobs) -> Page | None:
    """What a model decodes from places between its codes and from new draws: the question of the article."""
    shown = [one for one in (subject, knobs.beside) if one is not None and not one.has_codes and one.shows_digits]
    if not shown:
        return None
    page, models = Page("Gaps"), []
    for one in shown:
        judges = Judges(knobs.classifier, load_digits_classifier(), one.pixels)
        found = gaps_of(one, judges)
        page.metrics |= gap_metrics(one, found, judges)
        models.append((one.name, one.plane, one.train_points, one.train.labels, found))
    page.pictures.append(
        Picture(
            "gaps",
            plots.gaps(models),
            "Codes by digit, and points between them: inside the hull of the training codes and farther from each than "
            "99 % of the held-out codes are. Plausible: as near to a real picture as real ones are to each other, in "
            "the classifier's features (precision, k = 5).",
        )
    )
    if knobs.judge is None:
        page.notes.append("'accepted' is the package's own feature net's word; --judge takes another classifier.")
    return page


def codes_page(subject: Subject, knobs: Knobs) -> Page | None:
    if not subject.has_codes:
        return None
    tokens, size = subject.image_tokens, subject.model.codebook_size
    counts = count_codes(tokens, size)
    metrics = code_metrics(counts)
    used, total, perplexity = (metrics[name] for name in ("codes_used", "codes_total", "perplexity"))
    title = f"{subject.name}: {used:.0f} of {total:.0f} codes used, perplexity {perplexity:.1f}"
    first = tokens if tokens.dim() == 3 else tokens[..., 0]
    patches = code_atlas(first, subject.reconstructions, size)
    level = "" if tokens.dim() == 3 else " of the first level"
    return Page(
        "Codebook",
        [
            Picture("code_usage", plots.code_usage(counts, title), f"Over {len(tokens):,} held-out pictures."),
            Picture(
                "code_atlas",
                plots.draw_code_atlas(patches, counts[0], f"{subject.name}: what each code{level} decodes to"),
                "The mean of the decoded pixels around all positions of a code (its number is above), most frequent "
                "first; the frame is the code's cell.",
            ),
            Picture(
                "code_map",
                code_map(first, size, f"{subject.name}: codes{level} by their place in the picture"),
                f"Over {len(tokens):,} held-out pictures: a place of few codes says little, whatever the picture.",
            ),
        ],
        metrics,
    )


def quantization_page(subject: Subject, knobs: Knobs) -> Page | None:
    """The error that quantization adds, if the encoder's latents have the form of code vectors."""
    if not subject.has_codes or relaxes(subject):
        return None
    quantized, unquantized = errors_around_quantizer(subject.model, subject.batches())
    figure = plots.quantization_error(quantized, unquantized, f"{subject.name}: error with and without quantisation")
    return Page(
        "Cost of quantisation",
        [Picture("quantization_error", figure, "The decoder never saw the encoder's own latents in training.")],
        {
            "squared_error_quantized": quantized.mean().item(),
            "squared_error_unquantized": unquantized.mean().item(),
        },
    )


def relaxes(subject: Subject) -> bool:
    """Whether the model's codes can be relaxed: its forward takes `hard` and a temperature."""
    return {"hard", "temperature"} <= set(inspect.signature(subject.model.forward).parameters)


def relaxation_page(subject: Subject, knobs: Knobs) -> Page | None:
    if not relaxes(subject):
        return None
    found = relaxation_gap(subject.model, lambda: subject.batches(limit=RELAXATION_IMAGES), seed=subject.seed)
    metrics = {
        f"relaxation_gap_at_{temperature:g}": relaxed - hard
        for temperature, relaxed, hard in zip(found.temperatures, found.relaxed, found.hard, strict=True)
    }
    figure = plots.relaxation(found, f"{subject.name}: relaxed against one-hot codes")
    caption = (
        "How much larger the ELBO is with relaxed codes than with one-hot codes, which a prior would generate; one "
        f"draw for each of the first {min(RELAXATION_IMAGES, len(subject.held_out)):,} held-out pictures."
    )
    return Page("Relaxation", [Picture("relaxation_gap", figure, caption)], metrics)


def curves_page(subject: Subject, knobs: Knobs) -> Page | None:
    log = None if subject.folder is None else subject.folder / "metrics.jsonl"
    if log is None or not log.is_file():
        return None
    records = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines() if line.strip()]
    names = [name for name in CURVES if len({record[name] for record in records if name in record}) > 1]
    if not names:
        return None
    figure = plots.training_curves(records, names, f"{subject.name}: training")
    return Page("Training", [Picture("training_curves", figure, "Means over the steps between two lines of the log.")])


PAGES: tuple[Callable[[Subject, Knobs], Page | None], ...] = (
    reconstruction_page,
    photographs_page,
    likelihood_page,
    plane_page,
    gaps_page,
    interpolation_page,
    samples_page,
    fidelity_page,
    codes_page,
    quantization_page,
    relaxation_page,
    curves_page,
)


# -- the folder --------------------------------------------------------------------------------------------------------


def write_report(
    subject: Subject,
    folder: str | Path,
    knobs: Knobs | None = None,
    facts: dict[str, str] | None = None,
    pages: Sequence[Callable[[Subject, Knobs], Page | None]] = PAGES,
) -> dict[str, float | int | str]:
    """Makes every page that fits this model, writes the folder, and returns the metrics.

    Args:
        facts: how the report was made (command, data set, seed, ...), for its head and for metrics.json.
    """
    folder, knobs = Path(folder), knobs or Knobs()
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, bytes] = {}
    with encoded_once(subject.model):
        made = [page for make in pages if (page := make(subject, knobs)) is not None]
    for page in made:
        for picture in page.pictures:
            files[picture.name] = plots.to_png(picture.figure)
            (folder / f"{picture.name}.png").write_bytes(files[picture.name])
        logger.info("%s: %d pictures, %d metrics", page.title, len(page.pictures), len(page.metrics))
    metrics = {name: value for page in made for name, value in page.metrics.items()}
    protocol = {name: value for page in made for name, value in page.protocol.items()}
    said = {"protocol": protocol} if protocol else {}
    record = {"metrics": metrics, "data_setting": subject.setting, **said, **(facts or {})}
    (folder / "metrics.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    (folder / "index.html").write_text(build_html(subject.name, facts or {}, made, files), encoding="utf-8")
    return metrics
