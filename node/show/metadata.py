"""WADO-RS: what headers say, and the long values that were left out of that (PS3.18 10.4.1.1.2, .5)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from starlette.requests import Request
from starlette.responses import Response

from node.header import parse
from node.header.value import PARSE_ERRORS
from node.journal import Holding
from node.show.dicom_json import BINARY, Model, as_little, as_model
from node.show.frames import all_frames, format_of
from node.show.media import OCTETS, RELATED, Offer, choose, wanted
from node.show.models import MODELS, given
from node.show.multipart import Part, related
from node.show.origin import Lease, origin_of
from node.show.resource import Problem, Resource, here
from node.show.wado import EXPLICIT, INSTANCE, SERIES, STUDY, path_of
from pipelines.contract import InputRefused

_PLACE: Final = re.compile(r"[0-9A-Fa-f]{8}(/[0-9]{1,6}/[0-9A-Fa-f]{8}){0,16}")
_OFFERS: Final = (Offer(RELATED, OCTETS, EXPLICIT), Offer(OCTETS, "", EXPLICIT))
_PIXELS: Final = {"PixelData": 0x7FE00010, "FloatPixelData": 0x7FE00008, "DoubleFloatPixelData": 0x7FE00009}


def metadata(request: Request) -> Response:
    """Answer ``.../metadata`` of a study, a series or an instance."""
    offer = choose(wanted(request), MODELS)
    origin, path = origin_of(request), request.path_params
    lease = origin.lease(path["study"])
    holdings = origin.holdings(path["study"], path.get("series", ""), path.get("instance", ""))
    return given(_models(holdings, here(request, ""), lease), offer)


def _models(holdings: Sequence[Holding], base: str, _lease: Lease) -> Iterator[Model]:
    for holding in holdings:
        yield _model(holding, f"{base}{path_of(holding)}/bulkdata/")


def _model(holding: Holding, bulk: str) -> Model:
    """Return the header of an instance; of one that cannot be read, who it is."""
    try:
        parsed = parse(holding.path)
    except InputRefused:
        ds = Dataset()
        ds.SOPClassUID, ds.SOPInstanceUID = holding.sop_class_uid, holding.sop_instance_uid
        ds.StudyInstanceUID, ds.SeriesInstanceUID = holding.study_uid, holding.series_uid
        return as_model(ds)
    model = as_model(parsed.dataset, lambda place: bulk + place)
    if (pixels := parsed.pixels) is not None:
        tag = f"{_PIXELS[pixels.keyword]:08X}"
        model[tag] = {"vr": pixels.vr or "OW", "BulkDataURI": bulk + tag}
    return model


def bulk_data(request: Request) -> Response:
    """Answer ``.../bulkdata/{place}``, the place as ``metadata`` told it."""
    origin, path = origin_of(request), request.path_params
    if not _PLACE.fullmatch(path["place"]):
        raise Problem(404, "There is no such bulk data.")
    lease = origin.lease(path["study"])
    (holding, *_) = origin.holdings(path["study"], path["series"], path["instance"])
    try:
        parsed = parse(holding.path)
    except InputRefused as refusal:
        raise Problem(406, refusal.sentence) from refusal
    tag = int(path["place"], 16) if "/" not in path["place"] else 0
    if parsed.pixels is not None and tag == _PIXELS[parsed.pixels.keyword]:
        return all_frames(request, holding, format_of(parsed, holding), origin, lease)
    value = _value(parsed.dataset, path["place"])
    if value is None:
        raise Problem(404, "There is no such bulk data.")
    offer = choose(wanted(request), _OFFERS)
    if offer.kind == OCTETS:
        return Response(value, media_type=OCTETS)
    part = Part(media_type=OCTETS, transfer_syntax=EXPLICIT, body=value, location=str(request.url))
    return related([part], OCTETS)


def _value(ds: Dataset, place: str) -> bytes | None:
    """Return a binary value in little endian byte order; None where there is none."""
    names = place.split("/")
    try:
        for name, number in zip(names[::2], names[1::2], strict=False):
            ds = ds[int(name, 16)].value[int(number)]
        raw: Any = ds.get_item(int(names[-1], 16))
        if isinstance(raw, RawDataElement):
            element, little = ds[int(names[-1], 16)], raw.is_little_endian
            value, vr = raw.value, str(element.VR)
        else:
            value, vr, little = raw.value, str(raw.VR), True
    except (*PARSE_ERRORS, KeyError):
        return None
    vr = vr.split(" or ")[-1]
    return as_little(value, vr, little=little) if isinstance(value, bytes) and vr in BINARY else None


RESOURCES: Final = (
    *(
        Resource(
            path=f"{path}/metadata",
            method="GET",
            name=f"Retrieve{name}Metadata",
            endpoint=metadata,
            gives=tuple(map(str, MODELS)),
        )
        for path, name in ((STUDY, "Study"), (SERIES, "Series"), (INSTANCE, "Instance"))
    ),
    Resource(
        path=f"{INSTANCE}/bulkdata/{{place:path}}",
        method="GET",
        name="RetrieveBulkdata",
        endpoint=bulk_data,
        gives=(f'{RELATED}; type="{OCTETS}"', OCTETS),
    ),
)
