# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The pages that follow from docs/results.json: docs/RESULTS.md, and model_cards/<recipe>.md by their template."""

from pathlib import Path
from typing import Any

from transformers import AutoConfig

from ..training.run_files import PICTURE
from .cards import SavedRun, build_card, number, words
from .results import PICTURES_OF_CARDS, RECIPES, RESULTS_TO_REACH


PAGE, CARDS_FOLDER = "docs/RESULTS.md", "model_cards"  # below the checkout
BAKE_OFF, BAKE_OFF_SECONDS = "Quantizers in one net", 300  # that a run of it may train
# What is named differently here than in a repository on the Hub.
LINKS = {
    "[`metrics.json`](metrics.json)": "[`docs/results.json`](../docs/results.json)",
    "[`config.json`](config.json)": "`config.json`",
}


def write_pages(results: dict[str, Any], root: Path) -> None:
    for path, text in pages(results, root).items():
        (root / path).write_text(text, encoding="utf-8")


def pages(results: dict[str, Any], root: Path) -> dict[str, str]:
    """Path below `root` -> text, of every generated page."""
    cards = {f"{CARDS_FOLDER}/{recipe}.md": recipe_card(recipe, results, root) for recipe in results["runs"]}
    return {PAGE: results_page(results), **cards}


def recipe_card(recipe: str, results: dict[str, Any], root: Path) -> str:
    """The card that publishing this recipe's run gives, with links that fit into this folder."""
    kept = results["runs"][recipe]
    config = AutoConfig.for_model(**kept["config"])
    run = SavedRun(root / PICTURES_OF_CARDS / recipe, config, kept["record"])
    text = str(build_card(run, f"org/{recipe}"))
    for link, here in {**LINKS, f"]({PICTURE})": f"](images/{recipe}/{PICTURE})"}.items():
        text = text.replace(link, here)
    return text.rstrip() + "\n"


HEAD = """# Results

Made by `python scripts/update_results.py write` from [results.json](results.json), not by hand. Each number is of the
whole set that is named, of one run with the seed that is named. Data sets were read from local copies of those on the
Hub. A number that was not reached says so, and so does one that nobody measured yet.
"""


def results_page(results: dict[str, Any]) -> str:
    parts = [HEAD, figures_table(results["figures"])]
    parts += [not_measured(results), "## How\n", *(paragraph(entry) for entry in results["figures"])]
    if results["bake_off"]:
        parts.append(bake_off_section(results["bake_off"]))
    if results["negative"]:
        parts.append("## What did not work\n\n" + "".join(f"- {text}\n" for text in results["negative"]))
    return "\n".join(part for part in parts if part)


def figures_table(entries: list[dict[str, Any]]) -> str:
    lines = ["| figure | unit | published | to reach | measured | |", "|---|---|---|---|---:|---|"]
    for entry in entries:
        lines.append(
            f"| {entry['title']} | {entry['unit']} | {entry['published'] or '-'} | {goal(entry) or '-'} "
            f"| {number(entry['measured'])} | {verdict(entry)} |"
        )
    return "\n".join(lines) + "\n"


def goal(entry: dict[str, Any]) -> str | None:
    against = entry["against"]
    return f"{entry['to_reach']} ({against['what']})" if against else entry["to_reach"]


def verdict(entry: dict[str, Any]) -> str:
    if entry["to_reach"] is None:
        return "no figure to reach"
    return "**missed**" if entry["missed"] else "reached"


def not_measured(results: dict[str, Any]) -> str:
    there = {entry["figure"] for entry in results["figures"]}
    titles = [f"{figure.title}: {figure.unit}" for name, figure in RESULTS_TO_REACH.items() if name not in there]
    titles += [] if results["bake_off"] else [BAKE_OFF]
    return "Not measured yet:\n\n" + "".join(f"- {title}\n" for title in titles) if titles else ""


def paragraph(entry: dict[str, Any]) -> str:
    """How one number came about."""
    lines = [
        f"**{entry['title']}**, {entry['unit']}: {number(entry['measured'])}, {verdict(entry)}. {how_measured(entry)}"
    ]
    if entry["source"]:
        lines.append(f"Published: {entry['published']}, {entry['source']}.")
    if entry["note"]:
        lines.append(entry["note"])
    commands = [entry["command"], entry["evaluation"]]
    if against := entry["against"]:
        what = against["what"]
        lines.append(f"{what[0].upper()}{what[1:]}: {number(against['measured'])}. {how_measured(against)}")
        commands += [against["command"], against["evaluation"]]
    block = "\n".join(command for command in commands if command)
    return "\n".join(lines) + f"\n\n```bash\n{block}\n```\n"


def how_measured(entry: dict[str, Any]) -> str:
    threads = {None: "all cores", 1: "1 thread"}.get(entry["threads"], f"{entry['threads']} threads")
    device = f"on a CPU ({threads})" if entry["device"] == "cpu" else f"on {entry['device']}"
    recipe = f"[{entry['recipe']}](../{RECIPES}/{entry['recipe']}.yaml)"
    return (
        f"Recipe {recipe}, seed {entry['seed']}, trained in {entry['seconds']:,.0f} s {device}, "
        f"{entry['date']}; {entry['data']}."
    )


def bake_off_section(bake_off: dict[str, Any]) -> str:
    """The table of scripts/bake_off.py: means over the seeds +- standard deviations."""
    names = [name for name, value in bake_off["rows"][0].items() if isinstance(value, dict)]
    lines = [f"| quantizer | {' | '.join(map(words, names))} | what it is |", f"|---|{'---:|' * len(names)}---|"]
    for row in bake_off["rows"]:
        cells = [f"{row[name]['mean']:.4g} +- {row[name]['std']:.2g}" for name in names]
        lines.append(f"| `{row['quantizer']}` | {' | '.join(cells)} | {row['about']} |")
    longest = max(bake_off["runs"], key=lambda run: run["seconds"])
    seeds, seconds = bake_off["rows"][0]["runs"], longest["seconds"]
    in_time = "reached" if seconds <= BAKE_OFF_SECONDS else "**missed**"
    lines += ["", "```bash", bake_off["command"], "```", ""]
    return (
        f"## {BAKE_OFF}\n\nMeans over {seeds} seeds +- standard deviations, {bake_off['data']}, whole test set; the "
        f"longest run ({longest['quantizer']}) trained {seconds:,.0f} s, to reach: <= {BAKE_OFF_SECONDS} s, {in_time}. "
        f"The net: `{bake_off['net']}`.\n\n" + "\n".join(lines)
    )
