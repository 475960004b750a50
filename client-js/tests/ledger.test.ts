// The bookkeeping behind `saved`, case by case. tests/machine.test.ts has the whole.

import { expect, test } from 'vitest'
import * as ledger from '../src/ledger.ts'

const fresh = ledger.create(false)

test('a copy that nobody has changed has nothing unsaved', () => {
  expect(ledger.unsaved(fresh)).toBe(0)
})

test('content of unknown standing is unsaved until a diff is acknowledged', () => {
  const found = ledger.create(true)
  expect(ledger.unsaved(found)).toBe(1)
  const asked = ledger.diffSent(found)
  expect(ledger.unsaved(asked)).toBe(1)
  expect(ledger.unsaved(ledger.acknowledged(asked, 1))).toBe(0)
})

test('a reader answers for its own changes only', () => {
  expect(ledger.unsaved(ledger.readOnly(ledger.changed(fresh, false)))).toBe(0)
  expect(ledger.unsaved(ledger.readOnly(ledger.changed(fresh, true)))).toBe(1)
})

test('many changes made offline become one frame', () => {
  const kept = ledger.changed(ledger.changed(fresh, true), true)
  expect(ledger.unsaved(kept)).toBe(2)
  expect(ledger.unsaved(ledger.diffSent(kept))).toBe(1)
})

test('frames that were under way when the connection ended are unsent again', () => {
  const two = ledger.updateSent(ledger.updateSent(fresh))
  const lost = ledger.disconnected(ledger.acknowledged(two, 1))
  expect(lost).toEqual({ ...fresh, unsent: 1 })
})

test('a server cannot acknowledge what was not sent, nor take back', () => {
  const one = ledger.acknowledged(ledger.updateSent(fresh), 7)
  expect(one.acknowledged).toBe(1)
  expect(ledger.acknowledged(one, 0).acknowledged).toBe(1)
  expect(ledger.unsaved(ledger.updateSent(one))).toBe(1)
})

test('behind a refused frame nothing counts until a later diff is acknowledged', () => {
  const refused = ledger.refused(ledger.updateSent(ledger.updateSent(fresh)), 1)
  expect(ledger.unsaved(refused)).toBe(2)
  expect(ledger.unsaved(ledger.acknowledged(refused, 2))).toBe(2)
  const asked = ledger.diffSent(ledger.acknowledged(refused, 2))
  expect(ledger.unsaved(asked)).toBe(3)
  expect(ledger.unsaved(ledger.acknowledged(asked, 3))).toBe(0)
})

test('a diff that is refused in its turn fills nothing', () => {
  const asked = ledger.diffSent(ledger.refused(ledger.updateSent(fresh), 1))
  const again = ledger.refused(asked, 2)
  expect(ledger.unsaved(ledger.acknowledged(again, 2))).toBe(2)
})

test('a refusal of what was written before the connection counts as one', () => {
  expect(ledger.unsaved(ledger.refused(fresh, 0))).toBe(1)
})
