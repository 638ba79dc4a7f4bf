# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The demo as a Hugging Face Space: a folder that runs as it stands, and its upload.

write_space(["runs/ae-mnist", "org/vae-mnist"], "space", app="hf_autoencoders/commands/demo.py")
push_space("space", "org/latent-planes")

README.md          title and the settings that the Hub reads: sdk, sdk_version, app_file, models
app.py             commands/demo.py
space.json         which models, in which order
requirements.txt   what the demo imports
hf_autoencoders/   this package
models/NAME/       the runs that are no Hub repositories: weights, config, image processor
backdrops/         codes in the plane and pictures to begin with, read off the data that stay at home
"""

import json
import shutil
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import HfApi

from ..hub.uploads import Published, PublishError, claim_repository, commit_folder, one_line_errors
from .exhibit import DOTS, Exhibit, open_exhibit


PACKAGE = Path(__file__).resolve().parents[1]
GRADIO = "6.31.0"  # that the demo was written with; an installed one goes before
# What the demo imports beside gradio, and torch's index of wheels without CUDA: Spaces start on a CPU.
REQUIREMENTS = (
    "--extra-index-url https://download.pytorch.org/whl/cpu",
    "accelerate>=1.15",
    "filelock>=4.2",
    "huggingface_hub>=2.4",
    "jinja2>=3.1",
    "matplotlib>=3.10",
    "numpy>=2.0",
    "pillow>=12.0",
    "pyyaml>=6.0",
    "safetensors>=0.8",
    "scikit-learn>=1.7",
    "scipy>=1.15",
    "torch>=2.13",
    "transformers>=5.18",
)
OF_A_MODEL = ("config.json", "preprocessor_config.json", "*.safetensors", "*.safetensors.index.json")
FILES_OF_SPACE = ("app.py", "space.json", "requirements.txt", "README.md", "backdrops", "models", PACKAGE.name)
README = """
Drag through the latent plane of {models} and see what each point decodes to; draw a picture, see it as the model sees
it, and edit its codes where it has some.

On your own machine: `pip install -r requirements.txt "gradio=={gradio}"`, then `python app.py`.
"""


def write_space(
    runs: Sequence[str],
    folder: str | Path,
    app: str | Path,
    dataset_name: str | None = None,
    max_samples: int = DOTS,
) -> Path:
    """Writes the folder of a Space that shows one model or two.

    Args:
        runs: folders of runs, which are copied, or Hub ids, which the Space downloads when it starts.
        folder: new, empty, or an earlier Space of ours, which is replaced.
        app: the file commands/demo.py, which reads space.json beside itself.
        dataset_name, max_samples: see `demo.open_exhibit`.

    Raises:
        ValueError: not one or two models, no model there, or a folder that holds something else.
    """
    if len(runs) not in (1, 2):
        raise ValueError(f"A Space shows one model or two, got {len(runs)}.")
    folder = Path(folder)
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "space.json").is_file():
        raise ValueError(f"{folder} holds something else than a Space: choose a new folder.")
    if inside := [run for run in runs if folder.resolve() in (Path(run).resolve(), *Path(run).resolve().parents)]:
        raise ValueError(f"{folder} would be replaced, but holds the run {inside[0]}: choose another folder.")
    exhibits = [open_exhibit(run, dataset_name=dataset_name, max_samples=max_samples) for run in runs]
    clear(folder)
    (folder / "backdrops").mkdir(parents=True)
    entries = [write_entry(run, exhibits[number], number, folder) for number, run in enumerate(runs)]
    (folder / "space.json").write_text(json.dumps({"models": entries}, indent=1) + "\n", encoding="utf-8")
    (folder / "requirements.txt").write_text("\n".join(REQUIREMENTS) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(readme(entries), encoding="utf-8")
    shutil.copy(app, folder / "app.py")
    shutil.copytree(PACKAGE, folder / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def clear(folder: Path) -> None:
    """Removes what an earlier `write_space` left; whatever else lies there (a clone's .git) stays."""
    for name in FILES_OF_SPACE:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def write_entry(run: str, exhibit: Exhibit, number: int, folder: Path) -> dict[str, str]:
    """One model's line in space.json, and the files that it names."""
    backdrop = f"backdrops/{number}.safetensors"
    exhibit.backdrop.save(folder / backdrop)
    if not Path(run).is_dir():
        return {"name": exhibit.name, "repo_id": run, "backdrop": backdrop}
    model = f"models/{number}"
    (folder / model).mkdir(parents=True)
    for pattern in OF_A_MODEL:
        for path in Path(run).glob(pattern):
            shutil.copy(path, folder / model)
    return {"name": exhibit.name, "folder": model, "backdrop": backdrop}


def readme(entries: list[dict[str, str]]) -> str:
    names = [entry["name"] for entry in entries]
    settings: dict[str, Any] = {
        "title": " and ".join(name.split("/")[-1] for name in names),
        "sdk": "gradio",
        "sdk_version": gradio_version(),
        "app_file": "app.py",
        "license": "apache-2.0",
        "tags": ["hf_autoencoders", "autoencoder"],
    }
    if ids := [entry["repo_id"] for entry in entries if "repo_id" in entry]:
        settings["models"] = ids
    head = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
    words = README.format(models=" and ".join(names), gradio=settings["sdk_version"])
    return f"---\n{head}---\n\n# {settings['title']}\n{words}"


def gradio_version() -> str:
    try:
        return version("gradio")
    except PackageNotFoundError:
        return GRADIO


# -- to the Hub --------------------------------------------------------------------------------------------------------


def push_space(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool = False,
    token: str | None = None,
    commit_message: str = "Publish the demo",
    force: bool = False,
) -> Published:
    """Uploads what `write_space` wrote, in one commit that also takes away what an earlier one left.

    Args:
        repo_id: "organisation/name", or "name" in the user's own namespace; created where it does not exist.
        force: overwrite a Space that holds something else.

    Raises:
        PublishError: no such folder, the Hub refused, or cannot be reached; nothing was changed there.
    """
    folder, api = Path(folder), HfApi(token=token)
    if not (folder / "space.json").is_file():
        raise PublishError(f"{folder} is no Space: it has no space.json.")
    with one_line_errors(repo_id):
        space = claim_repository(api, repo_id, private, mark="space.json", force=force, repo_type="space")
        return commit_folder(
            api, folder, space, "", lambda path: path != ".gitattributes", commit_message, repo_type="space"
        )
