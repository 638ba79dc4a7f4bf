# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""What docs/RESULTS.md and the cards say is what docs/results.json holds, and that is what runs measured."""

import json
import re
import shlex
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from training_runs import ROOT, load_script, train_here

from hf_autoencoders.hub.cards import RunError, number
from hf_autoencoders.hub.results import IDLE, RESULTS_TO_REACH, knobs_of_flags, load_results, measure, read_measured
from hf_autoencoders.hub.results_page import how_measured, pages


RESULTS = load_results(ROOT)
ENTRIES = RESULTS["figures"]
NAMES = [f"{entry['figure']}-{i}" for i, entry in enumerate(ENTRIES)]
HOWS = [*ENTRIES, *(entry["against"] for entry in ENTRIES if entry["against"])]
PAGES = pages(RESULTS, ROOT)
NAMES_OF_RUNS = ("whole", "plain")


# -- what the repository says ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_exactly_what_the_results_give(path):
    """Otherwise: python scripts/update_results.py write"""
    assert (ROOT / path).read_text(encoding="utf-8") == PAGES[path]


def test_no_card_stands_without_results():
    cards = {f"model_cards/{path.name}" for path in (ROOT / "model_cards").glob("*.md")}
    assert cards == PAGES.keys() - {"docs/RESULTS.md"}


@pytest.mark.parametrize("entry", ENTRIES, ids=NAMES)
def test_missed_agrees_with_the_numbers(entry):
    """`missed` by reading `to_reach` as people do."""
    goal = re.fullmatch(r"(<=|>=|<|>) (\S+?)(?:, trained within (\d+) minutes)?", entry["to_reach"] or "")
    assert bool(goal) == (entry["to_reach"] is not None)
    if goal is None:
        assert not entry["missed"]
        return
    compared, target, minutes = goal.groups()
    factor = RESULTS_TO_REACH[entry["figure"]].factor
    target = factor * entry["against"]["measured"] if entry["against"] else float(target)
    reached = eval(f"{entry['measured']!r} {compared} {target!r}")
    assert entry["missed"] == (not reached or minutes is not None and entry["seconds"] > 60 * int(minutes))


@pytest.mark.parametrize("entry", ENTRIES, ids=NAMES)
def test_an_entry_names_its_figure_as_it_is_defined(entry):
    figure = RESULTS_TO_REACH[entry["figure"]]
    assert (entry["title"], entry["unit"], entry["published"]) == (figure.title, figure.unit, figure.published)
    assert entry["published"] is None or entry["source"]
    if figure.target is not None:
        assert entry["to_reach"].startswith(f"{figure.comparison} {number(figure.target)}")


@pytest.mark.parametrize("how", HOWS, ids=lambda how: how["recipe"])
def test_the_command_of_a_number_gives_the_knobs_that_were_measured(how):
    """A recipe that changes after its run makes the number one of another experiment."""
    words = shlex.split(how["command"])
    assert words[:4] == ["accelerate", "launch", "scripts/train.py", "--recipe"]
    assert words[4] == f"scripts/recipes/{how['recipe']}.yaml" and (ROOT / words[4]).is_file()
    typed = knobs_of_flags(["--recipe", str(ROOT / words[4]), *words[5:]])
    assert {name: value for name, value in typed.items() if name not in IDLE} == how["settings"]


@pytest.mark.parametrize("recipe", RESULTS["runs"])
def test_a_card_and_the_figures_of_its_recipe_tell_the_same_numbers(recipe):
    record = RESULTS["runs"][recipe]["record"]
    run = (record["command"], round(record["seconds"], 1))
    figures = [entry for entry in ENTRIES if (entry["command"], entry["seconds"]) == run]
    assert figures
    for entry in figures:
        assert record["metrics"][RESULTS_TO_REACH[entry["figure"]].metric] == entry["measured"]


@pytest.mark.parametrize("recipe", RESULTS["runs"])
def test_a_card_says_which_pictures_it_measured_and_gives_grey_levels_no_bits(recipe):
    record, text = RESULTS["runs"][recipe]["record"], PAGES[f"model_cards/{recipe}.md"]
    on_training = record["dataset"]["eval_split"] == record["dataset"]["train_split"]
    assert f"On {'training' if on_training else 'held-out'} images of" in text
    assert not (record["metrics"].get("bernoulli_floor") and "bits_per_dim_discrete" in record["metrics"])


