# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Cards and publishing, with the real huggingface_hub client against a Hub on loopback."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries
from huggingface_hub.errors import LocalEntryNotFoundError
from jinja2 import UndefinedError
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel

from hf_autoencoders import AutoencoderImageProcessorPil
from hf_autoencoders.evaluation.metrics import evaluate
from hf_autoencoders.hub.cards import (
    FAMILIES,
    METRIC_TITLES,
    RUN_TEMPLATE,
    RunError,
    build_card,
    eval_results_yaml,
    number,
    read_run,
)
from hf_autoencoders.hub.pipelines import pipeline_card
from hf_autoencoders.hub.publish import PublishError, check_run, fetch_checkpoint, push_checkpoint, push_run
from hf_autoencoders.hub.set_aside import SetAside
from hf_autoencoders.hub.uploads import one_line_errors
from hf_autoencoders.models.model_card import PIN_THE_CODE
from hf_autoencoders.priors.cards import image_token_lm_card, prior_card, token_dataset_card
from hf_autoencoders.priors.latent_diffusion import build_unet
from hf_autoencoders.priors.sequences import ImageTokenSequencer
from hf_autoencoders.training.text import render


ROOT = Path(__file__).resolve().parents[1]
SIZES = {"image_size": 12, "num_channels": 1, "block_out_channels": (8, 8, 8), "layers_per_block": 1}
LATENTS = {
    "ae": {"latent_channels": 3},
    "vae": {"latent_channels": 3},
    "vqvae": {"codebook_size": 16, "codebook_dim": 4},
    "dvae": {"codebook_size": 16, "codebook_dim": 4, "backbone": "conv"},
}


# -- runs, as train.py leaves them -------------------------------------------------------------------------------------


def write_run(folder: Path, model_type: str = "vqvae", seed: int = 0, **record) -> Path:
    torch.manual_seed(seed)
    config = AutoConfig.for_model(model_type, **SIZES, **LATENTS[model_type])
    model = AutoModel.from_config(config).eval()
    model.save_pretrained(folder)
    processor = AutoencoderImageProcessorPil(size={"height": 12, "width": 12}, num_channels=1)
    processor.save_pretrained(folder)
    pictures = Image.effect_noise((48, 24), 100)
    pictures.save(folder / "reconstructions.png")
    pictures.crop((0, 0, 12, 12)).save(folder / "example.png")
    if hasattr(model, "get_image_tokens"):
        tokens = model.get_image_tokens(processor(pictures.crop((0, 0, 12, 12)), return_tensors="pt").pixel_values)
        record = {"example_image_tokens": tokens.tolist(), **record}
    write_metrics(folder, **record)
    return folder


def write_metrics(folder: Path, **record) -> None:
    written = {
        "metrics": {"mse": 0.0123456, "psnr": 19.0876, "perplexity": 7.654321, "codes_used": 11},
        "code_histogram": [i * i for i in range(16)],
        "dataset": {"name": "org/little-digits", "eval_split": "test", "eval_images": 360},
        "seed": 3,
        "seconds": 61.7,
        "settings": {"model_type": "vqvae", "learning_rate": 0.0017},
        "command": "scripts/train.py --recipe scripts/recipes/vqvae-mnist.yaml",
        "versions": {"torch": torch.__version__},
        **record,
    }
    (folder / "metrics.json").write_text(json.dumps(written))


def card_of(folder: Path) -> str:
    return str(build_card(read_run(folder), "org/vqvae-mnist", RUN_TEMPLATE))


def numbers_in(text: str) -> set[str]:
    return set(re.findall(r"\d+(?:\.\d+)?", text))


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return write_run(tmp_path_factory.mktemp("run") / "vqvae")


@pytest.fixture
def own_run(run, tmp_path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(run, tmp_path / "run"))


# -- the card ----------------------------------------------------------------------------------------------------------


def test_every_number_on_the_card_was_measured_or_set(run):
    """What the card shows beyond its template stands in metrics.json, rounded or not, or in the model's config."""
    record = json.loads((run / "metrics.json").read_text())
    config = AutoConfig.from_pretrained(run)
    measured = [number(value) for value in record["metrics"].values()]
    shapes = [str(side) for side in (config.height, config.width, *config.grid_size)]
    words = [FAMILIES["vqvae"].citation, *(unit for _, unit in METRIC_TITLES.values()), RUN_TEMPLATE.read_text()]
    allowed = numbers_in(" ".join([json.dumps(record), str(config.to_dict()), *measured, *shapes, *words]))
    assert numbers_in(card_of(run)) <= allowed


