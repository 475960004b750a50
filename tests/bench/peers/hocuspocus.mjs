// Hocuspocus with its Database extension. The table is that of its SQLite extension; the driver is
// Node's own, so that nothing has to be compiled for the version of Node that is installed here.
import { DatabaseSync } from 'node:sqlite'

import { Database } from '@hocuspocus/extension-database'
import { Server } from '@hocuspocus/server'

const [port, folder] = process.argv.slice(2)
const documents = new DatabaseSync(`${folder}/documents.sqlite`)
documents.exec(
  'CREATE TABLE IF NOT EXISTS documents (name varchar(255) NOT NULL, data blob NOT NULL, UNIQUE(name))',
)
const select = documents.prepare('SELECT data FROM documents WHERE name = ?')
const insert = documents.prepare(
  'INSERT INTO documents (name, data) VALUES (?, ?) ON CONFLICT(name) DO UPDATE SET data = excluded.data',
)
const server = new Server({
  address: '127.0.0.1',
  port: Number(port),
  quiet: true,
  extensions: [
    new Database({
      fetch: async ({ documentName }) => select.get(documentName)?.data ?? null,
      store: async ({ documentName, state }) => void insert.run(documentName, state),
    }),
  ],
})
await server.listen()
