"""The Prefect server before it is needed: there, one of Prefect's, and of a version that this Prefect understands."""

from __future__ import annotations

from packaging.version import InvalidVersion, Version

from segflow.errors import SegflowError, first_line

_START = "prefect server start --host 127.0.0.1"


def reach() -> str:
    """Return the page of the configured Prefect server; where none is configured, a temporary one is started.

    Raises:
        SegflowError: nothing answers, what answers is no Prefect server, or its version is another.
    """
    import prefect
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, PREFECT_UI_URL

    url = str(PREFECT_API_URL.value() or "")
    try:
        with get_client(sync_client=True) as client:
            version = client.api_version()
    except Exception as error:  # httpx's, Prefect's, or of the JSON that is none
        raise _unreached(url, error) from error
    try:
        same = Version(version).major == Version(prefect.__version__).major
    except InvalidVersion as error:
        raise _no_prefect(url) from error
    if not same:
        raise SegflowError(
            f"the Prefect server at {url} has version {version}, and this machine's Prefect {prefect.__version__}",
            "the same major version on both sides",
            f'pip install "prefect=={version}" here, or this version there',
        )
    return str(PREFECT_UI_URL.value() or url.removesuffix("/api"))


def _unreached(url: str, error: Exception) -> SegflowError:
    from httpx import HTTPStatusError, TransportError, UnsupportedProtocol

    told = first_line(error)
    if not url:
        return SegflowError(
            f"no Prefect API is configured, and no temporary server starts: {told}",
            "a Prefect server",
            f"{_START}, then export PREFECT_API_URL=http://127.0.0.1:4200/api",
        )
    status = error.response.status_code if isinstance(error, HTTPStatusError) else None
    if status in (401, 403):
        return SegflowError(
            f"the Prefect server at {url} wants to know who asks ({status})",
            "a password that it knows",
            "set PREFECT_API_AUTH_STRING (or PREFECT_API_KEY) as the server has it",
        )
    if isinstance(error, TransportError) and not isinstance(error, UnsupportedProtocol):
        return SegflowError(
            f"no Prefect server answers at {url}: {told}",
            "a running server at PREFECT_API_URL",
            f"{_START}; or correct PREFECT_API_URL; `unset PREFECT_API_URL` to run without Prefect",
        )
    return _no_prefect(url)


def _no_prefect(url: str) -> SegflowError:
    return SegflowError(
        f"what answers at {url} is no Prefect API",
        "a URL that ends in /api",
        "such as export PREFECT_API_URL=http://127.0.0.1:4200/api",
    )
