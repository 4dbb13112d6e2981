"""Errors of object stores and web servers, as errors of one line that say what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

from lingraft.errors import CorpusError, LingraftError, MissingExtraError, one_line
from lingraft.hub_client import causes_of

EXTRAS = {
    "s3": ("s3fs", "s3"),
    "s3a": ("s3fs", "s3"),
    "gs": ("gcsfs", "gcs"),
    "gcs": ("gcsfs", "gcs"),
    "az": ("adlfs", "azure"),
    "abfs": ("adlfs", "azure"),
    "abfss": ("adlfs", "azure"),
}
"""The package that a protocol needs, and the extra that installs it."""
_SIGN_IN = {
    "s3": "set AWS_PROFILE or AWS_ACCESS_KEY_ID, or FSSPEC_S3_ANON=true for a public bucket",
    "gcs": "run `gcloud auth application-default login`, or set FSSPEC_GS_TOKEN=anon for a public "
    "bucket",
    "azure": "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
    "hf": "run `hf auth login` or set HF_TOKEN",
}


def protocol_of(url: str) -> str:
    """Return the protocol of a URL, such as s3."""
    return url.partition("://")[0].lower()


@contextmanager
def remote_errors(where: str, *, url: str | None = None) -> Iterator[None]:
    """Raise errors of a store as errors of one line that begin with `where`."""
    protocol = protocol_of(url or where)
    try:
        yield
    except LingraftError:
        raise
    except ImportError as error:
        if protocol in EXTRAS:
            package, extra = EXTRAS[protocol]
            raise MissingExtraError(package, extra=extra) from None
        msg = f"{where}: {one_line(error)}"
        raise CorpusError(msg) from None
    except Exception as error:  # noqa: BLE001 - clients of stores share no base class
        msg = f"{where}: {_explanation(error, protocol)}"
        raise CorpusError(msg) from None


def _explanation(error: Exception, protocol: str) -> str:
    if _is_refused(error):
        _, store = EXTRAS.get(protocol, ("", protocol))
        advice = _SIGN_IN.get(store, "give a URL that you may read")
        return f"access is refused ({reason_of(error)}); {advice}"
    if _is_missing(error):
        return "there is no such object; check the URL"
    if "Protocol not known" in str(error):
        return f"fsspec knows no protocol {protocol}://; name another, or a local file"
    if "range requests" in str(error):
        return "the server cannot send parts of a file; download it, and name the local file"
    return f"it cannot be read ({reason_of(error)}); run again, or name a local copy"


def may_pass(error: Exception) -> bool:
    """Return whether the same request may succeed later."""
    is_final = isinstance(error, (ValueError, NotImplementedError))
    return not (is_final or _is_refused(error) or _is_missing(error))


def _is_refused(error: Exception) -> bool:
    return (
        _status(error) in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
        or isinstance(error, PermissionError)
        or "Credential" in type(error).__name__
    )


def _is_missing(error: Exception) -> bool:
    """Return whether an object does not exist.

    The web file system reports every failure as a missing file, with the failure as its cause.
    """
    if not isinstance(error, FileNotFoundError):
        return False
    causes = list(causes_of(error))[1:]
    failed = any(isinstance(cause, OSError) for cause in causes)
    return not failed and _status(error) in {None, HTTPStatus.NOT_FOUND}


def _status(error: Exception) -> int | None:
    """Return the HTTP status of the response that raised an error, as far as it is known."""
    for cause in causes_of(error):
        response = getattr(cause, "response", None)
        for status in (getattr(cause, "status", None), getattr(response, "status_code", None)):
            if isinstance(status, int):
                return status
    return None


def reason_of(error: Exception) -> str:
    """Return the class and the message of an error, or of its cause if it has one."""
    *_, cause = causes_of(error)
    return f"{type(cause).__name__}: {one_line(cause)}"
