"""Which rules may use what came under which policy: [accept.policies.<name>] rules.

What came under no policy, or one that the configuration no longer has, any rule may use. Of a series
whose instances came under several it is enough that one of them allows it. What we fetched as an earlier
study of something else may be that for any rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from node.assign.rule import Rule, Want
from node.config import Policy
from node.model import Instance, Series


def under(rules: Iterable[Rule], policies: Mapping[str, Policy]) -> tuple[Rule, ...]:
    """Return the rules, each with the policies from which it is kept."""
    return tuple(_kept_from(rule, policies) for rule in rules)


def is_barred(want: Want, series: Series) -> bool:
    """Return whether a rule may not use a series in a role."""
    return bool(series.instances) and all(_is_barred(want, instance) for instance in series.instances)


def why_barred(series: Series) -> str:
    """Say that a rule may not use a series."""
    names = sorted({repr(instance.policy) for instance in series.instances})
    policies = f"policy {names[0]}" if len(names) == 1 else f"policies {', '.join(names)}"
    return f"It came under {policies}, and that is not for this rule: see [accept.policies]."


def _kept_from(rule: Rule, policies: Mapping[str, Policy]) -> Rule:
    restricted = {name: policy.rules for name, policy in policies.items() if policy.rules is not None}
    barred = frozenset(name for name, rules in restricted.items() if rule.name not in rules)
    return replace(rule, wants=tuple(replace(want, barred=barred) for want in rule.wants))


def _is_barred(want: Want, instance: Instance) -> bool:
    if instance.prior and want.study == "prior":
        return False
    return instance.policy in want.barred
