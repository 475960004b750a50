// The package's own names, for tests that drive a provider by hand.

import { IndexeddbPersistence } from 'y-indexeddb'
import * as Y from 'yjs'
import { createProvider } from '../../../client-js/src/index.ts'

window.syncline = { createProvider, IndexeddbPersistence, Y }
document.title = 'Ready'
