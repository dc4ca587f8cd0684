"""Every error of the node, and what happens next.

NodeError
├── ConfigError              stop    the node does not start; names file, table and key
├── BundleRefused                    a bundle cannot become a pipeline; says why, all at once
├── AcceptError              answer  the sender is told; nothing was kept
│   ├── NotDicom                     C000  cannot be read as a DICOM data set
│   ├── MissingIdentity              A900  no Study, Series or SOP Instance UID
│   ├── IdentityMismatch             A900  data set and request disagree
│   ├── ContentConflict              0111  known UID, other content: quarantined
│   └── OutOfSpace                   A700  disk full, or below the reserve
├── ComputeError
│   ├── WorkerLost           retry   the process died: crash, kill
│   │   └── MemoryExceeded   retry   it used more memory than it may and was killed, or got no more
│   ├── TimedOut             retry   the time limit passed; the process was killed
│   ├── PipelineFailed       retry   the pipeline raised an error
│   ├── Stumbled             retry   something else of ours broke: disk full, no more files, a bug
│   ├── FindingsInvalid      fail    the pipeline broke its contract
│   ├── PipelineMissing      fail    the pipeline of the job is no longer installed
│   ├── NodeStopping         leave   the node goes down; the job is queued anew at the next start
│   └── Cancelled            leave   an operator ended the run; the journal knew it first
├── EncodeError              fail    our fault: the object would be wrong, so it is not sent
├── SendError
│   ├── PeerUnreachable      retry   no connection, abort, time-out, association rejected for now
│   ├── PeerBusy             retry   the peer is out of resources (A7xx)
│   └── PeerRefused          fail    the peer will never take it (A9xx, Cxxx, 0122, 0124)
├── JournalUnavailable       retry   the journal cannot be used just now: locked, disk full
└── IllegalTransition        leave   the job is no longer in the state it was thought to be in

`pipelines.contract.InputRefused` (refuse) belongs to the same family: a job that ends in it is
REFUSED, with a reason for people. Each class carries ``then``, and `node.flow` acts on it:
"leave" means that the job is in other hands already.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from node.log import describe

Then = Literal["stop", "answer", "refuse", "retry", "fail", "leave"]


class NodeError(Exception):
    """Something went wrong in the node."""

    then: ClassVar[Then] = "fail"
    #: Machine-readable reason in kebab-case, kept in the journal beside the sentence.
    code: ClassVar[str] = "node-error"

    def __init__(self, sentence: str = "") -> None:
        super().__init__(sentence or (self.__doc__ or "").strip())


class ConfigError(NodeError):
    """The configuration cannot be used."""

    then = "stop"
    code = "config"


class BundleRefused(NodeError):
    """A bundle cannot become a pipeline of this node.

    Parameters
    ----------
    name
        Of the bundle.
    reasons
        Sentences, all that are known.
    """

    code = "bundle-refused"

    def __init__(self, name: str, reasons: Sequence[str]) -> None:
        self.reasons = tuple(reasons)
        count = "1 reason" if len(reasons) == 1 else f"{len(reasons)} reasons"
        super().__init__(
            "\n".join([f"{name} is not deployable, for {count}:", *(f"  {one}" for one in reasons)])
        )


class AcceptError(NodeError):
    """The instance was not taken."""

    then = "answer"
    code = "not-accepted"

    def __init__(self, sentence: str = "", *, tags: tuple[int, ...] = ()) -> None:
        super().__init__(sentence)
        self.tags = tags  #: the elements at fault: Offending Element (0000,0901)


class NotDicom(AcceptError):
    """This cannot be read as a DICOM data set."""

    code = "not-dicom"


class MissingIdentity(AcceptError):
    """The data set lacks a Study, Series or SOP Instance UID, or has a malformed one."""

    code = "missing-identity"


class IdentityMismatch(AcceptError):
    """The data set has another SOP Class or Instance UID than the request that carried it."""

    code = "identity-mismatch"


class ContentConflict(AcceptError):
    """The node already holds this SOP Instance UID with other content; the new one is quarantined."""

    code = "content-conflict"


class OutOfSpace(AcceptError):
    """There is too little free disk space to take this."""

    code = "out-of-space"


class ComputeError(NodeError):
    """A pipeline did not give findings."""

    code = "compute"


class WorkerLost(ComputeError):
    """The worker process died."""

    then = "retry"
    code = "worker-lost"


class MemoryExceeded(WorkerLost):
    """The worker used more memory than it may and was killed, or got no more."""

    code = "memory"


class TimedOut(ComputeError):
    """The pipeline took longer than its time limit and was killed."""

    then = "retry"
    code = "timed-out"


class PipelineFailed(ComputeError):
    """The pipeline raised an error."""

    then = "retry"
    code = "pipeline-failed"


class Stumbled(ComputeError):
    """The node met an error that it did not foresee."""

    then = "retry"
    code = "stumbled"


class FindingsInvalid(ComputeError):
    """The pipeline broke its contract, so its findings are not used."""

    code = "findings-invalid"


class Cancelled(ComputeError):
    """An operator cancelled the job while it ran."""

    then = "leave"
    code = "cancelled"


class PipelineMissing(ComputeError):
    """The pipeline of this job is no longer installed."""

    code = "pipeline-missing"


class NodeStopping(ComputeError):
    """The node stopped while the worker was at it."""

    then = "leave"
    code = "node-stopping"


class EncodeError(NodeError):
    """The findings could not be made into a correct DICOM object."""

    code = "encode"


class SendError(NodeError):
    """A destination did not take an object."""

    code = "send"

    def __init__(self, sentence: str = "", *, again_s: float = 0.0) -> None:
        super().__init__(sentence)
        self.again_s = again_s  #: it asked to be left alone for so long; 0: it did not say


class PeerUnreachable(SendError):
    """The destination could not be reached, or broke the connection."""

    then = "retry"
    code = "peer-unreachable"


class PeerBusy(SendError):
    """The destination is out of resources for now."""

    then = "retry"
    code = "peer-busy"


class PeerRefused(SendError):
    """The destination refused the object for good."""

    code = "peer-refused"


class JournalUnavailable(NodeError):
    """The journal cannot be read or written just now."""

    then = "retry"
    code = "journal-unavailable"


class IllegalTransition(NodeError):
    """A job cannot move this way, or is no longer in the state it was thought to be in."""

    then = "leave"
    code = "illegal-transition"


def foreseen(error: Exception) -> NodeError:
    """Return an error as one of ours: a foreign one becomes `Stumbled`, without its own words."""
    return error if isinstance(error, NodeError) else Stumbled(f"The node stumbled ({describe(error)}).")