@pytest.mark.parametrize("path", ["docs/results.json", *PAGES])
def test_no_path_of_a_machine_is_written_down(path):
    text = (ROOT / path).read_text(encoding="utf-8")
    assert not re.search(r"(?<![\w.:/`\]])/(?:[\w.-]+/)*[\w.-]+", text.replace("](/", "]("))
    assert "../data" not in text and "../shared" not in text


@pytest.mark.parametrize("path", PAGES)
def test_relative_links_lead_somewhere(path):
    page = ROOT / path
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        assert link.startswith("https://") or (page.parent / link).exists(), link


# -- how it gets there -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two short runs on digits: a recipe as it is but for its length, and with the codebook loss."""
    place = tmp_path_factory.mktemp("runs")
    recipe = f"--recipe {ROOT / 'scripts/recipes/vqvae-digits.yaml'} --max_train_steps 3 --block_out_channels 8 8"
    for name, more in {"whole": "", "plain": "--quantizer vq"}.items():
        flags = f"{recipe} {more} --num_threads 1 --logging_steps 3 --output_dir {place / name}".split()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [str(ROOT / "scripts/train.py"), *flags])  # what the run notes as its command
            assert train_here(flags) == 0
    return place


@pytest.fixture
def root(tmp_path):
    """A checkout without results."""
    for folder in ("scripts/recipes", "model_cards"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "docs").mkdir()
    recipe = (ROOT / "scripts/recipes/vqvae-digits.yaml").read_text().replace("[32, 64]", "[8, 8]")
    recipe = recipe.replace("num_train_epochs: 40", "max_train_steps: 3")
    (tmp_path / "scripts/recipes/vqvae-digits.yaml").write_text(recipe)
    return tmp_path


def update(root: Path, *flags: object) -> int:
    script = load_script(ROOT / "scripts/update_results.py")
    return script.main([str(flag) for flag in flags], root)


def test_a_run_becomes_an_entry_a_page_and_a_card(runs, root):
    assert update(root, "add", runs / "whole", "--figure", "keras-vqvae", "--note", "Three steps only.") == 0
    results = load_results(root)
    (entry,) = results["figures"]
    record = json.loads((runs / "whole/metrics.json").read_text())
    assert entry["measured"] == record["metrics"]["nmse"] and entry["missed"]  # three steps reach nothing
    assert entry["command"] == (
        "accelerate launch scripts/train.py --recipe scripts/recipes/vqvae-digits.yaml --num_threads=1"
    )
    assert entry["threads"] == 1 and entry["data"] == "digits, 360 pictures of 'test', grey levels"
    page, card = (root / "docs/RESULTS.md").read_text(), (root / "model_cards/vqvae-digits.md").read_text()
    assert f"| {number(entry['measured'])} | **missed** |" in page and "Three steps only." in page
    assert f"| {number(record['metrics']['psnr'])} | dB |" in card and str(runs) not in page + card
    assert "![held-out images and their reconstructions](images/vqvae-digits/reconstructions.png)" in card
    assert (root / "model_cards/images/vqvae-digits/reconstructions.png").stat().st_size <= 30_000


def test_a_run_added_twice_is_one_entry_and_another_command_is_a_second_one(runs, root):
    for name in ("whole", "whole", "plain"):
        assert update(root, "add", runs / name, "--figure", "keras-vqvae") == 0
    entries = load_results(root)["figures"]
    assert len(entries) == 2
    assert entries[1]["command"].endswith("--num_threads=1 --quantizer=vq --output_dir=runs/plain")
    assert list(load_results(root)["runs"]) == ["vqvae-digits"]  # a changed recipe has no card


def test_a_comparison_may_ask_for_a_share_of_the_others_number(runs, root, monkeypatch):
    whole, plain = (read_measured(runs / name, root) for name in NAMES_OF_RUNS)
    second = plain.run.metrics["mse"]
    for factor, missed in ((0.01, True), (100.0, False)):
        figure = replace(RESULTS_TO_REACH["codebook-512-error"], factor=factor)
        monkeypatch.setitem(RESULTS_TO_REACH, "codebook-512-error", figure)
        entry = measure("codebook-512-error", whole, plain)
        assert (entry["missed"], entry["to_reach"]) == (missed, f"< {number(factor * second)}")
        assert entry["against"]["measured"] == second


