"""QIDO-RS: studies, series and instances are searched for (PS3.18 10.6).

An answer that is followed by more, or cannot be whole, says so in a Warning header (10.6.3.1).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from node.show.asked import Asked, asked
from node.show.dicom_json import Model
from node.show.kept import INSTANCE, SERIES, STUDY
from node.show.media import choose, wanted
from node.show.models import MODELS, given
from node.show.origin import origin_of
from node.show.resource import DICOM_WEB, Resource, here
from node.show.rows import Row
from node.show.search import OF_STUDY, Search

_ALWAYS: Final = ("InstanceAvailability", "RetrieveURL")
_STUDY: Final = (*STUDY, *OF_STUDY, *_ALWAYS)
_SERIES: Final = (*SERIES, "NumberOfSeriesRelatedInstances", *_ALWAYS)
_INSTANCE: Final = (*INSTANCE, "AvailableTransferSyntaxUID", *_ALWAYS)
_UIDS: Final = (("study", "StudyInstanceUID"), ("series", "SeriesInstanceUID"))


def search_studies(request: Request) -> Response:
    """Answer ``/studies``."""
    question, search = _begin(request, "studies")
    rows = search.studies()
    return _answer(request, question, search, _page(rows, question), len(rows), _STUDY)


def search_series(request: Request) -> Response:
    """Answer ``/series`` and ``/studies/{study}/series``."""
    question, search = _begin(request, "series")
    rows = search.series()
    return _answer(request, question, search, _page(rows, question), len(rows), _above(request, _SERIES))


def search_instances(request: Request) -> Response:
    """Answer ``/instances``, ``/studies/{study}/instances`` and those of one series."""
    question, search = _begin(request, "instances")
    end = question.offset + question.limit
    rows = list(islice(search.instances(), question.offset, end + 1))
    total = question.offset + len(rows)  # or more
    return _answer(request, question, search, rows[: question.limit], total, _above(request, _INSTANCE))


def _begin(request: Request, level: str) -> tuple[Asked, Search]:
    within = [(keyword, request.path_params[name]) for name, keyword in _UIDS if name in request.path_params]
    question = asked([*within, *request.query_params.multi_items()], level)
    origin = origin_of(request)
    return question, Search(question, origin.index, origin.members)


def _page(rows: Sequence[Row], question: Asked) -> Sequence[Row]:
    return rows[question.offset : question.offset + question.limit]


def _above(request: Request, told: Sequence[str]) -> Sequence[str]:
    """Return what is told where the path does not say to which study and series the rows belong."""
    series = SERIES if told is _INSTANCE else ()
    if "series" in request.path_params:
        return ("StudyInstanceUID", "SeriesInstanceUID", *told)
    if "study" in request.path_params:
        return ("StudyInstanceUID", *series, *told)
    return (*STUDY, *series, *told)


def _answer(
    request: Request, question: Asked, search: Search, rows: Sequence[Row], total: int, told: Sequence[str]
) -> Response:
    offer = choose(wanted(request), MODELS)

    def models() -> Iterator[Model]:
        for row in rows:  # one header is in memory at a time
            row.computed["RetrieveURL"] = [here(request, _path(row))]
            model = row.model(told, question.include)
            if question.everything and len(row.kept) == 3:
                model = row.everything() | model
            row.forget()
            yield model

    warnings = list(question.warnings)
    if (more := total - question.offset - len(rows)) > 0:
        known = f"{more} " if told[-len(_INSTANCE) :] != _INSTANCE else ""
        warnings.append(f"There are {known}additional results that can be requested.")
    if search.unread:
        warnings.append(f"{search.unread} series are not read yet, so that some results may be missing.")
    if search.cut_short:
        warnings.append("The search took too long and was ended, so that some results may be missing.")
    headers = {"Warning": ", ".join(f'299 radnode "{one}"' for one in warnings)} if warnings else {}
    if not rows and offer.part:  # in JSON an empty list says it: not every client takes 204 (Orthanc's)
        return Response(status_code=204, headers=headers)
    return given(models(), offer, headers)


def _path(row: Row) -> str:
    names = ("studies", "series", "instances")
    keywords = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    steps = zip(names, keywords, row.kept, strict=False)
    return DICOM_WEB + "".join(f"/{name}/{kept[keyword]}" for name, keyword, kept in steps)


_QUERY: Final = (
    ("{attribute}", "keyword or tag of an attribute, with the value, list, range or pattern to match"),
    ("includefield", "attributes to include, or all"),
    ("limit", "how many results at most"),
    ("offset", "how many results to skip"),
    ("fuzzymatching", "is not supported"),
)

RESOURCES: Final = tuple(
    Resource(
        path=f"{DICOM_WEB}{path}",
        method="GET",
        name=name,
        endpoint=endpoint,
        gives=tuple(map(str, MODELS)),
        query=_QUERY,
    )
    for path, name, endpoint in (
        ("/studies", "SearchForStudies", search_studies),
        ("/studies/{study:uid}/series", "SearchForSeries", search_series),
        ("/series", "SearchForSeries", search_series),
        ("/studies/{study:uid}/series/{series:uid}/instances", "SearchForInstances", search_instances),
        ("/studies/{study:uid}/instances", "SearchForInstances", search_instances),
        ("/instances", "SearchForInstances", search_instances),
    )
)
