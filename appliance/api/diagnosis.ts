import { Type } from 'typebox';

import { causes } from '../machines/diagnosis/causes.ts';
import type { Diagnosis as Told } from '../machines/diagnosis/diagnose.ts';
import { hops } from '../machines/diagnosis/hops.ts';

const HopName = Type.Enum([...hops]);

/** Why a boot failed, as operators are told: it names what is theirs. */
export const Diagnosis = Type.Object({
  verdict: Type.Enum(['healthy', 'under-way', 'ended', 'found', 'unknown']),
  hop: Type.Union([HopName, Type.Null()], { description: 'Where it stands, or broke.' }),
  summary: Type.String(),
  findings: Type.Array(
    Type.Object({
      cause: Type.Enum(Object.keys(causes)),
      hop: HopName,
      blame: Type.Enum(['machine', 'image', 'network', 'service']),
      certainty: Type.Enum(['certain', 'likely']),
      sentence: Type.String(),
      remedy: Type.String(),
      evidence: Type.Array(Type.String(), { description: 'What it stands on; what machines said is in quotes.' }),
    }),
    { description: 'The earliest break first.' },
  ),
  missing: Type.Array(Type.String(), { description: 'Evidence that would have told more.' }),
});

export function presentDiagnosis({ findings, missing, ...verdict }: Told) {
  return {
    ...verdict,
    findings: findings.map(({ evidence, ...finding }) => ({ ...finding, evidence: [...evidence] })),
    missing: [...missing],
  };
}
