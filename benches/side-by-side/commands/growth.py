"""How the gateway's CPU a request grows with what it is given (ES256, 1 token).

Each series changes one thing; the slope is that of a line fitted by least squares.
"""

import json
import string
from itertools import product

from lab import proxies, report
from lab.load import Change, Tokens
from lab.tokens import ROLE, one_token
from lab.world import SAMPLE, metered


def add_arguments(parser):
    parser.add_argument("--series", default=",".join(SERIES), help="some of %(default)s")
    parser.add_argument("--seconds", type=int, default=2, help="of each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trail", type=int, default=1024, help="MiB that the trail grows to")


def run(lab, options):
    for name in options.series.split(","):
        title, unit, points = SERIES[name]
        made = list(points(lab, options))
        show(title, unit, made)


def token_sizes(lab, options, token_cache=""):
    signer = lab.signer("ES256")
    least = len(signer.token())
    for size in (512, 1024, 2048, 4096, 7168):
        # Three bytes of claims are four of the token.
        token = signer.token(pad="x" * max(0, (size - least) * 3 // 4 - 9))
        yield len(token) / 1024, point(lab, options, token, token_cache=token_cache)


def token_sizes_verified(lab, options):
    yield from token_sizes(lab, options, 'max_age = "0s"')


def list_lengths(lab, options):
    token = lab.signer("ES256").token()
    for length in (1, 10, 100, 300, 1000):
        yield length, point(lab, options, token, change_of(length))


def configured_roles(lab, options):
    token = lab.signer("ES256").token()
    for count in (1, 10, 100, 1000):
        others = [proxies.role(name, "[2]") for name in role_names(count - 1)]
        yield count, point(lab, options, token, roles="".join([*others, proxies.role(ROLE)]))


def token_roles(lab, options):
    """All of them configured, and only the last one granting what is asked for."""
    signer = lab.signer("ES256")
    for count in (1, 10, 100, 300, 1000):
        others = role_names(count - 1)
        roles = "".join([*(proxies.role(name, "[2]") for name in others), proxies.role(ROLE)])
        token = signer.token(roles=[*others, ROLE])
        yield count, point(lab, options, token, roles=roles)


def keys(lab, options, token_cache=""):
    signer = lab.signer("ES256")
    for count in (1, 10, 100, 256):
        yield count, point(lab, options, signer.token(), jwks=signer.jwks(count),
                           token_cache=token_cache)


def keys_verified(lab, options):
    yield from keys(lab, options, 'max_age = "0s"')


def trail(lab, options):
    """Measured while the load itself makes the trail longer."""
    signer = lab.signer("ES256")
    tokens, load = lab.tokens(signer), lab.load()
    with lab.serving(signer) as process:
        load.closed(proxies.GATEWAY, tokens, 1)
        for quarter in range(5):
            while trail_mib(lab) < options.trail * quarter / 4:
                load.closed(proxies.GATEWAY, tokens, 2)
            size = trail_mib(lab)
            yield size, rounds(load, process, tokens, options)


# The title, the unit of the slope, and the points.
SERIES = {
    "token": ("Size of the token, remembered", "KiB", token_sizes),
    "token-verified": ("Size of the token, verified each time", "KiB", token_sizes_verified),
    "list": ("Users in the list", "user", list_lengths),
    "roles": ("Roles in the configuration", "role", configured_roles),
    "token-roles": ("Roles in the token, all configured", "role", token_roles),
    "keys": ("Keys of the issuer, token remembered", "key", keys),
    "keys-verified": ("Keys of the issuer, token verified each time", "key", keys_verified),
    "trail": ("Size of the trail", "MiB", trail),
}


def point(lab, options, token, change=SAMPLE, **settings):
    signer, load = lab.signer("ES256"), lab.load(change)
    tokens = Tokens(one_token(lab.folder, token))
    with lab.serving(signer, change, **settings) as process:
        load.closed(proxies.GATEWAY, tokens, 1)
        return rounds(load, process, tokens, options)


def rounds(load, process, tokens, options):
    """us of CPU a request, of each round."""
    made = []
    for _ in range(options.rounds):
        result, cpu = metered(process, lambda: load.closed(
            proxies.GATEWAY, tokens, options.seconds))
        made.append(cpu * 1e6 / result.requests)
    return made


def change_of(length):
    users = [f"agent{number:04}" for number in range(length)]
    ids = {"leadId": 2, "campaignId": 1}
    body = ids | {"assignedUserIds": users, "unassignedUserIds": []}
    answer = {"campaignLeadId": 1, "assignedCampaignUserIds": list(range(1, length + 1)),
              "unassignedCampaignUserIds": []} | body
    return Change(*(json.dumps(value, separators=(",", ":")) for value in (body, answer)))


def role_names(count):
    """Short ones, so that a thousand of them fit into a token."""
    pairs = product(string.ascii_lowercase, string.ascii_lowercase + string.digits + "-_")
    return ["".join(pair) for pair, _ in zip(pairs, range(count))]


def trail_mib(lab):
    return sum(file.stat().st_size for file in (lab.folder / "gateway/audit").iterdir()) / 2**20


def show(title, unit, made):
    report.heading(title)
    medians = [(size, report.median(values)) for size, values in made]
    report.table([f"{unit}s" if unit.islower() else unit, "CPU us/request", "least to most"],
                 [[f"{size:,.4g}", f"{middle:.1f}", f"{min(values):.1f} to {max(values):.1f}"]
                  for (size, middle), (_, values) in zip(medians, made)])
    base, slope = report.slope(medians)
    print(f"\n{base:.1f} us, and {slope:.3g} us for each {unit}.")
