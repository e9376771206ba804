"""DICOM segmentations and their reports, built by highdicom: what goes into them, in DICOM's words.

Segmentation IOD: DICOM PS3.3 A.51 (BINARY) and A.51-2 (LABELMAP); report: TID 1500 of PS3.16, with one TID 1411 for
each segment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from segflow.io.exports.coding import Code, Coding
from segflow.io.exports.dicom_identity import Identity
from segflow.io.exports.dicom_inherited import allowed, give_own_values, series_number
from segflow.models.card import LabelClass

if TYPE_CHECKING:
    import highdicom
    from pydicom import Dataset

Made = TypeVar("Made", bound="Dataset")
SegType = Literal["BINARY", "LABELMAP"]

SERIES = {"seg": 1000, "sr": 2000}
"""What is added to the source's series number."""

_UTF8 = "ISO_IR 192"
_PROCEDURES = {"MR": "MRIUnspecifiedBodyRegion", "CT": "CTUnspecifiedBodyRegion", "PT": "PETUnspecifiedBodyRegion"}


@dataclass(frozen=True, slots=True)
class Algorithm:
    """What made the labels.

    Attributes:
        name: of the model.
        version: of its weights.
        serial: of the run.
        description: what the model is for.
    """

    name: str
    version: str
    serial: str
    description: str


def segmentation_of(
    sources: Sequence[Dataset],
    frames: NDArray[np.unsignedinteger],
    segments: Sequence[tuple[LabelClass, Coding]],
    algorithm: Algorithm,
    identity: Identity,
    kind: SegType,
) -> highdicom.seg.Segmentation:
    """Build a segmentation.

    Args:
        sources: the images' headers: sorted by position, or one multi-frame image.
        frames: (frame, row, column), segment numbers from 1, in the order of the sources' frames; 0 is no segment.
        segments: classes and their codes; the first is segment 1.
        algorithm: what made the labels.
        identity: gives UIDs and dates.
        kind: BINARY: a bit a pixel and segment, which all readers know. LABELMAP: a number a pixel.
    """
    import highdicom

    headers = [allowed(source) for source in sources]
    made = highdicom.seg.Segmentation(
        source_images=headers,
        pixel_array=frames,
        segmentation_type=kind,
        segment_descriptions=[
            _description(number, item, coding, algorithm, identity) for number, (item, coding) in enumerate(segments, 1)
        ],
        series_instance_uid=identity.uid("series", "seg"),
        series_number=series_number(sources[0], SERIES["seg"]),
        sop_instance_uid=identity.uid("instance", "seg"),
        instance_number=1,
        manufacturer="segflow",
        manufacturer_model_name=algorithm.name[:64],
        software_versions=version("segflow"),
        device_serial_number=algorithm.serial[:64],
        content_description=algorithm.description[:64] or None,
        omit_empty_frames=bool(frames.any()),
        series_description=f"{algorithm.name} segmentation"[:64],
        specific_character_set=_UTF8,
        **_dates(identity),
    )
    return _own(made, sources[0], identity)


def report_of(
    sources: Sequence[Dataset],
    segmentation: Dataset,
    segments: Sequence[tuple[LabelClass, Coding]],
    volumes_mm3: Mapping[int, float],
    algorithm: Algorithm,
    identity: Identity,
) -> highdicom.sr.ComprehensiveSR:
    """Build a measurement report with the volume of each segment.

    Args:
        sources: the images' headers.
        segmentation: the segmentation that it refers to.
        segments: as in `segmentation_of`.
        volumes_mm3: by segment number.
        algorithm: what made the labels.
        identity: gives UIDs and dates.
    """
    from highdicom import sr

    headers = [allowed(source) for source in sources]
    content = _measured(headers, segmentation, segments, volumes_mm3, algorithm, identity)
    made = sr.ComprehensiveSR(
        evidence=[*headers, segmentation],
        content=content[0],
        series_instance_uid=identity.uid("series", "sr"),
        series_number=series_number(sources[0], SERIES["sr"]),
        sop_instance_uid=identity.uid("instance", "sr"),
        instance_number=1,
        manufacturer="segflow",
        is_complete=True,
        series_description=f"{algorithm.name} volumes"[:64],
        specific_character_set=_UTF8,
        **_dates(identity),
    )
    return _own(made, sources[0], identity)


