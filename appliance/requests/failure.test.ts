import type { ErrorCode } from '../kernel/errors.ts';
import type { Behaviour, Hop } from '../machines/rack.fixture.ts';
import { eachStore } from '../store/test-stores.ts';
import { eventOf, isGivenBack } from './given-back.fixture.ts';
import { Pipeline } from './pipeline.fixture.ts';
import { findRequest } from './request-records.ts';

/** How a deploy goes wrong, the code it is told with, and whether the disk was touched. */
const failures: readonly {
  title: string;
  hop?: Hop;
  behaviour?: Behaviour;
  probe?: { hostKey?: string; publicKey?: string; host?: string };
  code: ErrorCode;
  touched: boolean;
}[] = [
  { title: 'firmware that never asks', hop: 'dhcp', behaviour: 'silent', code: 'boot.stage-late', touched: false },
  {
    title: 'a script that is never fetched',
    hop: 'script',
    behaviour: 'silent',
    code: 'boot.stage-late',
    touched: false,
  },
  { title: 'a ramdisk that never claims', hop: 'claim', behaviour: 'silent', code: 'boot.stage-late', touched: false },
  { title: 'a ramdisk that falls silent', hop: 'image', behaviour: 'silent', code: 'boot.stage-late', touched: true },
  {
    title: 'an image of another digest',
    hop: 'image',
    behaviour: { code: 'image.digest', reason: 'another SHA-256' },
    code: 'image.digest',
    touched: true,
  },
  {
    title: 'a disk rule that matches two disks',
    hop: 'disk',
    behaviour: { code: 'boot.disk-rule', reason: 'sda, sdb' },
    code: 'boot.disk-rule',
    touched: true,
  },
  {
    title: 'a failure that blames the appliance',
    hop: 'grow',
    behaviour: { code: 'key.mismatch', reason: 'not me' },
    code: 'boot.stage-failed',
    touched: true,
  },
  {
    title: 'a kexec that comes back',
    hop: 'kexec',
    behaviour: { code: 'boot.stage-failed', reason: 'kexec returned' },
    code: 'boot.stage-failed',
    touched: true,
  },
  { title: 'a kexec into nothing', hop: 'boot', behaviour: 'silent', code: 'boot.stage-late', touched: true },
  { title: 'no phone-home', hop: 'phone-home', behaviour: 'silent', code: 'boot.stage-late', touched: true },
  { title: 'no heartbeat', hop: 'heartbeat', behaviour: 'silent', code: 'boot.stage-late', touched: true },
  { title: 'no SSH', probe: { host: '10.77.9.9' }, code: 'ssh.unreachable', touched: true },
  { title: 'another host key', probe: { hostKey: 'ssh-ed25519 AAAA' }, code: 'ssh.host-key', touched: true },
  { title: 'a refused key', probe: { publicKey: 'ssh-ed25519 BBBB' }, code: 'ssh.key-refused', touched: true },
];

for (const { title, hop, behaviour, probe, code, touched } of failures) {
  eachStore(`${title} ends as ${code}, and everything is given back`, async (t, store, { clock }) => {
    const pipeline = await Pipeline.open(t, store, clock);
    const [machine] = pipeline.rack;
    machine!.atHop = (at) => (at === hop ? behaviour : undefined);
    if (probe !== undefined) pipeline.atProbe = (target) => ({ ...target, ...probe });
    const id = await pipeline.order();
    await pipeline.untilRequest(id, 'rolled-back');
    await pipeline.untilMachine('available');
    await isGivenBack(t, pipeline, id);
    const events = await pipeline.events();
    t.match(eventOf(events, 'provisioning.failed'), { data: { code, requestId: id } });
    t.match(eventOf(events, 'alert.raised'), { data: { subject: id, code } }, 'an engineer is told');
    t.match(await findRequest(store.read, id), { state: 'rolled-back', completed_at: null });
    const bootedTwice = machine!.commands.filter((command) => command.startsWith('boot pxe')).length === 2;
    t.equal(bootedTwice, touched, touched ? 'it was wiped' : 'there was nothing to wipe');
    t.equal(machine!.state, 'off');
    t.equal(machine!.system, undefined);
  });
}
