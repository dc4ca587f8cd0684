"""Under which name and UID a finding is known again, in every object and in later runs (R-34)."""

from __future__ import annotations

from node.encode.identity import derived_uid
from node.encode.material import Material
from node.encode.repair import cut
from pipelines.contract import Detection, Segment

#: Categories of CID 7150 whose types are places themselves: a patient has one left lung.
ANATOMICAL_CATEGORIES = frozenset({"91723000", "123037004", "85756007"})


def tracking_id(finding: Segment | Detection) -> str:
    """Return what people call it."""
    return cut(finding.label, 64)


def tracking_uid(material: Material, finding: Segment | Detection) -> str:
    """Return the UID that ties segment, contour and measurements of one finding together.

    An organ keeps its UID when a newer version of the pipeline finds it again in the same series; its
    label counts as well as its codes, because a tie that is lost does less harm than a wrong one
    (two ribs of the same code). Of anything else nobody can say that it is the same, so its UID
    is of this job alone.
    """
    what = "segment" if isinstance(finding, Segment) else "detection"
    if finding.category.value not in ANATOMICAL_CATEGORIES:
        return material.job.uid(f"tracking {what} {finding.number}")
    all_of_them = material.findings.segments if isinstance(finding, Segment) else material.findings.detections
    nature = _nature(finding)
    alike = (o for o in all_of_them if o.number < finding.number and o.label == finding.label)  # quickly told
    earlier = sum(1 for other in alike if _nature(other) == nature)
    return derived_uid(
        "tracking", material.volume.series_uid, material.job.card.name, what, *nature, str(earlier)
    )


def _nature(finding: Segment | Detection) -> tuple[str, ...]:
    codes = (finding.category, finding.kind, finding.laterality, finding.anatomic_region)
    return (finding.label, *(f"{code.scheme} {code.value}" if code else "" for code in codes))
