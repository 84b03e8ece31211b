/* SPDX-License-Identifier: Apache-2.0 */
/* Joining: before anything else of the node runs, one question to a node of the cluster.
 *
 * The token pins the cluster's authority, so the secret is told to nobody else. What comes back is
 * this node's number and certificate, the authority (each node has it, see node_identity.c) and
 * where the others are. It is written down before the directory becomes a node's.
 *
 * Between the answer and that, anything can fail, and the token is used up. So the key and the request for its
 * certificate are written down before anybody is asked: who asks with the same request again is told the
 * same number (service/system). */
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "base/assert/assert.h"
#include "base/endian/endian.h"
#include "base/number/number.h"
#include "core/token/token.h"
#include "driver/wire/wire.h"
#include "node/node_internal.h"
#include "service/system/system.h"

enum {
    FORMAT_VERSION = 1,
    ADDRESS_SIZE = 256,
    ATTEMPT_COUNT_MAX = 30,
    ATTEMPT_WAIT_MS = 500,
    STOP_LOOK_MS = 100, /* How often it is looked whether to stop. */
};

/* ---- The messages ---------------------------------------------------------------------------- */

void node_join_encode(const struct bytes *fields, uint32_t field_count, struct buffer *target)
{
    buffer_append_byte(target, FORMAT_VERSION);
    buffer_append_byte(target, (uint8_t)field_count);
    for (uint32_t i = 0; i < field_count; i++) {
        endian_put_u32_le(buffer_extend(target, 4), (uint32_t)fields[i].size_bytes);
        buffer_append(target, fields[i]);
    }
}

int node_join_decode(struct bytes source, struct bytes *fields, uint32_t field_count)
{
    if (source.size_bytes < 2 || source.data[0] != FORMAT_VERSION || source.data[1] < field_count) {
        return ERROR_PROTOCOL;
    }
    size_t place = 2;
    for (uint32_t i = 0; i < field_count; i++) {
        if (source.size_bytes - place < 4) {
            return ERROR_PROTOCOL;
        }
        uint32_t size = endian_get_u32_le(source.data + place);
        place += 4;
        if (size > source.size_bytes - place) {
            return ERROR_PROTOCOL;
        }
        fields[i] = bytes_make(source.data + place, size);
        place += size;
    }
    return 0;
}

/* ---- One attempt ----------------------------------------------------------------------------- */

/* What all attempts share. */
struct joining {
    struct node_data *data;
    const struct node_options *options;
    const struct token *token;
    const atomic_bool *is_stop_wanted;
    struct bytes key; /* Of the request. */
    struct buffer payload;
    bool is_refused; /* By the cluster: it would say so again. */
};

struct attempt {
    struct os_loop *loop;
    struct os_timer *timer;
    struct wire_join *join; /* NULL: it is over. */
    const atomic_bool *is_stop_wanted;
    int status;
    struct buffer reply;
    struct error error;
};

static void answered(int status, struct bytes reply, const struct error *error, void *context)
{
    struct attempt *attempt = context;
    attempt->join = NULL;
    attempt->status = status;
    if (status == 0) {
        buffer_append(&attempt->reply, reply);
    } else {
        attempt->error = *error;
    }
    os_loop_stop(attempt->loop);
}

static int say_stopped(struct error *error)
{
    return error_say(error, -ECANCELED, "stopped while it joined");
}

static void look_for_stop(void *context)
{
    struct attempt *attempt = context;
    if (attempt->join != NULL && atomic_load(attempt->is_stop_wanted)) {
        wire_join_cancel(attempt->join);
        attempt->join = NULL;
        attempt->status = say_stopped(&attempt->error);
        os_loop_stop(attempt->loop);
    }
}

static int ask(const struct joining *joining, const struct os_address *address,
               struct buffer *reply, struct error *error)
{
    struct attempt attempt = {.is_stop_wanted = joining->is_stop_wanted};
    int status = os_loop_create(&attempt.loop, error);
    if (status != 0) {
        return status;
    }
    struct wire_join_options options = {
        .address = *address,
        .version_min = NODE_PROTOCOL_MIN,
        .version_max = NODE_PROTOCOL_MAX,
        .software = TUTTI_VERSION,
        .payload = buffer_bytes(&joining->payload),
        .done = answered,
        .context = &attempt,
    };
    _Static_assert(sizeof options.fingerprint.bytes == TOKEN_FINGERPRINT_SIZE_BYTES, "SHA-256");
    memcpy(options.fingerprint.bytes, joining->token->fingerprint,
           sizeof options.fingerprint.bytes);
    attempt.timer = os_timer_create(attempt.loop, look_for_stop, &attempt);
    status = wire_join_start(&attempt.join, attempt.loop, &options, error);
    if (status == 0) {
        os_timer_start(attempt.timer, STOP_LOOK_MS, STOP_LOOK_MS);
        os_loop_run(attempt.loop);
        status = attempt.status;
        if (status != 0) {
            *error = attempt.error;
        }
    }
    os_timer_destroy(attempt.timer);
    os_loop_destroy(attempt.loop);
    if (status == 0) {
        buffer_append(reply, buffer_bytes(&attempt.reply));
    }
    buffer_deinit(&attempt.reply);
    return status;
}

