"""From a settled series to routes."""

from __future__ import annotations

from node import INSTANCE_CREATOR_UID
from node.assign import assign, parse_rules
from tests.assign.helpers import CARDS, dataset, series, table


def routes(headers, *tables):
    return assign(*series(headers), parse_rules(tables, CARDS))


CT, MR = dataset(Modality="CT", SliceThickness="2"), dataset(Modality="MR", SliceThickness="2")


def test_the_matching_instances_are_bound_to_the_role_of_the_card():
    (route,) = routes([CT, MR, CT], table({"Modality": "CT"}, send_to=("archive",)))
    assert route.pipeline == "lung-density"
    assert route.send_to == ("archive",)
    assert [i.sop_instance_uid for i in route.inputs["ct"]] == ["1.2.3.1", "1.2.3.3"]


def test_rules_with_the_same_pipeline_and_instances_give_one_route():
    (route,) = routes(
        [CT, CT],
        table({"Modality": "CT"}, name="first", send_to=("archive", "folder")),
        table({"SliceThickness": {"max": 3}}, name="second", send_to=("web", "archive")),
    )
    assert route.rule == "first, second"
    assert route.send_to == ("archive", "folder", "web")


def test_other_instances_or_other_pipelines_give_routes_of_their_own():
    made = routes(
        [CT, MR],
        table({"Modality": "CT"}, name="a"),
        table({"Modality": ["CT", "MR"]}, name="b"),
        table({"Modality": "CT"}, name="c", pipeline="spleen"),
    )
    assert [(r.rule, r.pipeline, len(r.inputs["ct"])) for r in made] == [
        ("a", "lung-density", 1),
        ("b", "lung-density", 2),
        ("c", "spleen", 1),
    ]


def test_no_rule_and_no_match_give_no_routes():
    assert routes([CT]) == []
    assert routes([CT], table({"Modality": "MR"})) == []


def test_own_results_never_start_jobs_even_among_foreign_instances():
    own = dataset(Modality="CT", InstanceCreatorUID=INSTANCE_CREATOR_UID)
    assert routes([own], table({})) == []
    assert routes([CT, own], table({"Modality": "CT"})) == []
