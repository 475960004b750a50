/** Functions on the DOM, and formats of sizes and times. */

/** The element with an ID. Throws if the page has none. */
export function byId<Kind extends HTMLElement = HTMLElement>(id: string): Kind {
  const element = document.getElementById(id)
  if (element === null) throw new Error(`the page has no #${id}`)
  return element as Kind
}

/** Creates an element with attributes and children. */
export function make<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag,
  attributes: Readonly<Record<string, string>> = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[Tag] {
  const element = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value)
  element.append(...children)
  return element
}

/** The nonce of the page's content security policy, required for inserted style sheets. */
export const styleNonce = (): string =>
  document.querySelector<HTMLMetaElement>('meta[name=style-nonce]')?.content ?? ''

const TOAST_MS = 3_000
let fading: ReturnType<typeof setTimeout> | undefined

/** Shows a message for 3 s. */
export function toast(text: string): void {
  const element = byId('toast')
  element.textContent = text
  element.hidden = false
  clearTimeout(fading)
  fading = setTimeout(() => {
    element.hidden = true
  }, TOAST_MS)
}

/** A size in B, kB or MB. */
export function size(bytes: number): string {
  if (bytes < 1_000) return `${bytes} B`
  if (bytes < 1_000_000) return `${(bytes / 1_000).toFixed(1)} kB`
  return `${(bytes / 1_000_000).toFixed(1)} MB`
}

/** A time of day, with 24 hours. */
export const clock = (at: Date): string => at.toLocaleTimeString([], { hour12: false })
