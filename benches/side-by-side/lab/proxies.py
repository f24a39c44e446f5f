"""The proxies and their configurations, which do the same work."""

import base64
import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from .load import PATH
from .tokens import AUDIENCE, ISSUER, ROLE

# Outside of the range from which the system takes ports for connections.
UPSTREAM, DIRECT, NGINX, BARE, HAPROXY, ENVOY, ENVOY_CACHE, GATEWAY, ADMIN = PORTS = range(
    18090, 18099)

USER, PASSWORD = "cms-service", "cms-password"
BASIC = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


@dataclass(frozen=True)
class Proxy:
    name: str
    port: int
    command: list
    authenticates: bool = True


def upstream(folder, answer):
    """One port asks for the credential, and one, for the load without a proxy, does not."""
    return nginx_config(folder, "upstream", f"""
    server {{
        listen 127.0.0.1:{UPSTREAM} backlog=4096;
        default_type application/json;
        location = {PATH} {{
            if ($request_method != PUT) {{ return 405; }}
            if ($http_authorization != "Basic {BASIC}") {{ return 401; }}
            {returning(answer)}
        }}
    }}
    server {{
        listen 127.0.0.1:{DIRECT} backlog=4096;
        default_type application/json;
        location = {PATH} {{ {returning(answer)} }}
    }}""")


def returning(answer):
    """nginx takes no text of more than 4 KiB at once."""
    parts = [answer[at:at + 3000] for at in range(0, len(answer), 3000)]
    sets = "".join(f"set $part{n} '{part}';\n" for n, part in enumerate(parts))
    return sets + 'return 200 "' + "".join(f"${{part{n}}}" for n in range(len(parts))) + '";'


def peers(lab, signer):
    """Everything that the gateway stands beside, the load without a proxy first."""
    return [
        Proxy("direct", DIRECT, [], authenticates=False),
        nginx(lab), bare(lab), haproxy(lab, signer),
        envoy(lab, signer), envoy(lab, signer, caches=True),
    ]


def nginx(lab):
    config = nginx_config(lab.folder, "nginx", f"""
    upstream cms {{
        server 127.0.0.1:{UPSTREAM};
        keepalive 128;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{NGINX} backlog=4096;
        location / {{
            proxy_pass http://cms;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Authorization "Basic {BASIC}";
        }}
    }}""")
    return Proxy("nginx, no authentication", NGINX, ["nginx", "-c", config], authenticates=False)


def bare(lab):
    binary = lab.tools.parent / "release/examples/bare"
    return Proxy("hyper, no authentication", BARE, [
        binary, f"127.0.0.1:{BARE}", f"127.0.0.1:{UPSTREAM}", f"Basic {BASIC}",
    ], authenticates=False)


def nginx_config(folder, name, http):
    return write(folder / f"{name}.conf", f"""
worker_processes 1;
daemon off;
pid {folder}/{name}.pid;
error_log {folder}/{name}.errors;
events {{ worker_connections 16000; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    client_body_buffer_size 128k;
    client_header_buffer_size 16k;
    client_body_temp_path {folder};
    proxy_temp_path {folder};
    fastcgi_temp_path {folder};
    uwsgi_temp_path {folder};
    scgi_temp_path {folder};{http}
}}
""")


def haproxy(lab, signer):
    key = write(lab.folder / "public.pem", signer.public_pem())
    config = write(lab.folder / "haproxy.cfg", f"""
global
  nbthread 1
  maxconn 12000
  # Connections to the server are few, so less than two files a connection do.
  no strict-limits
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  http-reuse always
frontend api
  bind 127.0.0.1:{HAPROXY}
  http-request deny deny_status 404 unless {{ path {PATH} }}
  http-request deny deny_status 405 unless {{ method PUT }}
  http-request deny deny_status 401 unless {{ http_auth_bearer -m found }}
  http-request set-var(txn.alg) http_auth_bearer,jwt_header_query('$.alg')
  http-request set-var(txn.iss) http_auth_bearer,jwt_payload_query('$.iss')
  http-request set-var(txn.aud) http_auth_bearer,jwt_payload_query('$.aud')
  http-request set-var(txn.exp) http_auth_bearer,jwt_payload_query('$.exp','int')
  http-request set-var(txn.role) http_auth_bearer,jwt_payload_query('$.roles[0]')
  http-request set-var(txn.now) date()
  http-request deny deny_status 401 unless {{ var(txn.alg) -m str {signer.algorithm} }}
  http-request deny deny_status 401 unless {{ var(txn.iss) -m str {ISSUER} }}
  http-request deny deny_status 401 unless {{ var(txn.aud) -m str {AUDIENCE} }}
  http-request deny deny_status 401 if {{ var(txn.exp),sub(txn.now) -m int le 0 }}
  http-request deny deny_status 401 unless {{ http_auth_bearer,jwt_verify(txn.alg,"{key}") 1 }}
  http-request deny deny_status 403 unless {{ var(txn.role) -m str {ROLE} }}
  http-request set-header Authorization "Basic {BASIC}"
  default_backend cms
backend cms
  server cms 127.0.0.1:{UPSTREAM}
""")
    return Proxy("HAProxy", HAPROXY, ["haproxy", "-db", "-f", config])


