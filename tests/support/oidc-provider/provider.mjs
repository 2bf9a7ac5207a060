// A real OpenID provider for tests: oidc-provider with one person's login, JWT access tokens (RFC 9068), two algorithms.
// node provider.mjs PORT; the issuer is http://127.0.0.1:PORT

import { generateKeyPairSync } from "node:crypto";
import Provider from "oidc-provider";

const port = Number(process.argv[2]);
const issuer = `http://127.0.0.1:${port}`;
const jwk = (type, options, more) => ({
  ...generateKeyPairSync(type, options).privateKey.export({ format: "jwk" }),
  use: "sig",
  ...more,
});

const provider = new Provider(issuer, {
  jwks: {
    keys: [
      jwk("rsa", { modulusLength: 2048 }, { kid: "rsa-1", alg: "RS256" }),
      jwk("ec", { namedCurve: "P-256" }, { kid: "ec-1", alg: "ES256" }),
      jwk("ed25519", {}, { kid: "ed-1", alg: "EdDSA" }),
    ],
  },
  clients: [
    {
      client_id: "orders-job",
      client_secret: "orders-secret-of-the-job",
      grant_types: ["client_credentials"],
      response_types: [],
      redirect_uris: [],
    },
    {
      client_id: "web",
      token_endpoint_auth_method: "none",
      redirect_uris: ["http://127.0.0.1/callback"],
      application_type: "native",
    },
  ],
  cookies: { keys: ["only-for-tests"] },
  features: {
    devInteractions: { enabled: true },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      useGrantedResource: () => true,
      getResourceServerInfo: (_, resource) => ({
        scope: "orders:read",
        audience: resource,
        accessTokenFormat: "jwt",
        accessTokenTTL: 600,
        jwt: { sign: { alg: resource.split(":").pop() } },
      }),
    },
  },
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
});
provider.listen(port, "127.0.0.1", () => console.log(`listening at ${issuer}`));
