import { chmodSync, mkdirSync } from 'node:fs';

import { test } from 'tap';

import { run } from '../../lab/process/run.ts';
import { fakeRamdisk } from './deploy.fixture.ts';

const skip = process.getuid?.() === 0 ? false : 'only root may create a network namespace';

test(
  'the address of the boot script is no lease: nobody has to ask for it again, however long the machine waits',
  { skip },
  async (t) => {
    const netns = `rs-network-${String(process.pid)}`;
    await run(['ip', 'netns', 'add', netns]);
    t.teardown(() => run(['ip', 'netns', 'delete', netns]));
    const mac = '52:54:00:77:00:01';
    await run(['ip', '-n', netns, 'link', 'add', 'eth0', 'address', mac, 'type', 'bridge']);

    const ramdisk = fakeRamdisk(t);
    ramdisk.put('bin/ip', `#!/bin/sh\nexec /usr/sbin/ip -n ${netns} "$@"\n`);
    chmodSync(ramdisk.path('bin/ip'), 0o755);
    ramdisk.put('sys/class/net/eth0/address', `${mac}\n`);
    ramdisk.put('sys/class/net/eth0/type', '1\n');
    ramdisk.put('sys/class/net/eth0/carrier', '1\n');
    mkdirSync(ramdisk.path('sys/class/net/eth0/device'));
    const parameters = ['mac=52-54-00-77-00-01', 'ip=10.77.0.10/24', 'gw=10.77.0.1'];
    ramdisk.put('proc/cmdline', `quiet ${parameters.map((each) => `rackstart.${each}`).join(' ')} \n`);

    t.equal(await ramdisk.stage('network'), undefined);
    const shown = await run(['ip', '-n', netns, '-4', 'address', 'show', 'dev', 'eth0']);
    t.match(shown, /inet 10\.77\.0\.10\/24 .*\n +valid_lft forever preferred_lft forever/);
    t.match(await run(['ip', '-n', netns, 'route']), /^default via 10\.77\.0\.1 dev eth0/);
  },
);
