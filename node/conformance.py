"""``radnode conformance``: the conformance statement (PS3.2) of the node as it is configured here.

Everything is read from what the node itself goes by: the classes and syntaxes that it would offer, the
tables of statuses, the table of HTTP resources, the configuration. Sections follow PS3.2 Annex N.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pydicom.uid import UID

from node import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, __version__
from node.accept import chosen_classes, decodable_syntaxes
from node.accept.retrieve import STUDY_ROOT_GET, STUDY_ROOT_MOVE
from node.accept.status import ANSWERS
from node.config import (
    Config,
    Destination,
    DimseDestination,
    DimseSource,
    FolderDestination,
    Source,
    StowDestination,
)
from node.encode.kinds import KINDS
from node.peer.commitment import PUSH_MODEL
from node.peer.echo import VERIFICATION
from node.peer.find import STUDY_ROOT_FIND
from node.send.classes import RESULT_CLASSES, class_name
from node.send.status import FAMILIES, Verdict
from node.show.app import RESOURCES

STUDY_ROOT = {"FIND": STUDY_ROOT_FIND, "MOVE": STUDY_ROOT_MOVE, "GET": STUDY_ROOT_GET}

_BEHAVIOUR = {
    Verdict.STORED: "the object is delivered",
    Verdict.WARNED: "the object is delivered; the warning is kept and told",
    Verdict.BUSY: "tried again later, with growing pauses",
    Verdict.REFUSED: "not sent again by itself; the job fails and says why, an operator may retry it",
}


def statement(config: Config) -> str:
    """Return the conformance statement in Markdown.

    Raises
    ------
    ConfigError
        The storage classes of the configuration are none.
    """
    sections = (
        _overview(config),
        _entities(config),
        _storage_scp(config),
        _web(config),
        _storage_scu(config),
        _archives(config),
        _objects(config),
        _characters(),
        _security(config),
    )
    return "\n\n".join("\n".join(section) for section in sections) + "\n"


def _overview(config: Config) -> Iterator[str]:
    yield f"# DICOM conformance statement of radnode {__version__}"
    yield ""
    yield (
        "Research software: results are not for diagnosis. This statement was generated from the "
        "configuration of one node and holds for that node alone."
    )
    yield ""
    yield "## 1 Services"
    yield ""
    commits = any(isinstance(d, DimseDestination) and d.proof == "commitment" for d in _places(config))
    asks = [*config.sources.values(), *(d for d in _places(config) if _is_asked(d))]
    dimse = config.accept.dimse.enabled
    yield from _table(
        ("service", "role", "here"),
        [
            ("Verification", "SCP", _yes(dimse)),
            ("Verification", "SCU", "by `radnode check`"),
            ("Storage", "SCP", _yes(dimse)),
            ("Storage", "SCU", _yes(any(isinstance(d, DimseDestination) for d in _places(config)))),
            ("Storage Commitment Push Model", "SCU", _yes(commits)),
            ("Query (Study Root, C-FIND)", "SCU", _yes(any(hasattr(a, "ae_title") for a in asks))),
            ("Retrieve (Study Root, C-MOVE or C-GET)", "SCU", _yes(any(map(_is_dimse, _sources(config))))),
            ("Studies Service (STOW-RS, WADO-RS, QIDO-RS)", "origin server", _yes(config.show.enabled)),
            ("STOW-RS", "user agent", _yes(any(isinstance(d, StowDestination) for d in _places(config)))),
            ("QIDO-RS", "user agent", _yes(any(hasattr(a, "url") for a in asks))),
            ("WADO-RS", "user agent", _yes(not all(map(_is_dimse, _sources(config))))),
        ],
    )


def _entities(config: Config) -> Iterator[str]:
    door = config.accept.dimse
    yield "## 2 Application entity and associations"
    yield ""
    yield from _table(
        ("what", "value"),
        [
            ("AE title, calling and called", config.node.ae_title),
            ("further called AE titles", _list(config.accept.called)),
            ("other called AE titles", "rejected" if door.check_called_ae else "accepted"),
            ("calling AE titles", _list(config.accept.callers) if config.accept.callers else "any"),
            ("host and port", f"{door.host}:{door.port}"),
            ("TLS", door.tls),
            ("Implementation Class UID", IMPLEMENTATION_CLASS_UID),
            ("Implementation Version Name", IMPLEMENTATION_VERSION_NAME),
            ("application context", "1.2.840.10008.3.1.1.1"),
            ("associations at once, as acceptor", door.max_associations),
            ("associations at once, as requestor", "one for each destination and source"),
            ("maximum PDU received", f"{door.max_pdu_bytes} bytes"),
            ("asynchronous operations window", "1 invoked, 1 performed; nothing else is negotiated"),
            (
                "SOP Class Extended Negotiation",
                "Storage: level 2 (full), digital signature level 3 (bit preserving), no coercion "
                "(PS3.4 B.3.1); others are not answered",
            ),
            ("User Identity Negotiation", "not answered"),
            ("association request must come within", f"{door.request_timeout_s:g} s"),
            ("a PDU must be whole within", f"{door.pdu_timeout_s:g} s"),
            ("association without traffic is aborted after", f"{door.idle_timeout_s:g} s"),
        ],
    )
    if config.accept.policies:
        yield ""
        yield "Who fits none of these policies, in this order, is rejected:"
        yield ""
        yield from _table(
            ("policy", "calling", "called", "hosts", "certificates", "rules", "associations", "per minute"),
            [
                (
                    name,
                    _list(one.calling) or "any",
                    _list(one.called) or "any",
                    _list(map(str, one.hosts)) or "any",
                    len(one.certificates) or "any",
                    "all" if one.rules is None else _list(one.rules) or "none",
                    one.max_associations or "",
                    one.instances_per_minute or "",
                )
                for name, one in config.accept.policies.items()
            ],
        )


def _storage_scp(config: Config) -> Iterator[str]:
    yield "## 3 Storage SCP"
    yield ""
    yield (
        "Level 2 (full): data sets are kept byte for byte as they came; preamble and file meta information "
        "are our own. Success is answered once the object and its entry in the journal are on disk. The "
        "same object again is Success; other content under a known SOP Instance UID is kept apart and "
        "refused. No attribute is coerced."
    )
    yield ""
    yield "### 3.1 Transfer syntaxes, in the order of preference"
    yield ""
    yield (
        "Each was decoded when this statement was made. Among those without loss the order of the "
        "requestor counts, but Explicit VR Little Endian goes before Implicit VR Little Endian."
    )
    yield ""
    yield from _table(("UID", "name"), [(uid, UID(uid).name) for uid in decodable_syntaxes()])
    yield ""
    yield "### 3.2 SOP classes"
    yield ""
    yield (
        "Verification in Explicit and Implicit VR Little Endian; each of the others in every syntax of 3.1. "
        "A context of any other class is rejected, the association is not."
    )
    yield ""
    classes = (VERIFICATION, *chosen_classes(config.accept.dimse.sop_classes))
    yield from _table(("UID", "name"), [(uid, class_name(uid)) for uid in classes])
    yield ""
    yield "### 3.3 Statuses of C-STORE"
    yield ""
    yield from _table(
        ("status", "means", "related fields"),
        [
            (
                f"{code:04X}",
                sentence,
                "" if code == 0 else "(0000,0902), and (0000,0901) where one is at fault",
            )
            for code, sentence in ANSWERS.items()
        ],
    )


def _web(config: Config) -> Iterator[str]:
    yield "## 4 DICOMweb origin server"
    yield ""
    if not config.show.enabled:
        yield "Not enabled ([show] enabled = false)."
        return
    show = config.show
    who = "a bearer token" if show.tokens else "a client certificate" if show.tls == "mutual" else "nothing"
    yield (
        f"At {show.host}:{show.port}, TLS {show.tls}; a request must show {who}. Every resource answers "
        "OPTIONS with what it does, as WADL (Retrieve Capabilities, PS3.18 8.9)."
    )
    yield ""
    yield from _table(
        ("method", "resource", "transaction", "media types"),
        [
            (
                one.method,
                one.template,
                one.name,
                _list([*one.gives, *(f"takes {kind}" for kind in one.takes)]),
            )
            for one in RESOURCES
        ],
    )


def _storage_scu(config: Config) -> Iterator[str]:
    yield "## 5 Storage SCU and STOW-RS user agent"
    yield ""
    yield (
        "Results are sent as they were made; an object goes after those that it refers to. What a peer "
        "takes is asked in every association and remembered; a label map becomes binary where a peer takes "
        "none, a report becomes a simpler class where its content allows."
    )
    yield ""
    yield from _table(("UID", "name"), [(uid, class_name(uid)) for uid in RESULT_CLASSES])
    yield ""
    yield "### 5.1 What a status means"
    yield ""
    yield from _table(
        ("from", "to", "means", "what happens", "clause"),
        [
            (
                f"{one.first:04X}",
                f"{one.last:04X}",
                one.sentence or "stored",
                _BEHAVIOUR[one.verdict],
                one.clause,
            )
            for one in FAMILIES
        ],
    )
    yield ""
    yield "Any other status is tried again."
    yield ""
    yield "### 5.2 Destinations"
    yield ""
    yield from _table(
        ("name", "transport", "where", "TLS", "proof of arrival", "alternates"),
        [
            (
                name,
                one.transport,
                _where(one),
                _tls(one),
                "" if isinstance(one, FolderDestination) else one.proof,
                _list(one.alternates),
            )
            for name, one in config.destinations.items()
        ],
    )
    yield ""
    yield (
        f'With proof of arrival "commitment" the Storage Commitment Push Model ({PUSH_MODEL}) is requested '
        "for every object; the report is heard on the same association or on one that the archive opens to "
        "us, with the role SCP. A request without a report is repeated under a new transaction."
    )


def _archives(config: Config) -> Iterator[str]:
    yield "## 6 Query and retrieve"
    yield ""
    if not config.sources:
        yield "No archive is asked ([sources])."
        return
    yield from _table(("service", "UID"), [(f"Study Root {name}", uid) for name, uid in STUDY_ROOT.items()])
    yield ""
    yield from _table(
        ("source", "transport", "where", "TLS", "retrieve", "counts", "priors", "watched"),
        [
            (
                name,
                one.transport,
                _where(one),
                _tls(one),
                one.retrieve if isinstance(one, DimseSource) else "WADO-RS",
                _yes(one.counts),
                _yes(one.priors),
                f"every {one.watch.every_s:g} s" if one.watch else "no",
            )
            for name, one in config.sources.items()
        ],
    )


def _objects(config: Config) -> Iterator[str]:
    yield "## 7 Objects that are created"
    yield ""
    yield (
        "Patient and Study are those of the source, made legal and otherwise equal. Structured reports "
        "follow TID 1500 with TID 1410, 1411, 1419, 1501 and 4019, reports in sentences their own tree of "
        "TEXT items. Each object names the algorithm in Contributing Equipment Sequence (0018,A001), says "
        "that it is for research (Content Qualification RESEARCH), and has a UID derived from its inputs. "
        "Codes without a standard are of the private scheme 99RADNODE. No private attribute is written."
    )
    yield ""
    first = config.results.series_number
    yield from _table(
        ("kind", "what", "Series Number"),
        [(name, kind.what, first + kind.series_offset) for name, kind in KINDS.items()],
    )


def _characters() -> Iterator[str]:
    yield "## 8 Character sets"
    yield ""
    yield (
        "Received objects are kept in theirs; those of PS3.3 C.12.1.1.2 are read. Objects that are created, "
        "and answers of DICOMweb, are in ISO_IR 192 (UTF-8)."
    )


def _security(config: Config) -> Iterator[str]:
    yield "## 9 Security"
    yield ""
    yield (
        'TLS follows PS3.15 B.12 "BCP 195 RFC 8996, 9325": TLS 1.3, or 1.2 with ephemeral keys and '
        "authenticated encryption. "
        + (
            "This node has a certificate."
            if config.tls.certificate
            else "This node has no certificate ([tls])."
        )
    )
    yield ""
    yield from _table(
        ("door", "where", "TLS"),
        [
            ("DICOM", f"{config.accept.dimse.host}:{config.accept.dimse.port}", config.accept.dimse.tls),
            ("HTTP", f"{config.show.host}:{config.show.port}", config.show.tls),
        ],
    )


def _places(config: Config) -> Sequence[Destination]:
    return tuple(config.destinations.values())


def _sources(config: Config) -> Sequence[Source]:
    return tuple(config.sources.values())


def _is_dimse(entry: object) -> bool:
    return isinstance(entry, DimseSource)


def _is_asked(place: Destination) -> bool:
    return not isinstance(place, FolderDestination) and place.proof == "query"


def _where(entry: Destination | Source) -> str:
    if isinstance(entry, FolderDestination):
        return "a folder"
    if isinstance(entry, DimseDestination | DimseSource):
        return f"{entry.ae_title} at {entry.host}:{entry.port}"
    return entry.url


def _tls(entry: Destination | Source) -> str:
    if isinstance(entry, DimseDestination | DimseSource):
        return _yes(entry.tls)
    return "" if isinstance(entry, FolderDestination) else _yes(entry.url.startswith("https:"))


def _yes(is_so: bool) -> str:
    return "yes" if is_so else "no"


def _list(words: Iterable[str]) -> str:
    return ", ".join(words)


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """Yield a table of Markdown."""
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in row)} |"
