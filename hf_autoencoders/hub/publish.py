# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Runs and checkpoints to the Hub and back, each upload in one commit.

    push_run(run_dir, "org/name")                 the model with its code, its card, its pictures
    push_checkpoint(checkpoint_dir, "org/name")   a training state, to `last-checkpoint/` beside it
    fetch_checkpoint("org/name")                  that state again, as a local folder

`blocking=False` returns a `concurrent.futures.Future` at once and uploads in the background: files are set aside first,
so that training may go on writing. Background uploads happen one after the other.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    ModelInfo,
    SpaceInfo,
    constants,
    run_as_future,
    snapshot_download,
)
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import httpx
from safetensors import SafetensorError, safe_open
from transformers import AutoModel
from transformers.utils import logging

from ..training.text import one_line
from .cards import RunError, SavedRun, build_card, draw_code_usage, eval_results_yaml, read_json, read_run


logger = logging.get_logger(__name__)

CHECKPOINT_FOLDER = "last-checkpoint"
PUBLISHED = ("*.json", "*.safetensors", "*.py", "*.png", "*.yaml", "*.yml")  # of a run's own folder, not below it

# What an earlier version may have left that would be wrong beside a new one: `model.safetensors` is preferred to new
# shards, old numbers and pictures would stand beside new ones.
REPLACED = re.compile(
    r"[^/]+\.safetensors|[^/]+\.safetensors\.index\.json|[^/]+\.py|\.eval_results/[^/]+\.yaml"
    r"|(code_usage|reconstructions|example)\.png"
)
FOREIGN_TO_NOBODY = re.compile(rf"\.gitattributes|README\.md|LICENSE.*|\.eval_results/.*|{CHECKPOINT_FOLDER}/.*")


class PublishError(RuntimeError):
    """The Hub did not take or give something; the message is one line that says what to do."""


@dataclass(frozen=True)
class Published:
    """Where an upload went: `url` of the repository, and the commit's `revision`."""

    repo_id: str
    url: str
    revision: str


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
    check_run(read_run(run_dir))
    folder = Path(tempfile.mkdtemp(prefix="publish-"))
    for path in sorted(Path(run_dir).iterdir()):
        if path.is_file() and any(path.match(pattern) for pattern in PUBLISHED):
            shutil.copy2(path, folder / path.name)

    def job() -> Published:
        run = read_run(folder)
        with one_line_errors(repo_id):
            repository = claim_repository(HfApi(token=token), repo_id, private, run.config.model_type, force)
        write_card(run, repository.id, template)
        with one_line_errors(repository.id):
            return commit_folder(HfApi(token=token), folder, repository, "", REPLACED.fullmatch, commit_message)

    return queue_upload(job, folder, blocking)


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

    Args:
        model_type: of the model in training: a repository that holds another one is refused.

    Raises:
        PublishError: as for `push_run`.
    """
    checkpoint_dir = Path(checkpoint_dir)
    if not checkpoint_dir.is_dir():
        raise PublishError(f"There is no checkpoint {checkpoint_dir}.")
    folder = Path(tempfile.mkdtemp(prefix="checkpoint-"))
    shutil.copytree(checkpoint_dir, folder, copy_function=link_or_copy, dirs_exist_ok=True)

    def job() -> Published:
        api, message = HfApi(token=token), commit_message or f"Checkpoint {checkpoint_dir.name}"
        with one_line_errors(repo_id):
            repository = claim_repository(api, repo_id, private, model_type)
            prefix = f"{CHECKPOINT_FOLDER}/"
            return commit_folder(api, folder, repository, prefix, lambda path: path.startswith(prefix), message)

    return queue_upload(job, folder, blocking)


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


def queue_upload(job: Callable[[], Published], folder: Path, blocking: bool) -> Published | Future:
    """Queues the job behind earlier uploads, which it must not overtake, and removes its folder when it is done.

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
            shutil.rmtree(folder, ignore_errors=True)

    future = run_as_future(run)
    return future.result() if blocking else future


def link_or_copy(source: str, target: str) -> None:
    """A second name for the same file: costs nothing, and lives on when the checkpoint is pruned."""
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)


# -- is it a whole run? ------------------------------------------------------------------------------------------------


def check_run(run: SavedRun) -> None:
    """Refuses a run that nobody could load. Raises RunError."""
    check_code(run.folder)
    check_weights_of_run(run)


