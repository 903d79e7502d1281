"""The cases of ``membership.py`` that run in the simulator."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from _plain_swim import PlainSwim, plain_settings
from _report import Measured
from _swarm import LOSSY_LAN, TCP_IP_BYTES, GossipOnly, Swarm, quantile

from zmesh.core.membership.messages import Petition, Send
from zmesh.core.membership.settings import MembershipSettings
from zmesh.core.membership.statements import Accusation, Charge, signed
from zmesh.testing import EVERYONE, LAN, Rule, between

__all__ = ["CASES", "Case", "slow"]

BAD = 10
VERIFY_S = 80e-6
GIGABIT = 125_000_000.0
POISSON_95 = 2.996  # no event in N hours: with 95 % confidence the rate is below this over N

Case = Callable[[int, int, float, MembershipSettings], Measured]


def silent_death(nodes: int, seed: int, _scale: float, settings: MembershipSettings) -> Measured:
    """A host loses power: when do all the others know?"""
    return _death(Swarm.joined(nodes, seed, settings=settings), is_kill=False)


def kill(nodes: int, seed: int, _scale: float, settings: MembershipSettings) -> Measured:
    """A process is killed: its kernel closes the connections, and refuses new ones."""
    return _death(Swarm.joined(nodes, seed, settings=settings), is_kill=True)


def _death(swarm: Swarm, *, is_kill: bool) -> Measured:
    swarm.world.run_for(swarm.random.random())
    name = swarm.some(1)[0]
    since = swarm.world.now
    if is_kill:
        swarm.world.hosts[name].kill()
    else:
        swarm.power_off(name)
    swarm.world.run_for(10.0 * swarm.mesh.settings.wide.interval_s)
    deaths = swarm.deaths_since(since)
    told = deaths.pop(name, [])
    missing = len(swarm.names) - 1 - len(told)
    values = told + [float("inf")] * missing
    return {
        "p50_s": quantile(values, 0.5),
        "p99_s": quantile(values, 0.99),
        "max_s": max(values),
        "healthy_removed": float(len(deaths)),
    }


def steady(nodes: int, seed: int, scale: float, settings: MembershipSettings) -> Measured:
    """Nothing happens: what does it cost?"""
    swarm = Swarm.joined(nodes, seed, settings=settings)
    bytes_before, frames_before, seconds = sum(swarm.bytes_sent().values()), swarm.frames_sent(), 30.0 * scale
    swarm.world.run_for(seconds)
    bytes_rate = (sum(swarm.bytes_sent().values()) - bytes_before) / seconds / nodes
    frames_rate = (swarm.frames_sent() - frames_before) / seconds / nodes
    return {
        "bytes_per_second_per_node": bytes_rate,
        "with_tcp_ip_bytes_per_second_per_node": bytes_rate + frames_rate * TCP_IP_BYTES,
        "frames_per_second_per_node": frames_rate,
    }


def loss(nodes: int, seed: int, scale: float, settings: MembershipSettings) -> Measured:
    """Five messages of a hundred are lost, everywhere: is anybody removed?"""
    swarm = Swarm.joined(nodes, seed, settings=settings, conditions=LOSSY_LAN)
    seconds = 60.0 * scale
    swarm.world.run_for(seconds)
    hours = nodes * seconds / 3600.0
    false = float(len(swarm.deaths_since(0.0)))
    bound = POISSON_95 / hours * 1000.0 if not false else float("nan")
    return {"node_hours": hours, "false_deaths": false, "bound95_per_1000_node_hours": bound}


def slow(
    nodes: int,
    seed: int,
    scale: float,
    settings: MembershipSettings,
    *,
    is_plain: bool = False,
    is_frozen: bool = False,
) -> Measured:
    """One process of ten stops for 1 to 5 s, again and again, with 6 to 30 s from one stop to the next.

    ``is_frozen``: the kernel stops with it, as when a virtual machine is held.
    """
    in_force = plain_settings(settings) if is_plain else settings
    swarm = Swarm.joined(nodes, seed, settings=in_force, machine_class=PlainSwim if is_plain else GossipOnly)
    sleepy = swarm.some(nodes // 10)

    def nap(name: str) -> None:
        pause_s = swarm.random.uniform(1.0, 5.0)
        swarm.world.hosts[name].pause_for(pause_s)
        if is_frozen:
            swarm.mesh.dark.add(name)
            swarm.world.after(pause_s, swarm.mesh.dark.discard, name)
        swarm.world.after(swarm.random.uniform(6.0, 30.0), nap, name)

    for name in sleepy:
        swarm.world.after(swarm.random.uniform(0.0, 10.0), nap, name)
    seconds = 60.0 * scale
    swarm.world.run_for(seconds)
    ended = {(told.alive.node_id, told.alive.life) for _, _, told in swarm.mesh.told if told.kind.value == "died"}
    hours = nodes * seconds / 3600.0
    return {
        "node_hours": hours,
        "false_deaths": float(len(ended)),
        "false_deaths_of_healthy": float(sum(name not in sleepy for name, _ in ended)),
        "false_deaths_per_1000_node_hours": len(ended) / hours * 1000.0,
    }


def flap(nodes: int, seed: int, _scale: float, settings: MembershipSettings) -> Measured:
    """Ten nodes are cut off for 20 s, connected for 20 s, and so on."""
    swarm = Swarm.joined(nodes, seed, settings=settings)
    bad = swarm.some(BAD)

    def turn(rules: tuple[Rule, Rule], is_cut: bool) -> None:
        (swarm.world.network.lift if is_cut else swarm.world.network.apply)(*rules)
        swarm.world.after(20.0, turn, rules, not is_cut)

    since = swarm.world.now
    for name in bad:
        one, other = between((name,), tuple(other for other in swarm.names if other != name))
        turn((one, other), is_cut=False)
    return _judge_removals(swarm, bad, since)


def lossy(nodes: int, seed: int, _scale: float, settings: MembershipSettings) -> Measured:
    """Ten nodes lose four of five messages that they send."""
    swarm = Swarm.joined(nodes, seed, settings=settings)
    bad, since = swarm.some(BAD), swarm.world.now
    for name in bad:
        swarm.world.network.apply(Rule((name,), EVERYONE, loss=0.8))
    return _judge_removals(swarm, bad, since)


def _judge_removals(swarm: Swarm, bad: list[str], since: float) -> Measured:
    before = {node.node_id: node.machine.views_installed for node in swarm.mesh.nodes()}
    swarm.world.run_for(30.0)
    deaths = swarm.deaths_since(since)
    healthy = [node for node in swarm.mesh.nodes() if node.node_id not in bad]
    everywhere = [name for name in bad if all(name not in node.machine.view.members for node in healthy)]
    return {
        "bad_removed": float(len(everywhere)),
        "healthy_removed": float(sum(name not in bad for name in deaths)),
        "views": float(max(node.machine.views_installed - before[node.node_id] for node in healthy)),
        "removed_by_s": max((quantile(deaths[name], 0.98) for name in everywhere), default=float("inf")),
    }


def liars(nodes: int, seed: int, scale: float, settings: MembershipSettings) -> Measured:
    """Two nodes accuse everybody, every 5 s, to the stewards in charge."""
    swarm = Swarm.joined(nodes, seed, settings=settings)
    seconds = 20.0 * scale
    start = swarm.bytes_sent()
    swarm.world.run_for(seconds)
    middle = swarm.bytes_sent()
    bad = swarm.some(2)
    for name in bad:
        _accuse_all(swarm, name)
    swarm.world.run_for(seconds)
    end = swarm.bytes_sent()
    healthy = [name for name in swarm.names if name not in bad]
    steady_rate = sum(middle[name] - start[name] for name in healthy) / len(healthy)
    attacked = [end[name] - middle[name] for name in healthy]
    return {
        "healthy_removed": float(len(swarm.deaths_since(0.0))),
        "traffic_over_steady": sum(attacked) / len(attacked) / steady_rate,
        "busiest_over_steady": max(attacked) / steady_rate,
    }


def _accuse_all(swarm: Swarm, name: str) -> None:
    node = swarm.mesh.node(name)
    view, notary = node.machine.view, swarm.mesh.notary(name)
    accusations = tuple(
        signed(Accusation(name, alive.node_id, alive.incarnation, alive.life, Charge.SILENT), notary)
        for alive in view.members.values()
        if alive.node_id != name
    )
    for steward in view.stewards():
        node.perform(Send(view.members[steward].contact, Petition(0, accusations)))
    swarm.world.after(5.0, _accuse_all, swarm, name)


def join(nodes: int, seed: int, _scale: float, settings: MembershipSettings) -> Measured:
    """One node runs; all the others start within a second, and know it alone."""
    swarm = Swarm(seed, settings, conditions=replace(LAN, bytes_per_s=GIGABIT))
    swarm.mesh.verify_s = VERIFY_S
    swarm.mesh.start("seed")
    swarm.world.run_for(3.0)
    since = swarm.world.now
    for number in range(1, nodes):
        swarm.world.after(swarm.random.random(), swarm.mesh.start, f"node-{number:05}", ("seed",))
    seen: set[int] = set()
    while swarm.world.now - since < 60.0:
        swarm.world.run_for(0.05)
        sizes = swarm.sizes_seen()
        seen |= sizes
        if sizes == {nodes} and len(swarm.mesh.nodes()) == nodes:
            break
    return {
        "agreed_s": swarm.world.now - since,
        "distinct_sizes": float(len(seen - {1})),
        "megabytes_per_node": sum(swarm.bytes_sent().values()) / nodes / 1e6,
    }


def heal(nodes: int, seed: int, _scale: float, settings: MembershipSettings) -> Measured:
    """Cut in half for 60 s, then healed."""
    swarm = Swarm.joined(nodes, seed, settings=settings)
    half = swarm.some(nodes // 2)
    rest = tuple(name for name in swarm.names if name not in frozenset(half))
    rules = between(tuple(half), rest)
    swarm.world.network.apply(*rules)
    swarm.world.run_for(60.0)
    sizes = swarm.sizes_seen()
    swarm.world.network.lift(*rules)
    agreed_s = swarm.world.converge(swarm.mesh.complaints, 60.0, every_s=0.05)
    return {"agreed_s": agreed_s, "distinct_sizes": float(len(sizes))}


def speed(nodes: int, seed: int, scale: float, settings: MembershipSettings) -> Measured:
    """How much processor time 60 simulated seconds take."""
    swarm = Swarm.joined(nodes, seed, settings=settings)
    before, frames = time.process_time(), swarm.frames_sent()
    swarm.world.run_for(60.0 * scale)
    cpu_s = time.process_time() - before
    sent = swarm.frames_sent() - frames
    return {"cpu_s": cpu_s, "cpu_us_per_message": cpu_s / sent * 1e6}


CASES: Mapping[str, tuple[Case, int]] = {
    "silent-death": (silent_death, 1000),
    "kill": (kill, 1000),
    "steady": (steady, 1000),
    "loss": (loss, 1000),
    "slow": (slow, 1000),
    "flap": (flap, 1000),
    "lossy": (lossy, 1000),
    "liars": (liars, 5000),
    "join": (join, 2000),
    "heal": (heal, 1000),
    "speed": (speed, 1000),
}