/* The next of the addresses that stand in a row; false when there is none. */
static bool next_address(const char **rest, char text[ADDRESS_SIZE])
{
    while (**rest == ',') {
        (*rest)++;
    }
    size_t length = strcspn(*rest, ",");
    if (length == 0 || length >= ADDRESS_SIZE) {
        return false;
    }
    memcpy(text, *rest, length);
    text[length] = '\0';
    *rest += length;
    return true;
}

/* ---- What comes back ------------------------------------------------------------------------- */

static int save_all(const struct joining *joining, const struct bytes *fields, struct error *error)
{
    const struct node_data *data = joining->data;
    struct tls_pair authority = {0};
    struct tls_pair own = {0};
    buffer_append(&authority.key, fields[JOINED_AUTHORITY_KEY]);
    buffer_append(&authority.certificate, fields[JOINED_AUTHORITY]);
    buffer_append(&own.key, joining->key);
    buffer_append(&own.certificate, fields[JOINED_CERTIFICATE]);
    int status = tls_pair_verify(&own, fields[JOINED_AUTHORITY], os_wall_clock_ms(), error);
    if (status == 0) {
        status = tls_pair_save(&authority, node_data_path(data, NODE_FILE_AUTHORITY), error);
    }
    if (status == 0) {
        status = tls_pair_save(&own, node_data_path(data, NODE_FILE_CERTIFICATE), error);
    }
    if (status == 0) {
        status =
            os_file_write(node_data_path(data, NODE_FILE_ROSTER), fields[JOINED_ROSTER], error);
    }
    tls_pair_deinit(&authority);
    tls_pair_deinit(&own);
    return status;
}

static int take_refusal(struct joining *joining, struct bytes reason, struct error *error)
{
    joining->is_refused = !bytes_equal(reason, BYTES(NODE_JOIN_NO_LEADER));
    return error_say(error, joining->is_refused ? -EACCES : -EAGAIN, "%.*s", (int)reason.size_bytes,
                     (const char *)reason.data);
}

static int take_reply(struct joining *joining, struct bytes reply, struct error *error)
{
    struct bytes fields[JOINED_ANSWER_COUNT];
    fields[JOINED_SHARDS] = BYTES("1");
    if (node_join_decode(reply, fields, JOINED_ANSWER_COUNT) != 0 &&
        node_join_decode(reply, fields, JOINED_SHARDS) != 0) {
        return error_say(error, ERROR_PROTOCOL, "the answer is malformed");
    }
    if (fields[JOINED_REFUSAL].size_bytes > 0) {
        return take_refusal(joining, fields[JOINED_REFUSAL], error);
    }
    uint64_t node_id = 0;
    uint64_t shard_count = 0;
    char cluster[TLS_CLUSTER_TEXT_SIZE] = {0};
    if (!number_parse_unsigned(fields[JOINED_NODE], &node_id) || node_id == 0 ||
        node_id > UINT32_MAX || fields[JOINED_CLUSTER].size_bytes != 32) {
        return error_say(error, ERROR_PROTOCOL, "the answer names no node");
    }
    if (!number_parse_unsigned(fields[JOINED_SHARDS], &shard_count) || shard_count == 0 ||
        shard_count > SLOTS_SHARD_COUNT_MAX) {
        return error_say(error, ERROR_PROTOCOL, "the answer tells of no shards");
    }
    memcpy(cluster, fields[JOINED_CLUSTER].data, fields[JOINED_CLUSTER].size_bytes);
    int status = save_all(joining, fields, error);
    if (status == 0) {
        node_data_adopt(joining->data, cluster, (uint32_t)node_id, (uint32_t)shard_count);
    }
    return status;
}

/* ---- All attempts ---------------------------------------------------------------------------- */

static int ask_one(struct joining *joining, const char *text, struct error *error)
{
    struct os_address address;
    struct buffer reply = {0};
    int status = os_address_parse(&address, text, error);
    if (status == 0) {
        status = ask(joining, &address, &reply, error);
    }
    if (status == 0) {
        status = take_reply(joining, buffer_bytes(&reply), error);
    }
    tls_wipe_buffer(&reply);
    return status;
}

