"""Throughput of the gateway with one core and with two (RS256, 1,000 tokens in turn).

With less than four cores the load shares them with the gateway, so that the second row shows what
the whole machine does. CPU a request says what a core of the gateway's own would do.
"""

import os

from lab import proxies, report
from lab.world import metered


def add_arguments(parser):
    parser.add_argument("--seconds", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=64)


def run(lab, options):
    count = os.cpu_count()
    shares = count < 4
    layouts = {"1": ({0}, {1}), "2": ({0, 1}, {0, 1} if shares else {2, 3})}
    rows = [[name, *measure(lab, options, *layout)] for name, layout in layouts.items()]
    report.heading(
        "One core and two",
        f"This machine has {count} cores: "
        + ("with 1 the load has the other one, with 2 gateway, upstream and load share both."
           if shares else "upstream and load have two of their own."),
    )
    report.table(["cores", "requests/s", "CPU us/request", "share of its cores",
                  "a core of its own: requests/s", "p50 ms", "p99 ms"], rows)


def measure(lab, options, cores, load_cores):
    signer = lab.signer("RS256")
    tokens = lab.tokens(signer, 1000)
    load = lab.load(cores=load_cores)
    made = []
    with lab.serving(signer, cores=cores, load_cores=load_cores) as process:
        for seconds in [1, *[options.seconds] * options.rounds]:
            made.append(metered(process, lambda: load.closed(
                proxies.GATEWAY, tokens, seconds, options.connections)))
    # The first one warmed up.
    made = sorted(made[1:], key=lambda result: result[0].rate)
    result, cpu = made[len(made) // 2]
    each = cpu / result.requests
    return [f"{result.rate:,.0f}", f"{each * 1e6:.1f}",
            f"{cpu / result.seconds / len(cores):.0%}", f"{1 / each:,.0f}",
            f"{result.p50:.2f}", f"{result.p99:.2f}"]
