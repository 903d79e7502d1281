"""How fast, how quiet and how sure the membership of large meshes is: in the simulator, and (``real-``) on sockets.

Run: ``python perf/membership.py --case silent-death --nodes 1000 --json FILE``. A run is decided by its seed; the seeds
are 1, 2, 3 ... up to ``--runs``, and only the ``speed`` case depends on the machine. Messages take 0.2 to 2 ms.
Processes take no time to compute, except in ``join``, where a signature takes 80 us to check and links carry 1 Gbit/s.
Frames are counted as encoded, with what ZMTP and CURVE add. docs/membership.md has the figures and the misses.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from _membership_cases import CASES, Case, slow
from _real_mesh import real_idle, real_join, real_kill
from _report import Contender, Measured, Results, benchmark_parser, run_interleaved

from zmesh.core.membership.settings import PRESETS, MembershipSettings

REAL = {"real-kill": (real_kill, 200), "real-join": (real_join, 1000), "real-idle": (real_idle, 1000)}


def main() -> None:
    """Run the cases asked for."""
    parser = benchmark_parser(__doc__ or "")
    parser.add_argument("--nodes", type=int, help="default: what the goal of the case is about")
    parser.add_argument("--preset", choices=list(PRESETS), default="lan")
    options = parser.parse_args()
    results = Results(())
    settings = PRESETS[options.preset]
    for name, (case, default_nodes) in CASES.items():
        if options.case in ("", name):
            nodes = options.nodes or default_nodes
            seeds = iter(range(1, options.runs + 1))
            variant = f"{options.preset}, {nodes} nodes, simulated"
            contenders = [_contender(variant, case, nodes, seeds, options.scale, settings)]
            if case is slow:
                others = {"plain SWIM": partial(slow, is_plain=True), "kernels stop too": partial(slow, is_frozen=True)}
                for words, other in others.items():
                    seeds = iter(range(1, options.runs + 1))
                    contenders.append(_contender(f"{variant}, {words}", other, nodes, seeds, options.scale, settings))
            run_interleaved(results, name, contenders, options.runs)
    for name, (real, default_nodes) in REAL.items():
        if options.case == name:  # each takes minutes, and the whole machine
            nodes = options.nodes or default_nodes
            variant = f"{options.preset}, {nodes} nodes, real, control planes"
            contender = Contender("zmesh", variant, partial(real, nodes, options.preset))
            run_interleaved(results, name, [contender], options.runs)
    if options.json:
        results.write_json(options.json)


def _contender(
    variant: str, case: Case, nodes: int, seeds: Iterator[int], scale: float, settings: MembershipSettings
) -> Contender:
    def measure() -> Measured:
        return case(nodes, next(seeds), scale, settings)

    return Contender("zmesh", variant, measure)


if __name__ == "__main__":
    main()
