import type { WipedDisk } from '../boot-plan.ts';
import { readFactLines } from './fact-lines.ts';
import { DEVICE_NAME } from './inspection.ts';

/** Reads what became of a disk that was to be wiped, `key=value` lines. Error: `request.invalid`, one complaint a line. */
export function parseWipedDisk(text: string): WipedDisk {
  const facts = readFactLines('A certificate', text, forms);
  const { disk: name, serial, model, method, digest, result, reason } = facts;
  return {
    ...{ name, serial, model, method, digest },
    bytes: Number(facts.bytes),
    seconds: Number(facts.seconds),
    samples: Number(facts.samples),
    sampledBytes: Number(facts.sampled_bytes),
    ...(result === 'failed' ? { failure: reason === '' ? 'no reason was given' : reason } : {}),
  };
}

const COUNT = /^[0-9]{1,15}$/;

const forms = {
  disk: DEVICE_NAME,
  bytes: COUNT,
  serial: /^.{0,128}$/u,
  model: /^.{0,128}$/u,
  method: /^[a-z]{1,16}(?:[-+][a-z]{1,16}){0,5}$/,
  seconds: /^[0-9]{1,9}$/,
  samples: /^[0-9]{1,6}$/,
  sampled_bytes: COUNT,
  digest: /^[0-9a-f]{64}$/,
  result: /^(?:passed|failed)$/,
  reason: /^.{0,500}$/u,
};
