# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Play with trained models in a browser:  hf-autoencoders demo runs/ae-mnist runs/vae-mnist

RUN is the folder of a run, or a model on the Hub. As app.py of a Space, which `hf-autoencoders publish --space` writes,
it takes no arguments and reads space.json beside it. It needs gradio: pip install "hf_autoencoders[demo]"
"""

import argparse
import base64
import io
import os
import sys
from pathlib import Path
from typing import Any


os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported

import numpy as np
import torch
from PIL import Image

import hf_autoencoders.models  # noqa: F401  (registers the four models with the Auto classes)
from hf_autoencoders.commands.boundary import OneLineParser, no_progress_bars, run_command
from hf_autoencoders.demo import widgets
from hf_autoencoders.demo.exhibit import DOTS, Exhibit, bytes_url, open_exhibit, png_url
from hf_autoencoders.demo.widgets import in_html
from hf_autoencoders.evaluation import plots
from hf_autoencoders.training.saved_models import read_json_object


try:
    import gradio as gr
except ImportError:
    gr = None

SPACE = Path(__file__).resolve().parent / "space.json"
STEPS = 11  # pictures on the way from one to another, both ends included
PALETTE_COLUMNS = 16
# An event waits until the one before has ended; of several that wait, only the last one runs.
QUIETLY: dict[str, Any] = {"trigger_mode": "always_last", "show_progress": "hidden", "api_visibility": "private"}


# -- the command line --------------------------------------------------------------------------------------------------


def main(argv: list[str] | None = None) -> int:
    """Exit codes: those of `run_command`."""
    return run_command("demo", lambda: parse_arguments(argv), serve)


def serve(arguments: argparse.Namespace) -> None:
    if gr is None:
        raise ValueError('The demo needs gradio, the extra `demo`: pip install "hf_autoencoders[demo]"')
    demo = build_page(open_all(arguments))
    # On 127.0.0.1 unless GRADIO_SERVER_NAME says otherwise, as a Space does.
    looks = {"theme": theme(), "css": widgets.PAGE_CSS, "footer_links": []}
    demo.launch(server_port=arguments.port, share=False, ssr_mode=False, **looks)


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = OneLineParser("demo", __doc__)
    add = parser.add_argument
    add("runs", nargs="*", metavar="RUN", help="one model, or two side by side: folder of a run, or Hub id")
    add("--dataset_name", help="data set whose codes the plane shows: Hub id, folder or 'digits' (default: as the run)")
    add("--max_eval_samples", type=int, default=DOTS, help="held-out pictures that are read for the plane")
    add("--port", type=int, help="default: the first free one from 7860 on")
    add("--num_threads", type=int, default=1, help="CPU threads; a picture of 28x28 pixels needs no more than one")
    return parser.parse_args(argv)


@no_progress_bars()
def open_all(arguments: argparse.Namespace) -> list[Exhibit]:
    for name in ("max_eval_samples", "num_threads"):
        if getattr(arguments, name) < 1:
            raise ValueError(f"--{name} must be at least 1, got {getattr(arguments, name)}.")
    if arguments.port is not None and not 1 <= arguments.port <= 65535:
        raise ValueError(f"--port must be from 1 to 65535, got {arguments.port}.")
    torch.set_num_threads(arguments.num_threads)
    if not arguments.runs and SPACE.is_file():
        shown = read_json_object(SPACE)["models"]
        return [open_exhibit(source_of(one), one["name"], SPACE.parent / one["backdrop"]) for one in shown]
    if len(arguments.runs) not in (1, 2):
        raise ValueError(f"The demo shows one model or two, got {len(arguments.runs)}: hf-autoencoders demo RUN [RUN2]")
    knobs = {"dataset_name": arguments.dataset_name, "max_samples": arguments.max_eval_samples}
    return [open_exhibit(run, **knobs) for run in arguments.runs]


def source_of(entry: dict[str, str]) -> str:
    """A Hub id, or the folder that lies beside this file."""
    return str(SPACE.parent / entry["folder"]) if "folder" in entry else entry["repo_id"]


# -- the page ----------------------------------------------------------------------------------------------------------


def build_page(exhibits: list[Exhibit]) -> "gr.Blocks":
    """A tab for each thing that the models offer."""
    with gr.Blocks(title="hf_autoencoders", analytics_enabled=False, fill_width=True) as demo:
        facts = "".join(f"<p>{in_html(line)}</p>" for line in map(facts_line, exhibits))
        gr.HTML(f"<h1>{' and '.join(in_html(exhibit.name) for exhibit in exhibits)}</h1>{facts}", elem_id="head")
        for name in tabs_of(exhibits):
            with gr.Tab(name):
                TABS[name](demo, exhibits)
    return demo


def tabs_of(exhibits: list[Exhibit]) -> list[str]:
    """The plane comes first where it shows all of a latent space, and second where it is only a cut through one."""
    planes = [exhibit.backdrop.plane for exhibit in exhibits if exhibit.has_plane]
    first = ["Plane", "Picture"] if any(plane.whole for plane in planes) else ["Picture", "Plane"]
    return [*(name for name in first if planes or name != "Plane"), "Interpolate", "Sample"]


def facts_line(exhibit: Exhibit) -> str:
    """Such as 'vqvae, 128x128 pixels of 3 channels, 1.64 M parameters, 32x32 places with one of 1,024 codes each'."""
    model, (channels, height, width) = exhibit.model, exhibit.backdrop.examples.shape[1:]
    size = f"{height}x{width} pixels of {channels} channel{'s' * (channels > 1)}"
    parameters = model.num_parameters()
    count = f"{parameters / 1e6:.3g} M" if parameters >= 1e6 else f"{parameters:,}"
    facts = [model.config.model_type, size, f"{count} parameters"]
    if exhibit.has_codes:
        each = "one" if exhibit.levels == 1 else str(exhibit.levels)
        facts.append(f"{'x'.join(map(str, model.grid_size))} places with {each} of {model.codebook_size:,} codes each")
    return ", ".join(facts)


def name_beside(exhibit: Exhibit, exhibits: list[Exhibit]) -> str:
    """A name for titles; none where there is one model, since the head of the page has it."""
    return exhibit.name if len(exhibits) > 1 else ""


def theme() -> "gr.themes.Base":
    """Fonts of the reader's own system: nothing is fetched from elsewhere."""
    return gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])


