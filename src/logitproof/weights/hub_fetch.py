"""Fetches models from the Hugging Face hub into its cache, where somebody asked for that; every failure is one sentence."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import HfApi, constants, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from logitproof.errors import EnvironmentFailed, LogitproofError, ModelError
from logitproof.files.gguf_parts import names_of_model
from logitproof.files.system import in_words
from logitproof.weights.hub_id import MAIN, HubId, choose, without_folder

WANTED = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.tiktoken", "merges.txt", "vocab.txt"]
"""Files of a model folder that are read here; pickled weights, other formats and pictures are left."""
NOT_WANTED = ["*/*"]
FULL = (errno.ENOSPC, errno.EDQUOT)
CACHE_OR_FOLDER = "download it by other means into the cache, or name a folder"


def fetch(wanted: HubId, where: str) -> Path:
    """The snapshot of a model of the hub in the cache, named by its commit, fetched as far as it is not there.

    Raises ModelError where the hub has no such model, revision or file, EnvironmentFailed where it cannot be asked.
    """
    revision = wanted.revision or MAIN
    with _worded(wanted, where):
        if not wanted.file:
            place = snapshot_download(wanted.repo, revision=revision, allow_patterns=WANTED, ignore_patterns=NOT_WANTED)
            folder = Path(place)
            if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
                _check_folder(wanted, where)
            return folder
        # the name is chosen at the commit that is fetched then: the branch may move between the two
        info = HfApi().model_info(wanted.repo, revision=revision)
        commit = info.sha or revision
        names = [entry.rfilename for entry in info.siblings or []]
        name = choose(names, wanted, where)
        if absent := [part for part in names_of_model(name) if part not in names]:
            text = f"{wanted.repo} at commit {commit} has parts of a model, and {absent[0]} is none of them"
            raise ModelError(text, where=where, remedy="name another file, or another revision")
        file = Path(hf_hub_download(wanted.repo, name, revision=revision))
        folder = file.parents[name.count("/")]
        if folder.name != commit:
            folder = Path(hf_hub_download(wanted.repo, name, revision=commit)).parents[name.count("/")]
        for part in names_of_model(name)[1:]:
            hf_hub_download(wanted.repo, part, revision=commit)
        return folder


def _check_folder(wanted: HubId, where: str) -> None:
    """ModelError where the repository has no config.json, or GGUF files in place of a folder's weights."""
    names = HfApi().list_repo_files(wanted.repo, revision=wanted.revision or MAIN)
    if refused := without_folder(names, wanted, where):
        raise refused
    if "config.json" not in names:
        raise ModelError(f"{wanted} has no config.json and no GGUF file", where=where, remedy="name another model")


@contextlib.contextmanager
def _worded(wanted: HubId, where: str) -> Iterator[None]:
    try:
        yield
    except LogitproofError:
        raise
    except GatedRepoError:
        remedy = "accept its terms on the hub, and log in with `hf auth login`"
        raise ModelError(f"{wanted.repo} is gated, and the hub does not give it to you", where=where, remedy=remedy) from None
    except RepositoryNotFoundError:
        remedy = "correct the name; of a private one, log in with `hf auth login`"
        raise ModelError(f"the hub has no model {wanted.repo} that you may see", where=where, remedy=remedy) from None
    except RevisionNotFoundError:
        text = f"{wanted.repo} has no revision {wanted.revision or MAIN}"
        raise ModelError(text, where=where, remedy="name a branch, a tag or a commit of it") from None
    except (OfflineModeIsEnabled, LocalEntryNotFoundError, HfHubHTTPError, EntryNotFoundError, OSError) as error:
        raise _unreachable(wanted, where, error) from None
    except ValueError as error:
        raise ModelError(f"{wanted} is no id that the hub takes: {_line(error)}", where=where) from None
    except Exception as error:
        # httpx raises kinds of its own for a hub that ends in the middle of an answer
        if type(error).__module__.partition(".")[0] not in ("httpx", "httpx2", "httpcore"):
            raise
        raise _unreachable(wanted, where, error) from None


def _unreachable(wanted: HubId, where: str, error: Exception) -> EnvironmentFailed:
    if isinstance(error, OSError) and (error.errno in FULL or (error.errno and error.filename)):
        place = error.filename or constants.HF_HUB_CACHE
        text = f"{wanted} cannot be kept in the Hugging Face cache: {place}: {in_words(error)}"
        return EnvironmentFailed(text, where=where, remedy="set HF_HUB_CACHE to a folder that can be written and has room")
    if constants.is_offline_mode():
        text = f"{wanted} is not in the cache, and HF_HUB_OFFLINE forbids to ask the hub"
        return EnvironmentFailed(text, where=where, remedy=f"unset HF_HUB_OFFLINE, or {CACHE_OR_FOLDER}")
    text = f"{wanted} cannot be fetched from {constants.ENDPOINT}: {_line(error.__cause__ or error)}"
    return EnvironmentFailed(text, where=where, remedy=f"see that the hub can be reached, or {CACHE_OR_FOLDER}")


def _line(error: BaseException) -> str:
    """The first line of what an exception says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
