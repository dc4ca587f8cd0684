"""What every object of a job is made from."""

from __future__ import annotations

from dataclasses import dataclass

from node.encode.header import Header
from node.encode.identity import Algorithm, EncodeJob, algorithm_of
from node.encode.numbers import Number
from node.encode.seg.outlines import Outlines
from node.errors import EncodeError
from node.model import ResultObject, Volume, Volumes
from node.profile import Profile
from pipelines.contract import Findings


class NotApplicable(Exception):
    """This kind of object cannot say what was found; the sentence becomes a note of the job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """The findings of one job with all that goes into an object made of them.

    It grows on the way: ``outlines`` and ``numbers`` are there once the segmentations lie on disk,
    ``siblings`` are what the object at hand may refer to.
    """

    job: EncodeJob
    header: Header
    findings: Findings
    volumes: Volumes
    role: str  #: whose grid the findings are on
    profile: Profile
    outlines: Outlines | None = None  #: None: nothing was outlined
    numbers: tuple[Number, ...] = ()
    siblings: tuple[ResultObject, ...] = ()  #: made before it, in the order they are to be sent

    def __post_init__(self) -> None:
        """Refuse findings on images of another study: their results would be filed there.

        The study of a job is that of the first input which its card names.
        """
        first = next((role for role in self.job.card.inputs if role in self.volumes), self.role)
        if self.volumes[first].study_uid != self.volume.study_uid:
            raise EncodeError(
                f"the findings are on the grid of '{self.role}', which is of another study than '{first}'; "
                "a pipeline has to give them on an input of the study that the job is for"
            )

    @property
    def volume(self) -> Volume:
        """The volume whose grid the findings are on."""
        return self.volumes[self.role]

    @property
    def algorithm(self) -> Algorithm:
        """Who found it."""
        return algorithm_of(self.job.card)