def envoy(lab, signer, caches=False):
    port = ENVOY_CACHE if caches else ENVOY
    provider = {
        "issuer": ISSUER, "audiences": [AUDIENCE], "payload_in_metadata": "claims",
        "local_jwks": {"inline_string": signer.jwks()},
    }
    if caches:
        provider["jwt_cache_config"] = {"jwt_cache_size": 10000}
    filters = [
        envoy_filter("jwt_authn", "jwt_authn.v3.JwtAuthentication", {
            "providers": {"idp": provider},
            "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "idp"}}],
        }),
        envoy_filter("rbac", "rbac.v3.RBAC", {"rules": {"action": "ALLOW", "policies": {ROLE: {
            "permissions": [{"header": {"name": ":method", "string_match": {"exact": "PUT"}}}],
            "principals": [{"metadata": {
                "filter": "envoy.filters.http.jwt_authn",
                "path": [{"key": "claims"}, {"key": "roles"}],
                "value": {"list_match": {"one_of": {"string_match": {"exact": ROLE}}}},
            }}],
        }}}}),
        envoy_filter("credential_injector", "credential_injector.v3.CredentialInjector", {
            "overwrite": True,
            "credential": {"name": "envoy.http.injected_credentials.generic", "typed_config": {
                "@type": EXTENSIONS + "http.injected_credentials.generic.v3.Generic",
                "credential": {"name": "cms"},
            }},
        }),
        envoy_filter("router", "router.v3.Router", {"suppress_envoy_headers": True}),
    ]
    manager = {
        "@type": EXTENSIONS
        + "filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "api", "generate_request_id": False, "http_filters": filters,
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
            {"match": {"path": PATH}, "route": {"cluster": "cms"}},
        ]}]},
    }
    many = 20000
    resources = {
        "listeners": [{"address": envoy_address(port), "filter_chains": [{"filters": [{
            "name": "envoy.filters.network.http_connection_manager", "typed_config": manager,
        }]}]}],
        "clusters": [{
            "name": "cms", "type": "STATIC",
            "circuit_breakers": {"thresholds": [{
                "max_connections": many, "max_pending_requests": many, "max_requests": many,
            }]},
            "load_assignment": {"cluster_name": "cms", "endpoints": [{"lb_endpoints": [
                {"endpoint": {"address": envoy_address(UPSTREAM)}},
            ]}]},
        }],
        "secrets": [
            {"name": "cms", "generic_secret": {"secret": {"inline_string": f"Basic {BASIC}"}}},
        ],
    }
    name = "Envoy, JWT cache" if caches else "Envoy"
    config = write(lab.folder / f"envoy-{port}.json", json.dumps({"static_resources": resources}))
    binary = Path(sys.prefix) / "bin/envoy"
    return Proxy(name, port, [
        binary, "-c", config, "--concurrency", "1", "--disable-hot-restart", "-l", "error",
    ])


EXTENSIONS = "type.googleapis.com/envoy.extensions."


def envoy_filter(name, kind, settings):
    return {"name": f"envoy.filters.http.{name}",
            "typed_config": {"@type": f"{EXTENSIONS}filters.http.{kind}", **settings}}


def envoy_address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def gateway(lab, signer, *, jwks=None, roles=None, limits="", token_cache="", retention=""):
    """The gateway, its trail on disk. What is given in TOML goes to the section of that name."""
    folder = lab.folder / "gateway"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, text in {"username": USER, "password": PASSWORD}.items():
        secret = folder / name
        secret.touch(mode=0o600)
        secret.write_text(text)
    write(folder / "jwks.json", jwks or signer.jwks())
    config = write(folder / "gateway.toml", f"""
[listen]
api = "127.0.0.1:{GATEWAY}"
admin = "127.0.0.1:{ADMIN}"

[[issuers]]
issuer = "{ISSUER}"
audiences = ["{AUDIENCE}"]
jwks = {{ file = "jwks.json" }}
algorithms = ["{signer.algorithm}"]
roles_claim = "roles"

{roles or role(ROLE)}
[token_cache]
{token_cache}

[upstream]
url = "http://127.0.0.1:{UPSTREAM}"

[credential]
source = "file"
username = "username"
password = "password"

[audit]
directory = "audit"
signing_key = "signing-key.pem"
durability = "fsync"
{retention}

[limits]
{limits}
""")
    return Proxy("cms-gateway", GATEWAY, [lab.gateway, "serve", "--config", config])


def role(name, campaigns='"any"'):
    return f"""[roles.{name}]
permissions = ["lead-users:assign", "lead-users:unassign"]
campaigns = {campaigns}
"""


def write(path, text):
    path.write_text(text)
    return path
