/* SPDX-License-Identifier: Apache-2.0 */
/* Letting a stranger in: its token is used up by a command of the log; then this node signs its
 * certificate and tells it all that it needs to be a node. */
#include <inttypes.h>
#include <stdio.h>

#include "base/memory/memory.h"
#include "base/number/number.h"
#include "core/token/token.h"
#include "node/node_cluster.h"

struct admission {
    struct node_cluster *cluster;
    struct wire_stranger *stranger;
    struct buffer request; /* For a certificate. */
    uint32_t node_id;
};

static void end(struct admission *admission)
{
    buffer_deinit(&admission->request);
    memory_free(admission);
}

static void refuse(struct admission *admission, const char *reason)
{
    struct bytes fields[JOINED_ANSWER_COUNT] = {[JOINED_REFUSAL] = bytes_of_text(reason)};
    struct buffer reply = {0};
    node_join_encode(fields, JOINED_ANSWER_COUNT, &reply);
    OS_LOG_WARN(admission->cluster->log, "node.join_refused", "reason=%s", reason);
    wire_stranger_reply(admission->stranger, buffer_bytes(&reply));
    buffer_deinit(&reply);
    end(admission);
}

static void append_roster(struct buffer *roster, const struct system_nodes *nodes)
{
    for (uint32_t i = 0; i < nodes->node_count; i++) {
        const struct system_node *node = &nodes->nodes[i];
        if (node->state != SYSTEM_NODE_REMOVED) {
            buffer_append_format(roster, "%" PRIu32 " %s\n", node->id, node->peer);
        }
    }
}

static void welcome(struct admission *admission, const struct system_nodes *nodes)
{
    struct node_cluster *cluster = admission->cluster;
    struct buffer certificate = {0};
    struct buffer roster = {0};
    struct buffer reply = {0};
    struct error error = {0};
    char number[16];
    char shards[16];
    struct tls_sign_options options = {
        .authority = &cluster->identity.authority,
        .request = buffer_bytes(&admission->request),
        .node_id = admission->node_id,
        .now_ms = os_wall_clock_ms(),
    };
    if (tls_request_sign(&certificate, &options, &error) != 0) {
        refuse(admission, error.message);
        return;
    }
    append_roster(&roster, nodes);
    (void)snprintf(number, sizeof number, "%" PRIu32, admission->node_id);
    (void)snprintf(shards, sizeof shards, "%" PRIu32, node_data_shard_count(cluster->data));
    struct bytes fields[JOINED_ANSWER_COUNT] = {
        [JOINED_NODE] = bytes_of_text(number),
        [JOINED_CLUSTER] = bytes_of_text(node_data_cluster_id(cluster->data)),
        [JOINED_AUTHORITY] = buffer_bytes(&cluster->identity.authority.certificate),
        [JOINED_AUTHORITY_KEY] = buffer_bytes(&cluster->identity.authority.key),
        [JOINED_CERTIFICATE] = buffer_bytes(&certificate),
        [JOINED_ROSTER] = buffer_bytes(&roster),
        [JOINED_SHARDS] = bytes_of_text(shards),
    };
    node_join_encode(fields, JOINED_ANSWER_COUNT, &reply);
    wire_stranger_reply(admission->stranger, buffer_bytes(&reply));
    OS_LOG_INFO(cluster->log, "node.joined", "node=%" PRIu32, admission->node_id);
    tls_wipe_buffer(&reply);
    buffer_deinit(&certificate);
    buffer_deinit(&roster);
    end(admission);
}

static void roster_is_there(void *context, int status, struct bytes reply)
{
    struct admission *admission = context;
    struct system_nodes nodes;
    struct error error = {0};
    if (status != 0 || system_reply_nodes(reply, &nodes, &error) != 0) {
        refuse(admission, NODE_JOIN_NO_LEADER);
        return;
    }
    welcome(admission, &nodes);
    system_nodes_deinit(&nodes);
}

static void is_in(void *context, int status, struct bytes reply)
{
    struct admission *admission = context;
    struct error error = {0};
    uint64_t node_id = 0;
    if (status != 0) {
        refuse(admission, NODE_JOIN_NO_LEADER);
        return;
    }
    if (system_reply_number(reply, &node_id, &error) != 0) {
        refuse(admission, error.message);
        return;
    }
    admission->node_id = (uint32_t)node_id;
    struct system_command command;
    system_nodes_command(&command);
    node_errand_send(admission->cluster, &command, roster_is_there, admission);
}

static void copy_text(char *target, size_t size, struct bytes source)
{
    size_t length = source.size_bytes < size - 1 ? source.size_bytes : size - 1;
    memcpy(target, source.data, length);
    target[length] = '\0';
}

static void ask_cluster(struct admission *admission, const struct bytes *asked)
{
    char peer[SYSTEM_ADDRESS_SIZE];
    char redis[SYSTEM_ADDRESS_SIZE];
    char admin[SYSTEM_ADDRESS_SIZE];
    char zone[SYSTEM_ZONE_SIZE];
    char software[SYSTEM_SOFTWARE_SIZE];
    copy_text(peer, sizeof peer, asked[JOIN_PEER]);
    copy_text(redis, sizeof redis, asked[JOIN_REDIS]);
    copy_text(admin, sizeof admin, asked[JOIN_ADMIN]);
    copy_text(zone, sizeof zone, asked[JOIN_ZONE]);
    copy_text(software, sizeof software, asked[JOIN_SOFTWARE]);
    struct tls_digest secret = tls_sha256(&asked[JOIN_SECRET], 1);
    struct tls_digest request = tls_sha256(&asked[JOIN_REQUEST], 1);
    struct system_digest hash;
    struct system_digest key;
    memcpy(hash.bytes, secret.bytes, sizeof hash.bytes);
    memcpy(key.bytes, request.bytes, sizeof key.bytes);
    uint64_t feature = 0;
    if (!number_parse_unsigned(asked[JOIN_FEATURE], &feature) || feature > UINT32_MAX) {
        feature = 0; /* It is refused, with the reason. */
    }
    struct system_node_facts facts = {
        .peer = peer,
        .redis = redis,
        .admin = admin,
        .zone = zone,
        .software = software,
        .feature_max = (uint32_t)feature,
        .key = &key,
    };
    struct system_command command;
    system_join_command(&command, &hash, &facts);
    node_errand_send(admission->cluster, &command, is_in, admission);
}

void node_admit(struct node_cluster *cluster, struct wire_stranger *stranger, const char *address,
                struct bytes payload)
{
    struct admission *admission = memory_allocate_zeroed(1, sizeof *admission);
    admission->cluster = cluster;
    admission->stranger = stranger;
    OS_LOG_INFO(cluster->log, "node.join_asked", "from=%s", address);
    struct bytes asked[JOIN_ASK_COUNT];
    if (node_join_decode(payload, asked, JOIN_ASK_COUNT) != 0) {
        refuse(admission, "the request is malformed");
        return;
    }
    if (asked[JOIN_SECRET].size_bytes != TOKEN_SECRET_SIZE_BYTES) {
        refuse(admission, "the request has no secret");
        return;
    }
    if (cluster->peer_count == NODE_PEER_COUNT_MAX) {
        refuse(admission, "the cluster has as many nodes as it can; remove one first");
        return;
    }
    buffer_append(&admission->request, asked[JOIN_REQUEST]);
    ask_cluster(admission, asked);
}