def test_a_comparison_names_both_runs_and_holds_them_to_its_terms(runs, root, tmp_path):
    whole, plain = (read_measured(runs / name, root) for name in NAMES_OF_RUNS)
    entry = measure("codebook-512-error", whole, plain)
    first, second = (json.loads((runs / name / "metrics.json").read_text())["metrics"]["mse"] for name in NAMES_OF_RUNS)
    assert entry["to_reach"] == f"< {number(second)}" and entry["missed"] == (first >= second)
    assert entry["against"]["measured"] == second and "--quantizer=vq" in entry["against"]["command"]
    with pytest.raises(RunError, match="needs a second run"):
        measure("codebook-512-error", whole)
    with pytest.raises(RunError, match="compares no second run"):
        measure("keras-vqvae", whole, plain)
    other = Path(shutil.copytree(runs / "plain", tmp_path / "plain"))
    record = json.loads((other / "metrics.json").read_text())
    for change, named in ({"seed": 1}, "seed, 0 and 1"), ({"settings": {"num_train_epochs": 9.0}}, "num_train_epochs"):
        settings = {**record["settings"], **change.get("settings", {})}
        (other / "metrics.json").write_text(json.dumps({**record, **change, "settings": settings}))
        with pytest.raises(RunError, match=f"differ in {named}"):
            measure("codebook-512-error", whole, read_measured(other, root))


def test_a_likelihood_counts_only_with_the_samples_that_its_name_says(runs, root, tmp_path):
    run = Path(shutil.copytree(runs / "whole", tmp_path / "run"))
    (run / "report").mkdir()
    figures = {"likelihood_num_samples": 100, "likelihood_images": 10000, "likelihood_importance_bound": 86.0}
    for samples in (100, 5000):
        report = {"data_setting": "grey levels", "metrics": {**figures, "likelihood_num_samples": samples}}
        (run / "report/metrics.json").write_text(json.dumps(report))
        measured = read_measured(run, root)
        assert measured.evaluation.endswith(f"--num_importance_samples {samples}")
        if samples == 100:
            with pytest.raises(RunError, match="needs likelihood_num_samples = 5000, got 100"):
                measure("vae-likelihood", measured)
    entry = measure("vae-likelihood", measured)
    assert entry["measured"] == 86.0 and not entry["missed"]
    assert entry["to_reach"] == "<= 86.8, trained within 60 minutes"
    (run / "report/metrics.json").write_text(json.dumps({**report, "data_setting": "binarised"}))
    with pytest.raises(RunError, match="is of binarised pixels, but the run of grey levels ones"):
        read_measured(run, root)


def test_the_command_of_a_run_older_than_its_recipe_takes_back_what_came_later(runs, root):
    path = root / "scripts/recipes/vqvae-digits.yaml"
    path.write_text(path.read_text().replace("train_batch_size: 32", "train_batch_size: 64") + "weight_decay: 0.01\n")
    measured = read_measured(runs / "whole", root)
    assert not measured.as_recipe
    flags = shlex.split(measured.command)[5:]
    assert {"--train_batch_size=32", "--weight_decay=null", "--output_dir=runs/whole"} <= set(flags)
    assert knobs_of_flags(["--recipe", str(path), *flags]) == measured.run.record["settings"]


def test_unknown_figures_and_folders_are_named_in_one_line(runs, root, capsys):
    assert update(root, "add", runs / "whole", "--figure", "none") == 2
    assert "There is no figure 'none'; there are deep-ae" in capsys.readouterr().err
    assert update(root, "add", runs / "nowhere") == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_what_did_not_work_is_written_down_once(root):
    for _ in range(2):
        assert update(root, "negative", "It was tried.") == 0
    assert (root / "docs/RESULTS.md").read_text().count("- It was tried.\n") == 1


def test_the_page_names_the_device_that_a_run_was_trained_on():
    entry = {**ENTRIES[0], "device": "cuda (NVIDIA H100)", "threads": None}
    assert f"s on cuda (NVIDIA H100), {entry['date']}" in how_measured(entry)
    assert "s on a CPU (1 thread), " in how_measured({**entry, "device": "cpu", "threads": 1})
