"""Real result objects on disk: a picture, and a report that refers to it."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, FileMetaDataset, dcmread
from pydicom.uid import (
    ComprehensiveSRStorage,
    ExplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
)

from node.config import Config, DimseDestination
from node.model import ResultObject
from node.send import send

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def _start(sop_class: str, uid: str) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, uid
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "2.25.1", uid.rpartition(".")[0]
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName, dataset.PatientID = "Ωμέγα^Ä", "id"
    dataset.PatientBirthDate = dataset.PatientSex = dataset.StudyID = dataset.AccessionNumber = ""
    dataset.StudyDate, dataset.StudyTime = "20261120", "120000"
    dataset.ReferringPhysicianName = ""
    dataset.SeriesNumber = dataset.InstanceNumber = 1
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


def picture(uid: str = "2.25.7.1") -> Dataset:
    """Return a Secondary Capture of 64 x 48 random 16-bit pixels."""
    dataset = _start(SecondaryCaptureImageStorage, uid)
    dataset.Modality, dataset.ConversionType = "OT", "SYN"
    dataset.Rows, dataset.Columns = 64, 48
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    dataset.PixelData = np.random.default_rng(1).integers(0, 4096, (64, 48), np.uint16).tobytes()
    return dataset


def report(uid: str = "2.25.7.2") -> Dataset:
    """Return a Comprehensive SR with one text."""
    dataset = _start(ComprehensiveSRStorage, uid)
    dataset.Modality, dataset.CompletionFlag, dataset.VerificationFlag = "SR", "PARTIAL", "UNVERIFIED"
    dataset.ContentDate, dataset.ContentTime = "20261120", "120000"
    dataset.ValueType, dataset.ContinuityOfContent = "CONTAINER", "SEPARATE"
    title = Dataset()
    title.CodeValue, title.CodingSchemeDesignator, title.CodeMeaning = "126000", "DCM", "Report"
    dataset.ConceptNameCodeSequence = [title]
    return dataset


def saved(dataset: Dataset, folder: Path, *, refers_to: tuple[str, ...] = ()) -> ResultObject:
    """Write a data set as a Part 10 file and return it as the journal would."""
    path = folder / f"{dataset.SOPInstanceUID}.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return ResultObject(
        kind="sr-measurements" if "ValueType" in dataset else "seg",
        sop_instance_uid=str(dataset.SOPInstanceUID),
        sop_class_uid=str(dataset.SOPClassUID),
        series_uid=str(dataset.SeriesInstanceUID),
        transfer_syntax_uid=str(dataset.file_meta.TransferSyntaxUID),
        path=path,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        refers_to=refers_to,
    )


def dataset_bytes(thing: ResultObject) -> bytes:
    """Return the encoded data set of a file, without preamble and meta information."""
    meta = dcmread(thing.path, stop_before_pixels=True).file_meta
    return thing.path.read_bytes()[128 + 4 + 12 + meta.FileMetaInformationGroupLength :]


@pytest.fixture
def objects(tmp_path):
    """The report first, as a careless caller might give them."""
    seg = saved(picture(), tmp_path)
    sr = saved(report(), tmp_path, refers_to=(seg.sop_instance_uid,))
    return sr, seg


@pytest.fixture
def deliver():
    """Send objects to a peer and return the receipts; on an error they are in ``so_far``."""

    def _deliver(
        objects,
        peer,
        *,
        timeout_s: float = 5.0,
        so_far: list | None = None,
        negotiated=lambda _taken: {},
    ):
        receipts = [] if so_far is None else so_far
        destination = DimseDestination(
            transport="dimse", ae_title=peer.ae_title, host=peer.host, port=peer.port, timeout_s=timeout_s
        )
        config = Config(destinations={"archive": destination})
        swapping = lambda _place, _lacking, taken, _hoped: negotiated(taken)  # noqa: E731
        for receipt in send(objects, "archive", config, lambda: NOON, swapping):
            receipts.append(receipt)
        return receipts

    return _deliver
