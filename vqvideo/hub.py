"""Folders of files on the Hugging Face hub, by name: `hf-hub:org/name@revision`.

What is fetched lies in the cache of huggingface_hub, which also serves where there is no network.
Which files make a model, and what is in them, is said elsewhere (checkpoint.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

PREFIX = "hf-hub:"
REPO, REVISION = r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*", r"[^\s@]+"
FETCHED = "fetched"
LOG_IN = "log in with `hf auth login` or set HF_TOKEN"


class HubError(OSError):
    """The hub does not have it, does not let us, or cannot be reached; the message says which."""


class HubName(NamedTuple):
    """A repository of the hub, and which state of it: a branch, a tag or a commit, None for main.

    >>> HubName.of("hf-hub:org/maze@v2")
    HubName(repo='org/maze', revision='v2')
    """

    repo: str
    revision: str | None = None

    @classmethod
    def of(cls, name: str) -> HubName:
        """Read a name, with or without `hf-hub:`; raises `ValueError` where it is none."""
        repo, at, revision = name.removeprefix(PREFIX).partition("@")
        if not re.fullmatch(REPO, repo) or (at and not re.fullmatch(REVISION, revision)):
            raise ValueError(
                f"{name!r} names no model on the hub; the form is {PREFIX}org/name or "
                f"{PREFIX}org/name@revision"
            )
        return cls(repo, revision or None)

    def __str__(self) -> str:
        return PREFIX + self.repo + (f"@{self.revision}" if self.revision else "")


def is_hub_name(name: object) -> bool:
    """Whether it is meant to name something on the hub; a `Path` never is."""
    return isinstance(name, str) and name.startswith(PREFIX)


def fetch(name: HubName, files: Sequence[str]) -> Path:
    """A folder with those of the files that a repository has, all of one commit.

    Raises:
        HubError: no such repository or revision, no right to read it, or the hub cannot be reached
            and the files are not in the cache.
    """
    from huggingface_hub import snapshot_download

    with _in_one_sentence(name, FETCHED):
        folder = snapshot_download(name.repo, revision=name.revision, allow_patterns=list(files))
    return Path(folder)


def list_files(name: HubName) -> list[str]:
    """All files of a repository; raises `HubError` as `fetch` does."""
    from huggingface_hub import HfApi

    with _in_one_sentence(name, "listed"):
        return sorted(HfApi().list_repo_files(name.repo, revision=name.revision))


def upload(
    files: Mapping[str, Path | bytes], name: HubName, message: str, *, private: bool = False
) -> str:
    """Put files into a repository, in one commit; returns the address of the commit.

    Args:
        files: what is to stand there under each name; other files stay.
        name: the repository and its branch; either is made if there is none.
        message: of the commit.
        private: make a new repository private. Nothing is put into an old one that is not.

    Raises:
        HubError: no login, no right to write there, or the hub cannot be reached.
        ValueError: `private`, and the repository exists and is public.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, get_token

    if get_token() is None:
        raise HubError(f"nothing can be put on the hub without a token: {LOG_IN}")
    api = HfApi()
    with _in_one_sentence(name, "written to"):
        # None leaves it to what the organisation wants of new repositories
        api.create_repo(name.repo, private=private or None, exist_ok=True)
        is_public = private and not api.model_info(name.repo).private
    if is_public:
        raise ValueError(f"{name.repo} exists and is public; choose another name, or leave private")
    added = [
        CommitOperationAdd(path_in_repo=file, path_or_fileobj=content)
        for file, content in files.items()
    ]
    with _in_one_sentence(name, "written to"):
        if name.revision:
            api.create_branch(name.repo, branch=name.revision, exist_ok=True)
        done = api.create_commit(name.repo, added, commit_message=message, revision=name.revision)
    return str(done.commit_url)


@contextmanager
def _in_one_sentence(name: HubName, done: str) -> Iterator[None]:
    """Any error of the client as a `HubError` that says what is wrong and what to do."""
    try:
        yield
    except Exception as cause:  # of its transport too, whose errors differ between versions
        raise HubError(_sentence(name, done, cause)) from cause


def _sentence(name: HubName, done: str, cause: Exception) -> str:
    from huggingface_hub import errors

    if isinstance(cause, errors.GatedRepoError):
        return f"{name.repo} is gated: ask for access on its page, and {LOG_IN}"
    if isinstance(cause, errors.RepositoryNotFoundError):
        return f"there is no {name.repo} on the hub; if it is private, {LOG_IN}"
    if isinstance(cause, errors.RevisionNotFoundError):
        return f"{name.repo} has no revision {name.revision!r}"
    if _is_or_comes_from(cause, errors.OfflineModeIsEnabled):
        cached = ", and the cache does not hold it" if done == FETCHED else ""
        return f"{name} cannot be {done}: HF_HUB_OFFLINE is set{cached}"
    if _status(cause) in (401, 403):
        return f"the hub does not let you: {name} cannot be {done}; {LOG_IN}, with a token that may"
    if isinstance(cause, errors.LocalEntryNotFoundError):
        return f"{name} cannot be {done}: the hub cannot be reached, and the cache does not hold it"
    said = " ".join(str(cause).split()) or type(cause).__name__
    return f"{name} cannot be {done}: {said}"


def _is_or_comes_from(error: BaseException | None, kind: type[BaseException]) -> bool:
    while error is not None and not isinstance(error, kind):
        error = error.__cause__
    return error is not None


def _status(error: BaseException) -> int | None:
    """Of the answer of the hub, if there was one."""
    answers = (getattr(each, "response", None) for each in (error, error.__cause__))
    return next((answer.status_code for answer in answers if answer is not None), None)