def plane_tab(demo: "gr.Blocks", exhibits: list[Exhibit]) -> None:
    shown = [exhibit for exhibit in exhibits if exhibit.has_plane]

    def look(place: dict) -> list[dict[str, str]]:
        """{"x", "y": 0..1} -> what lies there, by model."""
        return [look_at(exhibit, place["x"], place["y"]) for exhibit in shown]

    gr.HTML(
        html_template=widgets.PLANES,
        css_template=widgets.PLANES_CSS,
        js_on_load=widgets.PLANES_JS,
        server_functions=[look],
        elem_id="planes",
        planes=[{"name": name_beside(exhibit, exhibits), **plane_facts(exhibit)} for exhibit in shown],
        together=len(shown) > 1,
        axes=dict(zip(("left", "bottom", "width", "height"), plots.AXES_TO_DRAG, strict=True)),
    )


def plane_facts(exhibit: Exhibit) -> dict[str, str]:
    backdrop = exhibit.backdrop
    figure = plots.plane_to_drag(backdrop.points, backdrop.labels, backdrop.names, backdrop.plane, exhibit.window)
    figure.set_dpi(160)
    rest = "" if backdrop.plane.whole else " The other components are at their mean."
    caption = f"Dots: {backdrop.source}, as the encoder places them.{rest}"
    return {"backdrop": bytes_url(plots.to_png(figure)), "caption": caption}


def look_at(exhibit: Exhibit, x: float, y: float) -> dict[str, str]:
    place = exhibit.at(x, y)
    where = ", ".join(f"{coordinate:.2f}" for coordinate in place.coordinates)
    gap = "<b>in a gap</b>: " if place.in_gap else ""
    caption = f"at ({where})<br>{gap}{place.distance:.2g} from the nearest dot"
    return {"picture": png_url(plots.to_picture(place.pixels)), "caption": caption}


