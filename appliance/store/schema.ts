import type {
  InstallPlanRow,
  BootOrderRow,
  BootSessionRow,
  ModelHandoffRow,
  StageTimeRow,
  TimelineRow,
} from './schema/boot.ts';
import type {
  AcceptRuleRow,
  DiscoveredMachineRow,
  ExpectedMachineRow,
  MachineInventoryRow,
} from './schema/enrolment.ts';
import type { EventRow, EventPositionRow, CursorRow } from './schema/events.ts';
import type { IdempotencyKeyRow } from './schema/idempotency.ts';
import type {
  RegionRow,
  RackRow,
  FlavorRow,
  ImageRow,
  ImageImportRow,
  MachineRow,
  MachineNicRow,
  MachineDiskRow,
  AllocationRow,
  MachineIssueRow,
  WipeCertificateRow,
} from './schema/inventory.ts';
import type { SubnetRow, AddressRow, LeaseRow, LeaseEpochRow, ForeignDhcpServerRow } from './schema/network.ts';
import type { AccessEntryRow, OrphanRow, SimulatedResourceRow } from './schema/providers.ts';
import type { RequestRow, RequestPrerequisiteRow, AttemptRow, DeployStageRow, AgentRow } from './schema/requests.ts';
import type { SagaRow, SagaStepRow, SagaWaitRow, ResourceRow } from './schema/sagas.ts';
import type {
  TenantRow,
  UserRow,
  ProjectRow,
  QuotaRow,
  QuotaRequestRow,
  ApiKeyRow,
  ApiKeySecretRow,
  SealedKeyRow,
} from './schema/tenants.ts';

export type * from './schema/boot.ts';
export type * from './schema/enrolment.ts';
export type * from './schema/events.ts';
export type * from './schema/idempotency.ts';
export type * from './schema/inventory.ts';
export type * from './schema/network.ts';
export type * from './schema/providers.ts';
export type * from './schema/requests.ts';
export type * from './schema/sagas.ts';
export type * from './schema/tenants.ts';

/**
 * Every table, as the code sees it. Times are milliseconds since the epoch, sizes bytes unless the name says otherwise,
 * `json` columns text. A row that belongs to a tenant says so. Migrations make these tables; `store-proof` compares.
 */
export interface Database {
  tenants: TenantRow;
  users: UserRow;
  projects: ProjectRow;
  quotas: QuotaRow;
  quota_requests: QuotaRequestRow;
  api_keys: ApiKeyRow;
  api_key_secrets: ApiKeySecretRow;
  sealed_keys: SealedKeyRow;
  idempotency_keys: IdempotencyKeyRow;
  regions: RegionRow;
  racks: RackRow;
  flavors: FlavorRow;
  images: ImageRow;
  image_imports: ImageImportRow;
  subnets: SubnetRow;
  addresses: AddressRow;
  leases: LeaseRow;
  lease_epochs: LeaseEpochRow;
  foreign_dhcp_servers: ForeignDhcpServerRow;
  machines: MachineRow;
  machine_nics: MachineNicRow;
  machine_disks: MachineDiskRow;
  machine_issues: MachineIssueRow;
  expected_machines: ExpectedMachineRow;
  discovered_machines: DiscoveredMachineRow;
  accept_rules: AcceptRuleRow;
  machine_inventories: MachineInventoryRow;
  wipe_certificates: WipeCertificateRow;
  allocations: AllocationRow;
  install_plans: InstallPlanRow;
  boot_orders: BootOrderRow;
  boot_sessions: BootSessionRow;
  model_handoffs: ModelHandoffRow;
  stage_times: StageTimeRow;
  timeline: TimelineRow;
  requests: RequestRow;
  request_prerequisites: RequestPrerequisiteRow;
  attempts: AttemptRow;
  deploy_stages: DeployStageRow;
  agents: AgentRow;
  access_entries: AccessEntryRow;
  simulated_resources: SimulatedResourceRow;
  orphans: OrphanRow;
  sagas: SagaRow;
  saga_steps: SagaStepRow;
  saga_waits: SagaWaitRow;
  resources: ResourceRow;
  events: EventRow;
  event_positions: EventPositionRow;
  cursors: CursorRow;
}
