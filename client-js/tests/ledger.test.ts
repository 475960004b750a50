// Unit tests of the ledger. tests/machine.test.ts has the property tests.

import { expect, test } from 'vitest'
import * as ledger from '../src/ledger.ts'

const fresh = ledger.create(false)

test('an unchanged document has nothing unsaved', () => {
  expect(ledger.unsaved(fresh)).toBe(0)
})

test('untracked content is unsaved until a diff is acknowledged', () => {
  const found = ledger.create(true)
  expect(ledger.unsaved(found)).toBe(1)
  const asked = ledger.diffSent(found)
  expect(ledger.unsaved(asked)).toBe(1)
  expect(ledger.unsaved(ledger.acknowledged(asked, 1))).toBe(0)
})

test('a reader counts only its local changes as unsaved', () => {
  expect(ledger.unsaved(ledger.readOnly(ledger.changed(fresh, false)))).toBe(0)
  expect(ledger.unsaved(ledger.readOnly(ledger.changed(fresh, true)))).toBe(1)
})

test('offline changes become one frame', () => {
  const kept = ledger.changed(ledger.changed(fresh, true), true)
  expect(ledger.unsaved(kept)).toBe(2)
  expect(ledger.unsaved(ledger.diffSent(kept))).toBe(1)
})

test('unacknowledged frames become unsent on disconnect', () => {
  const two = ledger.updateSent(ledger.updateSent(fresh))
  const lost = ledger.disconnected(ledger.acknowledged(two, 1))
  expect(lost).toEqual({ ...fresh, unsent: 1 })
})

test('the watermark is limited to sent frames and never decreases', () => {
  const one = ledger.acknowledged(ledger.updateSent(fresh), 7)
  expect(one.acknowledged).toBe(1)
  expect(ledger.acknowledged(one, 0).acknowledged).toBe(1)
  expect(ledger.unsaved(ledger.updateSent(one))).toBe(1)
})

test('acknowledgements after a refusal count once a diff is saved', () => {
  const refused = ledger.refused(ledger.updateSent(ledger.updateSent(fresh)), 1)
  expect(ledger.unsaved(refused)).toBe(2)
  expect(ledger.unsaved(ledger.acknowledged(refused, 2))).toBe(2)
  const asked = ledger.diffSent(ledger.acknowledged(refused, 2))
  expect(ledger.unsaved(asked)).toBe(3)
  expect(ledger.unsaved(ledger.acknowledged(asked, 3))).toBe(0)
})

test('a refused diff does not fill the hole', () => {
  const asked = ledger.diffSent(ledger.refused(ledger.updateSent(fresh), 1))
  const again = ledger.refused(asked, 2)
  expect(ledger.unsaved(ledger.acknowledged(again, 2))).toBe(2)
})

test('a refusal of earlier changes counts as one unsaved change', () => {
  expect(ledger.unsaved(ledger.refused(fresh, 0))).toBe(1)
})
