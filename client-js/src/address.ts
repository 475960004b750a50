/** URLs and subprotocols of WebSocket connections. */

import { SUBPROTOCOL } from './wire.ts'

/** The arguments of the WebSocket constructor. */
export interface Address {
  readonly url: string
  readonly protocols: string[]
}

/**
 * The URL of a document, without a token. Like y-websocket, sends the name unescaped; the server
 * percent-decodes it once. Escapes `?`, `#` and stray `%`, which would end or break the path.
 */
export function documentUrl(
  serverUrl: string,
  name: string,
  params: Readonly<Record<string, string>>,
): string {
  const path = name.replace(/[?#]/g, encodeURIComponent).replace(/%(?![0-9a-f]{2})/gi, '%25')
  const query = Object.entries(params).map(pair => pair.map(encodeURIComponent).join('='))
  return `${serverUrl}/${path}${query.length > 0 ? `?${query.join('&')}` : ''}`
}

/**
 * The address of a connection attempt. The token is sent as a second subprotocol because proxies
 * log URLs but not headers. A token with characters that a header cannot carry goes into the query,
 * and so does every token if `isPlain`, which offers only `protocols`.
 */
export function address(
  url: string,
  token: string | undefined,
  epoch: string | undefined,
  protocols: readonly string[],
  isPlain: boolean,
): Address {
  const offers = isPlain ? [] : [SUBPROTOCOL]
  const query: string[] = []
  if (token !== undefined) {
    if (!isPlain && /^[\w.~-]+$/.test(token)) offers.push(`bearer.${token}`)
    else query.push(`token=${encodeURIComponent(token)}`)
  }
  if (epoch !== undefined) query.push(`epoch=${epoch}`)
  const separator = url.includes('?') ? '&' : '?'
  return {
    url: url.replace(/^http/, 'ws') + (query.length > 0 ? separator + query.join('&') : ''),
    protocols: [...offers, ...protocols],
  }
}
