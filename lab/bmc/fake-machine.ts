import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

/** What a machine without hardware does when its BMC asks. */
export type Behaviour =
  | 'obeys'
  /** Says that it is on, whatever it was told. */
  | 'stuck on'
  /** Says on, off, on, off … */
  | 'flapping'
  /** Accepts a boot device and keeps none. */
  | 'forgets boot device';

/** A machine that is three files and a shell script: the chassis program of an `ipmi_sim` in tests. */
export interface FakeMachine {
  /** For `startIpmiSim`. */
  readonly chassisControl: string;
  behave(behaviour: Behaviour): Promise<void>;
  power(): Promise<'on' | 'off'>;
  bootDevice(): Promise<string>;
  /** What it was told since the last call, such as `power 1`, `reset 1`, `boot pxe`. */
  told(): Promise<string[]>;
}

/** Off, obedient, without a boot device; `directory` is made when missing. */
export async function fakeMachine(directory: string): Promise<FakeMachine> {
  await mkdir(directory, { recursive: true });
  const file = (name: string) => join(directory, name);
  const read = async (name: string) => (await readFile(file(name), 'utf8')).trim();
  await writeFile(file('chassis'), chassisProgram, { mode: 0o755 });
  const start = { power: '0', boot: 'none', behaviour: 'obeys', flap: '0', told: '' };
  for (const [name, value] of Object.entries(start)) await writeFile(file(name), value + '\n');
  return {
    chassisControl: `${file('chassis')} ${directory}`,
    behave: (behaviour) => writeFile(file('behaviour'), behaviour + '\n'),
    power: async () => ((await read('power')) === '1' ? 'on' : 'off'),
    bootDevice: () => read('boot'),
    told: async () => {
      const lines = (await read('told')).split('\n').filter((line) => line !== '');
      await writeFile(file('told'), '');
      return lines;
    },
  };
}

// Shell built-ins only: the BMC waits for this program at every question, and a process more would double the time.
const chassisProgram = `#!/bin/sh
cd "$1" || exit 1
read -r behaviour <behaviour
if [ "$2" = set ]; then echo "$3 $4" >>told; fi
case "$2 $3 $4" in
'get power '*)
  read -r power <power
  case $behaviour in
  'stuck on') power=1 ;;
  flapping)
    read -r flap <flap
    power=$((1 - flap))
    echo "$power" >flap
    ;;
  esac
  echo "power:$power"
  ;;
'get boot '*)
  read -r boot <boot
  echo "boot:$boot"
  ;;
'set power '* | 'set reset '*) echo "$4" >power ;;
'set boot '*) if [ "$behaviour" != 'forgets boot device' ]; then echo "$4" >boot; fi ;;
esac
`;
