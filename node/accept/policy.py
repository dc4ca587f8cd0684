"""Who may come in, and under which policy: [accept] callers, called and policies. Nothing is done here.

An association is rejected with the reason of PS3.8 Table 9-21 that is nearest: a caller whose title is
right and whose address or certificate is not is "not recognized" as much as one whom nobody knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

from node.config import AcceptTable, Policy

#: Result, source and reason of A-ASSOCIATE-RJ (PS3.8 Table 9-21).
CALLING_NOT_RECOGNIZED = (1, 1, 3)
CALLED_NOT_RECOGNIZED = (1, 1, 7)
LOCAL_LIMIT_EXCEEDED = (2, 3, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks for an association, and whom he takes us for."""

    calling: str  #: AE title
    called: str  #: AE title
    host: str  #: address
    fingerprint: str = ""  #: SHA-256 of the certificate that it showed, hexadecimal


@dataclass(frozen=True, slots=True)
class Admitted:
    """It may come in."""

    policy: str  #: name in [accept.policies]; "" where there are none


@dataclass(frozen=True, slots=True)
class Rejected:
    """It may not."""

    answer: tuple[int, int, int]  #: result, source, reason
    sentence: str  #: for our log


def admit(config: AcceptTable, ours: str, caller: Caller, open_now: Mapping[str, int]) -> Admitted | Rejected:
    """Decide about a caller.

    Parameters
    ----------
    ours
        Our AE title.
    open_now
        Associations by the policy that let them in.
    """
    if config.dimse.check_called_ae and caller.called not in (ours, *config.called):
        return Rejected(CALLED_NOT_RECOGNIZED, "that is no AE title of ours")
    if config.callers and caller.calling not in config.callers:
        return Rejected(CALLING_NOT_RECOGNIZED, "its AE title is not among [accept] callers")
    if not config.policies:
        return Admitted("")
    misfits = []
    for name, policy in config.policies.items():
        misfit = _misfit(policy, caller)
        if misfit is None:
            most = policy.max_associations
            if most is not None and open_now.get(name, 0) >= most:
                return Rejected(LOCAL_LIMIT_EXCEEDED, f"policy {name!r} has its {most} associations")
            return Admitted(name)
        misfits.append((misfit, name))
    depth, nearest = max(misfits, key=lambda one: one[0])  # of equals the first
    if depth == _CALLED:
        return Rejected(CALLED_NOT_RECOGNIZED, f"policy {nearest!r} is for another called AE title")
    return Rejected(CALLING_NOT_RECOGNIZED, _TOLD[depth].format(repr(nearest)))


def unknown(config: AcceptTable, calling: str) -> str:
    """Return why nobody with this AE title may come in; "" where he may, from the right place."""
    if not config.dimse.enabled:
        return "[accept.dimse] is not enabled, so nobody can call us by DIMSE; enable it"
    listed = not config.callers or calling in config.callers
    fits = not config.policies or any(not p.calling or calling in p.calling for p in config.policies.values())
    if listed and fits:
        return ""
    if fits:
        return f"{calling} is not among [accept] callers; name it there"
    if listed:
        return f"no policy of [accept.policies] is for {calling}; name it in the calling of one"
    return (
        f"{calling} is not among [accept] callers, and no policy of [accept.policies] is for it; "
        "name it in callers and in the calling of a policy"
    )


#: What does not fit a policy, the first that is asked; who gets further is nearer.
_CALLING, _HOST, _CERTIFICATE, _CALLED = range(4)
_TOLD = {
    _CALLING: "its AE title is in no policy",
    _HOST: "its address is not one of policy {}",
    _CERTIFICATE: "its certificate is not one of policy {}",
}


def _misfit(policy: Policy, caller: Caller) -> int | None:
    if policy.calling and caller.calling not in policy.calling:
        return _CALLING
    if policy.hosts and not _is_in(policy, caller.host):
        return _HOST
    if policy.certificates and caller.fingerprint not in policy.certificates:
        return _CERTIFICATE
    if policy.called and caller.called not in policy.called:
        return _CALLED
    return None


def _is_in(policy: Policy, host: str) -> bool:
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return any(address in network for network in policy.hosts)
