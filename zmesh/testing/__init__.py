"""A deterministic simulator: machines without input or output, in thousands, on a network that fails, from one seed.

Every protocol core of zmesh is tested in it, and so may yours be. How it works, and why: docs/design/02-simulator.md.
"""

from zmesh.testing.checkers import Checker, LivenessFailure, SafetyViolation, SimulationFailure
from zmesh.testing.clocks import Clock
from zmesh.testing.conditions import EVERYONE, LAN, Conditions, Rule, between
from zmesh.testing.delays import Delay
from zmesh.testing.host import Host
from zmesh.testing.process import Machine, MachineProcess, Process
from zmesh.testing.randomness import derive_seed, stream
from zmesh.testing.world import World, WorldStatistics

__all__ = [
    "EVERYONE",
    "LAN",
    "Checker",
    "Clock",
    "Conditions",
    "Delay",
    "Host",
    "LivenessFailure",
    "Machine",
    "MachineProcess",
    "Process",
    "Rule",
    "SafetyViolation",
    "SimulationFailure",
    "World",
    "WorldStatistics",
    "between",
    "derive_seed",
    "stream",
]
