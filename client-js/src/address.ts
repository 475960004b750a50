/** Where to connect to, and what to offer there. */

import { SUBPROTOCOL } from './wire.ts'

/** The arguments of a WebSocket. */
export interface Address {
  readonly url: string
  readonly protocols: string[]
}

/**
 * The document's address, without a token. As y-websocket does, a name is sent as it is, and the
 * server decodes escapes once; only what would end the path is escaped, so that `what?` is a name.
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
 * What to open. The token travels as a subprotocol beside ours: addresses are written to logs by
 * proxies, and headers are not. One that is no JWT may not fit there and goes into the query, and
 * so does every token if `isPlain`: nothing of ours is offered then.
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
