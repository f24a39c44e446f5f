"""What becomes of twice as many requests as the gateway can do (RS256, 1,000 tokens in turn).

First its peak: the best of three numbers of connections, each waiting for its answers; and what it
does with as many connections as the overload has, where all are let in. Then an open
load of twice the peak, with more connections than `limits.in_flight`: how many were answered with 200
(goodput), how many were refused with 503, and how long either took from being sent. Any other
answer, and a connection that ends without one, is an error. Where all connections wait, or the load
has too little of the machine, requests are sent late; the rate that was really sent is shown.
"""

from lab import proxies, report
from lab.machine import Failure
from lab.world import metered

# Twice limits.in_flight, and less than limits.connections.
CONNECTIONS = 2048


def add_arguments(parser):
    parser.add_argument("--seconds", type=int, default=20, help="of the overload")
    parser.add_argument("--times", type=float, default=2, help="the peak that is offered")


def run(lab, options):
    signer = lab.signer("RS256")
    tokens = lab.tokens(signer, 1000)
    load = lab.load()
    with lab.serving(signer, limits="in_flight = 10000"):
        load.closed(proxies.GATEWAY, tokens, 1)
        alike = load.closed(proxies.GATEWAY, tokens, 3, CONNECTIONS).rate
    with lab.serving(signer) as process:
        load.closed(proxies.GATEWAY, tokens, 1)
        peak, at = max((load.closed(proxies.GATEWAY, tokens, 3, connections).rate, connections)
                       for connections in (32, 128, 512))
        rate = round(peak * options.times)
        answers, cpu = metered(process, lambda: load.open(
            proxies.GATEWAY, tokens, rate, options.seconds, CONNECTIONS))
        recovered = load.closed(proxies.GATEWAY, tokens, 3, at).rate
        memory = process.memory("VmHWM")
    sent = len(answers) / options.seconds
    report.heading(
        f"Overload: {options.times:g} times the peak for {options.seconds} s",
        f"Peak: {peak:,.0f} requests a second with {at} connections; {recovered:,.0f} again after "
        f"the overload; {alike:,.0f} with {CONNECTIONS:,} that are all let in. Offered: {rate:,} a second; really sent: {sent:,.0f}. The "
        f"gateway used {cpu / options.seconds:.0%} of a core, and {memory:.0f} MiB at the most.",
    )
    show(answers, peak, alike, options.seconds)


def show(answers, peak, alike, seconds):
    by_status = {}
    for answer in answers:
        by_status.setdefault(answer.status, []).append(answer.took)
    report.table(
        ["answer", "a second", "of the peak", "of all let in", "p50 ms", "p99 ms", "p99.9 ms", "most ms"],
        [[status or "none", f"{len(them) / seconds:,.0f}", f"{len(them) / seconds / peak:.0%}",
          f"{len(them) / seconds / alike:.0%}",
          *(f"{report.percentile(them, percent):.1f}" for percent in (50, 99, 99.9)),
          f"{max(them):.1f}"] for status, them in sorted(by_status.items())],
    )
    if set(by_status) - {200, 503}:
        raise Failure("there are answers other than 200 and 503")
