/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/control_impl.h"

static struct ratelimit_bucket_config bucket_of(const struct config_bucket *b)
{
	return (struct ratelimit_bucket_config){
		.size = b->size, .one_time_burst = b->one_time_burst, .refill_ms = b->refill_time_ms};
}

struct machine_limits control_limits(const struct config_rate_limiter *limiter)
{
	return (struct machine_limits){
		.has_bandwidth = limiter->bandwidth.present,
		.has_ops = limiter->ops.present,
		.bandwidth = bucket_of(&limiter->bandwidth),
		.ops = bucket_of(&limiter->ops),
	};
}

void control_remember_limits(struct config_rate_limiter *limiter, const struct config_rate_limiter *patch)
{
	if (!patch->present)
		return;
	limiter->present = true;
	if (patch->bandwidth.present)
		limiter->bandwidth = patch->bandwidth;
	if (patch->ops.present)
		limiter->ops = patch->ops;
}
