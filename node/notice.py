"""Warnings, without saying the same twice."""

from __future__ import annotations

import re


def unsaid(warning: str, said: str) -> str:
    """Return those clauses of a warning that another text beside it does not say already."""
    clauses = re.split(r"(?<=[.;!])\s+", warning.strip())
    new = [clause for clause in clauses if clause.rstrip(".;!").casefold() not in said.casefold()]
    return re.sub(r"[;,]$", ".", " ".join(new))
