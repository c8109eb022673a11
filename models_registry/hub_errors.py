"""Decides what a failed talk with the hub means for the person who asked for a model."""

from collections.abc import Iterator
from contextlib import contextmanager


class DownloadFailed(Exception):
    """A model could not be fetched. `str()` is the whole sentence: what happened and what to do next."""


@contextmanager
def explain(repo: str, file: str) -> Iterator[None]:
    """Turn every expected fault of huggingface_hub and of the disk into a `DownloadFailed`."""
    import httpx2
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError:
        raise DownloadFailed(
            f"{repo} is gated: accept its licence on its page on the hub, then set HF_TOKEN to a token"
            " of that account"
        ) from None
    except errors.RepositoryNotFoundError:
        raise DownloadFailed(
            f"there is no repository {repo} on the hub, or it is private: check the name, or set HF_TOKEN"
        ) from None
    except errors.EntryNotFoundError:
        raise DownloadFailed(
            f"{repo} has no file {file}: it may have been renamed; look at its page"
        ) from None
    except errors.OfflineModeIsEnabled:
        raise DownloadFailed(
            f"{file} is not on disk and HF_HUB_OFFLINE is set: unset it, or put the file into the models"
            " folder"
        ) from None
    except errors.HFValidationError:
        raise DownloadFailed(
            f"{repo!r} is not a repository's name: it has the form org/repo"
        ) from None
    except errors.HfHubHTTPError as error:
        raise DownloadFailed(_status_sentence(repo, file, error.response.status_code)) from None
    except httpx2.HTTPError as error:
        raise DownloadFailed(
            f"the hub cannot be reached for {repo}/{file} ({type(error).__name__}): check the network and"
            " try again; what was downloaded so far is kept"
        ) from None
    except OSError as error:
        why = error.strerror or str(error)
        raise DownloadFailed(f"{file} could not be fetched or written ({why}): try again") from None


def _status_sentence(repo: str, file: str, status: int) -> str:
    if status in (401, 403):
        return f"the hub refuses {repo} (HTTP {status}): set HF_TOKEN to a token that may read it"
    if status == 429:
        return f"the hub asks to slow down (HTTP 429) for {repo}/{file}: try again in some minutes"
    return f"the hub answered HTTP {status} for {repo}/{file}: try again later"
