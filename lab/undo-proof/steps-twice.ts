import type { BoundSaga, NamedStep } from '../../appliance/saga/saga.ts';

type AnyStep = NamedStep<unknown, unknown>['step'];

/** The saga with each step, and each undo, run once more when it is done. */
export function stepsTwice({ definition, ...bound }: BoundSaga): BoundSaga {
  const stages = definition.stages.map((stage) => stage.map(({ name, step }) => ({ name, step: twice(step) })));
  return { ...bound, definition: { ...definition, stages } };
}

function twice({ run, undo, ...start }: AnyStep): AnyStep {
  return {
    ...start,
    run: async (input, ctx) => {
      const first = await run(input, ctx);
      return first.kind === 'done' ? run(input, { ...ctx, first: false }) : first;
    },
    undo:
      typeof undo !== 'function'
        ? undo
        : async (input, output, ctx) => {
            const first = await undo(input, output, ctx);
            return first.kind === 'done' ? undo(input, output, ctx) : first;
          },
  };
}