def _measured(
    headers: Sequence[Dataset],
    segmentation: Dataset,
    segments: Sequence[tuple[LabelClass, Coding]],
    volumes_mm3: Mapping[int, float],
    algorithm: Algorithm,
    identity: Identity,
) -> highdicom.sr.MeasurementReport:
    """Build the content of `report_of`: a group for each segment, with its volume."""
    from highdicom import sr
    from pydicom.sr.codedict import codes

    series = sr.SourceSeriesForSegmentation(referenced_series_instance_uid=headers[0].SeriesInstanceUID)
    groups = [
        sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=sr.TrackingIdentifier(uid=identity.uid("segment", number), identifier=item.name),
            referenced_segment=sr.ReferencedSegment(
                sop_class_uid=segmentation.SOPClassUID,
                sop_instance_uid=segmentation.SOPInstanceUID,
                segment_number=number,
                source_series=series,
            ),
            finding_category=_concept(coding.category),
            finding_type=_concept(coding.type),
            finding_sites=_sites(coding),
            algorithm_id=sr.AlgorithmIdentification(name=algorithm.name, version=algorithm.version),
            measurements=[
                sr.Measurement(
                    name=codes.SCT.Volume, value=round(volumes_mm3[number], 3), unit=codes.UCUM.CubicMillimeter
                )
            ],
        )
        for number, (item, coding) in enumerate(segments, 1)
    ]
    observer = sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=identity.uid("device"), name="segflow", manufacturer_name="segflow", model_name=algorithm.name
        ),
    )
    procedure = _PROCEDURES.get(str(headers[0].get("Modality")))
    return sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=observer),
        procedure_reported=codes.SCT.ImagingProcedure if procedure is None else getattr(codes.LN, procedure),
        imaging_measurements=groups,
    )


def _description(
    number: int, item: LabelClass, coding: Coding, algorithm: Algorithm, identity: Identity
) -> highdicom.seg.SegmentDescription:
    import highdicom
    from pydicom.sr.codedict import codes

    found = highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=item.name[:64],
        segmented_property_category=_concept(coding.category),
        segmented_property_type=_concept(coding.type),
        algorithm_type="AUTOMATIC",
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=algorithm.name[:64], family=codes.cid7162.ArtificialIntelligence, version=algorithm.version[:64]
        ),
        tracking_uid=identity.uid("segment", number),
        tracking_id=item.name[:64],
        anatomic_regions=[_concept(region) for region in coding.regions] or None,
        display_color=highdicom.color.CIELabColor.from_rgb(*item.rgb),
    )
    if coding.modifiers:
        kind = found.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [_concept(code) for code in coding.modifiers]
    if coding.regions and coding.region_modifiers:
        region = found.AnatomicRegionSequence[0]
        region.AnatomicRegionModifierSequence = [_concept(code) for code in coding.region_modifiers]
    return found


def _sites(coding: Coding) -> Any:
    """Return where a finding is: the region, and without one the structure itself; its sides and parts with it."""
    from highdicom import sr

    sides, parts = _split(coding.region_modifiers if coding.regions else coding.modifiers)
    return [
        sr.FindingSite(
            anatomic_location=_concept(place),
            laterality=next((_concept(code) for code in sides), None),
            topographical_modifier=next((_concept(code) for code in parts), None),
        )
        for place in coding.regions or (coding.type,)
    ]


def _split(modifiers: Sequence[Code]) -> tuple[list[Code], list[Code]]:
    """Part modifiers into laterality (CID 244: right, left, both, one) and others."""
    lateral = {"24028007", "7771000", "51440002", "66459002"}
    sides = [code for code in modifiers if code.scheme == "SCT" and code.value in lateral]
    return sides, [code for code in modifiers if code not in sides]


def _concept(code: Code) -> highdicom.sr.CodedConcept:
    from highdicom.sr import CodedConcept

    return CodedConcept(code.value, code.scheme, code.meaning)


def _dates(identity: Identity) -> dict[str, Any]:
    return {
        "content_date": identity.date,
        "content_time": identity.time,
        "series_date": identity.date,
        "series_time": identity.time,
    }


def _own(made: Made, source: Dataset, identity: Identity) -> Made:
    """Give what a library dated by the clock, or numbered by chance, the date and a UID of the identity.

    And patient and study as the source has them.
    """
    give_own_values(made, source)
    made.InstanceCreationDate, made.InstanceCreationTime = identity.date, identity.time
    for item in made.get("ContributingEquipmentSequence", ()):
        item.ContributionDateTime = identity.date + identity.time
    for name in ("DimensionOrganizationSequence", "DimensionIndexSequence"):
        for item in made.get(name, ()):
            item.DimensionOrganizationUID = identity.uid("dimensions")
    return made
