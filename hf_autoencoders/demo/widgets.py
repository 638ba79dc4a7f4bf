# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""What of the demo runs in the browser: templates, styles and scripts of three widgets, for `gr.HTML` of gradio.

PLANES   latent planes, dragged by pointer or arrow keys; asks `server.look({x, y})`
CANVAS   a picture: drawn, dropped, pasted or chosen; its value is {"drawn": PNG URL} or {"example": index}
BOARD    what a model sees and decodes, and its code grid to edit; asks `server.decode(codes)`

Their markup, styles and scripts are the files in files/. Nothing is loaded from elsewhere.

gradio fills a template twice: `{{...}}` by Handlebars, then the outcome is run as a JavaScript template string, so that
`${...}` inside of a name would be executed. Templates therefore hold only values that the demo makes (SAFE_VALUES);
words from outside, such as names of folders, are set by the scripts as `textContent`.
"""

from html import escape
from pathlib import Path


SAFE_VALUES = {"backdrop", "width", "height", "this", "@index", "facts.side"}  # data URLs of pictures, and numbers


def in_html(text: str) -> str:
    """As words of an HTML page, also where gradio makes a template of it.

    >>> in_html("<b>`${alert(1)}`")
    '&lt;b&gt;&#96;&#36;{alert(1)}&#96;'
    """
    return escape(text).replace("$", "&#36;").replace("`", "&#96;").replace("{{", "&#123;{")


def browser_file(name: str) -> str:
    """A file of what runs in the browser, as it stands in files/."""
    return (Path(__file__).parent / "files" / name).read_text(encoding="utf-8")


PAGE_CSS = browser_file("page.css")

# One request at a time, and always for the latest place: a slow model lags behind the hand, but never queues up.
PLANES, PLANES_CSS, PLANES_JS = map(browser_file, ("planes.html", "planes.css", "planes.js"))

CANVAS, CANVAS_CSS, CANVAS_JS = map(browser_file, ("canvas.html", "canvas.css", "canvas.js"))

BOARD, BOARD_CSS, BOARD_JS = map(browser_file, ("board.html", "board.css", "board.js"))
