# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""What every upload to the Hub goes through: a repository that is ours to write, one commit, errors in one line."""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    DatasetInfo,
    HfApi,
    ModelInfo,
    SpaceInfo,
    constants,
)
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import httpx

from ..training.text import asked_of_hub, one_line
from .cards import read_json
from .set_aside import is_link


CHECKPOINT_FOLDER = "last-checkpoint"
# Files that do not say whose a repository is.
OF_NO_OWNER = re.compile(rf"\.gitattributes|README\.md|LICENSE.*|\.eval_results/.*|{CHECKPOINT_FOLDER}/.*")


class PublishError(RuntimeError):
    """The Hub did not take or give something; the message is one line that says what to do."""


@dataclass(frozen=True)
class Published:
    """Where an upload went: `url` of the repository, the commit's `revision`, names of files that were left out."""

    repo_id: str
    url: str
    revision: str
    left_out: tuple[str, ...] = ()


def claim_repository(
    api: HfApi,
    repo_id: str,
    private: bool | None,
    *,
    mark: str = "config.json",
    model_type: str | None = None,
    force: bool | None = False,
    repo_type: str = "model",
) -> ModelInfo | DatasetInfo | SpaceInfo:
    """The repository, created if need be, and ours to write: refuses one that holds something else.

    Args:
        mark: the file by which an earlier upload of this kind is known.
        model_type: what `mark`, if it is config.json, must say.
        force: write there whatever it holds; None: no command offers that.

    Raises:
        PublishError: a read-only token, a repository with other files or another model, or a public one where
            `private` was asked for.
    """
    user = refuse_read_only(api)
    repo_id = repo_id if "/" in repo_id else f"{user['name']}/{repo_id}"
    try:
        repository = api.repo_info(repo_id, repo_type=repo_type)
    except RepositoryNotFoundError:
        sdk = "gradio" if repo_type == "space" else None
        api.create_repo(repo_id, repo_type=repo_type, space_sdk=sdk, private=private, exist_ok=True)
        repository = api.repo_info(repo_id, repo_type=repo_type)
    if private and not repository.private:
        raise PublishError(f"{repo_id} exists and is public: change that in its settings, or choose another name.")
    if not force:
        advice = "choose another name" + (", or pass --force to overwrite it" if force is not None else "")
        refuse_foreign(api, repository, repo_type, mark, model_type, advice)
    return repository


def refuse_read_only(api: HfApi) -> dict[str, Any]:
    """Who publishes, as the Hub tells."""
    user = api.whoami(cache=True)
    if user.get("auth", {}).get("accessToken", {}).get("role") == "read":
        raise PublishError(f"The token of {user['name']} can only read: publishing needs one that can write.")
    return user


def refuse_foreign(
    api: HfApi,
    repository: ModelInfo | DatasetInfo | SpaceInfo,
    repo_type: str,
    mark: str,
    model_type: str | None,
    advice: str,
) -> None:
    """A repository with another model, or with files but without the mark, was not made by an earlier upload."""
    paths = {sibling.rfilename for sibling in repository.siblings or []}
    if mark not in paths:
        foreign = sorted(path for path in paths if not OF_NO_OWNER.fullmatch(path))
        if foreign:
            raise PublishError(f"{repository.id} exists and holds other files, such as {foreign[0]}: {advice}.")
    elif model_type is not None:
        path = api.hf_hub_download(repository.id, mark, revision=repository.sha, repo_type=repo_type)
        present = read_json(Path(path), "the config on the Hub").get("model_type")
        if present != model_type:
            raise PublishError(
                f"{repository.id} exists and holds a {present} model, this one is a {model_type}: {advice}."
            )


def commit_folder(
    api: HfApi,
    folder: Path,
    repository: ModelInfo | DatasetInfo | SpaceInfo,
    prefix: str,
    is_replaced: Callable[[str], Any],
    message: str,
    repo_type: str = "model",
    patterns: Iterable[str] = ("**/*",),
) -> Published:
    """The folder's files below `prefix`, no links, and what they replace, in one commit on the head that was looked at.

    `upload_folder` may split a large folder into several commits (with xet), of which readers would see the first.
    """
    found = {path for pattern in patterns for path in folder.glob(pattern)}
    paths = [path for path in sorted(found) if path.is_file() and not is_link(path, folder)]
    files = {f"{prefix}{path.relative_to(folder).as_posix()}": path for path in paths}
    present: Iterable[str] = (sibling.rfilename for sibling in repository.siblings or [])
    operations: list[CommitOperationAdd | CommitOperationDelete] = [
        CommitOperationDelete(path) for path in present if is_replaced(path) and path not in files
    ]
    operations += [CommitOperationAdd(name, str(path)) for name, path in files.items()]
    commit = api.create_commit(
        repository.id, operations, commit_message=message, parent_commit=repository.sha, repo_type=repo_type
    )
    place = "" if repo_type == "model" else f"{repo_type}s/"
    return Published(repository.id, f"{api.endpoint}/{place}{repository.id}", commit.oid)


@contextmanager
def one_line_errors(repo_id: str) -> Iterator[None]:
    """Turns the client's errors into a PublishError that says what happened and what to do."""
    try:
        yield
    except HFValidationError as error:
        raise PublishError(f"{repo_id!r} is no name of a repository: {one_line(error)}") from error
    except LocalTokenNotFoundError as error:
        raise PublishError("There is no Hub token: run `hf auth login`, or set HF_TOKEN.") from error
    except LocalEntryNotFoundError as error:  # of a download: the Hub cannot be reached, and nothing lies in the cache
        raise PublishError(
            f"{repo_id} could not be read{asked_of_hub(repo_id)}: no connection to {constants.ENDPOINT}."
        ) from error
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
