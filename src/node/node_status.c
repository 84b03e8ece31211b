/* SPDX-License-Identifier: Apache-2.0 */
/* What a node says of itself: to INFO here, to the admin port in the figures it collects. */
#include "node/node_parts.h"

void node_status_information(struct node *node, struct resp_information *information)
{
    struct node_figures figures;
    struct node_log_statistics log;
    struct store_statistics store;
    node_shards_sum_figures(&node->shards, &figures);
    node_log_get_statistics(node->node_log, &log);
    store_get_statistics(node->store, &store);
    *information = (struct resp_information){
        .data_directory = node->options.data_directory,
        .configuration_file =
            node->options.configuration_file != NULL ? node->options.configuration_file : "",
        .run_id = node->run_id,
        .is_flush_always = node->options.is_flush_always,
        .is_full = node_maintenance_is_full(node->maintenance),
        .uptime_s = (os_monotonic_ms() - node->started_at_ms) / 1000,
        .key_count = figures.kv.key_count,
        .expiring_key_count = figures.kv.expiring_key_count,
        .expired_key_count = figures.kv.expired_key_count,
        .hit_count = figures.kv.hit_count,
        .miss_count = figures.kv.miss_count,
        .memory_limit_bytes = node->options.memory_size_bytes,
        .memory_cache_bytes = figures.shard.rows.cached_size_bytes + store.cache_used_bytes,
        .log_flush_count = log.flush_count,
        .log_written_bytes = log.wal.written_size_bytes,
        .log_flush_latest_us = log.flush_duration_latest_ns / 1000,
        .durable_at_ms =
            os_wall_clock_ms() -
            (log.unflushed_since_ms == 0 ? 0 : os_monotonic_ms() - log.unflushed_since_ms),
        .applied_index = figures.shard.applied_index,
        .read_elsewhere_count = figures.shard.read_elsewhere_count,
        .stall_count = figures.shard.stall_count,
    };
}
