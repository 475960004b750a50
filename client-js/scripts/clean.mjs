// Deletes dist/, so that the package contains no files of earlier builds.
import { rmSync } from 'node:fs'

rmSync(new URL('../dist', import.meta.url), { recursive: true, force: true })
