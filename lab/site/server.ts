/** What the API says of a server, as far as the lab looks at it. */
export interface Server {
  readonly id: string;
  readonly hostname: string;
  readonly state: string;
  readonly status: string;
  readonly connection: { username: string; addresses: string[]; hostKey: string } | null;
  readonly failure: { code: string; message: string } | null;
  readonly attempts: readonly {
    path: 'cold' | 'warm';
    outcome: string;
    machine: string | null;
    firmware: 'bios' | 'uefi' | null;
  }[];
}

export interface Stage {
  readonly name: string;
  readonly startedAt: string;
  readonly endedAt: string | null;
}

export interface Timeline {
  readonly stages: readonly Stage[];
  readonly entries: readonly { at: string; source: string; name: string; detail: Record<string, unknown> }[];
}

/** Nothing more will happen to a request in one of these states by itself. */
export const restingStates: readonly string[] = ['completed', 'rolled-back', 'deprovisioned'];
