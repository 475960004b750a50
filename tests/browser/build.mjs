// Bundles the test pages. The editors are chunks, so each page loads one.

import { cpSync, mkdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

const here = dirname(fileURLToPath(import.meta.url))
export const PAGES = join(here, 'node_modules/.cache/pages')

// The provider's sources would find the copies of their own folder, and two copies of Yjs do not
// know each other's types.
const oneCopy = {
  name: 'one-copy',
  setup (on) {
    on.onResolve({ filter: /^(yjs|y-protocols)(\/|$)/ }, ({ path, kind, pluginData }) =>
      pluginData === 'ours' ? null : on.resolve(path, { kind, resolveDir: here, pluginData: 'ours' }))
    // y-monaco names a file by the path that it had before monaco-editor said what it exports.
    on.onResolve({ filter: /^monaco-editor\/esm\/vs\// }, ({ path, kind }) =>
      on.resolve(path.replace('/esm/vs/', '/'), { kind, resolveDir: here }))
    // BlockNote's parts for Yjs 14, which are not used.
    on.onResolve({ filter: /^@y\// }, () => ({ external: true }))
  }
}

mkdirSync(PAGES, { recursive: true })
await build({
  absWorkingDir: here,
  entryPoints: ['pages/editor.js', 'pages/client.js', 'pages/monaco.worker.js', 'pages/provider.worker.js'],
  outdir: PAGES,
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'browser',
  target: 'es2022',
  define: { 'process.env.NODE_ENV': '"production"' },
  loader: { '.ttf': 'dataurl', '.woff': 'dataurl', '.woff2': 'dataurl', '.svg': 'dataurl' },
  logLevel: 'error',
  plugins: [oneCopy]
})
for (const page of ['editor.html', 'client.html']) cpSync(join(here, 'pages', page), join(PAGES, page))