def test_the_template_brings_no_results_of_its_own():
    indices_range_and_licence = {"0", "1", "2", "2.0"}
    assert numbers_in(RUN_TEMPLATE.read_text()) == indices_range_and_licence


def test_changing_metrics_json_changes_every_measured_number(own_run):
    before = json.loads((own_run / "metrics.json").read_text())["metrics"]
    old_card = card_of(own_run)
    after = {name: value * 3 + 1 for name, value in before.items()}
    write_metrics(own_run, metrics=after)
    new_card = card_of(own_run)
    for name in before:
        row = rf"\| {re.escape(METRIC_TITLES[name][0])} \| {{}} \|"
        assert re.search(row.format(re.escape(number(before[name]))), old_card)
        assert re.search(row.format(re.escape(number(after[name]))), new_card)
        assert not {number(before[name]), str(before[name])} & numbers_in(new_card.split("## Training")[0])
    assert shown_values(new_card) == after and shown_values(old_card) == before


def shown_values(card: str) -> dict[str, float]:
    """Name -> value in the card's model-index."""
    return {result.metric_type: result.metric_value for result in ModelCard(card).data.eval_results}


def test_the_header_names_data_set_library_and_licence(run):
    data = ModelCard(card_of(run)).data
    assert (data.datasets, data.library_name, data.license) == (["org/little-digits"], "transformers", "apache-2.0")
    assert {"vqvae", "image-tokenizer"} <= set(data.tags)
    assert {result.dataset_split for result in data.eval_results} == {"test"}


def test_eval_results_name_the_data_set_and_every_metric(run):
    path, text = eval_results_yaml(read_run(run))
    entries = parse_eval_result_entries(yaml.safe_load(text))
    assert path == ".eval_results/little-digits.yaml"
    assert {entry.task_id: entry.value for entry in entries} == read_run(run).metrics
    assert {entry.dataset_id for entry in entries} == {"org/little-digits"}


@pytest.mark.parametrize("dataset", ["digits", "/data/mnist", {"name": "../shared/mnist"}, None])
def test_data_that_is_not_on_the_hub_gets_no_hub_entry(own_run, dataset):
    write_metrics(own_run, dataset=dataset)
    assert eval_results_yaml(read_run(own_run)) is None
    assert ModelCard(card_of(own_run)).data.datasets is None


def test_of_a_local_folder_only_its_name_is_shown(own_run):
    write_metrics(own_run, dataset={"name": "/home/somebody/pictures"})
    assert "trained on pictures." in card_of(own_run)


def test_an_unknown_metric_is_shown_under_its_own_name(own_run):
    write_metrics(own_run, metrics={"fd_cnn": 1.25})
    assert "| fd_cnn | 1.25 |" in card_of(own_run)


def test_a_strange_command_does_not_break_the_tables(own_run):
    write_metrics(own_run, dataset={"name": "a|b\nc"}, note="x | y\n# z")
    table = card_of(own_run).split("## Training")[1].split("Settings")[0]
    assert "x \\| y # z" in table


HOSTILE = "x\n```\n# OWNED\n<script>run()</script> | [a](http://evil) `"


def outside_of_code(markdown: str) -> list[str]:
    """Lines that are no code: a fence ends at a line of at least as many backticks as it began with."""
    fence, lines = "", []
    for line in markdown.splitlines():
        ticks = re.match(r"`{3,}", line)
        if not fence and not ticks:
            lines.append(line)
        if ticks and (not fence or (len(ticks[0]) >= len(fence) and line.strip("`") == "")):
            fence = "" if fence else ticks[0]
    assert not fence, "a block of code without end"
    return lines


def check_that_words_stay_words(markdown: str) -> None:
    body = "\n".join(outside_of_code(markdown.split("\n---\n", 1)[1]))
    assert "OWNED" in markdown
    assert not re.search(r"^\s*#+ *OWNED|(?<!\\)<script|(?<!\\)\[a(?<!\\)\]\(http://evil", body, re.MULTILINE), body


def test_names_and_settings_from_anywhere_stay_words_on_a_card(own_run):
    write_metrics(
        own_run,
        dataset={"name": HOSTILE, "eval_split": HOSTILE},
        settings={"output_dir": HOSTILE},
        command=HOSTILE,
        metrics={"mse": 1.0, HOSTILE: 2.0},
        note=HOSTILE,
    )
    check_that_words_stay_words(card_of(own_run))