def picture_tab(demo: "gr.Blocks", exhibits: list[Exhibit]) -> None:
    examples, (height, width) = exhibits[0].examples(), exhibits[0].backdrop.examples.shape[2:]
    scale = max(1, 280 // max(height, width))
    with gr.Row():
        with gr.Column(scale=0, min_width=320):
            canvas = gr.HTML(
                html_template=widgets.CANVAS,
                css_template=widgets.CANVAS_CSS,
                js_on_load=widgets.CANVAS_JS,
                elem_id="canvas",
                pictures=[png_url(as_unit(picture)) for picture in examples],
                width=width * scale,
                height=height * scale,
            )
        with gr.Column():
            boards = [code_board(exhibit, f"board-{number}", exhibits) for number, exhibit in enumerate(exhibits)]

    def show(value: dict | None) -> list[dict[str, Any]]:
        image = picture_of(value, examples)
        return unlist([look_through(exhibit, image) for exhibit in exhibits])

    canvas.change(show, canvas, boards, **QUIETLY)


def picture_of(value: dict | None, examples: list) -> Any:
    """What the canvas holds, as a PIL image: an example as it is, or pixels from the browser; None before its start."""
    if value is None:
        return None
    if "example" in value:
        return examples[int(value["example"])]
    return Image.open(io.BytesIO(base64.b64decode(value["drawn"].partition(",")[2]))).convert("RGB")


def unlist(values: list) -> Any:
    """Gradio takes a single value without its list."""
    return values if len(values) > 1 else values[0]


def look_through(exhibit: Exhibit, image: Any) -> dict[str, Any] | None:
    """The picture as the model sees it, and its decoding. A picture that does not fit is an error of one line."""
    if image is None:
        return None
    try:
        pixels = exhibit.read(image)
    except ValueError as error:
        raise gr.Error(in_html(str(error)), print_exception=False) from error
    codes = exhibit.codes(pixels) if exhibit.has_codes else None
    decoded = exhibit.reconstruct(pixels)[0] if codes is None else exhibit.decode_codes(codes)
    quality = f"PSNR {exhibit.psnr(pixels[0], decoded):.1f} dB"
    pictures = {"seen": png_url(plots.to_picture(pixels[0])), "decoded": png_url(plots.to_picture(decoded))}
    return {**pictures, "codes": codes, "quality": quality}


def code_board(exhibit: Exhibit, elem_id: str, exhibits: list[Exhibit]) -> "gr.HTML":
    def decode(codes: list) -> dict[str, str]:
        """Edited codes -> their picture, or why there is none."""
        try:
            return {"decoded": png_url(plots.to_picture(exhibit.decode_codes(codes)))}
        except (ValueError, TypeError, RuntimeError) as error:
            return {"error": str(error)}

    facts: dict[str, Any] = {"name": name_beside(exhibit, exhibits), "size": 0, "levels": 1, "columns": PALETTE_COLUMNS}
    facts["side"] = whole_multiple(exhibit.backdrop.examples.shape[3], 390 if len(exhibits) == 1 else 260)
    if exhibit.has_codes:
        facts["colours"] = [exhibit.code_colours(level) for level in range(exhibit.levels)]
        palette = exhibit.palette()
        sprite = plots.mosaic(exhibit.backdrop.atlas[palette].float() / 127.5 - 1, PALETTE_COLUMNS, gap=0)
        facts |= {"size": exhibit.model.codebook_size, "levels": exhibit.levels}
        facts |= {"palette": palette, "sprite": png_url(sprite)}
    return gr.HTML(
        html_template=widgets.BOARD,
        css_template=widgets.BOARD_CSS,
        js_on_load=widgets.BOARD_JS,
        server_functions=[decode],
        elem_id=elem_id,
        facts=facts,
    )


def whole_multiple(width: int, limit: int) -> int:
    """The largest multiple of a picture's width up to `limit`, so that all its pixels are shown equally large.

    >>> whole_multiple(28, 390), whole_multiple(128, 390), whole_multiple(512, 390)
    (364, 384, 512)
    """
    return width * max(1, limit // width)


def as_unit(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("L" if picture.mode == "L" else "RGB")) / 255


def interpolation_tab(demo: "gr.Blocks", exhibits: list[Exhibit]) -> None:
    examples = exhibits[0].examples()
    with gr.Row():
        ends = [
            gr.Image(
                examples[index % len(examples)],
                type="pil",
                label=label,
                sources=["upload", "clipboard"],
                height=180,
                elem_classes="fill",
            )
            for index, label in enumerate(("from", "to"))
        ]
        another = gr.Button("Another pair", scale=0, min_width=160)
        turn = gr.State(0)
    ways = [gr.HTML(elem_id=f"way-{number}") for number in range(len(exhibits))]

    def show(a: Any, b: Any) -> list[str]:
        return unlist([heading(exhibit, exhibits) + strip_between(exhibit, a, b) for exhibit in exhibits])

    def next_pair(turn: int) -> tuple:
        turn += 2
        return turn, examples[turn % len(examples)], examples[(turn + 1) % len(examples)]

    for end in ends:
        end.change(show, ends, ways, **QUIETLY)
    another.click(next_pair, turn, [turn, *ends], **QUIETLY)
    demo.load(show, ends, ways, **QUIETLY)


def strip_between(exhibit: Exhibit, a: Any, b: Any) -> str:
    if a is None or b is None:
        return "<p>Two pictures are needed.</p>"
    try:
        way = exhibit.way(exhibit.read(a), exhibit.read(b), STEPS)
    except ValueError as error:
        raise gr.Error(in_html(str(error)), print_exception=False) from error
    shares = "".join(f"<span>{100 * step // (STEPS - 1)} %</span>" for step in range(STEPS))
    strip = picture(way, STEPS, "pictures on the way")
    return f"<div class='way'>{strip}<div class='shares'>{shares}</div></div>"


def samples_tab(demo: "gr.Blocks", exhibits: list[Exhibit]) -> None:
    with gr.Row():
        seed = gr.Number(0, label="seed", precision=0, minimum=0, maximum=2**31, scale=0, min_width=160)
        draw = gr.Button("Draw others", scale=0, min_width=160)
    drawn = []
    with gr.Row():
        for number in range(len(exhibits)):
            with gr.Column(min_width=320):  # on a phone one below the other
                drawn.append(gr.HTML(elem_id=f"samples-{number}"))

    def show(seed: float | None) -> list[str]:
        return unlist([heading(exhibit, exhibits) + samples_of(exhibit, int(seed or 0)) for exhibit in exhibits])

    seed.change(show, seed, drawn, **QUIETLY)
    draw.click(lambda seed: int(seed or 0) + 1, seed, seed, **QUIETLY)
    demo.load(show, seed, drawn, **QUIETLY)


def samples_of(exhibit: Exhibit, seed: int) -> str:
    note = "Uniform codes do not look like pictures: train a prior on the codes to draw samples."
    try:
        pictures = picture(exhibit.sample(32, seed), 8, "samples from the model's own prior")
    except ValueError as error:
        return f"<p>{in_html(str(error))}</p>"
    return pictures + (f"<p>{note}</p>" if exhibit.has_codes else "")


def heading(exhibit: Exhibit, exhibits: list[Exhibit]) -> str:
    return f"<h3>{in_html(name_beside(exhibit, exhibits))}</h3>"


def picture(pixels: Any, columns: int, alt: str) -> str:
    return f'<img class="crisp" alt="{in_html(alt)}" src="{png_url(plots.mosaic(pixels, columns))}">'


TABS = {"Plane": plane_tab, "Picture": picture_tab, "Interpolate": interpolation_tab, "Sample": samples_tab}


if __name__ == "__main__":
    sys.exit(main())
