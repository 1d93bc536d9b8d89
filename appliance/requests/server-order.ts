/** What a caller asks for, checked for form; names still to be resolved. */
export interface ServerOrder {
  readonly hostname: string;
  readonly region: string;
  readonly flavor: string;
  /** `name` for its newest version, or `name:version`. */
  readonly image: string;
  /** OpenSSH public keys, one at least. */
  readonly sshKeys: readonly string[];
  /** Cloud-init user data, passed on as it is. */
  readonly userData?: string;
  readonly project?: string;
  /** Servers of the same tenant that must be completed before this one is begun. */
  readonly dependsOn?: readonly string[];
  /** A provider's type, `bare-metal` unless told; and one of its clusters, the first in the region unless told. */
  readonly provider?: string;
  readonly cluster?: string;
}
