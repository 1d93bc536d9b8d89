import { isBySigkill } from './scenarios.ts';
import { testMatrix } from './matrix-test.ts';

await testMatrix((column) => !isBySigkill(column));
