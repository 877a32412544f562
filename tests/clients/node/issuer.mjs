// A certified OpenID Connect provider as a company's own issuer: JWTs for client credentials.
//
//   node issuer.mjs PORT AUDIENCE CLIENT_ID CLIENT_SECRET
//
// It listens on loopback, says so on standard output, and ends when its standard input does.
import { generateKeyPairSync } from 'node:crypto'

import { Provider } from 'oidc-provider'

const [port, audience, clientId, clientSecret] = process.argv.slice(2)

const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
const key = { ...privateKey.export({ format: 'jwk' }), use: 'sig', alg: 'RS256', kid: 'first' }

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [
    {
      client_id: clientId,
      client_secret: clientSecret,
      grant_types: ['client_credentials'],
      redirect_uris: [],
      response_types: [],
    },
  ],
  cookies: { keys: ['only-for-tests'] },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (_context, resource) => ({
        scope: '',
        audience: resource,
        accessTokenFormat: 'jwt',
        accessTokenTTL: 600,
        jwt: { sign: { alg: 'RS256' } },
      }),
    },
  },
  jwks: { keys: [key] },
})

provider.listen(Number(port), '127.0.0.1', () => console.log(`listening for ${audience}`))
process.stdin.on('end', () => process.exit(0)).resume()
