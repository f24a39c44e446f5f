// The identity provider of the tests: oidc-provider, with what the tests ask of it.
//
//     node provider.mjs PORT FOLDER
//
// It listens on loopback (port 0: any) and prints one line of JSON when it does. With tls.crt and
// tls.key in FOLDER it speaks TLS and asks for client certificates; with client.crt beside them it
// knows a client that has that certificate. Its keys are kept in FOLDER/jwks.json, so that they
// outlive it. It ends with whoever holds its standard input.
//
// The resource that a token is asked for decides what the token is:
//
//     urn:cms-gateway:ES256    a JWT (RFC 9068) for the audience cms-gateway, so signed
//     urn:cms-gateway:opaque   an opaque token for the same audience, to be introspected
//     urn:other:ES256          a JWT for another audience
//
// A second listener, whose address is in the printed line, controls it:
//
//     POST /rotate/overlap     a new set of keys signs, the old ones are still published
//     POST /rotate/swap        a new set of keys signs, the old ones are gone
//     POST /rotate/withdraw    what is not the newest set is gone
//     GET  /counts             how often the keys and the discovery document were asked for
//     GET  /id-token           an ID token, which is no access token

import { generateKeyPair, X509Certificate } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";

// oidc-provider asks for Node 22 for the sake of this one function.
URL.parse ??= (...parts) => (URL.canParse(...parts) ? new URL(...parts) : null);

const installed = new URL("../../target/test-tools/provider/package.json", import.meta.url);
const entry = createRequire(installed).resolve("oidc-provider");
const { Provider } = await import(pathToFileURL(entry));

const SECRET = "test-secret";
const TOKEN_LIFETIME = 600;
const ROLES = ["campaign-supervisor", "north-dialer", "remover"];
const ALGORITHMS = ["RS256", "PS256", "ES256", "EdDSA"];

const [port, folder] = process.argv.slice(2);
const inFolder = (name) => join(folder, name);
const counts = { jwks: 0, discovery: 0 };

const certificate = readIfThere("tls.crt");
const server = certificate
  ? createTlsServer({
      cert: certificate,
      key: readFileSync(inFolder("tls.key")),
      requestCert: true,
      // Who the client is, is for the provider to say.
      rejectUnauthorized: false,
    })
  : createServer();
await listen(server, Number(port));
const issuer = `${certificate ? "https" : "http"}://127.0.0.1:${server.address().port}`;

let generations = JSON.parse(readIfThere("jwks.json") ?? "[]");
if (generations.length === 0) {
  await rotate("swap");
}
let provider = provide();
server.on("request", (request, response) => {
  counts.jwks += request.url === "/jwks";
  counts.discovery += request.url.startsWith("/.well-known/");
  provider.answer(request, response);
});

const control = createServer((request, response) => {
  command(request.method, request.url)
    .then((answer) => response.end(JSON.stringify(answer)))
    .catch((error) => response.writeHead(500).end(String(error)));
});
await listen(control, 0);
process.stdin.resume().on("end", () => process.exit(0));
console.log(JSON.stringify({ issuer, control: `127.0.0.1:${control.address().port}` }));

async function command(method, path) {
  const [, name, argument] = path.split("/");
  switch (`${method} ${name}`) {
    case "POST rotate":
      await rotate(argument);
      provider = provide();
      return { keys: generations.flat().map((key) => key.kid) };
    case "GET counts":
      return counts;
    case "GET id-token":
      return { token: await provider.idToken() };
    default:
      throw new Error(`${method} ${path} is no command`);
  }
}

// A generation is a key of each kind. The RSA key is not bound to an algorithm: it signs with
// RS256 and with PS256.
async function rotate(mode) {
  const kept = { overlap: generations, swap: [], withdraw: generations.slice(0, 1) }[mode];
  const fresh = mode === "withdraw" ? [] : [await generation()];
  generations = [...fresh, ...kept];
  writeFileSync(inFolder("jwks.json"), JSON.stringify(generations), { mode: 0o600 });
}

