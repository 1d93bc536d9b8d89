import type { FieldError } from '../kernel/errors.ts';
import { RackstartError } from '../kernel/errors.ts';
import type { Provider, ServerSpec } from './provider.ts';

const DEFAULT_PROVIDER = 'bare-metal';

/** What an order says of where its server shall be made. */
export interface ProviderChoice {
  readonly provider?: string;
  readonly cluster?: string;
  /** The region's name. */
  readonly region: string;
}

/** The providers of this daemon, by their types. */
export class Providers {
  readonly all: readonly Provider[];

  constructor(...providers: readonly Provider[]) {
    this.all = providers;
    const twice = providers.find(({ type }, index) => providers.findIndex((other) => other.type === type) !== index);
    if (twice !== undefined) throw new RackstartError('internal', `there are two providers ${twice.type}`);
  }

  /**
   * The provider of an admitted request; one that was admitted before there was a choice names none. Errors:
   * `config.invalid` when it is not configured any more.
   */
  of({ provider = DEFAULT_PROVIDER }: { readonly provider?: ServerSpec['provider'] }): Provider {
    const found = this.all.find(({ type }) => type === provider);
    if (found !== undefined) return found;
    throw new RackstartError(
      'config.invalid',
      `Requests of provider ${provider} are under way, and it is not configured.`,
    );
  }

  /**
   * Bare metal unless told; of a provider's clusters the first in the region unless told. Errors: `request.invalid` naming
   * the field that names nothing.
   */
  choose({ provider = DEFAULT_PROVIDER, cluster, region }: ProviderChoice): Pick<ServerSpec, 'provider' | 'cluster'> {
    const chosen = this.all.find(({ type }) => type === provider);
    if (chosen === undefined) throw refused('/provider', `There is no provider ${provider}.`);
    if (chosen.clusters.length === 0) {
      if (cluster === undefined) return { provider, cluster: null };
      throw refused('/cluster', `Provider ${provider} has no clusters to choose from.`);
    }
    const near = chosen.clusters.filter((one) => one.region === undefined || one.region === region);
    const found = cluster === undefined ? near[0] : near.find(({ name }) => name === cluster);
    if (found !== undefined) return { provider, cluster: found.name };
    const missing = cluster === undefined ? 'no cluster' : `no cluster ${cluster}`;
    throw refused('/cluster', `Provider ${provider} has ${missing} in region ${region}.`);
  }
}

function refused(field: FieldError['field'], message: string): RackstartError {
  return new RackstartError('request.invalid', 'The order names a place that does not exist.', {
    fields: [{ field, message }],
  });
}