def test_names_from_anywhere_stay_words_on_the_cards_of_priors_and_tokens():
    sequencer = ImageTokenSequencer(8, (2, 2), num_classes=2, class_names=[HOSTILE, "eel"], image_tokenizer=HOSTILE)
    record = {
        "dataset": {"name": HOSTILE}, "architecture": "llama", "parameters": 1, "steps": 1, "note": HOSTILE,
        "metrics": {"nats_per_code": 1.0, HOSTILE: 2.0}, "command": shlex.join(["a", HOSTILE]), "versions": {},
        "settings": {"output_dir": HOSTILE},
    }  # fmt: skip
    check_that_words_stay_words(prior_card(record, sequencer, HOSTILE))
    check_that_words_stay_words(image_token_lm_card(record, sequencer, HOSTILE))
    split = {"rows": 3, "codes_used": 2, "perplexity": 1.5}
    made_by = {"image_tokenizer": HOSTILE, "revision": None, "weights": "0", "codebook_size": 8, "grid_size": [2, 2]}
    tokens = {"source": {"dataset_name": HOSTILE}, "splits": {HOSTILE: split}, **made_by}
    check_that_words_stay_words(token_dataset_card(tokens))
    record |= {"image_model": HOSTILE, "scaling_factor": 0.5}
    check_that_words_stay_words(pipeline_card(build_unet(1, (4, 4), block_out_channels=(32, 32)), record))


def test_a_template_leaves_braces_in_words_alone_and_names_what_it_lacks(tmp_path):
    template = tmp_path / "card.md"
    template.write_text("# {{ plain_text(title) }}, {{ steps }} steps\n")
    assert render(template, title="{{ 7 * 7 }}", steps=3) == "# {{ 7 \\* 7 }}, 3 steps\n"
    with pytest.raises(UndefinedError, match="steps"):
        render(template, title="a")


@pytest.mark.parametrize("model_type", LATENTS)
def test_whatever_evaluation_measures_has_a_title_and_a_unit(model_type):
    config = AutoConfig.for_model(model_type, **SIZES, **LATENTS[model_type])
    metrics = evaluate(AutoModel.from_config(config), [{"pixel_values": torch.rand(2, 1, 12, 12)}])
    assert metrics.keys() <= METRIC_TITLES.keys()


@pytest.mark.parametrize("model_type", ["ae", "vae", "dvae"])
def test_cards_of_the_other_models_leave_no_gaps(tmp_path, model_type):
    card = card_of(write_run(tmp_path / "run", model_type))
    assert ("get_image_tokens" in card) == (model_type == "dvae")
    for word in ("None", "undefined", "{{", "{%", "Undefined", "\n\n\n\n"):
        assert word not in card.split("---", 2)[2], word


# -- runs that cannot be published -------------------------------------------------------------------------------------


def remove(name: str):
    return lambda folder: (folder / name).unlink()


def give_metrics(**record):
    return lambda folder: write_metrics(folder, **record)


def give_weights_of_a_vae(folder: Path) -> None:
    shutil.copy(write_run(folder.parent / "vae", "vae") / "model.safetensors", folder)


def widen_one_tensor(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    name = min(weights)
    save_file({**weights, name: torch.zeros(2, *weights[name].shape)}, folder / "model.safetensors", {"format": "pt"})


def cut_weights(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def edit_config(**changes):
    def edit(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **changes}))

    return edit


