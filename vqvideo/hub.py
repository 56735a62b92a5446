"""Download and upload files of repositories on the Hugging Face hub, `hf-hub:org/name@revision`.

Downloads go to the cache of huggingface_hub, which is also used offline. The format of models is
defined in checkpoint.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

HUB_PREFIX = "hf-hub:"
REPO_PATTERN, REVISION_PATTERN = r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*", r"[^\s@]+"
FETCH_ACTION = "fetched"
LOGIN_HINT = "log in with `hf auth login` or set HF_TOKEN"


class HubError(OSError):
    """A repository is missing, access is denied, or the hub cannot be reached."""


class HubName(NamedTuple):
    """A repository of the hub and its revision: a branch, a tag or a commit, None for main.
    >>> HubName.parse("hf-hub:org/maze@v2")
    HubName(repo_id='org/maze', revision='v2')
    """

    repo_id: str
    revision: str | None = None

    @classmethod
    def parse(cls, name: str) -> HubName:
        """Parse a name with or without `hf-hub:`; raise `ValueError` if it is invalid."""
        repo_id, separator, revision = name.removeprefix(HUB_PREFIX).partition("@")
        if not re.fullmatch(REPO_PATTERN, repo_id) or (
            separator and not re.fullmatch(REVISION_PATTERN, revision)
        ):
            raise ValueError(
                f"{name!r} is no valid name of a model on the hub; expected {HUB_PREFIX}org/name "
                f"or {HUB_PREFIX}org/name@revision"
            )
        return cls(repo_id, revision or None)

    def __str__(self) -> str:
        return HUB_PREFIX + self.repo_id + (f"@{self.revision}" if self.revision else "")


def is_hub_name(name: object) -> bool:
    """Return whether a value is a string that begins with `hf-hub:`; a `Path` never is."""
    return isinstance(name, str) and name.startswith(HUB_PREFIX)


def fetch(name: HubName, files: Sequence[str]) -> Path:
    """Download the files that the repository has, all from one commit, and return their folder.

    Raises:
        HubError: no such repository or revision, no permission to read it, or the hub cannot be
            reached and the files are not in the cache.
    """
    from huggingface_hub import snapshot_download

    with _wrap_hub_errors(name, FETCH_ACTION):
        folder = snapshot_download(name.repo_id, revision=name.revision, allow_patterns=list(files))
    return Path(folder)


def list_files(name: HubName) -> list[str]:
    """List all files of a repository; raise `HubError` as `fetch` does."""
    from huggingface_hub import HfApi

    with _wrap_hub_errors(name, "listed"):
        return sorted(HfApi().list_repo_files(name.repo_id, revision=name.revision))


def upload(
    files: Mapping[str, Path | bytes], name: HubName, message: str, *, private: bool = False
) -> str:
    """Upload files to a repository in one commit and return the URL of the commit.

    Args:
        files: path or content of each file, by its name in the repository; other files are kept.
        name: repository and branch; either is created if it does not exist.
        message: commit message.
        private: create a new repository as private; an existing public one is refused.

    Raises:
        HubError: not logged in, no permission to write, or the hub cannot be reached.
        ValueError: `private` is true, and the repository exists and is public.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, get_token

    if get_token() is None:
        raise HubError(f"uploading to the hub needs a token: {LOGIN_HINT}")
    api = HfApi()
    with _wrap_hub_errors(name, "written to"):
        # None uses the organisation's default for new repositories
        api.create_repo(name.repo_id, private=private or None, exist_ok=True)
        is_public = private and not api.model_info(name.repo_id).private
    if is_public:
        raise ValueError(
            f"{name.repo_id} exists and is public; choose another name, or leave out private"
        )
    operations = [
        CommitOperationAdd(path_in_repo=file, path_or_fileobj=content)
        for file, content in files.items()
    ]
    with _wrap_hub_errors(name, "written to"):
        if name.revision:
            api.create_branch(name.repo_id, branch=name.revision, exist_ok=True)
        commit = api.create_commit(
            name.repo_id, operations, commit_message=message, revision=name.revision
        )
    return str(commit.commit_url)


@contextmanager
def _wrap_hub_errors(name: HubName, action: str) -> Iterator[None]:
    """Convert any error of the client to a `HubError` that says what is wrong and what to do."""
    try:
        yield
    except Exception as cause:  # includes transport errors, whose types differ between versions
        raise HubError(_describe_error(name, action, cause)) from cause


def _describe_error(name: HubName, action: str, cause: Exception) -> str:
    from huggingface_hub import errors

    if isinstance(cause, errors.GatedRepoError):
        return f"{name.repo_id} is gated: ask for access on its page, and {LOGIN_HINT}"
    if isinstance(cause, errors.RepositoryNotFoundError):
        return f"there is no {name.repo_id} on the hub; if it is private, {LOGIN_HINT}"
    if isinstance(cause, errors.RevisionNotFoundError):
        return f"{name.repo_id} has no revision {name.revision!r}"
    if _is_caused_by(cause, errors.OfflineModeIsEnabled):
        cached = ", and the cache does not hold it" if action == FETCH_ACTION else ""
        return f"{name} cannot be {action}: HF_HUB_OFFLINE is set{cached}"
    if _get_status_code(cause) in (401, 403):
        return (
            f"{name} cannot be {action}: permission denied; {LOGIN_HINT}, with a token that has "
            f"access"
        )
    if isinstance(cause, errors.LocalEntryNotFoundError):
        return (
            f"{name} cannot be {action}: the hub cannot be reached, and the cache does not hold it"
        )
    reason = " ".join(str(cause).split()) or type(cause).__name__
    return f"{name} cannot be {action}: {reason}"


def _is_caused_by(error: BaseException | None, kind: type[BaseException]) -> bool:
    while error is not None and not isinstance(error, kind):
        error = error.__cause__
    return error is not None


def _get_status_code(error: BaseException) -> int | None:
    """Return the HTTP status code of the hub's response, None if there was no response."""
    responses = (getattr(item, "response", None) for item in (error, error.__cause__))
    return next((response.status_code for response in responses if response is not None), None)
