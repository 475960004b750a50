import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url))

export default defineConfig({
  test: {
    include: ['tests/**/*.test.ts'],
    testTimeout: 60_000,
    hookTimeout: 30_000,
    // Sufficient for two cores; most tests wait for I/O.
    maxWorkers: 3,
    env: { SYNCLINE_BIN: process.env.SYNCLINE_BIN ?? here('../target/debug/syncline') },
  },
  resolve: {
    alias: {
      // tests/npm/support/server.mjs imports jose; resolve it from this package.
      jose: here('node_modules/jose/dist/webapi/index.js'),
      '@syncline/client/react': here('src/react.ts'),
      '@syncline/client/server': here('src/server.ts'),
      '@syncline/client': here('src/index.ts'),
    },
  },
})
