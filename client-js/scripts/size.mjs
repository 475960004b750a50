// The size of each entry: bundled with lib0, minified, compressed, without peer dependencies.
import { brotliCompressSync, gzipSync } from 'node:zlib'
import { build } from 'esbuild'

const KILOBYTE = 1_000
/** Limits in bytes, after Brotli. */
const ENTRIES = { index: 8 * KILOBYTE, react: 1 * KILOBYTE }
const PEERS = ['yjs', 'y-protocols', 'react', 'ws']

let tooLarge = false
for (const [entry, limit] of Object.entries(ENTRIES)) {
  const external = entry === 'index' ? PEERS : [...PEERS, './provider.js', './presence.js']
  const { outputFiles } = await build({
    entryPoints: [new URL(`../dist/${entry}.js`, import.meta.url).pathname],
    bundle: true,
    minify: true,
    write: false,
    format: 'esm',
    platform: 'browser',
    target: 'es2022',
    legalComments: 'none',
    external,
  })
  const code = outputFiles[0].contents
  const brotli = brotliCompressSync(code).length
  const gzip = gzipSync(code).length
  const verdict = brotli > limit ? 'TOO LARGE' : 'ok'
  console.log(`${entry}: ${brotli} bytes brotli (limit ${limit}), ${gzip} gzip: ${verdict}`)
  tooLarge ||= brotli > limit
}
process.exitCode = tooLarge ? 1 : 0
