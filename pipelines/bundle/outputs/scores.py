"""Scores of a bundle become answers to coded questions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipelines import codes
from pipelines.bundle.inputs import Part
from pipelines.bundle.outputs.outlines import ROUNDING
from pipelines.bundle.outputs.said import Said, array_of
from pipelines.bundle.run import Answer
from pipelines.bundle.terms import Terms
from pipelines.contract import Card, Evaluation

#: How far from 1 the sum of scores for exclusive answers may lie.
SUM_ROUNDING = 1e-3


def read_scores(answer: Answer, part: Part, card: Card, terms: Terms) -> Said:
    """Return one number, 0..1, for each answer of the card.

    Raises
    ------
    ValueError
        Another number of scores, or numbers that are none.
    """
    scores = array_of(answer.pred).astype(np.float64).reshape(-1)
    count = len(terms.answers)
    if terms.question and len(scores) == 1 and count == 2:  # the score of the second of two answers
        scores = np.array([1.0 - scores[0], scores[0]])
    if len(scores) != count:
        raise ValueError(f"the bundle gave {len(scores)} scores; the card describes {count} answers")
    if not ((scores >= -ROUNDING) & (scores <= 1 + ROUNDING)).all():  # nor is what is not a number
        raise ValueError(
            f"the bundle gave scores from {scores.min():g} to {scores.max():g}; they must be from 0 to 1, so "
            "it needs its own softmax or sigmoid (Activationsd)"
        )
    return Said(scores=scores.clip(0.0, 1.0))


def combine(scores: NDArray[np.float64], terms: Terms) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Return the scores of a case from those of its parts, (parts, answers), and cautions."""
    if len(scores) == 1:
        return scores[0], ()
    how = terms.combine or ("mean" if terms.question else "highest")
    return (scores.mean(axis=0) if how == "mean" else scores.max(axis=0)), (
        f"The answer is for {len(scores)} images together: the {how} of their scores.",
    )


def chosen(scores: NDArray[np.float64]) -> int:
    """Return which answer has the highest score; the first of equals."""
    return int(scores.argmax())


def evaluations_of(
    parts: NDArray[np.float64], terms: Terms
) -> tuple[tuple[Evaluation, ...], tuple[str, ...]]:
    """Return the answers of a case, and cautions.

    One question has the one answer of the highest score. Without a question each answer is a
    question of its own, answered with Present from ``threshold`` on, else with Absent. A probability is
    always that of the answer which is given. Scores of exclusive answers that do not sum to 1 (a sigmoid
    for each) order the answers, and are no probabilities of them.

    Parameters
    ----------
    parts
        (parts, answers), 0..1.
    """
    scores, cautions = combine(parts, terms)
    # A bundle that ends with a decision says 0 and 1, which are no probabilities.
    is_probable = not np.isin(parts, (0.0, 1.0)).all()
    if terms.question:
        index = chosen(scores)
        sums = parts.sum(axis=1)
        if (np.abs(sums - 1.0) > SUM_ROUNDING).any():
            is_probable = False
            cautions += (
                f"The bundle's scores for the answers sum to {sums.min():.2f} to {sums.max():.2f}, not to 1: "
                "they are no probabilities, and the answer is only that of the highest score.",
            )
        chance = float(scores[index]) if is_probable else None
        return (
            Evaluation(name=terms.question, value=terms.answers[index].code, probability=chance),
        ), cautions
    said = []
    for find, score in zip(terms.answers, map(float, scores), strict=True):
        value, chance = (codes.PRESENT, score) if score >= terms.threshold else (codes.ABSENT, 1.0 - score)
        said.append(Evaluation(name=find.code, value=value, probability=chance if is_probable else None))
    return tuple(said), cautions
