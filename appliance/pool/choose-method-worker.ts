import { parentPort, workerData } from 'node:worker_threads';

import { chooseMethod } from '../../scheduler/forecast/forecast.ts';
import type { ChooseTask } from './choose-method.ts';

const { series, leadMs } = workerData as ChooseTask;
parentPort?.postMessage(chooseMethod(series, leadMs));