/* Each address once. */
static int ask_all(struct joining *joining, struct error *error)
{
    const char *rest = joining->options->join;
    char text[ADDRESS_SIZE];
    int status = error_say(error, -EINVAL, "--join needs HOST:PORT of a node's peer port");
    while (next_address(&rest, text)) {
        status = ask_one(joining, text, error);
        if (status == 0 || status == -ECANCELED || joining->is_refused) {
            return status;
        }
        (void)error_wrap(error, status, "%s", text);
        OS_LOG_WARN(joining->options->log, "node.join_failed", "reason=%s", error->message);
    }
    return status;
}

static int join_with(struct joining *joining, const struct bytes *asked, struct error *error)
{
    node_join_encode(asked, JOIN_ASK_COUNT, &joining->payload);
    int status = -EAGAIN;
    /* The node that is asked may not be up yet, or its cluster may be between two leaders. */
    for (int i = 0; i < ATTEMPT_COUNT_MAX && status != 0 && status != -EACCES; i++) {
        if (i > 0) {
            os_sleep_ms(ATTEMPT_WAIT_MS);
        }
        if (atomic_load(joining->is_stop_wanted)) {
            status = say_stopped(error);
        } else {
            status = ask_all(joining, error);
        }
        if (status == -ECANCELED) {
            break;
        }
    }
    tls_wipe_buffer(&joining->payload);
    return status;
}

/* What was asked with before, or else something new. */
static int take_request(const struct node_data *data, struct buffer *key, struct buffer *request,
                        struct error *error)
{
    const char *path = node_data_path(data, NODE_FILE_JOINING);
    int status = tls_request_load(key, request, path, error);
    if (status != -ENOENT) {
        return status;
    }
    status = tls_request_create(key, request, error);
    return status == 0 ? tls_request_save(buffer_bytes(key), buffer_bytes(request), path, error)
                       : status;
}

int node_join_check_unasked(const struct node_data *data, struct error *error)
{
    if (access(node_data_path(data, NODE_FILE_JOINING), F_OK) != 0) {
        return 0;
    }
    return error_say(
        error, -EPERM,
        "this directory began to join a cluster, which may count it as a node already: "
        "start with --join and --token as then, or with another --data for a cluster "
        "of its own");
}

void node_join_forget(const struct node_data *data, struct os_log *log)
{
    struct error error = {0};
    if (os_file_remove(node_data_path(data, NODE_FILE_JOINING), &error) != 0) {
        OS_LOG_WARN(log, "node.join_left", "reason=%s", error.message);
    }
}

int node_join(struct node_data *data, const struct node_options *options, const char *redis,
              const char *admin, const atomic_bool *is_stop_wanted, struct error *error)
{
    struct token token;
    if (options->join_token == NULL || options->join_token[0] == '\0') {
        return error_say(error, -EINVAL,
                         "--join needs --token; `tutti token` on a node of the cluster makes one");
    }
    int status = token_decode(&token, bytes_of_text(options->join_token), error);
    if (status != 0) {
        return error_wrap(error, status, "--token");
    }
    char peer[OS_ADDRESS_TEXT_SIZE];
    char feature[16];
    (void)snprintf(feature, sizeof feature, "%d", SYSTEM_FEATURE_MAX);
    struct buffer key = {0};
    struct buffer request = {0};
    status = take_request(data, &key, &request, error);
    if (status == 0) {
        const char *reached = options->advertise != NULL ? options->advertise
                                                         : os_address_format(&options->peer, peer);
        struct bytes asked[JOIN_ASK_COUNT] = {
            [JOIN_SECRET] = bytes_make(token.secret, sizeof token.secret),
            [JOIN_REQUEST] = buffer_bytes(&request),
            [JOIN_PEER] = bytes_of_text(reached),
            [JOIN_REDIS] = bytes_of_text(redis),
            [JOIN_ADMIN] = bytes_of_text(admin),
            [JOIN_ZONE] = bytes_of_text(options->zone != NULL ? options->zone : ""),
            [JOIN_SOFTWARE] = bytes_of_text(TUTTI_VERSION),
            [JOIN_FEATURE] = bytes_of_text(feature),
        };
        struct joining joining = {
            .data = data,
            .options = options,
            .token = &token,
            .is_stop_wanted = is_stop_wanted,
            .key = buffer_bytes(&key),
        };
        status = join_with(&joining, asked, error);
    }
    tls_wipe(&token, sizeof token);
    tls_wipe_buffer(&key);
    buffer_deinit(&request);
    return status == 0 ? 0 : error_wrap(error, status, "join the cluster");
}
