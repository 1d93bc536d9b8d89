import tseslint from 'typescript-eslint';

// Time, randomness and timers reach the code through Clock and Ids alone, so that a test can own them.
const ambient = [
  ['Date', 'now', 'clock.now()'],
  ['Math', 'random', 'ids'],
  ['crypto', 'randomUUID', 'ids'],
].map(([object, property, instead]) => ({ object, property, message: `Use ${instead}.` }));

export default tseslint.config(
  { ignores: ['node_modules', '.cache', 'eslint.config.js'] },
  ...tseslint.configs.strictTypeChecked,
  {
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true, allowBoolean: true }],
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      '@typescript-eslint/require-await': 'off',
      'no-restricted-syntax': [
        'error',
        { selector: 'ExportDefaultDeclaration', message: 'Name what you export.' },
        { selector: 'TSEnumDeclaration', message: 'Use a union of literals.' },
      ],
      'no-restricted-properties': ['error', ...ambient],
      'no-restricted-globals': ['error', 'setTimeout', 'setInterval'],
      'no-console': 'error',
      'max-lines': ['error', { max: 400, skipComments: true, skipBlankLines: true }],
    },
  },
  {
    // The one room that may touch the machine's own clock and dice; programs of the lab talk to people on the terminal.
    files: ['appliance/kernel/**', 'lab/**', '**/*.test.ts'],
    rules: { 'no-restricted-properties': 'off', 'no-restricted-globals': 'off', 'no-console': 'off' },
  },
  {
    // Tests index what they have just built and reach into `unknown` answers; tap's assertions return promises nobody waits for.
    files: ['**/*.test.ts', 'lab/**'],
    rules: {
      '@typescript-eslint/no-non-null-assertion': 'off',
      '@typescript-eslint/no-floating-promises': [
        'error',
        { allowForKnownSafeCalls: [{ from: 'package', package: 'tap', name: ['test'] }] },
      ],
    },
  },
);
