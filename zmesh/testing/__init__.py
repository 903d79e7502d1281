"""A deterministic simulator: machines without input or output, in thousands, on a network that fails, from one seed.

Every protocol core of zmesh is tested in it, and so may yours be: docs/testing.md is for users, the reasons are in
docs/design/02-simulator.md.
"""

from zmesh.testing.checkers import Checker, LivenessFailure, SafetyViolation, SimulationFailure
from zmesh.testing.clocks import Clock
from zmesh.testing.conditions import EVERYONE, LAN, Conditions, Rule, between
from zmesh.testing.coroutines import Place, direct, program
from zmesh.testing.delays import Delay
from zmesh.testing.disk import Disk, DiskConditions, DiskFile
from zmesh.testing.faults import Begin, Fault
from zmesh.testing.holding import assert_holds
from zmesh.testing.host import Host
from zmesh.testing.process import Machine, MachineProcess, Process
from zmesh.testing.randomness import derive_seed, stream
from zmesh.testing.scenario import Draw, Scenario, Settings, draw_scenario, names_of
from zmesh.testing.shrink import Shrunk, shrink
from zmesh.testing.simulation import Simulation
from zmesh.testing.streams import Stream
from zmesh.testing.trial import Outcome, Subject, run_trial
from zmesh.testing.world import World, WorldStatistics

__all__ = [
    "EVERYONE",
    "LAN",
    "Begin",
    "Checker",
    "Clock",
    "Conditions",
    "Delay",
    "Disk",
    "DiskConditions",
    "DiskFile",
    "Draw",
    "Fault",
    "Host",
    "LivenessFailure",
    "Machine",
    "MachineProcess",
    "Outcome",
    "Place",
    "Process",
    "Rule",
    "SafetyViolation",
    "Scenario",
    "Settings",
    "Shrunk",
    "Simulation",
    "SimulationFailure",
    "Stream",
    "Subject",
    "World",
    "WorldStatistics",
    "assert_holds",
    "between",
    "derive_seed",
    "direct",
    "draw_scenario",
    "names_of",
    "program",
    "run_trial",
    "shrink",
    "stream",
]