def spoil_weights(value: float):
    def spoil(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        weights[min(weights)].view(-1)[0] = value
        save_file(weights, folder / "model.safetensors", {"format": "pt"})

    return spoil


def name_code_elsewhere(folder: Path) -> None:
    edit_config(auto_map={"AutoModel": f"{folder.parent}/secret.Model"})(folder)


SPOILED = {
    "NaN in the weights": (spoil_weights(float("nan")), "hold NaN or infinity in 1 of "),
    "infinity in the weights": (spoil_weights(float("inf")), "hold NaN or infinity in 1 of "),
    "code elsewhere": (name_code_elsewhere, "which is no file of code beside it"),
    "no metrics.json": (remove("metrics.json"), "metrics.json is missing"),
    "no metrics": (give_metrics(metrics={}), "has no `metrics`"),
    "diverged": (give_metrics(metrics={"mse": float("nan")}), "the metric mse must be a finite number, got nan"),
    "words for metrics": (give_metrics(metrics={"mse": "small"}), "must be a finite number, got 'small'"),
    "no config": (remove("config.json"), "config.json is missing"),
    "no processor": (remove("preprocessor_config.json"), "preprocessor_config.json is missing"),
    "no weights": (remove("model.safetensors"), "has no weights"),
    "cut weights": (cut_weights, "model.safetensors cannot be read"),
    "weights of another model": (give_weights_of_a_vae, "are not those of config.json (vqvae)"),
    "a tensor of another shape": (widen_one_tensor, "1 of "),
    "code removed": (remove("modeling_vqvae.py"), "modeling_vqvae.py is missing, but `auto_map` needs it"),
    "imported code removed": (remove("losses.py"), "losses.py is missing, but "),
    "no auto_map": (edit_config(auto_map={}), "names no code"),
    "unknown model": (edit_config(model_type="bert-of-pictures"), "is no config of this package"),
    "negative codebook": (edit_config(codebook_size=-1), "`codebook_size`"),
    "codebook in words": (edit_config(codebook_size="many"), "codebook_size"),
}


@pytest.mark.parametrize("what", SPOILED)
def test_a_spoiled_run_is_refused_in_one_line(own_run, what):
    spoil, message = SPOILED[what]
    spoil(own_run)
    with pytest.raises(RunError) as error:
        check_run(read_run(own_run))
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(RunError, match="There is no folder"):
        read_run(tmp_path / "nowhere")


# -- publishing --------------------------------------------------------------------------------------------------------


def refusal(client, function, *args, **kwargs) -> str:
    """The one line of the PublishError that the call raises."""
    with pytest.raises(PublishError) as error:
        client(function, *args, template=RUN_TEMPLATE, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


def push_run_without_token(*args, **kwargs):
    token = os.environ.pop("HF_TOKEN")
    try:
        return push_run(*args, **kwargs)
    finally:
        os.environ["HF_TOKEN"] = token


def test_a_run_is_published_in_one_commit(hub, client, run):
    published = client(push_run, run, "org/one-commit", template=RUN_TEMPLATE)
    repository = hub.repository("org/one-commit")
    assert repository.titles == ["initial commit", "Publish the model"]
    assert published.revision == repository.at("main").oid and published.url == f"{hub.url}/org/one-commit"
    expected = {path.name for path in run.iterdir()} | {"README.md", "code_usage.png", ".gitattributes"}
    assert set(repository.files) == expected | {".eval_results/little-digits.yaml"}
    for name in ("model.safetensors", "modeling_vqvae.py"):
        assert repository.files[name].content == (run / name).read_bytes()
    assert "org/one-commit" in repository.files["README.md"].content.decode()


def test_only_what_a_run_writes_goes_up_and_the_rest_is_named(hub, client, own_run, tmp_path):
    (tmp_path / "secret").write_text("key")
    for name in ("kaggle.json", ".hidden.json", "notes.png", "secret.py"):
        (own_run / name).write_text("{}")
    (own_run / "linked.json").symlink_to(tmp_path / "secret")
    (own_run / "metrics.jsonl").write_text("{}")  # a run's own, of no use there
    published = client(push_run, own_run, "org/only-the-run", template=RUN_TEMPLATE)
    foreign = {"kaggle.json", ".hidden.json", "notes.png", "secret.py", "linked.json"}
    assert set(published.left_out) == foreign
    assert not set(hub.repository("org/only-the-run").files) & (foreign | {"metrics.jsonl"})


def test_a_link_in_the_place_of_a_runs_file_is_refused(own_run, tmp_path):
    (own_run / "metrics.json").rename(tmp_path / "elsewhere.json")
    (own_run / "metrics.json").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(RunError, match="metrics.json is a link: only files that lie in the folder itself"):
        push_run(own_run, "org/x")


def test_links_in_a_checkpoint_stay_at_home(hub, client, tmp_path):
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_text("key")
    checkpoint = write_checkpoint(tmp_path / "checkpoint-10", rank_0="a")
    (checkpoint / "rank" / "file").symlink_to(tmp_path / "secret" / "key")
    (checkpoint / "folder").symlink_to(tmp_path / "secret")
    client(push_checkpoint, checkpoint, "org/links", blocking=True)
    assert set(hub.repository("org/links").files) == {".gitattributes", "last-checkpoint/rank/rank_0"}


def test_what_a_killed_upload_left_is_removed_by_the_next(tmp_path, monkeypatch):
    code = """
import os, signal, pathlib
from hf_autoencoders.hub.set_aside import SetAside
aside = SetAside()
(aside.files / "weights").write_text("1")
print(aside.root, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    killed = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    left = Path(killed.stdout.strip())
    assert (left / "files" / "weights").is_file()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    first = SetAside()
    assert not left.exists()
    second = SetAside()
    assert first.files.is_dir(), "one that is at work stays"
    first.remove()
    second.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_second_push_updates_and_leaves_nothing_stale(hub, client, own_run):
    client(push_run, own_run, "org/updated", template=RUN_TEMPLATE)
    first = hub.repository("org/updated").files
    write_run(own_run, seed=1, dataset="digits", code_histogram=None, metrics={"mse": 0.5})
    (own_run / "example.png").unlink()
    client(push_run, own_run, "org/updated", template=RUN_TEMPLATE)
    second = hub.repository("org/updated").files
    assert second["model.safetensors"].content != first["model.safetensors"].content
    assert set(first) - set(second) == {".eval_results/little-digits.yaml", "code_usage.png", "example.png"}
    assert shown_values(second["README.md"].content.decode()) == {"mse": 0.5}


def test_publishing_the_same_run_again_changes_nothing(hub, client, run):
    published = [client(push_run, run, "org/unchanged", template=RUN_TEMPLATE) for _ in range(2)]
    assert published[0] == published[1]
    assert len(hub.repository("org/unchanged").titles) == 2


def test_a_bare_name_goes_to_the_users_own_namespace_and_privately(hub, client, run):
    assert client(push_run, run, "mine", private=True, template=RUN_TEMPLATE).repo_id == "owner/mine"
    assert hub.repository("owner/mine").private
    client(push_run, run, "owner/mine", template=RUN_TEMPLATE)
    assert hub.repository("owner/mine").private, "a later push without --private must not make it public"


def test_refusals_of_the_hub_are_one_line(hub, client, run, tmp_path):
    assert "does not know this token (401)" in refusal(client, push_run, run, "org/x", token="hf_wrong")
    assert "can only read" in refusal(client, push_run, run, "org/x", token="hf_reader")
    assert "may not write to org/x (403)" in refusal(client, push_run, run, "org/x", token="hf_stranger")
    assert "is no name of a repository" in refusal(client, push_run, run, "org/x/y")
    assert "There is no Hub token" in refusal(client, push_run_without_token, run, "org/x")
    assert ("model", "org/x") not in hub.repositories


def test_a_name_that_is_taken_is_refused_unless_forced(hub, client, run):
    hub.add_repository("org/taken", files={"config.json": b'{"model_type": "bert"}'})
    hub.add_repository("org/notes", files={"notes.txt": b"mine"})
    assert "org/taken exists and holds a bert model, this one is a vqvae" in refusal(client, push_run, run, "org/taken")
    assert "org/notes exists and holds other files, such as notes.txt" in refusal(client, push_run, run, "org/notes")
    assert set(hub.repository("org/notes").files) == {".gitattributes", "notes.txt"}
    client(push_run, run, "org/taken", force=True, template=RUN_TEMPLATE)
    assert b"vqvae" in hub.repository("org/taken").files["config.json"].content


def test_private_is_refused_where_the_repository_is_public(hub, client, run):
    hub.add_repository("org/public")
    assert "org/public exists and is public" in refusal(client, push_run, run, "org/public", private=True)


def test_an_upload_cut_in_the_middle_leaves_the_old_revision(hub, client, own_run):
    client(push_run, own_run, "org/cut", template=RUN_TEMPLATE)
    before = hub.repository("org/cut").at("main")
    write_run(own_run, seed=1)
    hub.cut("/commit/")
    assert "nothing was changed at org/cut" in refusal(client, push_run, own_run, "org/cut")
    assert hub.repository("org/cut").at("main") == before
    client(push_run, own_run, "org/cut", template=RUN_TEMPLATE)
    content = hub.repository("org/cut").files["model.safetensors"].content
    assert content == (own_run / "model.safetensors").read_bytes()


def test_weights_that_break_off_once_are_sent_again(hub, client, own_run):
    write_run(own_run, seed=2)
    hub.cut("/storage/")
    client(push_run, own_run, "org/again", template=RUN_TEMPLATE)
    assert hub.cuts == {**hub.cuts, "/storage/": 0}
    content = hub.repository("org/again").files["model.safetensors"].content
    assert content == (own_run / "model.safetensors").read_bytes()


def push_model(folder: Path, repo_id: str) -> None:
    AutoModel.from_pretrained(folder).push_to_hub(repo_id)


def test_a_bare_model_takes_our_card_along_and_keeps_one_that_somebody_wrote(hub, client, run):
    client(push_model, run, "org/bare")
    card = hub.repository("org/bare").files["README.md"].content.decode()
    assert 'AutoModel.from_pretrained("org/bare", trust_remote_code=True)' in card
    assert "| `codebook_size` | `16` |" in card
    assert "More Information Needed" not in card and ModelCard(card).data.tags == ["hf_autoencoders", "vqvae"]
    hub.add_repository("org/written", files={"README.md": b"---\nlicense: mit\n---\nMine."})
    client(push_model, run, "org/written")
    assert "Mine." in hub.repository("org/written").files["README.md"].content.decode()


# -- checkpoints -------------------------------------------------------------------------------------------------------


def write_checkpoint(folder: Path, **files: str) -> Path:
    (folder / "rank").mkdir(parents=True)
    for name, text in files.items():
        (folder / "rank" / name).write_text(text)
    return folder


def read_folder(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def push_in_the_background(folders: list[Path], repo_id: str) -> list[bool]:
    """Pushes several checkpoints, each pruned at once; whether each was still on its way at that moment."""
    futures = []
    for folder in folders:
        futures.append(push_checkpoint(folder, repo_id))
        shutil.rmtree(folder)
    under_way = [not future.done() for future in futures]
    [future.result() for future in futures]
    return under_way


def test_checkpoints_are_pushed_in_the_background_and_come_back(hub, client, tmp_path):
    first = write_checkpoint(tmp_path / "checkpoint-10", rank_0="a", rank_1="b")
    second = write_checkpoint(tmp_path / "checkpoint-20", rank_0="c")
    assert client(push_in_the_background, [first, second], "org/training") == [True, True]
    assert hub.repository("org/training").titles[1:] == ["Checkpoint checkpoint-10", "Checkpoint checkpoint-20"]
    assert read_folder(client(fetch_checkpoint, "org/training")) == {"rank/rank_0": "c"}


def test_a_checkpoint_leaves_the_published_model_alone(hub, client, run, tmp_path):
    client(push_run, run, "org/both", template=RUN_TEMPLATE)
    before = hub.repository("org/both").files
    client(push_checkpoint, write_checkpoint(tmp_path / "c", rank_0="a"), "org/both", blocking=True, model_type="vqvae")
    after = hub.repository("org/both").files
    assert after == {**before, "last-checkpoint/rank/rank_0": after["last-checkpoint/rank/rank_0"]}
    client(push_run, run, "org/both", template=RUN_TEMPLATE)
    assert "last-checkpoint/rank/rank_0" in hub.repository("org/both").files


def test_a_checkpoint_that_is_not_there_is_one_line(hub, client, run, tmp_path):
    client(push_run, run, "org/no-checkpoint", template=RUN_TEMPLATE)
    for repo_id, message in (("org/no-checkpoint", "has no last-checkpoint/"), ("org/none", "There is no repository")):
        with pytest.raises(PublishError, match=message):
            client(fetch_checkpoint, repo_id)
    asked = r"^runs/none could not be read \(no such folder is here, so the Hub was asked\)"
    with pytest.raises(PublishError, match=asked), one_line_errors("runs/none"):
        raise LocalEntryNotFoundError("Got: ConnectError. Check your connection\nand try again.")
    with pytest.raises(PublishError, match="holds a vqvae model, this one is a vae"):
        folder = write_checkpoint(tmp_path / "c", rank_0="a")
        client(push_checkpoint, folder, "org/no-checkpoint", blocking=True, model_type="vae")


# -- the script, and clean processes that load what it published -------------------------------------------------------


def start(hub, folder: Path, *arguments: str, **environment: str) -> subprocess.Popen:
    """A fresh Python with an empty Hub cache, elsewhere than in the repository."""
    environment = {**os.environ, **hub.environment(folder / "home"), "OMP_NUM_THREADS": "1", **environment}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, *arguments], cwd=folder, env=environment, **pipes)


def publish(hub, folder: Path, run: Path, repo_id: str, **environment: str) -> subprocess.Popen:
    script = str(ROOT / "scripts" / "publish.py")
    return start(hub, folder, script, str(run), "--repo_id", repo_id, PYTHONPATH=str(ROOT), **environment)


def test_the_script_publishes_or_says_in_one_line_why_not(hub, run, tmp_path):
    online = publish(hub, tmp_path, run, "org/scripted")
    offline = publish(hub, tmp_path, run, "org/scripted", HF_ENDPOINT="http://127.0.0.1:9")  # nobody listens there
    printed, errors = online.communicate()
    assert printed.startswith(f"Published {hub.url}/org/scripted at revision "), errors
    errors = offline.communicate()[1].splitlines()
    assert errors[-1].startswith("publish.py: The connection to http://127.0.0.1:9 failed")
    assert (online.returncode, offline.returncode) == (0, 2)
    assert not any("Traceback" in line for line in errors)


def test_an_upload_that_is_killed_leaves_the_old_revision(hub, client, own_run, tmp_path):
    client(push_run, own_run, "org/killed", template=RUN_TEMPLATE)
    before = hub.repository("org/killed").at("main")
    write_run(own_run, seed=5)
    hub.calls.clear()
    hub.cut("/storage/", times=99)
    upload = publish(hub, tmp_path, own_run, "org/killed")
    while upload.poll() is None and not any(call.startswith("PUT /storage/") for call in hub.calls):
        time.sleep(0.05)
    assert upload.poll() is None, upload.communicate()[1]
    upload.kill()
    upload.communicate()
    hub.cut("/storage/", times=0)
    assert hub.repository("org/killed").at("main") == before


LOAD = """
import json, sys
import torch
from transformers import AutoConfig
if not sys.argv[1].startswith("with "):
    sys.modules["hf_autoencoders"] = None      # as if it were not installed
results = {}
for repo_id, blocks in json.load(open(sys.argv[2])).items():
    names = {}
    try:
        for block in blocks:
            exec(block, names)
        with torch.no_grad():
            output = names["model"](names["pixel_values"])
        trust = {} if sys.argv[1].startswith("with ") else {"trust_remote_code": True}
        fields = {name: value for name, value in output.items() if isinstance(value, torch.Tensor)}
        config = AutoConfig.from_pretrained(repo_id, **trust)
        module = type(names["model"]).__module__
        results[repo_id] = {"output": fields, "model_type": config.model_type, "module": module}
    except Exception as error:
        results[repo_id] = {"error": str(error)}
torch.save(results, sys.argv[3])
"""


LOAD_REMOTE = """
import sys
sys.modules["hf_autoencoders"] = None
from transformers import AutoModel
print(type(AutoModel.from_pretrained("{repo_id}", revision="{revision}", trust_remote_code=True)).__name__)
"""


def python_blocks(card: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", card, re.DOTALL)


@pytest.fixture(scope="module")
def published_runs(hub, client, run, tmp_path_factory) -> dict[str, Path]:
    """Repo id -> run, for each of the four models."""
    folder = tmp_path_factory.mktemp("runs")
    runs = {f"org/{name}-tiny": write_run(folder / name, name, seed=7) for name in LATENTS}
    for repo_id, path in runs.items():
        client(push_run, path, repo_id, template=RUN_TEMPLATE)
    files = {path: file.content for path, file in hub.repository("org/vqvae-tiny").files.items()}
    del files["modeling_vqvae.py"]
    hub.add_repository("org/code-removed", files=files)
    return runs


@pytest.fixture(scope="module")
def loaded(hub, published_runs, tmp_path_factory) -> dict[str, dict]:
    """What the Python blocks of the cards give in a clean process, with the package and without it, by repo id."""
    processes, results = {}, {}
    for i, how in enumerate(("without the package", "with the package")):
        folder = tmp_path_factory.mktemp("elsewhere")
        blocks = {}
        for repo_id in [*published_runs, "org/code-removed"]:
            card = hub.repository(repo_id).files["README.md"].content.decode()
            card_blocks = python_blocks(card.replace("org/vqvae-tiny", repo_id))
            blocks[repo_id] = [card_blocks[i], card_blocks[2]]
        (folder / "blocks.json").write_text(json.dumps(blocks))
        path = str(ROOT) if how.startswith("with ") else ""
        arguments = ("-c", LOAD, how, "blocks.json", "results.pt")
        processes[how] = folder, start(hub, folder, *arguments, HF_TOKEN="", PYTHONPATH=path)
    for how, (folder, process) in processes.items():
        printed, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        results[how] = {**torch.load(folder / "results.pt", weights_only=False), "printed": printed, "errors": errors}
        assert (folder / "reconstruction.png").exists()
    return results


def test_the_code_of_a_named_commit_is_loaded_without_a_notice(hub, loaded, published_runs, tmp_path):
    """As the card says, which cannot name the commit that it is itself part of."""
    card, notice = hub.repository("org/ae-tiny").files["README.md"].content.decode(), "A new version of the following"
    assert PIN_THE_CODE in card and notice in loaded["without the package"]["errors"]
    code = LOAD_REMOTE.format(repo_id="org/ae-tiny", revision=hub.repository("org/ae-tiny").at("main").oid)
    process = start(hub, tmp_path, "-c", code, HF_TOKEN="", PYTHONPATH="")
    printed, errors = process.communicate(timeout=300)
    assert printed == "AEModel\n" and notice not in errors


@pytest.mark.parametrize("how", ["with the package", "without the package"])
@pytest.mark.parametrize("model_type", LATENTS)
def test_the_lines_of_the_card_run_and_give_the_same_outputs(hub, loaded, published_runs, how, model_type):
    result = loaded[how][f"org/{model_type}-tiny"]
    assert "error" not in result, result["error"]
    assert result["model_type"] == model_type
    assert result["module"].startswith("hf_autoencoders." if how.startswith("with ") else "transformers_modules.")
    folder = published_runs[f"org/{model_type}-tiny"]
    model = AutoModel.from_pretrained(folder)
    processor = AutoencoderImageProcessorPil.from_pretrained(folder)
    pixels = processor(Image.open(folder / "example.png"), return_tensors="pt")
    with torch.no_grad():
        expected = {name: value for name, value in model(**pixels).items() if isinstance(value, torch.Tensor)}
    assert expected.keys() == result["output"].keys()
    for name, value in expected.items():
        torch.testing.assert_close(result["output"][name], value, rtol=1e-5, atol=1e-6, equal_nan=True)
    if "image_tokens" in expected:
        assert torch.equal(expected["image_tokens"], result["output"]["image_tokens"])
        card = hub.repository(f"org/{model_type}-tiny").files["README.md"].content.decode()
        assert str(expected["image_tokens"]) in loaded[how]["printed"]
        assert str(expected["image_tokens"]) in card


def test_a_repository_without_its_code_is_one_clear_line(loaded):
    """With the package the code is not needed; without it the error names the file."""
    error = loaded["without the package"]["org/code-removed"]["error"]
    assert "modeling_vqvae.py" in error and len(error.strip().splitlines()) == 1
    assert "error" not in loaded["with the package"]["org/code-removed"]


def test_every_word_of_the_card_is_about_this_model(hub, published_runs):
    """The five lines: processor, model, picture, pixels, result."""
    for repo_id in published_runs:
        card = hub.repository(repo_id).files["README.md"].content.decode()
        for block in python_blocks(card)[:2]:
            statements = [line for line in block.splitlines() if line and not line.startswith(("import ", "from "))]
            assert len(statements) == 5, statements
        assert set(re.findall(r'"(org/[^"]+)"', card)) == {repo_id}


# -- the whole way -----------------------------------------------------------------------------------------------------


def train(hub, folder: Path, *arguments: str) -> str:
    """Trains a tiny VQ-VAE on the embedded digits, and returns what it printed."""
    knobs = "--image_size 8 --num_channels 1 --block_out_channels 16 16 --codebook_size 32 --codebook_dim 8 --cpu"
    script = str(ROOT / "scripts" / "train.py")
    process = start(hub, folder, script, *knobs.split(), *arguments, PYTHONPATH=str(ROOT))
    printed, errors = process.communicate()
    assert process.returncode == 0, errors
    return printed


@pytest.mark.slow
def test_training_publishes_while_it_runs_and_continues_from_the_hub(hub, tmp_path):
    push = "--push_to_hub --hub_model_id org/trained --hub_strategy checkpoint --checkpointing_steps 10"
    train(hub, tmp_path, "--output_dir", "first", "--max_train_steps", "20", *push.split())
    repository = hub.repository("org/trained")
    pushes = ["Step 10", "Checkpoint checkpoint-00000010", "Step 20", "Checkpoint checkpoint-00000020"]
    assert repository.titles[1:] == [*pushes, "End of training"]
    written = json.loads((tmp_path / "first" / "metrics.json").read_text())["metrics"]
    assert shown_values(repository.files["README.md"].content.decode()) == written
    printed = train(hub, tmp_path, "--output_dir", "second", "--max_train_steps", "21", "--resume", "org/trained")
    assert "at step 20 of 21" in printed
