import { execFileSync } from 'node:child_process';

import { test } from 'tap';

import type { Language } from './language.ts';
import { compileTemplate } from './render.ts';

const refused = { code: 'config.invalid' };
const hostile = [
  '"; rm -rf / #',
  "'; reboot; '",
  '$(reboot)',
  '`reboot`',
  '${mac}',
  'a\nb: c',
  'ü — 🦊',
  '\u2028x',
  '\\',
];

test('a shell reads every hostile value as one word of exactly that text', (t) => {
  const render = compileTemplate<{ value: string }>('t', 'printf %s {{value}}', 'shell');
  for (const value of [...hostile, '', 'tab\tand\x07bell']) {
    t.equal(execFileSync('/bin/sh', ['-c', render({ value })], { encoding: 'utf8' }), value);
  }
  t.throws(() => render({ value: 'a\0b' }), refused);
  t.end();
});

test('a YAML value is a double-quoted scalar on one line, whatever is in it', (t) => {
  const render = compileTemplate<{ value: string | number | boolean }>('t', 'key: {{value}}', 'yaml');
  for (const value of hostile) {
    const text = render({ value });
    t.match(text, /^key: "[^\n\u0085\u2028\u2029]*"$/);
    t.equal(JSON.parse(text.slice('key: '.length)), value);
  }
  t.equal(render({ value: 'no' }), 'key: "no"', 'text that YAML 1.1 would read as false stays text');
  t.equal(render({ value: 7 }), 'key: 7');
  t.equal(render({ value: false }), 'key: false');
  t.end();
});

test('languages without quoting refuse what could be more than one word', (t) => {
  for (const language of ['ipxe', 'ini', 'word'] satisfies Language[]) {
    const render = compileTemplate<{ value: string }>('t', 'x {{value}}', language);
    for (const value of [...hostile.filter((text) => text !== 'ü — 🦊'), 'a b', '', 'a\rb', 'a\0b', '\ud800']) {
      t.throws(() => render({ value }), refused, `${language}: ${encodeURIComponent(value.toWellFormed())}`);
    }
    t.equal(render({ value: 'fd00::1/64' }), 'x fd00::1/64');
  }
  const ini = compileTemplate<{ value: string }>('t', 'DNS={{value}}', 'ini');
  t.throws(() => ini({ value: '%n' }), refused, 'systemd would expand it');
  const ipxe = compileTemplate<{ value: string }>('t', 'echo {{value}}', 'ipxe');
  for (const value of ['a&&b', 'a||b', ';', '#x', '{x}']) t.throws(() => ipxe({ value }), refused, value);
  t.end();
});

test('a refused value is not shown in the error', (t) => {
  const render = compileTemplate<{ token: string }>('t', 'x {{token}}', 'word');
  try {
    render({ token: 'a secret' });
    t.fail('it was accepted');
  } catch (error) {
    t.notMatch(JSON.stringify(error) + String(error), /secret/);
    t.match(String(error), /token/);
  }
  t.end();
});

test('a name the context does not have is an error wherever it stands', (t) => {
  for (const source of [
    '{{x}}',
    '{{a.x}}',
    '{{#if x}}1{{/if}}',
    '{{#unless x}}1{{/unless}}',
    '{{#each x}}1{{/each}}',
  ]) {
    t.throws(() => compileTemplate<object>('t', source, 'word')({ a: {} }), refused, source);
  }
  t.throws(() => compileTemplate<object>('t', '{{constructor}}', 'word')({}), refused, 'what every object inherits');
  t.throws(() => compileTemplate<object>('t', '{{x}}', 'word')({ x: null }), refused, 'nothing is not text');
  t.throws(() => compileTemplate<object>('t', '{{x}}', 'word')({ x: {} }), refused, 'nor is an object');
  t.end();
});

test('null, false and an empty list are plain ways to say that there is none', (t) => {
  const render = compileTemplate<{ x: unknown }>('t', '{{#if x}}yes{{else}}no{{/if}}', 'word');
  t.same(
    [null, false, '', [], ['a'], 'a', true].map((x) => render({ x })),
    ['no', 'no', 'no', 'no', 'yes', 'yes', 'yes'],
  );
  t.end();
});

test('a template can hold nothing that goes around the quoting', (t) => {
  for (const source of [
    '{{{x}}}',
    '{{&x}}',
    '{{lookup this "x"}}',
    '{{#with x}}{{y}}{{/with}}',
    '{{#x}}{{/x}}',
    '{{> part}}',
    '{{log x}}',
    '{{#if (x)}}{{/if}}',
    '{{"text"}}',
    '{{#each x as |y|}}{{{y}}}{{/each}}',
  ]) {
    t.throws(() => compileTemplate('t', source, 'word'), refused, source);
  }
  t.end();
});

test('a template cannot put a value where its quotes would be undone', (t) => {
  for (const line of ['x="{{v}}"', "x='{{v}}'", 'x=`{{v}}`', 'x=$(echo {{v}})', 'cat <<{{v}}', '\\{{v}}']) {
    t.throws(() => compileTemplate('t', line, 'shell'), refused, line);
  }
  for (const line of ['x: "{{v}}"', 'x: a-{{v}}', 'x: {{v}}-a', 'x: | {{v}}', 'x: {{v}} # {{v}}', 'x: !t {{v}}']) {
    t.throws(() => compileTemplate('t', line, 'yaml'), refused, line);
  }
  t.end();
});
