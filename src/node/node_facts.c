/* SPDX-License-Identifier: Apache-2.0 */
/* What this node says of itself: its addresses, and what its software knows. */
#include <inttypes.h>

#include "node/node_cluster.h"

enum { SAY_WHO_INTERVAL_MS = 2000 };

static void who_was_said(void *context, int status, struct bytes reply)
{
    struct node_cluster *cluster = context;
    struct error error = {0};
    uint64_t number = 0;
    cluster->is_saying_who = false;
    if (status != 0) {
        return; /* Again, later. */
    }
    status = system_reply_number(reply, &number, &error);
    if (status == 0) {
        /* The founder has said what the cluster agrees on; next, what its software knows. */
        cluster->has_said_who = !cluster->is_founding;
        cluster->said_at_ms = 0;
    } else if (status != -EAGAIN) {
        OS_LOG_WARN(cluster->log, "node.facts_refused", "reason=%s", error.message);
    }
}

/* The founder makes the cluster; everybody's addresses may be other ones after a start. */
void node_facts_tick(struct node_cluster *cluster, uint64_t now_ms)
{
    if (cluster->has_said_who || cluster->is_saying_who || cluster->is_leaving ||
        now_ms < cluster->said_at_ms + SAY_WHO_INTERVAL_MS) {
        return;
    }
    struct tls_digest digest;
    struct system_digest key;
    if (tls_fingerprint(&digest, buffer_bytes(&cluster->identity.own.certificate), NULL) != 0) {
        return;
    }
    memcpy(key.bytes, digest.bytes, sizeof key.bytes);
    struct system_node_facts facts = {
        .peer = cluster->peer_text,
        .redis = cluster->redis_text,
        .admin = cluster->admin_text,
        .zone = cluster->options->zone,
        .software = TUTTI_VERSION,
        .feature_max = SYSTEM_FEATURE_MAX,
    };
    struct system_command command;
    cluster->is_founding = cluster->self == NODE_FOUNDER &&
                           shard_is_ready(node_shards_first(cluster->shards)->shard) &&
                           system_generation(cluster->shards->system) == 0;
    if (cluster->is_founding) {
        /* What the cluster agrees on; older software may join one that does not need more. */
        struct system_birth birth = {
            .cluster = node_data_cluster_id(cluster->data),
            .replicas = cluster->options->replica_count,
            .shard_count = cluster->shards->map.made_count,
        };
        facts.feature_max = system_feature_of_shards(birth.shard_count);
        facts.key = &key;
        system_bootstrap_command(&command, &birth, &facts);
    } else {
        system_node_set_command(&command, cluster->self, &facts);
    }
    cluster->is_saying_who = true;
    cluster->said_at_ms = now_ms;
    node_errand_try(cluster, &command, who_was_said, cluster);
}
