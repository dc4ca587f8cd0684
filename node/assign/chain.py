"""Pipelines that take results of others: what can be wrong with what their cards say of each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from node.assign.operators import hint
from pipelines.contract import Card


def complaints_of_chains(cards: Mapping[str, Card]) -> list[str]:
    """Return a sentence for everything that keeps results of one pipeline from being inputs of another."""
    said = [sentence for card in cards.values() for sentence in _of_card(card, cards)]
    told: set[frozenset[str]] = set()
    for name in cards:
        circle = _circle(name, cards)
        if circle and frozenset(circle) not in told:
            told.add(frozenset(circle))
            said.append(f"pipeline {name!r}: needs its own result: {' needs '.join([*circle, circle[0]])}")
    return said


def _of_card(card: Card, cards: Mapping[str, Card]) -> Iterator[str]:
    for role, spec in card.inputs.items():
        if spec.result:
            yield from (f"pipeline {card.name!r}, inputs.{role}: {c}" for c in _of_role(card, role, cards))
        elif spec.segments:
            yield f"pipeline {card.name!r}, inputs.{role}: 'segments' are of a result; name it as 'result'"
    first = next(iter(card.inputs))
    if card.inputs[first].result:
        yield (
            f"pipeline {card.name!r}, inputs.{first}: is a result, but the first input has to be a series: "
            "it is what the results are filed with"
        )


def _of_role(card: Card, role: str, cards: Mapping[str, Card]) -> Iterator[str]:
    spec = card.inputs[role]
    needed = cards.get(spec.result)
    if needed is None:
        yield f"there is no pipeline {spec.result!r}, whose result it is{hint(spec.result, cards)}"
        return
    if spec.select:
        yield "is a result, so there is no series to 'select'"
    if not needed.segments:
        yield f"{needed.name!r} outlines nothing, so it gives no such input"
        return
    labels = [segment.label for segment in needed.segments]
    for label in spec.segments:
        if label not in labels:
            known = ", ".join(map(repr, labels[:10])) + (" ..." if len(labels) > 10 else "")
            yield f"{needed.name!r} has no segment {label!r}; it has {known}{hint(label, labels)}"
    for other in list(needed.series_inputs)[1:]:
        if other not in card.series_inputs:
            yield (
                f"{needed.name!r} takes a series as {other!r} too; give {card.name!r} an input of that name"
            )


def _circle(name: str, cards: Mapping[str, Card]) -> list[str]:
    """Return the pipelines on the way from one back to itself; [] where there is none."""
    ways = [[name]]
    seen: set[str] = set()
    while ways:
        way = ways.pop()
        for needed in (spec.result for spec in cards[way[-1]].inputs.values() if spec.result in cards):
            if needed == name:
                return way
            if needed not in seen:
                seen.add(needed)
                ways.append([*way, needed])
    return []
