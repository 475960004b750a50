// Server-side rendering: no window, no connection, no remaining timers.

import { createElement as h } from 'react'
import { renderToString } from 'react-dom/server'
import { expect, test, vi } from 'vitest'
import * as Y from 'yjs'
import { useProvider, useSaved, useStatus, useUsers } from '../src/react.ts'

function Badge({ doc }: { doc: Y.Doc }) {
  const provider = useProvider({ url: 'ws://nowhere', name: 'x', doc, user: { name: 'Ada' } })
  return h(
    'p',
    null,
    [useStatus(provider), useSaved(provider), useUsers(provider).length].map(String).join(' '),
  )
}

test('provider_20_server_rendering_opens_no_connection_or_timer', () => {
  vi.useFakeTimers()
  expect(typeof window).toBe('undefined')
  expect(renderToString(h(Badge, { doc: new Y.Doc() }))).toBe('<p>disconnected undefined 0</p>')
  expect(vi.getTimerCount()).toBe(0)
  vi.useRealTimers()
})
