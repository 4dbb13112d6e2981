"""Errors of the Hugging Face Hub as `HubError`, and the form of its ids.

Every exception of huggingface_hub, `datasets` or their HTTP client becomes a `HubError` of one
line. Errors of the local disk are not translated. The token never appears in a message, and the
original exception is not chained, because it contains the headers of the request.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, Literal

from lingraft.errors import HubError, one_line

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
COMMIT = re.compile(r"[0-9a-f]{40}")
LOCAL_DISK = {errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT, errno.EFBIG}
# The client of the Hub raises these for a response that is not JSON, or not the expected JSON.
MALFORMED: tuple[type[Exception], ...] = (ValueError, TypeError, KeyError, AttributeError)


def client_errors() -> tuple[type[Exception], ...]:
    """Return the exceptions of the Hub's client and of its HTTP library."""
    from huggingface_hub import errors

    # HfHubHTTPError extends the base error of its HTTP library: requests, httpx or httpx2.
    http_error: Any = errors.HfHubHTTPError.__mro__[1]
    return (http_error, errors.EntryNotFoundError, OSError)


@contextmanager
def hub_errors(label: str, explain: Callable[[Exception], str]) -> Iterator[None]:
    """Raise errors of the Hub's client as `HubError`: the label, then the explanation."""
    try:
        yield
    except client_errors() as error:
        if getattr(error, "errno", None) in LOCAL_DISK:
            raise
        raise HubError(_without_token(f"{label}: {explain(error)}")) from None


@contextmanager
def well_formed_response(label: str) -> Iterator[None]:
    """Raise `HubError` if a response is not from a Hub, for example a captive portal's page."""
    from huggingface_hub import constants

    try:
        yield
    except MALFORMED as error:
        msg = (
            f"{label}: unexpected response from {constants.ENDPOINT} ({one_line(error)}); check "
            "HF_ENDPOINT, or a captive portal of the network"
        )
        raise HubError(_without_token(msg)) from None


def refusal(
    error: Exception, repository: str, kind: Literal["model", "dataset"], revision: str | None
) -> str | None:
    """Explain why the Hub refused a repository and what to do; `None` if the connection failed."""
    from huggingface_hub import constants, errors

    folder = "datasets/" if kind == "dataset" else ""
    page = f"{constants.ENDPOINT}/{folder}{repository}"
    status = status_of(error)
    causes = list(causes_of(error))
    # The first match counts, so special cases come before the general ones.
    meanings = {
        errors.GatedRepoError: (
            f"access is restricted; accept the conditions on {page}, then `hf auth login` or set "
            "HF_TOKEN"
        ),
        errors.RepositoryNotFoundError: (
            f"there is no such {kind}, or it is private; check {page}, or sign in with "
            "`hf auth login`"
        ),
        errors.RevisionNotFoundError: (
            f"there is no revision {revision!r}; see the branches and tags on {page}/tree/main"
        ),
        errors.OfflineModeIsEnabled: (
            "HF_HUB_OFFLINE is set, so the Hub is not used; unset it, or "
            + {"model": "name a local folder", "dataset": "give local text (--text FILE)"}[kind]
        ),
    }
    # `datasets` hides the cause of its own error for a gated data set.
    if status == HTTPStatus.FORBIDDEN or "gated dataset" in str(error):
        return meanings[errors.GatedRepoError]
    for meant, message in meanings.items():
        if any(isinstance(cause, meant) for cause in causes):
            return message
    if status is not None:
        return f"the Hub responded with status {status}; try again later"
    missing = (errors.EntryNotFoundError, FileNotFoundError)
    is_cache_miss = isinstance(error, errors.LocalEntryNotFoundError)
    if any(isinstance(cause, missing) for cause in causes) and not is_cache_miss:
        return f"a file is not where it was expected ({one_line(error)}); see {page}/tree/main"
    return None


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status of a response that raised an error or its direct cause."""
    for candidate in (error, error.__cause__):
        response = getattr(candidate, "response", None)
        if response is not None:
            return int(response.status_code)
    return None


def causes_of(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and its causes: `datasets` wraps the errors of huggingface_hub."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _without_token(message: str) -> str:
    from huggingface_hub import get_token

    token = get_token()
    return message.replace(token, "the token") if token else message
