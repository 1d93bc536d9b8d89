import { printable } from './text.ts';

/** Why a boot failed, as the API presents it. */
export interface Diagnosis {
  readonly verdict: string;
  readonly summary: string;
  readonly findings: readonly {
    readonly cause: string;
    readonly hop: string;
    readonly certainty: string;
    readonly sentence: string;
    readonly remedy: string;
    readonly evidence: readonly string[];
  }[];
  readonly missing: readonly string[];
}

/** Each finding with what it stands on and what to do; or that nothing was found, and what was not seen. */
export function diagnosisText({ verdict, summary, findings, missing }: Diagnosis): string {
  const found = findings.map(({ cause, hop, certainty, sentence, remedy, evidence }) => {
    const stands = evidence.map((line) => `  ${printable(line)}\n`).join('');
    return `${cause} (${certainty}, at ${hop}): ${printable(sentence)}\n${stands}  -> ${remedy}\n`;
  });
  const unseen = missing.map((what) => `not seen: ${what}\n`);
  return findings.length > 0 ? found.join('\n') : `${verdict}: ${printable(summary)}\n${unseen.join('')}`;
}
