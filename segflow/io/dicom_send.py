"""DICOM files to an archive: C-STORE (PS3.7, 9.1.1) or STOW-RS (PS3.18, 10.5). Sending one again changes nothing."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from segflow.errors import OutputError, first_line

SCHEMES = ("dicom://", "dicomweb+http://", "dicomweb+https://")
_TOKEN = "SEGFLOW_DICOMWEB_TOKEN"  # the name of a variable, no secret
_SECONDS = 60
_OURS = "SEGFLOW"


class UnreachableError(OutputError):
    """An archive does not answer, or lets nobody in: whatever is sent."""


def is_archive(where: str) -> bool:
    """Tell whether a destination takes DICOM files only."""
    return where.startswith(SCHEMES)


def send(where: str, paths: Sequence[Path]) -> None:
    """Send DICOM files, one after another.

    Args:
        where: dicom://AE@HOST:PORT, or dicomweb+https://HOST/PREFIX, whose bearer token is taken from the variable
            SEGFLOW_DICOMWEB_TOKEN, or name and password from ~/.netrc.
        paths: the files.

    Raises:
        UnreachableError: the archive cannot be reached.
        OutputError: the archive has refused a file, or a file is no DICOM any more; those before it are there.
    """
    try:
        import pydicom
    except ImportError as error:
        raise _missing(where) from error
    datasets = []
    for path in paths:
        try:
            datasets.append(pydicom.dcmread(path))
        except (OSError, pydicom.errors.InvalidDicomError) as error:
            raise OutputError(
                f"{path} cannot be read: {first_line(error)}", "the DICOM file of its report", "run it again"
            ) from error
    if where.startswith("dicom://"):
        _store(where, datasets, paths)
    else:
        _stow(where, datasets)


def _store(where: str, datasets: Sequence[Any], paths: Sequence[Path]) -> None:
    try:
        from pynetdicom import AE
    except ImportError as error:
        raise _missing(where) from error
    parts = urlsplit(where)
    entity = AE(ae_title=_OURS)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = _SECONDS
    for kind, syntax in {(item.SOPClassUID, item.file_meta.TransferSyntaxUID) for item in datasets}:
        entity.add_requested_context(kind, syntax)
    title, address = parts.username or "", (parts.hostname or "", parts.port or 104)
    try:
        socket.create_connection(address, _SECONDS).close()
    except OSError as error:
        raise UnreachableError(
            f"{where} cannot be reached: {error.strerror or error}",
            "an archive that listens there",
            "check address and network; the next run sends what is missing",
        ) from error
    link = entity.associate(*address, ae_title=title)
    if link.rejected_contexts and not link.accepted_contexts:
        raise OutputError(
            f"{where} does not take {', '.join(path.name for path in paths)}: no such kind of object",
            "an archive that stores it",
            "allow it in the archive; the next run sends what is missing",
        )
    if not link.is_established:
        raise UnreachableError(
            f"{where} did not take an association",
            f"an archive that listens there as {title} and knows the AE title {_OURS}",
            f"check address and AE title, and register {_OURS} in the archive; the next run sends what is missing",
        )
    try:
        for dataset, path in zip(datasets, paths, strict=True):
            _store_one(link, where, dataset, path)
    finally:
        link.release()


def _store_one(link: Any, where: str, dataset: Any, path: Path) -> None:
    """Send one file by C-STORE, and hear that it is stored."""
    try:
        status = getattr(link.send_c_store(dataset), "Status", None)
    except (ValueError, RuntimeError) as error:  # it takes no such kind; the association is gone
        raise OutputError(
            f"{where} does not take {path.name}: {first_line(error)}",
            "an archive that stores this kind of object",
            "allow it in the archive; the next run sends what is missing",
        ) from error
    if status is None or (status != 0 and status >> 12 != 0xB):  # 0xBxxx: stored, with a warning
        code = "no answer" if status is None else f"status 0x{status:04X}"
        raise OutputError(
            f"{where} did not store {path.name}: {code}",
            "status 0x0000",
            "see the archive's log; the next run sends what is missing",
        )


def _stow(where: str, datasets: Sequence[Any]) -> None:
    try:
        from dicomweb_client.api import DICOMwebClient
        from requests import RequestException
    except ImportError as error:
        raise _missing(where) from error
    token = os.environ.get(_TOKEN)
    headers = {"Authorization": f"Bearer {token}"} if token else None
    client = DICOMwebClient(where.removeprefix("dicomweb+"), headers=headers, timeout=_SECONDS)
    try:
        for dataset in datasets:
            answer = client.store_instances([dataset])
            if failed := answer.get("FailedSOPSequence"):
                raise OSError(f"failure 0x{int(failed[0].FailureReason):04X} of an instance")
    except Exception as error:
        answered = getattr(getattr(error, "response", None), "status_code", None)
        alone = answered not in (None, 401, 403) or not isinstance(error, RequestException)
        raise (OutputError if alone else UnreachableError)(
            f"{where} did not store the files: {type(error).__name__}: {first_line(error)}",
            "a DICOMweb service that takes STOW-RS",
            f"check address, {_TOKEN} or ~/.netrc, and the service's log; the next run sends what is missing",
        ) from error


def _missing(where: str) -> UnreachableError:
    return UnreachableError(
        f"publishing to {where} needs packages that are not installed",
        "pydicom, pynetdicom and dicomweb-client",
        'pip install "segflow[dicom]"',
    )
