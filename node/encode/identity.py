"""Who made a result, and the names derived from that.

The same job on the same node version gives the same UIDs (idea 5 of the house: derived
identity), so doing it twice gives an archive one object. The algorithm is named once here and
written in the four places that IHE AIR wants to agree (standards R-20).
"""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import lru_cache

import node
from node.encode.repair import cut
from node.model import Predecessor
from node.profile import Presentation
from pipelines.contract import Card

#: Seeds every derived UID; the node's own Instance Creator UID as a UUID.
_NAMESPACE = uuid.UUID(int=int(node.INSTANCE_CREATOR_UID.removeprefix("2.25.")))
#: The node itself, as equipment (PS3.3 C.7.5.2).
NODE_NAME = "radnode"


def derived_uid(*seeds: str) -> str:
    """Return a 2.25 UID that depends on the seeds alone (PS3.5 B.2)."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, chr(0).join(seeds)).int}"


@lru_cache(maxsize=8)
def _told(presentation: Presentation) -> str:
    return json.dumps(asdict(presentation), sort_keys=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeJob:
    """What the encoder must know of a job beside its findings.

    The zone of ``created_at`` is the one dates and times are written in when the source does not
    say its own (Timezone Offset From UTC).
    """

    job_key: str  #: `node.job.JobSpec.key`, hexadecimal; seeds the derived UIDs
    card: Card
    created_at: datetime  #: aware; Content Date and Time, so a repetition gives the same bytes
    ae_title: str = "RADNODE"  #: told as Station AE Title
    station: str = ""  #: told as Station Name; "" leaves it out
    presentation: Presentation = field(default_factory=Presentation)
    predecessors: tuple[Predecessor, ...] = ()  #: reports of an earlier run, superseded by this one

    def __post_init__(self) -> None:
        if self.created_at.tzinfo is None:
            raise ValueError("created_at must be aware of its time zone")
        if not self.job_key:
            raise ValueError("job_key is empty, so no UID can be derived from it")

    def uid(self, role: str, *content: str) -> str:
        """Return the UID for one role ("seg series", "tracking 2") of this job's results.

        ``content`` is what else makes a difference, such as the UIDs of objects referred to.
        """
        told = _told(self.presentation)
        return derived_uid(self.job_key, node.__version__, self.ae_title, self.station, told, role, *content)


@dataclass(frozen=True, slots=True, kw_only=True)
class Algorithm:
    """The algorithm as every object names it."""

    maker: str
    name: str
    version: str
    device_uid: str  #: changes whenever code, weights or parameters change
    parameters: str  #: JSON on one line, "" if there are none


def algorithm_of(card: Card) -> Algorithm:
    """Return how a card's algorithm is named in DICOM: values that fit LO (64 characters)."""
    parameters = json.dumps(dict(card.parameters), sort_keys=True, default=str, ensure_ascii=False)
    return Algorithm(
        maker=cut(card.maker, 64) or "unknown maker",
        name=cut(card.name, 64),
        version=cut(card.version, 64) or "unversioned",
        device_uid=derived_uid("device", card.name, card.version, card.digest, parameters),
        parameters=parameters if card.parameters else "",
    )
