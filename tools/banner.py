"""What ``zmesh-node`` says first: who it is, where it is, how it is found, and what to type on the next machine."""

from __future__ import annotations

from collections.abc import Sequence

from zmesh import Agent, NetworkInfo
from zmesh.tools.reports import Report

__all__ = ["INVITATION_S", "banner"]

INVITATION_S = 3600.0  # how long the banner's join string is good for: time to walk to the next machine
LABEL_WIDTH = 14


def banner(info: NetworkInfo, agents: Sequence[Agent], join: str | None) -> Report:
    """The banner. ``join`` is a fresh join string, or None where this machine holds no authority."""
    origin = ", founded on this machine" if info.has_authority else ""
    lines = [
        *_item("node", [f"{info.node_id}  (key {info.fingerprint})"]),
        *_item("mesh", [f"{info.mesh}  (id {info.mesh_id}{origin})"]),
        *_item("addresses", info.addresses),
        *_item("discovery", [f"{way}: {state}" for way, state in info.discovery.items()]),
        *_item("agents", [f"{agent.agent_id}  {', '.join(agent.capabilities)}" for agent in agents]),
        *_item("next machine", next_machine(join)),
    ]
    fields = {
        "node_id": info.node_id,
        "mesh": info.mesh,
        "mesh_id": info.mesh_id,
        "fingerprint": info.fingerprint,
        "addresses": list(info.addresses),
        "discovery": dict(info.discovery),
        "agents": [{"agent_id": agent.agent_id, "capabilities": list(agent.capabilities)} for agent in agents],
        "join": join,
    }
    return Report("banner", lines, fields)


def next_machine(join: str | None) -> list[str]:
    """What to type on the next machine."""
    if join is None:
        return ["run 'zmesh invite' on the machine that founded this mesh, and there 'zmesh-node --join STRING'"]
    minutes = f"{INVITATION_S / 60:.0f} minutes"
    return [f"zmesh-node --join {join}", f"(good once, within {minutes}; 'zmesh invite' prints another)"]


def _item(label: str, values: Sequence[str]) -> list[str]:
    labels = [label] + [""] * len(values)
    return [f"  {name:<{LABEL_WIDTH}}{value}" for name, value in zip(labels, values, strict=False)]