def check_code(folder: Path) -> None:
    """Every file of code that config and processor name, and those that they import, must be there."""
    maps = [read_json(folder / "config.json", "the model's config").get("auto_map")]
    if not maps[0]:
        raise RunError(f"{folder / 'config.json'} names no code (`auto_map`): save the model with save_pretrained.")
    processor = folder / "preprocessor_config.json"
    maps.append(read_json(processor, "the image processor; save it beside the model").get("auto_map"))
    modules = {name.split(".")[0] for name in strings_in(maps)}
    for module in sorted(modules):
        check_module(folder, module, "`auto_map`", set())


def strings_in(value: Any) -> Iterator[str]:
    """All strings in nested lists and dictionaries' values."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from strings_in(item)


def check_module(folder: Path, module: str, named_by: str, seen: set[str]) -> None:
    if module in seen:
        return
    seen.add(module)
    path = folder / f"{module}.py"
    if not path.is_file():
        raise RunError(f"{path} is missing, but {named_by} needs it: save the model again with save_pretrained.")
    for sibling in re.findall(r"^\s*from \.(\w+) import", path.read_text(encoding="utf-8"), re.MULTILINE):
        check_module(folder, sibling, path.name, seen)


def check_weights_of_run(run: SavedRun) -> None:
    """The weights must be those of the config: the same names, the same shapes."""
    with torch.device("meta"):
        model = AutoModel.from_config(run.config)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = saved_shapes(run.folder)
    for problem, names in (
        ("are missing", expected.keys() - found.keys()),
        ("belong to another model", found.keys() - expected.keys()),
        ("have another shape", {name for name in expected.keys() & found.keys() if expected[name] != found[name]}),
    ):
        if names:
            raise RunError(
                f"The weights in {run.folder} are not those of config.json ({run.config.model_type}): "
                f"{len(names)} of {len(expected)} tensors {problem}, such as {min(names)}."
            )


def saved_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor in the folder's .safetensors files, read from their headers."""
    shapes: dict[str, tuple[int, ...]] = {}
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise RunError(f"{folder} has no weights (model.safetensors): save the model with save_pretrained.")
    for path in files:
        try:
            with safe_open(path, framework="pt") as tensors:
                shapes.update({name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()})  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise RunError(f"{path} cannot be read: {one_line(error)}") from error
    return shapes


# -- one commit --------------------------------------------------------------------------------------------------------


def write_card(run: SavedRun, repo_id: str, template: str | Path | None) -> None:
    """README.md, code_usage.png and .eval_results/*.yaml into the run's folder."""
    if run.record.get("code_histogram"):
        draw_code_usage(run.record["code_histogram"], run.folder / "code_usage.png")
    if results := eval_results_yaml(run):
        path = run.folder / results[0]
        path.parent.mkdir(exist_ok=True)
        path.write_text(results[1], encoding="utf-8")
    build_card(run, repo_id, template).save(run.folder / "README.md")


def claim_repository(
    api: HfApi, repo_id: str, private: bool, model_type: str | None = None, force: bool = False
) -> ModelInfo:
    """The repository, created if need be, and ours to write: refuses one that holds something else.

    Raises:
        PublishError: a read-only token, a repository with another model, or a public one where `private` was asked for.
    """
    user = refuse_read_only(api)
    repo_id = repo_id if "/" in repo_id else f"{user['name']}/{repo_id}"
    try:
        repository = api.model_info(repo_id)
    except RepositoryNotFoundError:
        api.create_repo(repo_id, private=private, exist_ok=True)
        repository = api.model_info(repo_id)
    if private and not repository.private:
        raise PublishError(f"{repo_id} exists and is public: change that in its settings, or choose another name.")
    if not force:
        refuse_foreign(api, repository, model_type)
    return repository


def refuse_read_only(api: HfApi) -> dict[str, Any]:
    """Who publishes, as the Hub tells."""
    user = api.whoami(cache=True)
    if user.get("auth", {}).get("accessToken", {}).get("role") == "read":
        raise PublishError(f"The token of {user['name']} can only read: publishing needs one that can write.")
    return user


def refuse_foreign(api: HfApi, repository: ModelInfo, model_type: str | None) -> None:
    """A repository with another model, or with files that are no model, was not made by an earlier run of this one."""
    advice = "choose another --repo_id, or pass --force to overwrite it"
    paths = {sibling.rfilename for sibling in repository.siblings or []}
    if "config.json" not in paths:
        foreign = sorted(path for path in paths if not FOREIGN_TO_NOBODY.fullmatch(path))
        if foreign:
            raise PublishError(f"{repository.id} exists and holds other files, such as {foreign[0]}: {advice}.")
        return
    path = api.hf_hub_download(repository.id, "config.json", revision=repository.sha)
    present = read_json(Path(path), "the config on the Hub").get("model_type")
    if model_type is not None and present != model_type:
        raise PublishError(f"{repository.id} exists and holds a {present} model, this one is a {model_type}: {advice}.")


