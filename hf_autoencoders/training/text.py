# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Text that people read: an error in one line, and names that are escaped for Markdown.

Names of folders, classes and data sets come from anywhere. On a card, a name must not end its code block or its table
cell, and it must not begin a heading, a link or HTML.
"""

import json
import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined


def one_line(error: BaseException) -> str:
    """The message of an error without line breaks; its type if the message is empty.

    >>> one_line(ValueError("two\\n  lines")), one_line(KeyError())
    ('two lines', 'KeyError')
    """
    return " ".join(str(error).split()) or type(error).__name__


def asked_of_hub(name: str | Path) -> str:
    """Words behind a name that could not be read: why the Hub was asked. Empty for a file or a folder that is here.

    >>> asked_of_hub("runs/vqvae-digts"), asked_of_hub(".")
    (' (no such folder is here, so the Hub was asked)', '')
    """
    return "" if Path(name).exists() else " (no such folder is here, so the Hub was asked)"


def plain_text(text: Any) -> str:
    """`text` for a line of Markdown, with its special characters escaped.

    >>> print(plain_text("a|b <i> *c* `d`"))
    a\\|b \\<i\\> \\*c\\* \\`d\\`
    """
    return re.sub(
        r"([\\`*<>|~$&]|\](?=[(\[])|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))", r"\\\1", " ".join(str(text).split())
    )


def cell(value: Any) -> str:
    """`value` as one cell of a Markdown table.

    >>> cell(0.25), cell([1, 2]), cell("a|b")
    ('0.25', '1, 2', 'a\\\\|b')
    """
    if isinstance(value, (list, tuple)):
        return ", ".join(map(cell, value))
    return plain_text(f"{value:.6g}" if isinstance(value, float) else value)


def table_rows(rows: list[tuple[Any, ...]]) -> str:
    """Rows of a Markdown table, without its head."""
    return "\n".join("| " + " | ".join(map(cell, row)) + " |" for row in rows)


def fenced(text: str, language: str = "") -> str:
    """`text` as a code block, whose fence is longer than any run of backticks inside.

    >>> print(fenced("a\\n```\\nb"))
    ````
    a
    ```
    b
    ````
    """
    longest = max((len(ticks) for ticks in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip(chr(10))}\n{fence}"


def is_hub_id(name: str) -> bool:
    """Whether `name` reads as owner/name and is no path here."""
    return re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name) is not None and not Path(name).exists()


def python_string(text: str) -> str:
    """`text` as a string of Python source, in double quotes, on one line.

    >>> print(python_string('a"b'))
    "a\\"b"
    """
    return json.dumps(text)


def render(template: str | Path, **facts: Any) -> str:
    """A Jinja template, filled in with `facts`. It may call the functions of this file that escape text.

    Raises:
        jinja2.UndefinedError: the template names a fact that is not given.
    """
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
    environment.globals.update(plain_text=plain_text, table_rows=table_rows, fenced=fenced, python_string=python_string)
    return environment.from_string(Path(template).read_text(encoding="utf-8")).render(facts)
