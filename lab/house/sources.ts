import { readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import ts from 'typescript';

import { walk } from '../test/files.ts';

export const root = join(import.meta.dirname, '../..');

/** Every file of the project, relative to its root; without git, so that it works wherever the project was unpacked. */
export function projectFiles(): string[] {
  return walk(root);
}

export function read(file: string): string {
  return readFileSync(join(root, file), 'utf8');
}

/** The files of the project that a file imports: static, dynamic, re-exported, and types alone too. */
export function importsOf(file: string, text = read(file)): string[] {
  const { importedFiles } = ts.preProcessFile(text, true, true);
  const relative = importedFiles.map(({ fileName }) => fileName).filter((name) => name.startsWith('.'));
  return [...new Set(relative.map((name) => normalize(join(dirname(file), name))))];
}
