import { test } from 'tap';

import { loadBootScripts } from './boot-scripts.ts';
import type { RamdiskScript } from './context.ts';

const context: RamdiskScript = {
  kernelUrl: 'http://10.77.0.1:8080/ramdisk/vmlinuz',
  initrdUrl: 'http://10.77.0.1:8080/ramdisk/initrd',
  url: 'https://10.77.0.1:8443',
  claimToken: 'kq3v_-Z',
  mac: '52-54-00-77-00-01',
  address: '10.77.0.11/24',
  gateway: '10.77.0.1',
};

test('the ramdisk script loads kernel and initrd, tries a bounded number of times, and never resets the machine', (t) => {
  t.equal(
    loadBootScripts().ramdisk(context),
    `#!ipxe
# Loads the Rackstart ramdisk. A machine without a way to it is left to its firmware: it is never reset from here.
:try
inc tries
echo Rackstart: loading the ramdisk, try \${tries}
imgfree
# "quiet": the kernel would print this line, and the token in it, on the serial console.
# "initrd=" is how the EFI stub finds the file; BIOS kernels don't look at it.
kernel http://10.77.0.1:8080/ramdisk/vmlinuz initrd=initrd.img boot=rackstart rackstart.url=https://10.77.0.1:8443 rackstart.token=kq3v_-Z rackstart.mac=52-54-00-77-00-01 rackstart.ip=10.77.0.11/24 rackstart.gw=10.77.0.1 quiet console=tty0 console=ttyS0,115200 || goto failed
initrd --name initrd.img http://10.77.0.1:8080/ramdisk/initrd || goto failed
boot || goto failed

:failed
echo Rackstart: the ramdisk could not be loaded; the reason is above
iseq \${tries} 5 && goto give-up ||
sleep 3
goto try

:give-up
echo Rackstart: giving up after \${tries} tries; back to the firmware
imgfree
exit 1
`,
  );
  t.end();
});

test('without a gateway the kernel command line names none', (t) => {
  t.match(loadBootScripts().ramdisk({ ...context, gateway: null }), 'rackstart.ip=10.77.0.11/24 quiet console=tty0 ');
  t.end();
});

test('no value of the ramdisk script can become another command or expand', (t) => {
  const { ramdisk } = loadBootScripts();
  for (const field of ['claimToken', 'mac', 'address', 'gateway', 'url', 'kernelUrl', 'initrdUrl'] as const) {
    for (const value of ['"; rm -rf', 'x\nshell', 'x || shell', 'x;shell', '${net0/mac}', 'ü', '']) {
      if (field === 'gateway' && value === '') continue;
      t.throws(() => ramdisk({ ...context, [field]: value }), { code: 'config.invalid' }, `${field}=${value}`);
    }
  }
  t.end();
});

test('the local disk script leaves UEFI to its boot order and boots the first BIOS disk', (t) => {
  t.equal(
    loadBootScripts().localDisk({}),
    `#!ipxe
echo Rackstart: nothing to do for this machine; booting from its own disk
iseq \${platform} efi && goto efi || goto bios

:efi
# UEFI 2.10, 3.1.1: after a boot option that succeeded the firmware may stop at its menu; after a failed one it goes on to the next.
exit 1

:bios
sanboot --no-describe --drive 0x80 || exit 1
`,
  );
  t.end();
});
