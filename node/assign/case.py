"""Rules that bind several series: each role of a pipeline gets exactly one series of the study.

Which ones is a function of what is held and of nothing else, above all not of the order in which
it came. Series Numbers and our own words are all that is told of a series.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol

from pydicom import Dataset

from node.assign.judge import Judgement, judge, judge_clause, read
from node.assign.matching import Matching, match
from node.assign.operators import Kind, Verdict
from node.assign.results import hold, judge_results
from node.assign.rule import Rule, Want
from node.model import Answer, Instance, Lack, Route, Series
from node.patient import is_placeholder

#: Reads headers by SOP Instance UID, without pixel data; what cannot be read is left out.
Read = Callable[[Sequence[Instance]], Mapping[str, Dataset]]


@dataclass(frozen=True, kw_only=True)
class Held:
    """A settled series, whose headers are read when they are asked for."""

    series: Series
    read: Read
    judged: dict[Want, Judgement] = field(default_factory=dict)  #: kept: rules ask again and again

    @cached_property
    def headers(self) -> Mapping[str, Dataset]:
        """The readable headers of all instances."""
        return self.read(self.series.instances)

    @cached_property
    def _first(self) -> Dataset | None:
        return next(iter(self.read(self.series.instances[:1]).values()), None)

    def fits(self, want: Want) -> bool:
        """Return whether a rule wants this series in a role.

        Modality is of a series (PS3.3 C.7.3.1.1), so that one header tells what is not even of the
        right one: a study may have thousands of others.
        """
        modality = (clause for clause in want.clauses if clause.keyword == "Modality")
        if any(judge_clause(clause, self._first) is Verdict.NO for clause in modality):
            return False
        return self.judgement(want).matched

    def judgement(self, want: Want) -> Judgement:
        """Return what a rule says of it."""
        if want not in self.judged:
            self.judged[want] = judge(want, self.series, self.headers)
        return self.judged[want]

    @cached_property
    def patient(self) -> tuple[str, str]:
        """Patient ID and its issuer; ("", "") where no ID tells who it is, or instances differ."""
        patient_id, issuer = str(self.one("PatientID", "text") or ""), self.one("IssuerOfPatientID", "text")
        return ("", "") if is_placeholder(patient_id) else (patient_id, str(issuer or ""))

    def is_of_another_issuer(self, other: Held) -> bool:
        """Return whether both say who issued their Patient ID, and not the same."""
        (_, mine), (_, theirs) = self.patient, other.patient
        return bool(mine and theirs and mine != theirs)

    @cached_property
    def number(self) -> str:
        """Series Number; "" where there is none."""
        found = self.one("SeriesNumber", "number")
        return f"{found:.0f}" if isinstance(found, float) else ""

    @property
    def name(self) -> str:
        """How people call it: by its number, else by the end of its UID."""
        return f"Series {self.number or f'...{self.series.uid[-12:]}'}"

    @cached_property
    def study_date(self) -> str:
        """YYYYMMDD; "" where it is not known, or instances differ."""
        date = self.one("StudyDate", "text")
        return date if isinstance(date, str) and len(date) == 8 and date.isdecimal() else ""

    def one(self, keyword: str, kind: Kind) -> str | float | None:
        """Return the value that all instances have in common; None where there is none."""
        found = {
            tuple(values) if isinstance(values, tuple) else ()
            for header in self.headers.values()
            for values in read(header, keyword, kind)
        }
        values = found.pop() if len(found) == 1 else ()
        return values[0] if len(values) == 1 else None


class Around(Protocol):
    """What else is held; read when it is asked for."""

    def study(self, study_uid: str) -> Sequence[Held]:
        """Return the settled series of a study, ours among them."""

    def patient(self, study_uid: str) -> Sequence[Held]:
        """Return the settled series of the other studies of the patient of a study."""

    def touched(self, rule: str) -> Collection[str]:
        """Return the studies whose case of a rule has this series, or lacks one of its patient."""

    def answer(self, pipeline: str, series_uid: str) -> Answer | None:
        """Return what a pipeline said of a series as it stands; None: nothing so far."""


def assign_cases(settled: Held, rules: Sequence[Rule], around: Around) -> list[Route]:
    """Return what the rules of several series ask for, now that a series has settled.

    One route for every case that the series may belong to: of its own study, or of a later one of
    the patient which has waited for it. It is complete, or says what it lacks. What was fetched as a prior
    begins no case of its own study.
    """
    routes = []
    for rule in rules:
        if not rule.is_case:
            continue
        studies = set(around.touched(rule.name))
        current = () if settled.series.is_prior else (w for w in rule.wants if w.study == "current")
        if any(settled.fits(want) for want in current):
            studies.add(settled.series.study_uid)
        routes += [route for uid in sorted(studies) if (route := bind(rule, uid, around)) is not None]
    return routes


def bind(rule: Rule, study_uid: str, around: Around) -> Route | None:
    """Return the case of a rule on a study, complete or not; None where no series fits any role."""
    study = around.study(study_uid)
    chosen, lack = _current(rule, study)
    if chosen and _goes_on(lack) and any(want.study == "prior" for want in rule.wants):
        prior, other = _prior(rule, next(iter(chosen.values())), around.patient(study_uid))
        chosen |= prior
        lack = _both(lack, other)
    if not chosen:
        return None
    if rule.results:
        first = chosen.get(rule.wants[0].role)
        if first is None or not hold(judge_results(rule.results, first.series.uid, around.answer)):
            return None
    wants = {want.role: want for want in rule.wants}
    return Route(
        rule=rule.name,
        pipeline=rule.pipeline,
        inputs={role: held.judgement(wants[role]).chosen for role, held in chosen.items()},
        send_to=rule.send_to,
        case=(rule.name,),
        lack=lack,
    )


def _current(rule: Rule, study: Sequence[Held]) -> tuple[dict[str, Held], Lack | None]:
    """Bind the roles of the current study."""
    wants = {want.role: want for want in rule.wants if want.study == "current"}
    chosen, matching = _matched(wants, study)
    if not matching.missing:
        return chosen, _unclear(matching, wants, study)
    there = _required(wants, study)
    missing = tuple(role for role in wants if role not in there) if there else matching.missing
    sentences = dict.fromkeys(_missing(role, matching, wants, study) for role in missing)
    lack = Lack(code="input-missing", sentence=" ".join(sentences), roles=missing, wait_s=rule.wait_s)
    if not there:
        return chosen, lack
    chosen, without = _matched(there, study)
    return chosen, _unclear(without, there, study) or replace(lack, then="proceed")


def _required(wants: Mapping[str, Want], study: Sequence[Held]) -> dict[str, Want]:
    """Return the roles that can be filled, those that a case needs among them; {}: not even these."""
    there = {role: want for role, want in wants.items() if not want.optional}
    if len(there) == len(wants) or _matched(there, study)[1].missing:
        return {}
    for role, want in wants.items():
        if want.optional and not _matched({**there, role: want}, study)[1].missing:
            there[role] = want
    return {role: wants[role] for role in wants if role in there}


def _prior(rule: Rule, current: Held, others: Sequence[Held]) -> tuple[dict[str, Held], Lack | None]:
    """Bind the roles of the newest earlier study that fits them.

    Only days are compared: the hours of two studies of one day may be of two clocks.
    """
    wants = {want.role: want for want in rule.wants if want.study == "prior"}
    studies: dict[str, list[Held]] = {}
    for held in others:
        fits = any(held.fits(want) for want in wants.values())
        if fits and not held.is_of_another_issuer(current):  # whose Patient ID is the same by chance
            studies.setdefault(held.series.study_uid, []).append(held)
    dated = sorted((_date(study), uid) for uid, study in studies.items())
    dates = [date for date, _ in dated]
    if dated and not current.study_date:
        return {}, _unsure(wants, "the Study Date of the current one is not known")
    if "" in dates:
        return {}, _unsure(wants, "the Study Date of another one that fits is not known")
    if current.study_date in dates:
        return {}, _unsure(wants, "another one that fits is of the same day")
    earlier = [(date, uid) for date, uid in dated if date < current.study_date]
    for date, uid in reversed(earlier):
        chosen, matching = _matched(wants, studies[uid])
        if matching.missing:
            continue
        if dates.count(date) > 1:
            return {}, _unsure(wants, "two earlier ones that fit are of the same day")
        return chosen, _unclear(matching, wants, studies[uid])
    words = " and ".join(f"role {role!r} ({want.words})" for role, want in wants.items())
    sentence = f"The node holds no earlier study of the patient that fits {words}."
    if current.patient == ("", ""):
        sentence = (
            f"An earlier study for {words} cannot be looked for: the Patient ID of this one is absent, or "
            "one that many may have. Correct it at its source."
        )
    elif dated and not earlier:
        sentence = f"What the node holds of the patient that fits {words} is of later studies."
    goes_on = all(want.optional for want in wants.values())
    lack = Lack(
        code="input-missing",
        sentence=sentence,
        roles=tuple(wants),
        wait_s=rule.wait_s,
        then="proceed" if goes_on else rule.without_prior,
    )
    return {}, lack


def _goes_on(lack: Lack | None) -> bool:
    return lack is None or lack.then == "proceed"


def _both(one: Lack | None, other: Lack | None) -> Lack | None:
    """Return what is lacking of the current study, which is optional, and of an earlier one."""
    if one is None or other is None or not _goes_on(other):
        return other or one
    return replace(one, sentence=f"{one.sentence} {other.sentence}", roles=(*one.roles, *other.roles))


def _matched(wants: Mapping[str, Want], study: Sequence[Held]) -> tuple[dict[str, Held], Matching]:
    by_uid = {held.series.uid: held for held in study}
    matching = match(
        {role: [uid for uid, held in by_uid.items() if held.fits(want)] for role, want in wants.items()}
    )
    return {role: by_uid[matching.bound[role]] for role in wants if role in matching.bound}, matching


def _missing(role: str, matching: Matching, wants: Mapping[str, Want], study: Sequence[Held]) -> str:
    """Say that nothing fits a role, or that what fits it is too little for this role and others."""
    roles, fit = {role}, {held.series.uid: held.name for held in study if held.fits(wants[role])}
    if not fit:
        return f"No series of the study fits role {role!r}: {wants[role].words}."
    while rivals := {one for one, uid in matching.bound.items() if uid in fit} - roles:
        roles |= rivals
        fit |= {h.series.uid: h.name for h in study if any(h.fits(wants[rival]) for rival in rivals)}
    want = "; ".join(f"{one!r} wants {wants[one].words}" for one in wants if one in roles)
    return (
        f"Of the study only {', '.join(sorted(fit.values()))} can have one of {len(roles)} roles, and each "
        f"needs a series of its own: {want}."
    )


def _unclear(matching: Matching, wants: Mapping[str, Want], study: Sequence[Held]) -> Lack | None:
    if not matching.unclear:
        return None
    told = []
    for role in matching.unclear:
        names = sorted(held.name for held in study if held.fits(wants[role]))
        told.append(f"role {role!r} ({', '.join(names)})")
    sentence = (
        f"Several series of the study fit {' and '.join(told)}, and a role takes one. Say more in "
        f"{' and '.join(f'[rules.inputs.{role}]' for role in matching.unclear)}, so that one is left."
    )
    return Lack(code="several-candidates", sentence=sentence, roles=matching.unclear)


def _date(study: Sequence[Held]) -> str:
    """Return the date of a study; "" where its series do not agree on one."""
    dates = {held.study_date for held in study}
    return dates.pop() if len(dates) == 1 else ""


def _unsure(wants: Mapping[str, Want], why: str) -> Lack:
    sentence = f"Which study of the patient is the newest earlier one cannot be told: {why}."
    return Lack(code="prior-unclear", sentence=sentence, roles=tuple(wants))
