import { test } from 'tap';

import { concatenateArchives, newcArchive } from '../../pxe/http/newc.ts';
import { loadBootScripts } from '../../templates/boot-scripts.ts';
import { pinnedIn, readBootScript } from './boot-script.ts';

test('the script that starts the ramdisk is understood as the appliance writes it', async (t) => {
  const script = loadBootScripts().ramdisk({
    kernelUrl: 'http://10.77.0.1:8080/ramdisk/vmlinuz',
    initrdUrl: 'http://10.77.0.1:8080/ramdisk/initrd',
    url: 'https://10.77.0.1:8443',
    claimToken: 'boot_1.abc',
    mac: '52-54-00-78-00-01',
    address: '10.77.0.2/24',
    gateway: null,
  });
  t.strictSame(readBootScript(script), {
    kernelUrl: 'http://10.77.0.1:8080/ramdisk/vmlinuz',
    initrdUrl: 'http://10.77.0.1:8080/ramdisk/initrd',
    url: 'https://10.77.0.1:8443',
    claimToken: 'boot_1.abc',
  });
});

test('the script that leads to the disk starts no ramdisk', async (t) => {
  t.equal(readBootScript(loadBootScripts().localDisk({})), undefined);
});

test('CA and version are found in the last archive of an initrd, whatever the first is', async (t) => {
  const pinned = (text: string) =>
    newcArchive([
      { path: 'etc', mode: 0o755 },
      { path: 'etc/rackstart/ca.pem', mode: 0o644, content: Buffer.from(text) },
      { path: 'etc/rackstart/version', mode: 0o644, content: Buffer.from('0123456789abcdef\n') },
      { path: 'etc/later', mode: 0o644, content: Buffer.from('later') },
    ]);
  const initrd = concatenateArchives([Buffer.from('compressed'), pinned('an older CA'), pinned('our CA')]);
  t.strictSame(pinnedIn(initrd), { ca: 'our CA', version: '0123456789abcdef' });
  t.throws(() => pinnedIn(Buffer.from('compressed')), { message: 'the initrd holds no ca.pem' });
});
