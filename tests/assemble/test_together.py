"""The inputs of a case are of one patient and one study, and know which of them lie in one space."""

from __future__ import annotations

import re

import pytest

from node.assemble.image import load_volumes
from pipelines.contract import Card, InputRefused, InputSpec
from tests import phantoms
from tests.phantoms import instances_of

AFFINE = phantoms.make_affine()
ARRAY = phantoms.asymmetric_phantom((5, 20, 24), AFFINE).array_hu
MR = InputSpec(modality=("MR",), unit="1")
PRIOR = InputSpec(modality=("MR",), unit="1", study="prior")


def series(folder, seed, **headers):
    """Write a series of one patient; its study and space are those of the seed unless told."""
    headers = {"PatientID": "SIMULATED-7", "StudyInstanceUID": "2.25.77", **headers}
    return instances_of(phantoms.write_mr_series(folder / seed, ARRAY, AFFINE, seed=seed, headers=headers))


def loaded(inputs, **specs):
    card = Card(name="x", version="1", title="", maker="", intended_use="", use="a:B", inputs=specs)
    return load_volumes(inputs, card)


def refusal(inputs, **specs):
    with pytest.raises(InputRefused) as caught:
        loaded(inputs, **specs)
    return caught.value


def test_images_in_one_frame_of_reference_have_one_word_that_is_no_uid(tmp_path):
    inputs = {
        "t1": series(tmp_path, "t1", FrameOfReferenceUID="2.25.1"),
        "t2": series(tmp_path, "t2", FrameOfReferenceUID="2.25.1"),
        "other": series(tmp_path, "other", FrameOfReferenceUID="2.25.2"),
    }
    volumes = loaded(inputs, t1=MR, t2=MR, other=MR)
    words = {role: volume.image.frame_of_reference for role, volume in volumes.items()}
    assert words == {"t1": "1", "t2": "1", "other": "2"}
    assert volumes["t1"].frame_of_reference_uid == "2.25.1"


def test_inputs_of_two_patients_are_refused(tmp_path):
    inputs = {"t1": series(tmp_path, "t1"), "t2": series(tmp_path, "t2", PatientID="SIMULATED-8")}
    assert refusal(inputs, t1=MR, t2=MR).code == "several-patients"


def test_the_same_number_from_two_issuers_is_two_patients_but_one_that_is_silent_is_not(tmp_path):
    inputs = {
        "t1": series(tmp_path, "t1", IssuerOfPatientID="A"),
        "t2": series(tmp_path, "t2", IssuerOfPatientID="B"),
        "t3": series(tmp_path, "t3"),
    }
    assert refusal(inputs, t1=MR, t2=MR).code == "several-patients"
    assert set(loaded(inputs, t1=MR, t3=MR)) == {"t1", "t3"}


def test_inputs_of_two_studies_are_refused_unless_one_is_a_prior(tmp_path):
    inputs = {"now": series(tmp_path, "now"), "then": series(tmp_path, "then", StudyInstanceUID="2.25.78")}
    assert refusal(inputs, now=MR, then=MR).code == "several-studies"
    volumes = loaded(inputs, now=MR, then=PRIOR)
    assert volumes["now"].study_uid != volumes["then"].study_uid
    assert [v.image.frame_of_reference for v in volumes.values()] == ["1", "2"]


def test_a_prior_of_the_current_study_is_refused(tmp_path):
    inputs = {"now": series(tmp_path, "now"), "then": series(tmp_path, "then")}
    assert refusal(inputs, now=MR, then=PRIOR).code == "no-prior"


def test_two_studies_without_patient_id_are_not_known_to_be_of_one_patient(tmp_path):
    inputs = {
        "now": series(tmp_path, "now", PatientID=""),
        "then": series(tmp_path, "then", PatientID="", StudyInstanceUID="2.25.78"),
    }
    assert refusal(inputs, now=MR, then=PRIOR).code == "several-patients"


ONE = {"PatientBirthDate": "19500101", "PatientSex": "M"}


@pytest.mark.parametrize(
    ("other", "word"),
    [
        ({"PatientBirthDate": "19900101"}, "Patient's Birth Date"),
        ({"PatientSex": "F"}, "Patient's Sex"),
        ({"PatientBirthDate": "1990.01.01", "PatientSex": "F"}, "Patient's Birth Date and Patient's Sex"),
        ({"PatientID": "SIMULATED-8"}, "Patient ID"),
    ],
)
def test_two_people_who_share_an_id_are_told_apart_without_telling_who_they_are(tmp_path, other, word):
    then = {**ONE, **other}
    inputs = {
        "now": series(tmp_path, "now", **ONE),
        "then": series(tmp_path, "then", StudyInstanceUID="2.25.78", **then),
    }
    refused = refusal(inputs, now=MR, then=PRIOR)
    assert refused.code == "several-patients"
    assert f"they differ in {word}. Nothing" in refused.sentence
    assert not re.search("SIMULATED|1950|1990", refused.sentence)


def test_what_one_of_them_does_not_say_or_writes_in_the_old_way_is_no_contradiction(tmp_path):
    then = {"PatientBirthDate": "1950.01.01", "PatientSex": "U", "StudyInstanceUID": "2.25.78"}
    inputs = {"now": series(tmp_path, "now", **ONE), "then": series(tmp_path, "then", **then)}
    assert set(loaded(inputs, now=MR, then=PRIOR)) == {"now", "then"}


def test_a_third_who_says_nothing_does_not_stand_between_two_who_differ(tmp_path):
    inputs = {
        "t1": series(tmp_path, "t1", PatientSex=""),
        "t2": series(tmp_path, "t2", PatientSex="F"),
        "t3": series(tmp_path, "t3", PatientSex="M"),
    }
    assert refusal(inputs, t1=MR, t2=MR, t3=MR).code == "several-patients"


def test_two_studies_with_an_id_that_many_may_have_are_not_known_to_be_of_one_patient(tmp_path):
    inputs = {
        "now": series(tmp_path, "now", PatientID="0", **ONE),
        "then": series(tmp_path, "then", PatientID="0", StudyInstanceUID="2.25.78", **ONE),
    }
    refused = refusal(inputs, now=MR, then=PRIOR)
    assert refused.code == "several-patients"
    assert "their Patient ID is absent, or one that many may have" in refused.sentence
