# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""A report as one HTML file that needs no other file: it contains the pictures."""

import base64
from collections.abc import Iterable
from html import escape
from typing import Any


REPORT_CSS = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 60rem; margin: 2rem auto;
       padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin-top: 2.5rem; border-bottom: 2px solid #0072B2; }
figure { margin: 1.5rem 0; } figure img { max-width: 100%; height: auto; }
figure.exact { overflow-x: auto; } figure.exact img { max-width: none; image-rendering: pixelated; }
figcaption, .note { color: #444; font-size: .92rem; }
nav a { margin-right: 1rem; } a { color: #005a8f; }
table { border-collapse: collapse; font-size: .92rem; } td, th { padding: .15rem 1.2rem .15rem 0; text-align: left;
       border-bottom: 1px solid #e6e6e6; } td.number { text-align: right; white-space: nowrap;
       font-variant-numeric: tabular-nums; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; font-size: .92rem; }
dt { color: #444; } dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 40rem) { td, th { padding-right: .6rem; } dl { display: block; } dd { margin-bottom: .3rem; } }
"""

# Endings of names -> unit; the first that fits is taken.
UNITS_BY_ENDING = (
    (("psnr",), "dB"),
    (
        ("negative_log_likelihood", "kl", "elbo", "loss", "floor", "bound", "rate", "likelihood_reconstruction"),
        "nats/image",
    ),
    (("standard_error", "elbo_gap"), "nats/image"),
    (("squared_error", "squared_error_quantized", "squared_error_unquantized"), "per image, [0, 1] pixels"),
    (("perplexity", "codes_used", "codes_total"), "codes"),
    (("radius",), "latent units"),
    (("share_of_hull", "codebook_usage", "variance_share_1", "variance_share_2"), "share, 0 to 1"),
    (("images", "samples"), "images"),
    (("nmse",), "share of the pixels' variance"),
    (("mse",), "[0, 1] pixels"),
    (("ssim", "gradient_energy"), "1 is equal"),
    (("perceptual_distance", "frechet_distance", "kid"), "0 is equal"),
    (("bits_per_pixel",), "bits"),
    (("bits_per_dim", "bits_per_dim_continuous", "bits_per_dim_discrete"), "bits/dim"),
)


def unit_of(name: str) -> str:
    """
    >>> unit_of("squared_error"), unit_of("likelihood_units")
    ('per image, [0, 1] pixels', '')
    """
    if "relaxation_gap" in name:
        return "nats/image"
    if any(word in name for word in ("accepted", "plausible", "covered_by")):
        return "share, 0 to 1"
    return next((unit for ends, unit in UNITS_BY_ENDING if name.endswith(ends)), "")


def report_number(value: Any) -> str:
    """
    >>> report_number(0.0382050), report_number(10000.0), report_number("grey levels")
    ('0.03821', '10,000', 'grey levels')
    """
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4g}"


def build_html(name: str, facts: dict[str, str], pages: Iterable[Any], files: dict[str, bytes]) -> str:
    """The report: `pages` with title, pictures, metrics, notes; `files`: PNG bytes by the picture's name."""
    pages = list(pages)
    links = " ".join(f'<a href="#{anchor(page.title)}">{escape(page.title)}</a>' for page in pages)
    body = "\n".join(section(page, files) for page in pages)
    return f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{escape(name)}</title><style>{REPORT_CSS}</style></head>
<body>
<h1>{escape(name)}</h1>
{definitions(facts)}
<nav>{links}</nav>
{body}
</body></html>
"""


def anchor(title: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in title.lower()).split())


def definitions(facts: dict[str, str]) -> str:
    rows = "".join(f"<dt>{escape(key)}</dt><dd>{escape(str(value))}</dd>" for key, value in facts.items())
    return f"<dl>{rows}</dl>" if rows else ""


def section(page: Any, files: dict[str, bytes]) -> str:
    figures = "\n".join(figure_of(picture, files[picture.name]) for picture in page.pictures)
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in page.notes)
    shown = dict(zip(shown_names(page.metrics, page.title), page.metrics.values(), strict=True))
    numbers = table_of_columns(page.columns) if page.columns else table(shown, page.metrics)
    return f'<h2 id="{anchor(page.title)}">{escape(page.title)}</h2>\n{figures}\n{numbers}\n{notes}'


def figure_of(picture: Any, png: bytes) -> str:
    kind = ' class="exact"' if picture.exact else ""
    data, caption = base64.b64encode(png).decode(), escape(picture.caption)
    image = f'<img alt="{caption}" src="data:image/png;base64,{data}">'
    return f"<figure{kind}>{image}<figcaption>{caption}</figcaption></figure>"


def shown_names(names: Iterable[str], title: str) -> list[str]:
    """Names for the table, without the page's title if all begin with it.

    >>> shown_names(["gaps_vae_radius", "gaps_vae_accepted"], "Gaps"), shown_names(["mse", "gaps_x"], "Gaps")
    (['vae radius', 'vae accepted'], ['mse', 'gaps x'])
    """
    names, prefix = list(names), f"{title.lower()}_"
    prefix = prefix if all(name.startswith(prefix) for name in names) else ""
    return [name.removeprefix(prefix).replace("_", " ") for name in names]


def table_of_columns(columns: dict[str, dict[str, float]]) -> str:
    """Metrics side by side: heading -> name -> number; "-" where a heading has none."""
    names = dict.fromkeys(name for column in columns.values() for name in column)
    headings = "".join(f"<th>{escape(heading)}</th>" for heading in columns)
    rows = ""
    for name in names:
        numbers = (report_number(column[name]) if name in column else "-" for column in columns.values())
        cells = "".join(f'<td class="number">{escape(number)}</td>' for number in numbers)
        rows += f"<tr><td>{escape(name.replace('_', ' '))}</td>{cells}<td>{escape(unit_of(name))}</td></tr>"
    return f"<table><tr><th></th>{headings}<th></th></tr>{rows}</table>"


def table(shown: dict[str, Any], names: Iterable[str]) -> str:
    """`shown`: value by the name that is shown. `names`: names of the metrics, from which the units follow."""
    rows = "".join(
        f'<tr><td>{escape(name)}</td><td class="number">{escape(report_number(value))}</td>'
        f"<td>{escape(unit_of(metric))}</td></tr>"
        for (name, value), metric in zip(shown.items(), names, strict=True)
    )
    return f"<table>{rows}</table>" if rows else ""
