import { RackstartError } from '../appliance/kernel/errors.ts';

/**
 * What a template is written in. It decides how every value is written there:
 *
 * - `shell`: single-quoted, any text but NUL.
 * - `yaml`: a double-quoted scalar that YAML 1.1 and 1.2 read alike; numbers and booleans bare. Any text but NUL.
 * - `ipxe`: bare; iPXE knows no quoting, so what could split, expand or chain a command is refused.
 * - `ini`: bare, one word; for systemd's and networkd's files, where specifiers, quotes and continuations are refused.
 * - `word`: bare, a word that means nothing but itself in any plain text file.
 */
export type Language = 'shell' | 'yaml' | 'ipxe' | 'ini' | 'word';

export type TemplateValue = string | number | boolean;

/**
 * `value` as it stands in a text of this language. Error: `config.invalid` for a value that the language can't carry;
 * the message names `field` and never shows the value, which may be a secret.
 */
export function written(value: TemplateValue, language: Language, field: string): string {
  const { accepts, write } = languages[language];
  const text = String(value);
  if (!text.isWellFormed() || !accepts.test(text)) {
    throw new RackstartError('config.invalid', `The value of ${field} cannot be written in ${language}.`, {
      details: { field, language },
    });
  }
  return write(value);
}

/**
 * True when a template's own line leaves each value where its quoting holds: inside the author's quotes, a quoted
 * value would close them, and in the middle of a YAML scalar its quotes would be letters.
 */
export function placesValuesSafely(line: string, language: Language): boolean {
  return languages[language].line.test(line.replaceAll(/\{\{[#/^!].*?\}\}|\{\{else.*?\}\}/g, ''));
}

interface Rules {
  readonly accepts: RegExp;
  readonly write: (value: TemplateValue) => string;
  /** What a line with a value in it may look like. */
  readonly line: RegExp;
}

const languages: Record<Language, Rules> = {
  shell: {
    accepts: /^[^\0]*$/,
    write: (value) => `'${String(value).replaceAll("'", `'\\''`)}'`,
    line: /^[^'"`$<\\]*$/,
  },
  yaml: {
    accepts: /^[^\0]*$/,
    write: (value) => (typeof value === 'string' ? doubleQuoted(value) : String(value)),
    line: /^(?:[^'"|>&*!#{]*[\s[,])?\{\{[\w.]+\}\}[,\]:]?\s*$/,
  },
  // core/exec.c of iPXE splits at white space, expands ${…} again and again, takes ||, && and ; for operators and a
  // leading # for a comment. An empty value would move the arguments behind it.
  ipxe: { accepts: /^[\w.~:/?=%@,+[\]-]+$/, write: String, line: /^/ },
  // systemd.syntax(7), systemd.unit(5) "Specifiers". A blank would begin another member of a list.

  ini: { accepts: /^[^\s\u0000-\u001f\u007f-\u009f\\"'%$`#;]+$/u, write: String, line: /^/ },
  word: { accepts: /^[\w.:/@+[\]-]+$/, write: String, line: /^/ },
};

// JSON is YAML 1.2, but YAML 1.1 (PyYAML, so cloud-init) breaks lines at NEL, LS and PS and refuses C1 controls.
function doubleQuoted(text: string): string {
  return JSON.stringify(text).replaceAll(
    /[\u007f-\u009f\u2028\u2029\ufeff\ufffe\uffff]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