async function generation() {
  const pair = async (kind, options) => {
    const { privateKey } = await promisify(generateKeyPair)(kind, options);
    return privateKey.export({ format: "jwk" });
  };
  const keys = [
    await pair("rsa", { modulusLength: 2048 }),
    await pair("ec", { namedCurve: "P-256" }),
    await pair("ed25519", {}),
  ];
  return keys.map((key) => ({ ...key, kid: crypto.randomUUID(), use: "sig" }));
}

// A provider can't be given other keys, so another one takes its place behind the same socket.
// What it keeps (opaque tokens, proofs that were used) is the process's.
function provide() {
  const oidc = new Provider(issuer, {
    clientAuthMethods: ["client_secret_basic", "self_signed_tls_client_auth"],
    clients: clients(),
    cookies: { keys: ["no cookie is used"] },
    extraTokenClaims: (_, token) => ({ roles: token.scope ? token.scope.split(" ") : [] }),
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      dPoP: { enabled: true },
      introspection: {
        enabled: true,
        allowedPolicy: (_, client) => client.clientId === "gateway",
      },
      mTLS: {
        enabled: true,
        certificateBoundAccessTokens: true,
        selfSignedTlsClientAuth: true,
        getCertificate: (context) => context.socket.getPeerX509Certificate?.(),
      },
      revocation: { enabled: true },
      resourceIndicators: { enabled: true, getResourceServerInfo: (_, name) => resource(name) },
    },
    jwks: { keys: generations.flat() },
    scopes: ["openid", ...ROLES],
    ttl: { ClientCredentials: TOKEN_LIFETIME, IdToken: TOKEN_LIFETIME },
  });
  oidc.on("server_error", (_, error) => console.error(error));
  return {
    answer: oidc.callback(),
    idToken: async () => {
      const client = await oidc.Client.find("plain-app");
      const token = new oidc.IdToken({ sub: "somebody" }, { client });
      token.scope = "openid";
      token.set("nonce", "n-0S6_WzA2Mj");
      token.set("roles", ROLES);
      return token.issue({ use: "idtoken" });
    },
  };
}

function resource(name) {
  const [, audience, format] = name.match(/^urn:([a-z-]+):([A-Za-z0-9]+)$/) ?? [];
  const shared = { audience, scope: ROLES.join(" "), accessTokenTTL: TOKEN_LIFETIME };
  if (format === "opaque") {
    return { ...shared, accessTokenFormat: "opaque" };
  }
  if (!ALGORITHMS.includes(format)) {
    throw new Error(`no such resource: ${name}`);
  }
  return { ...shared, accessTokenFormat: "jwt", jwt: { sign: { alg: format } } };
}

function clients() {
  const app = (name, more) => ({
    client_id: name,
    client_secret: SECRET,
    grant_types: ["client_credentials"],
    redirect_uris: [],
    response_types: [],
    token_endpoint_auth_method: "client_secret_basic",
    ...more,
  });
  const list = [
    app("plain-app"),
    app("dpop-app", { dpop_bound_access_tokens: true }),
    app("gateway", { grant_types: [] }),
  ];
  const own = readIfThere("client.crt");
  if (own) {
    const parsed = new X509Certificate(own);
    const key = { ...parsed.publicKey.export({ format: "jwk" }), use: "sig" };
    list.push(
      app("mtls-app", {
        client_secret: undefined,
        jwks: { keys: [{ ...key, x5c: [parsed.raw.toString("base64")] }] },
        tls_client_certificate_bound_access_tokens: true,
        token_endpoint_auth_method: "self_signed_tls_client_auth",
      }),
    );
  }
  return list;
}

function readIfThere(name) {
  return existsSync(inFolder(name)) ? readFileSync(inFolder(name), "utf8") : undefined;
}

// Where it was stopped and started again on its port, somebody's outgoing connection may have the
// port for a moment.
async function listen(server, port) {
  for (let tries = 0; ; tries += 1) {
    try {
      return await new Promise((resolve, reject) => {
        server.once("error", reject);
        server.listen(port, "127.0.0.1", () => {
          server.off("error", reject);
          resolve();
        });
      });
    } catch (error) {
      if (error.code !== "EADDRINUSE" || tries === 100) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}
