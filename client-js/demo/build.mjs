// Makes server/assets from src: bundled, minified, compressed, under names that follow the content.
//
//     node build.mjs            writes them
//     node build.mjs --check    fails if what is committed is anything else

import { createHash } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gunzipSync, gzipSync } from 'node:zlib'
import { build } from 'esbuild'

const here = dirname(fileURLToPath(import.meta.url))
const assets = join(here, '../../server/assets')
const PAGES = ['demo', 'inspector']
const TYPES = {
  css: 'text/css; charset=utf-8',
  js: 'text/javascript; charset=utf-8',
  svg: 'image/svg+xml',
  txt: 'text/plain; charset=utf-8',
}

// The provider's sources are beside this package and would find the copies of their own folder. Two
// copies of Yjs do not know each other's types.
const singleInstance = {
  name: 'single-instance',
  setup(on) {
    on.onResolve({ filter: /^(yjs|y-protocols|lib0)(\/|$)/ }, ({ path, kind, pluginData }) =>
      pluginData === 'resolved'
        ? null
        : on.resolve(path, { kind, resolveDir: here, pluginData: 'resolved' }),
    )
  },
}

const files = new Map()
const inputs = new Set()

// Adds a file under a name that nobody has cached with another content.
const add = (stem, extension, content) => {
  const hash = createHash('sha256').update(content).digest('hex').slice(0, 12)
  const name = `${stem}-${hash}.${extension}`
  files.set(name, Buffer.from(content))
  return `/assets/${name}`
}

const bundle = async page => {
  const { outputFiles, metafile } = await build({
    absWorkingDir: here,
    entryPoints: [`src/${page}.ts`, `src/${page}.css`],
    outdir: 'out',
    bundle: true,
    minify: true,
    write: false,
    metafile: true,
    format: 'esm',
    platform: 'browser',
    target: 'es2022',
    charset: 'utf8',
    legalComments: 'none',
    define: { 'process.env.NODE_ENV': '"production"' },
    plugins: [singleInstance],
  })
  for (const input of Object.keys(metafile.inputs)) inputs.add(input)
  const of = extension => outputFiles.find(({ path }) => path.endsWith(`.${extension}`)).contents
  return { script: add(page, 'js', of('js')), style: add(page, 'css', of('css')) }
}

// What the licences of the bundled packages ask for: that they are shown.
const licences = () => {
  const packages = [...inputs].map(
    input => /^(?:\.\.\/)*(node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(input)?.[1],
  )
  const texts = [...new Set(packages.filter(Boolean))].sort().map(folder => {
    const { name, version, license } = JSON.parse(
      readFileSync(join(here, folder, 'package.json'), 'utf8'),
    )
    const file = readdirSync(join(here, folder)).find(file => /^licen[cs]e/i.test(file))
    const text = file
      ? readFileSync(join(here, folder, file), 'utf8').trim()
      : `Licensed under ${license}.`
    return `${name} ${version}\n\n${text}\n`
  })
  return texts.join(`\n${'-'.repeat(80)}\n\n`)
}

const logo = readFileSync(join(here, 'src/icon.svg'), 'utf8').trim()
const bundles = {}
for (const page of PAGES) bundles[page] = await bundle(page)
const shared = {
  icon: add('icon', 'svg', logo),
  licences: add('licences', 'txt', licences()),
  logo: logo
    .replace('<title>Syncline</title>', '')
    .replace('<svg ', '<svg aria-hidden="true" ')
    .replace('#0b8a83', 'currentColor'),
}
const outputs = new Map()
for (const page of PAGES) {
  const html = readFileSync(join(here, `src/${page}.html`), 'utf8')
  const values = { ...shared, ...bundles[page] }
  const filled = html.replaceAll(/\{(icon|licences|logo|script|style)\}/g, (_, key) => values[key])
  outputs.set(`${page}.html`, Buffer.from(filled))
}
const names = [...files.keys()].sort()
const entry = name => `    Asset {
        name: "${name}",
        content_type: "${TYPES[name.split('.').at(-1)]}",
        gzip: include_bytes!("${name}.gz"),
    },
`
const table = `// Made by client-js/demo/build.mjs.\n[\n${names.map(entry).join('')}]\n`
outputs.set('table.rs', Buffer.from(table))

if (process.argv.includes('--check')) {
  const wanted = [...outputs.keys(), ...names.map(name => `${name}.gz`)].sort()
  const found = readdirSync(assets).sort()
  const differs = wanted.filter(file => {
    if (!found.includes(file)) return true
    const committed = readFileSync(join(assets, file))
    // The same bytes; how they were compressed depends on the zlib that Node was built with.
    const name = basename(file, '.gz')
    return files.has(name)
      ? !gunzipSync(committed).equals(files.get(name))
      : !outputs.get(file).equals(committed)
  })
  const left = found.filter(file => !wanted.includes(file))
  for (const file of differs) console.error(`server/assets/${file} is not what src makes`)
  for (const file of left) console.error(`server/assets/${file} is made by nothing`)
  if (differs.length + left.length > 0) {
    console.error('run: npm --prefix client-js/demo run build')
    process.exitCode = 1
  }
} else {
  rmSync(assets, { recursive: true, force: true })
  mkdirSync(assets, { recursive: true })
  for (const [file, content] of outputs) writeFileSync(join(assets, file), content)
  for (const name of names) {
    const compressed = gzipSync(files.get(name), { level: 9 })
    writeFileSync(join(assets, `${name}.gz`), compressed)
    console.log(`${name}: ${files.get(name).length} bytes, ${compressed.length} compressed`)
  }
}
