import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url))

export default defineConfig({
  test: {
    include: ['tests/**/*.test.ts'],
    testTimeout: 60_000,
    hookTimeout: 30_000,
    // The tests say themselves what they run against what; two cores need no more.
    maxWorkers: 3,
    env: { SYNCLINE_BIN: process.env.SYNCLINE_BIN ?? here('../target/debug/syncline') },
  },
  resolve: {
    alias: {
      // The launcher of tests/npm mints its tokens with jose; here it finds ours.
      jose: here('node_modules/jose/dist/webapi/index.js'),
      '@syncline/client/react': here('src/react.ts'),
      '@syncline/client/server': here('src/server.ts'),
      '@syncline/client': here('src/index.ts'),
    },
  },
})
