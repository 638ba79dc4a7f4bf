# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Runs and checkpoints to the Hub and back, each upload in one commit.

    push_run(run_dir, "org/name")                 the model with its code, its card, its pictures
    push_checkpoint(checkpoint_dir, "org/name")   a training state, to `last-checkpoint/` beside it
    fetch_checkpoint("org/name")                  that state again, as a local folder
    publish_files(folder, "org/name", ...)        a prior, a pipeline, a data set of tokens

`blocking=False` returns a `concurrent.futures.Future` at once and uploads in the background: files are set aside first,
so that training may go on writing. Background uploads happen one after the other.
"""

import re
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

import torch
from huggingface_hub import HfApi, run_as_future, snapshot_download
from transformers.utils import logging

from ..training.folder import HOLDER, LOCK
from ..training.run_files import ARGUMENTS, CARD, EXAMPLE, METRICS, PICTURE, WRITTEN
from ..training.text import one_line
from .cards import SavedRun, build_card, eval_results_yaml, read_run
from .run_checks import FILES_OF_WEIGHTS, RunError, check_run
from .set_aside import SetAside
from .uploads import CHECKPOINT_FOLDER, Published, PublishError, claim_repository, commit_folder, one_line_errors


logger = logging.get_logger(__name__)

# Of a run's own folder, not below it; its code beside them.
PUBLISHED_OF_A_RUN = (
    "config.json", "generation_config.json", "preprocessor_config.json", *FILES_OF_WEIGHTS,
    "model.safetensors.index.json", METRICS, ARGUMENTS, PICTURE, EXAMPLE, "samples.png",
)  # fmt: skip

# What an earlier version may have left that would be wrong beside a new one: `model.safetensors` is preferred to new
# shards, old numbers and pictures would stand beside new ones.
REPLACED = re.compile(
    r"[^/]+\.safetensors|[^/]+\.safetensors\.index\.json|[^/]+\.py|\.eval_results/[^/]+\.yaml"
    r"|(code_usage|reconstructions|example)\.png"
)


# -- the three functions -----------------------------------------------------------------------------------------------


def push_run(
    run_dir: str | Path,
    repo_id: str,
    *,
    private: bool = False,
    token: str | None = None,
    blocking: bool = True,
    commit_message: str = "Publish the model",
    force: bool = False,
    template: str | Path | None = None,
) -> Published | Future:
    """Publishes the folder that train.py leaves: weights, config, processor, code, metrics, pictures and the card.

    Only files by the names that a run writes go there, and no links; `left_out` of the result names the others.

    Args:
        repo_id: "organisation/name", or "name" in the user's own namespace; created where it does not exist.
        private: create it as a private repository.
        token: of a user who may write there; the one of `hf auth login` or HF_TOKEN if None.
        blocking: wait for the upload. Otherwise a Future of the same result.
        force: overwrite a repository that holds another kind of model.
        template: of the card; templates/run.md if None.

    Raises:
        RunError: the folder is no complete run: no metrics, weights of another model, a code file missing.
        PublishError: the Hub refused, or cannot be reached; nothing was changed there.
    """
    files, left_out = files_of_run(Path(run_dir), check_run(read_run(run_dir)))
    aside = SetAside()
    aside.copy(files)

    def job() -> Published:
        run, api = read_run(aside.files), HfApi(token=token)
        with one_line_errors(repo_id):
            repository = claim_repository(api, repo_id, private, model_type=run.config.model_type, force=force)
        write_card(run, repository.id, template)
        with one_line_errors(repository.id):
            published = commit_folder(api, aside.files, repository, "", REPLACED.fullmatch, commit_message)
        return replace(published, left_out=left_out)

    return queue_upload(job, aside, blocking)


def push_checkpoint(
    checkpoint_dir: str | Path,
    repo_id: str,
    *,
    private: bool = False,
    token: str | None = None,
    blocking: bool = False,
    commit_message: str | None = None,
    model_type: str | None = None,
) -> Published | Future:
    """Uploads a training state to `last-checkpoint/` of the repository, in place of the one that is there.

    Links in it are left out.

    Args:
        model_type: of the model in training: a repository that holds another one is refused.

    Raises:
        PublishError: as for `push_run`.
    """
    checkpoint_dir = Path(checkpoint_dir)
    if not checkpoint_dir.is_dir():
        raise PublishError(f"There is no checkpoint {checkpoint_dir}.")
    aside = SetAside()
    aside.link_tree(checkpoint_dir)

    def job() -> Published:
        api, message = HfApi(token=token), commit_message or f"Checkpoint {checkpoint_dir.name}"
        with one_line_errors(repo_id):
            repository = claim_repository(api, repo_id, private, model_type=model_type)
            prefix = f"{CHECKPOINT_FOLDER}/"
            return commit_folder(api, aside.files, repository, prefix, lambda path: path.startswith(prefix), message)

    return queue_upload(job, aside, blocking)


def fetch_checkpoint(repo_id: str, *, token: str | None = None, revision: str | None = None) -> Path:
    """Downloads `last-checkpoint/` of a repository and returns its local path (in the Hub's cache: read, never write).

    A checkpoint holds pickles, which can run any code when they are loaded: only from repositories that you trust.

    Raises:
        PublishError: there is no such repository or checkpoint, or the Hub cannot be reached.
    """
    with one_line_errors(repo_id):
        snapshot = snapshot_download(repo_id, revision=revision, token=token, allow_patterns=f"{CHECKPOINT_FOLDER}/*")
    checkpoint = Path(snapshot) / CHECKPOINT_FOLDER
    if not checkpoint.is_dir():
        raise PublishError(f"{repo_id} has no {CHECKPOINT_FOLDER}/: it takes --push_to_hub --hub_strategy checkpoint.")
    return checkpoint


def publish_files(
    folder: Path,
    repo_id: str,
    patterns: Iterable[str],
    message: str,
    *,
    mark: str,
    model_type: str | None = None,
    private: bool | None = None,
    repo_type: str = "model",
    replaced: Iterable[str] = (),
) -> str:
    """The folder's files that match `patterns` (as for `Path.glob`), in one commit; gives the repository's address.

    Args:
        repo_id: is created where it does not exist.
        mark, model_type: see `claim_repository`; a repository that holds something else is refused.
        replaced: patterns of files that go where the folder has none of their names.

    Raises:
        PublishError: whatever the Hub refuses.
    """
    api = HfApi()

    def is_replaced(path: str) -> bool:
        return any(fnmatch(path, pattern) for pattern in replaced)

    with one_line_errors(repo_id):
        repository = claim_repository(
            api, repo_id, private, mark=mark, model_type=model_type, force=None, repo_type=repo_type
        )
        return commit_folder(api, folder, repository, "", is_replaced, message, repo_type, patterns).url


def queue_upload(job: Callable[[], Published], aside: SetAside, blocking: bool) -> Published | Future:
    """Queues the job behind earlier uploads, which it must not overtake, and removes its copies when it is done.

    A background upload that fails is logged at once, since its Future may be looked at much later.
    """

    def run() -> Published:
        try:
            return job()
        except Exception as error:
            if not blocking:
                logger.warning(f"A background upload failed: {one_line(error)}")
            raise
        finally:
            aside.remove()

    future = run_as_future(run)
    return future.result() if blocking else future


def files_of_run(folder: Path, code: set[str]) -> tuple[list[Path], tuple[str, ...]]:
    """(what is published of a run, names of what no run wrote).

    Raises:
        RunError: a file that is needed is a link.
    """
    files, left_out = [], []
    for path in sorted(folder.iterdir()):
        wanted = path.name in code or any(path.match(pattern) for pattern in PUBLISHED_OF_A_RUN)
        if wanted and path.is_symlink():
            raise RunError(f"{path} is a link: only files that lie in the folder itself are published.")
        if wanted and path.is_file():
            files.append(path)
        elif not is_written_by_runs(path):
            left_out.append(path.name)
    return files, tuple(left_out)


def is_written_by_runs(path: Path) -> bool:
    """Whether a run leaves something by this name in its folder."""
    names = {pattern.split("/")[0] for pattern in WRITTEN} | {CARD, LOCK, HOLDER, ".eval_results"}
    return not path.is_symlink() and any(path.match(name) for name in names)


def write_card(run: SavedRun, repo_id: str, template: str | Path | None) -> None:
    """README.md, code_usage.png and ``.eval_results/*.yaml`` into the run's folder."""
    if histogram := run.record.get("code_histogram"):
        (run.folder / "code_usage.png").write_bytes(plot_code_usage(histogram))
    if results := eval_results_yaml(run):
        path = run.folder / results[0]
        path.parent.mkdir(exist_ok=True)
        path.write_text(results[1], encoding="utf-8")
    build_card(run, repo_id, template).save(run.folder / "README.md")


def plot_code_usage(histogram: list) -> bytes:
    """A PNG file of the report's plot. `histogram`: K counts, or a list of K counts for each level."""
    from ..evaluation import plots  # here, since a training that publishes nothing needs no matplotlib

    counts = torch.atleast_2d(torch.tensor(histogram))  # (levels, K)
    return plots.to_png(plots.code_usage(counts, f"{(counts > 0).sum():,} of {counts.numel():,} codes used"))
