import { Type } from 'typebox';

import type { Disk } from '../../scheduler/disk-plan.ts';
import { RackstartError } from '../kernel/errors.ts';
import { diskPlanOf, rootImageOf } from '../machines/disk-layout.ts';
import { orderedImage } from '../requests/admit.ts';
import type { Store } from '../store/store.ts';
import type { Api } from './typed-api.ts';
import { IdParams, Name, problems, strict } from './schemas.ts';
import { invalid } from './unique.ts';

const PlannedDisk = Type.Object({
  name: Type.String(),
  bytes: Type.Integer(),
  type: Type.String(),
  serial: Type.String(),
});

const DiskPlan = Type.Object({
  machine: Type.String(),
  flavor: Type.String(),
  possible: Type.Boolean(),
  refusals: Type.Array(Type.Object({ role: Type.String(), reason: Type.String(), message: Type.String() }), {
    description: 'Why the machine is no such server: for which role, and what there is.',
  }),
  steps: Type.Array(
    Type.Object({
      stage: Type.String({ description: 'The stage of the boot in which it is done.' }),
      does: Type.String(),
      disk: Type.String(),
      erases: Type.Boolean({ description: 'Whatever the disk holds is gone.' }),
      details: Type.Record(Type.String(), Type.Unknown()),
    }),
    { description: 'In the order in which they are done.' },
  ),
  erased: Type.Array(PlannedDisk),
  untouched: Type.Array(PlannedDisk),
});

/** The dry run of an order's disks on one machine: the same function decides when it is placed, and before it is installed. */
export function diskPlanRoute(api: Api, { read }: Pick<Store, 'read'>): void {
  api.get(
    '/machines/:id/disk-plan',
    {
      config: { right: 'fleet:read' },
      schema: {
        tags: ['machines'],
        summary: 'What an order would do to the disks of a machine, and what it would erase; nothing is done',
        params: IdParams,
        querystring: Type.Object(
          {
            flavor: Name,
            image: Type.Optional(
              Type.String({ maxLength: 200, description: 'By its name or `name:version`; one for everyone.' }),
            ),
            imageBytes: Type.Integer({
              minimum: 0,
              maximum: 2 ** 50,
              default: 0,
              description: 'What an image needs that is not here yet.',
            }),
          },
          strict,
        ),
        response: { 200: DiskPlan, ...problems },
      },
    },
    async (request) => {
      const { flavor: name, image: imageName } = request.query;
      const { id } = request.params;
      const machine = await read.selectFrom('machines').selectAll().where('id', '=', id).executeTakeFirst();
      if (machine === undefined) throw new RackstartError('not-found', `There is no machine ${id}.`);
      const flavor = await read.selectFrom('flavors').selectAll().where('name', '=', name).executeTakeFirst();
      if (flavor === undefined) throw invalid('/flavor', 'There is no such flavor.');
      const image = imageName === undefined ? undefined : await orderedImage(read, imageName, undefined);
      if (imageName !== undefined && image === undefined)
        throw invalid('/image', 'There is no such image for everyone.');
      const plan = await diskPlanOf(read, machine, flavor, {
        imageBytes: image?.raw_bytes ?? request.query.imageBytes,
        image: image && rootImageOf(image),
      });
      const about = { machine: machine.name, flavor: name };
      if (plan.kind === 'refused') {
        return { ...about, possible: false, refusals: [...plan.refusals], steps: [], erased: [], untouched: [] };
      }
      const { steps, root, mirror, data, untouched } = plan;
      const erased = new Set(steps.filter(({ erases }) => erases).map(({ disk }) => disk));
      return {
        ...about,
        possible: true,
        refusals: [],
        steps: steps.map(({ stage, does, disk, erases, ...details }) => ({ stage, does, disk, erases, details })),
        erased: [root, ...(mirror === undefined ? [] : [mirror]), ...data]
          .filter((disk) => erased.has(disk.name))
          .map(shown),
        untouched: untouched.map(shown),
      };
    },
  );
}

function shown({ name, bytes, type, serial }: Disk) {
  return { name, bytes, type, serial };
}
