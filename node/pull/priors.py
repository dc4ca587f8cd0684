"""Earlier studies for cases that lack one are looked for in archives, and fetched as priors.

What is asked is who the patient is, what the role wants, and only studies before the current one. What
comes is told apart by its header when it has settled, as whatever else is held.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from functools import partial

from pydicom import Dataset

from node.around import headers_of
from node.assign import Held, Rule, keywords_of
from node.assign.judge import judge_clause
from node.assign.operators import Verdict
from node.assign.rule import Want
from node.errors import NodeError, PeerRefused
from node.flow import Node
from node.job import Job
from node.log import get_log
from node.peer.query import Archive, Found, archive_of

log = get_log("pull")

MOST_STUDIES = 200  #: of one patient that are looked at
MOST_PRIORS = 2  #: studies that are fetched for one case, the nearest earlier ones
MOST_SERIES = 50  #: of each
_NOT_ASKED = -1  #: for `Journal.seek`: there was nothing that an archive could be asked
_PATTERN = frozenset("*?\\")  #: with these, a Patient ID would match others (PS3.4 C.2.2.2.4)
#: What an archive says of a series that rules may ask for as well.
_TOLD = ("Modality", "SeriesNumber", "SeriesDescription", "BodyPartExamined")


def seek(name: str, node: Node) -> bool:
    """Look in one archive for the priors that cases lack, and have them fetched.

    Each archive is asked once for each case. What it refuses for one case it may answer for the next.

    Returns
    -------
    bool
        Whether it could be asked; if not, it is to be asked again.
    """
    now, trouble = node.clock(), ""
    for job in node.journal.lacking(name, now):
        wants = wanted(job, node.rules)
        current = _current(job, node) if wants else None
        question = _question(current) if current else None
        if current is None or question is None:
            node.journal.seek(job.id, name, _NOT_ASKED, now)
            continue
        try:
            archive = archive_of(node.config.sources[name], node.config)
            studies = earlier(archive.studies(question, most=MOST_STUDIES), current)
            series = list(_fitting(archive, studies, wants))
        except NodeError as error:
            log.warning("priors_not_sought", name=name, job=job.id, reason=str(error))
            trouble = str(error)
            node.journal.complain(name, trouble)
            if isinstance(error, PeerRefused):
                continue
            return False
        node.journal.complain(name, trouble)
        for one in series:
            node.journal.ask_pull(name, one.study_uid, one.uid, prior=True, now=node.clock())
        found = len({one.study_uid for one in series})
        node.journal.seek(job.id, name, found, now)
        log.info("priors_sought", name=name, job=job.id, count=found)
    return not trouble


def wanted(job: Job, rules: Sequence[Rule]) -> tuple[Want, ...]:
    """Return what a case lacks of an earlier study; () where it lacks something else."""
    lack = job.spec.lack
    roles = lack.roles if lack else ()
    wants = (want for rule in rules if rule.name in job.spec.case for want in rule.wants)
    return tuple(want for want in wants if want.study == "prior" and want.role in roles)


def earlier(found: Sequence[Found], current: Held) -> list[Found]:
    """Return the studies of the same patient before the current one, the nearest first.

    An archive may have taken the question for another one, so its answers are held against it.
    """
    patient_id, issuer = current.patient
    kept = []
    for one in found:
        when, whose, of = one.one("StudyDate"), one.one("PatientID"), one.one("IssuerOfPatientID")
        is_earlier = len(when) == 8 and when.isdecimal() and when < current.study_date
        if is_earlier and whose in ("", patient_id) and (not of or not issuer or of == issuer):
            kept.append(one)
    return sorted(kept, key=lambda one: (one.one("StudyDate"), one.uid), reverse=True)


def may_fit(want: Want, series: Found) -> bool:
    """Return whether nothing that an archive says of a series speaks against a role."""
    header = Dataset()
    for keyword in _TOLD:
        if value := series.one(keyword):
            setattr(header, keyword, value)
    asked = (clause for clause in want.clauses if clause.keyword in header)
    return all(judge_clause(clause, header) is not Verdict.NO for clause in asked)


def _fitting(archive: Archive, studies: Sequence[Found], wants: Sequence[Want]) -> Iterator[Found]:
    """Yield the series that may fit a role, of the nearest studies that may have one for each."""
    left = MOST_PRIORS
    for study in studies:
        series = archive.series(study.uid)
        fitting = [one for one in series if any(may_fit(want, one) for want in wants)]
        found = {want.role for want in wants if any(may_fit(want, one) for one in fitting)}
        if found == {want.role for want in wants}:
            yield from fitting[:MOST_SERIES]
            left -= 1
        if not left:
            return


def _current(job: Job, node: Node) -> Held | None:
    """Return the first series of a case, which is of the current study; None: it is no longer here."""
    first = next(iter(job.spec.inputs.values()), None)
    series = first and node.journal.series(first.series_uid)
    if not series:
        return None
    return Held(series=series, read=partial(headers_of, keywords=keywords_of(node.rules)))


def _question(current: Held) -> dict[str, str] | None:
    """Return what is asked for; None where the patient or the day is not known for sure."""
    # The issuer is held against the answers: many archives know none, and would find nothing by it.
    (patient_id, _), day = current.patient, current.study_date
    if not patient_id or not day or _PATTERN & set(patient_id) or not patient_id.isprintable():
        return None
    try:
        before = date(int(day[:4]), int(day[4:6]), int(day[6:])) - timedelta(days=1)
    except (ValueError, OverflowError):
        return None
    return {"PatientID": patient_id, "StudyDate": f"-{before:%Y%m%d}"}