def commit_folder(
    api: HfApi,
    folder: Path,
    repository: ModelInfo | SpaceInfo,
    prefix: str,
    is_replaced: Callable[[str], Any],
    message: str,
    repo_type: str = "model",
) -> Published:
    """All files of the folder below `prefix`, and what they replace, in one commit on the head that was looked at.

    `upload_folder` may split a large folder into several commits (with xet), of which readers would see the first.
    """
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    files = {f"{prefix}{path.relative_to(folder).as_posix()}": path for path in paths}
    present: Iterable[str] = (sibling.rfilename for sibling in repository.siblings or [])
    operations: list[CommitOperationAdd | CommitOperationDelete] = [
        CommitOperationDelete(path) for path in present if is_replaced(path) and path not in files
    ]
    operations += [CommitOperationAdd(name, str(path)) for name, path in files.items()]
    commit = api.create_commit(
        repository.id, operations, commit_message=message, parent_commit=repository.sha, repo_type=repo_type
    )
    place = "spaces/" if repo_type == "space" else ""
    return Published(repository.id, f"{api.endpoint}/{place}{repository.id}", commit.oid)


# -- errors in one line ------------------------------------------------------------------------------------------------


def publish_files(
    folder: Path,
    repo_id: str,
    patterns: Iterable[str],
    message: str,
    *,
    private: bool | None = None,
    repo_type: str = "model",
    replaced: Iterable[str] = (),
) -> str:
    """The folder's files that match `patterns` (as for `Path.glob`), in one commit; gives the repository's address.

    Args:
        repo_id: is created where it does not exist.
        replaced: patterns of files that go where the folder has none of their names.

    Raises:
        PublishError: whatever the Hub refuses.
    """  # fmt: skip
    api = HfApi()
    files = {path.relative_to(folder).as_posix(): path for pattern in patterns for path in sorted(folder.glob(pattern))}
    operations: list[CommitOperationAdd | CommitOperationDelete]
    operations = [CommitOperationAdd(name, str(path)) for name, path in files.items() if path.is_file()]
    with one_line_errors(repo_id):
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True, repo_type=repo_type).repo_id
        for name in api.list_repo_files(repo_id, repo_type=repo_type):
            if name not in files and any(fnmatch(name, pattern) for pattern in replaced):
                operations.append(CommitOperationDelete(name))
        api.create_commit(repo_id, operations, commit_message=message, repo_type=repo_type)
    return f"{api.endpoint}/{'' if repo_type == 'model' else f'{repo_type}s/'}{repo_id}"


@contextmanager
def one_line_errors(repo_id: str) -> Iterator[None]:
    """Turns the client's errors into a PublishError that says what happened and what to do."""
    try:
        yield
    except HFValidationError as error:
        raise PublishError(f"{repo_id!r} is no name of a repository: {one_line(error)}") from error
    except LocalTokenNotFoundError as error:
        raise PublishError("There is no Hub token: run `hf auth login`, or set HF_TOKEN.") from error
    except HfHubHTTPError as error:
        raise PublishError(explain(error, repo_id)) from error
    except OfflineModeIsEnabled as error:
        raise PublishError("HF_HUB_OFFLINE is set: the Hub cannot be reached on purpose; unset it.") from error
    except (httpx.TransportError, ConnectionError) as error:
        raise PublishError(
            f"The connection to {constants.ENDPOINT} failed ({one_line(error)}): nothing was changed at {repo_id}; "
            "run the same command again."
        ) from error


def explain(error: HfHubHTTPError, repo_id: str) -> str:
    """The Hub's refusal in one line."""
    status = error.response.status_code
    if status == 401 and not isinstance(error, RepositoryNotFoundError):
        return f"{constants.ENDPOINT} does not know this token (401): run `hf auth login`, or set HF_TOKEN."
    if status == 403:
        return f"This token may not write to {repo_id} (403): is the name yours, may the token write?"
    if isinstance(error, RepositoryNotFoundError):
        return f"There is no repository {repo_id}, or this token may not see it."
    if isinstance(error, RemoteEntryNotFoundError):
        return f"{repo_id} has no such file: {one_line(error)}"
    if status == 412:
        return f"Somebody else changed {repo_id} meanwhile (412): nothing was changed; run the same command again."
    return f"The Hub refused ({status}): {one_line(error)}"
