/* SPDX-License-Identifier: Apache-2.0 */
/* Values of rows; integers are little-endian.
 *
 * Settings               offset  size  meaning
 *                             0     1  version of this format, 1
 *                             1     3  zero
 *                             4     4  replicas
 *                             8     4  agreed feature version
 *                            12     4  id of the next node
 *                            16     8  when the cluster was made
 *                            24     8  generation
 *                            32     8  number of the next record
 *                            40    32  id of the cluster, hexadecimal text
 *
 * A node                      0     1  version of this format, 1
 *                             1     1  state
 *                             2     2  zero
 *                             4     4  highest feature version that its software knows
 *                             8     8  when it joined
 *                            16     8  when its state changed
 *                            24    32  SHA-256 of its public key
 *                            56        peer, redis, admin, zone, software: each a size (1), then text
 *
 * A token                     0     1  version of this format, 1
 *                             1     3  zero
 *                             4     4  uses in all
 *                             8     8  when it was made
 *                            16     8  when it expires
 *                            24        for each use: SHA-256 of the node's key (32), node's id (4)
 *
 * A record                    0     1  version of this format, 1
 *                             1     1  kind
 *                             2     2  zero
 *                             4     4  node
 *                             8     4  how many equal ones there were
 *                            12     4  zero
 *                            16     8  time of the first
 *                            24     8  time of the last
 *                            32        text
 *
 * A shard                     0     1  version of this format, 1; of a planned one 2
 *                             1     1  0; of a planned one 1
 *                             2     2  zero
 *                             4     4  first slot
 *                             8     4  the slot behind the last one
 *                            12     8  of a planned one: when that was */
#include "base/assert/assert.h"
#include "base/endian/endian.h"
#include "service/system/system_internal.h"

enum {
    VERSION = 1,
    PLANNED_VERSION = 2,
    SETTINGS_SIZE_BYTES = 72,
    NODE_HEAD_SIZE_BYTES = 56,
    TOKEN_HEAD_SIZE_BYTES = 24,
    USE_SIZE_BYTES = SYSTEM_DIGEST_SIZE_BYTES + 4,
    AUDIT_HEAD_SIZE_BYTES = 32,
    SHARD_SIZE_BYTES = 12,
    PLANNED_SIZE_BYTES = 20,
};

/* ---- Kinds of values ------------------------------------------------------------------------- */

const char *system_node_state_name(enum system_node_state state)
{
    switch (state) {
    case SYSTEM_NODE_ACTIVE:
        return "active";
    case SYSTEM_NODE_DRAINING:
        return "draining";
    case SYSTEM_NODE_DRAINED:
        return "drained";
    case SYSTEM_NODE_REMOVED:
        return "removed";
    }
    return "?";
}

const char *system_audit_kind_name(enum system_audit_kind kind)
{
    switch (kind) {
    case SYSTEM_AUDIT_BOOTSTRAP:
        return "bootstrap";
    case SYSTEM_AUDIT_JOIN:
        return "join";
    case SYSTEM_AUDIT_JOIN_REFUSED:
        return "join-refused";
    case SYSTEM_AUDIT_TOKEN:
        return "token";
    case SYSTEM_AUDIT_ACTIVE:
        return "active";
    case SYSTEM_AUDIT_DRAIN:
        return "drain";
    case SYSTEM_AUDIT_DRAINED:
        return "drained";
    case SYSTEM_AUDIT_REMOVE:
        return "remove";
    case SYSTEM_AUDIT_TRANSFER:
        return "transfer";
    case SYSTEM_AUDIT_CONFIGURATION:
        return "configuration";
    case SYSTEM_AUDIT_RECOVERY:
        return "recovery";
    case SYSTEM_AUDIT_CERTIFICATE:
        return "certificate";
    case SYSTEM_AUDIT_SPLIT:
        return "split";
    }
    return "?";
}

bool system__node_state_is_valid(uint32_t state)
{
    return state >= SYSTEM_NODE_ACTIVE && state <= SYSTEM_NODE_REMOVED;
}

bool system__audit_kind_is_valid(uint32_t kind)
{
    return kind >= SYSTEM_AUDIT_BOOTSTRAP && kind < SYSTEM_AUDIT_KIND_COUNT;
}

bool system__replicas_is_valid(uint32_t replicas)
{
    return replicas == 1 || replicas == 3 || replicas == 5;
}

static bool is_digit(uint8_t byte)
{
    return (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'f');
}

bool system__cluster_is_valid(struct bytes cluster)
{
    for (size_t i = 0; i < cluster.size_bytes; i++) {
        if (!is_digit(cluster.data[i])) {
            return false;
        }
    }
    return cluster.size_bytes == SYSTEM_CLUSTER_TEXT_SIZE - 1;
}

bool system__text_is_clean(struct bytes text)
{
    for (size_t i = 0; i < text.size_bytes; i++) {
        if (text.data[i] < '!' || text.data[i] > '~') {
            return false;
        }
    }
    return true;
}

void system__digest_format(const struct system_digest *digest, char *text)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < sizeof digest->bytes; i++) {
        text[2 * i] = digits[digest->bytes[i] >> 4];
        text[2 * i + 1] = digits[digest->bytes[i] & 15];
    }
    text[2 * sizeof digest->bytes] = '\0';
}

static uint8_t digit_value(uint8_t digit)
{
    return (uint8_t)(digit <= '9' ? digit - '0' : digit - 'a' + 10);
}

bool system__digest_parse(struct bytes text, struct system_digest *digest)
{
    if (text.size_bytes != 2 * sizeof digest->bytes) {
        return false;
    }
    for (size_t i = 0; i < text.size_bytes; i++) {
        if (!is_digit(text.data[i])) {
            return false;
        }
    }
    for (size_t i = 0; i < sizeof digest->bytes; i++) {
        digest->bytes[i] =
            (uint8_t)(digit_value(text.data[2 * i]) << 4 | digit_value(text.data[2 * i + 1]));
    }
    return true;
}

/* 0, or why a value of so many bytes at least cannot be read. */
static int check_head(struct bytes value, size_t size_bytes)
{
    if (value.size_bytes >= 1 && value.data[0] > VERSION) {
        return ERROR_NEWER_FORMAT;
    }
    return value.size_bytes >= size_bytes && value.data[0] == VERSION ? 0 : ERROR_CORRUPT;
}

static bool is_zero(const uint8_t *data, size_t size_bytes)
{
    for (size_t i = 0; i < size_bytes; i++) {
        if (data[i] != 0) {
            return false;
        }
    }
    return true;
}

static uint8_t *begin(struct buffer *value, size_t size_bytes)
{
    uint8_t *target = buffer_extend(value, size_bytes);
    memset(target, 0, size_bytes);
    target[0] = VERSION;
    return target;
}

/* ---- Settings -------------------------------------------------------------------------------- */

void system__settings_encode(struct buffer *value, const struct system__settings *all)
{
    const struct system_settings *settings = &all->settings;
    uint8_t *target = begin(value, SETTINGS_SIZE_BYTES);
    endian_put_u32_le(target + 4, settings->replicas);
    endian_put_u32_le(target + 8, settings->feature);
    endian_put_u32_le(target + 12, settings->node_id_next);
    endian_put_u64_le(target + 16, settings->created_at_ms);
    endian_put_u64_le(target + 24, settings->generation);
    endian_put_u64_le(target + 32, all->audit_next);
    memcpy(target + 40, settings->cluster, SYSTEM_CLUSTER_TEXT_SIZE - 1);
}

int system__settings_decode(struct bytes value, struct system__settings *all)
{
    int status = check_head(value, SETTINGS_SIZE_BYTES);
    if (status != 0) {
        return status;
    }
    struct system__settings decoded = {
        .settings = {.replicas = endian_get_u32_le(value.data + 4),
                     .feature = endian_get_u32_le(value.data + 8),
                     .node_id_next = endian_get_u32_le(value.data + 12),
                     .created_at_ms = endian_get_u64_le(value.data + 16),
                     .generation = endian_get_u64_le(value.data + 24)},
        .audit_next = endian_get_u64_le(value.data + 32),
    };
    struct bytes cluster = bytes_make(value.data + 40, SYSTEM_CLUSTER_TEXT_SIZE - 1);
    const struct system_settings *settings = &decoded.settings;
    if (value.size_bytes != SETTINGS_SIZE_BYTES || !is_zero(value.data + 1, 3) ||
        !system__cluster_is_valid(cluster) || !system__replicas_is_valid(settings->replicas) ||
        settings->feature == 0 || settings->node_id_next < 2 || settings->generation == 0 ||
        decoded.audit_next == 0) {
        return ERROR_CORRUPT;
    }
    memcpy(decoded.settings.cluster, cluster.data, cluster.size_bytes);
    *all = decoded;
    return 0;
}

/* ---- Nodes ----------------------------------------------------------------------------------- */

static void append_text(struct buffer *value, const char *text)
{
    size_t size_bytes = strlen(text);
    ASSERT(size_bytes <= UINT8_MAX);
    buffer_append_byte(value, (uint8_t)size_bytes);
    buffer_append(value, bytes_make(text, size_bytes));
}

void system__node_encode(struct buffer *value, const struct system_node *node)
{
    uint8_t *target = begin(value, NODE_HEAD_SIZE_BYTES);
    target[1] = (uint8_t)node->state;
    endian_put_u32_le(target + 4, node->feature_max);
    endian_put_u64_le(target + 8, node->joined_at_ms);
    endian_put_u64_le(target + 16, node->changed_at_ms);
    memcpy(target + 24, node->key.bytes, sizeof node->key.bytes);
    append_text(value, node->peer);
    append_text(value, node->redis);
    append_text(value, node->admin);
    append_text(value, node->zone);
    append_text(value, node->software);
}

/* Take a text of a node, which has `size` bytes with its terminator. */
static bool take_text(struct bytes *rest, char *text, size_t size)
{
    if (rest->size_bytes == 0 || rest->size_bytes - 1 < rest->data[0] || rest->data[0] >= size) {
        return false;
    }
    struct bytes taken = bytes_make(rest->data + 1, rest->data[0]);
    *rest = bytes_make(taken.data + taken.size_bytes, rest->size_bytes - 1 - taken.size_bytes);
    memcpy(text, taken.data, taken.size_bytes);
    text[taken.size_bytes] = '\0';
    return system__text_is_clean(taken);
}

int system__node_decode(struct bytes value, uint32_t id, struct system_node *node)
{
    int status = check_head(value, NODE_HEAD_SIZE_BYTES);
    if (status != 0) {
        return status;
    }
    struct system_node decoded = {
        .id = id,
        .state = (enum system_node_state)value.data[1],
        .feature_max = endian_get_u32_le(value.data + 4),
        .joined_at_ms = endian_get_u64_le(value.data + 8),
        .changed_at_ms = endian_get_u64_le(value.data + 16),
    };
    memcpy(decoded.key.bytes, value.data + 24, sizeof decoded.key.bytes);
    struct bytes rest =
        bytes_make(value.data + NODE_HEAD_SIZE_BYTES, value.size_bytes - NODE_HEAD_SIZE_BYTES);
    if (!system__node_state_is_valid(value.data[1]) || !is_zero(value.data + 2, 2) ||
        decoded.feature_max == 0 || !take_text(&rest, decoded.peer, sizeof decoded.peer) ||
        !take_text(&rest, decoded.redis, sizeof decoded.redis) ||
        !take_text(&rest, decoded.admin, sizeof decoded.admin) ||
        !take_text(&rest, decoded.zone, sizeof decoded.zone) ||
        !take_text(&rest, decoded.software, sizeof decoded.software) || rest.size_bytes != 0 ||
        decoded.peer[0] == '\0') {
        return ERROR_CORRUPT;
    }
    *node = decoded;
    return 0;
}

/* ---- Tokens ---------------------------------------------------------------------------------- */

void system__token_encode(struct buffer *value, const struct system__token *token)
{
    uint8_t *target = begin(value, TOKEN_HEAD_SIZE_BYTES);
    endian_put_u32_le(target + 4, token->token.uses);
    endian_put_u64_le(target + 8, token->token.created_at_ms);
    endian_put_u64_le(target + 16, token->token.expires_at_ms);
    for (uint32_t i = 0; i < token->token.used_count; i++) {
        target = buffer_extend(value, USE_SIZE_BYTES);
        memcpy(target, token->uses[i].key.bytes, SYSTEM_DIGEST_SIZE_BYTES);
        endian_put_u32_le(target + SYSTEM_DIGEST_SIZE_BYTES, token->uses[i].node);
    }
}

int system__token_decode(struct bytes value, const struct system_digest *hash,
                         struct system__token *token)
{
    int status = check_head(value, TOKEN_HEAD_SIZE_BYTES);
    if (status != 0) {
        return status;
    }
    size_t used_size_bytes = value.size_bytes - TOKEN_HEAD_SIZE_BYTES;
    uint32_t uses = endian_get_u32_le(value.data + 4);
    if (used_size_bytes % USE_SIZE_BYTES != 0 || used_size_bytes / USE_SIZE_BYTES > uses ||
        uses == 0 || uses > SYSTEM_TOKEN_USES_MAX || !is_zero(value.data + 1, 3)) {
        return ERROR_CORRUPT;
    }
    token->token = (struct system_token){
        .hash = *hash,
        .created_at_ms = endian_get_u64_le(value.data + 8),
        .expires_at_ms = endian_get_u64_le(value.data + 16),
        .uses = uses,
        .used_count = (uint32_t)(used_size_bytes / USE_SIZE_BYTES),
    };
    const uint8_t *place = value.data + TOKEN_HEAD_SIZE_BYTES;
    for (uint32_t i = 0; i < token->token.used_count; i++) {
        memcpy(token->uses[i].key.bytes, place, SYSTEM_DIGEST_SIZE_BYTES);
        token->uses[i].node = endian_get_u32_le(place + SYSTEM_DIGEST_SIZE_BYTES);
        place += USE_SIZE_BYTES;
    }
    return 0;
}

/* ---- Records --------------------------------------------------------------------------------- */

void system__audit_encode(struct buffer *value, const struct system_audit *audit)
{
    uint8_t *target = begin(value, AUDIT_HEAD_SIZE_BYTES);
    target[1] = (uint8_t)audit->kind;
    endian_put_u32_le(target + 4, audit->node);
    endian_put_u32_le(target + 8, audit->count);
    endian_put_u64_le(target + 16, audit->first_at_ms);
    endian_put_u64_le(target + 24, audit->last_at_ms);
    buffer_append(value, bytes_of_text(audit->text));
}

int system__audit_decode(struct bytes value, uint64_t number, struct system_audit *audit)
{
    int status = check_head(value, AUDIT_HEAD_SIZE_BYTES);
    if (status != 0) {
        return status;
    }
    size_t text_size_bytes = value.size_bytes - AUDIT_HEAD_SIZE_BYTES;
    struct system_audit decoded = {
        .number = number,
        .kind = (enum system_audit_kind)value.data[1],
        .node = endian_get_u32_le(value.data + 4),
        .count = endian_get_u32_le(value.data + 8),
        .first_at_ms = endian_get_u64_le(value.data + 16),
        .last_at_ms = endian_get_u64_le(value.data + 24),
    };
    if (text_size_bytes >= SYSTEM_AUDIT_TEXT_SIZE || !system__audit_kind_is_valid(value.data[1]) ||
        decoded.count == 0 || !is_zero(value.data + 2, 2) || !is_zero(value.data + 12, 4) ||
        decoded.first_at_ms > decoded.last_at_ms) {
        return ERROR_CORRUPT;
    }
    memcpy(decoded.text, value.data + AUDIT_HEAD_SIZE_BYTES, text_size_bytes);
    if (memchr(decoded.text, 0, text_size_bytes) != NULL) {
        return ERROR_CORRUPT;
    }
    *audit = decoded;
    return 0;
}

/* ---- Shards ---------------------------------------------------------------------------------- */

/* Software that does not know of planned shards refuses their rows as newer. */
void system__shard_encode(struct buffer *value, const struct system__shard *shard)
{
    uint8_t *target = begin(value, shard->is_planned ? PLANNED_SIZE_BYTES : SHARD_SIZE_BYTES);
    if (shard->is_planned) {
        target[0] = PLANNED_VERSION;
        target[1] = 1;
        endian_put_u64_le(target + 12, shard->planned_at_ms);
    }
    endian_put_u32_le(target + 4, shard->range.first);
    endian_put_u32_le(target + 8, shard->range.end);
}

int system__shard_decode(struct bytes value, wal_shard number, struct system__shard *shard)
{
    bool is_planned = value.size_bytes > 0 && value.data[0] == PLANNED_VERSION;
    int status = is_planned ? 0 : check_head(value, SHARD_SIZE_BYTES);
    if (status != 0) {
        return status;
    }
    if (value.size_bytes != (is_planned ? PLANNED_SIZE_BYTES : SHARD_SIZE_BYTES) ||
        value.data[1] != is_planned || !is_zero(value.data + 2, 2)) {
        return ERROR_CORRUPT;
    }
    *shard = (struct system__shard){
        .range = {.shard = number,
                  .first = endian_get_u32_le(value.data + 4),
                  .end = endian_get_u32_le(value.data + 8)},
        .is_planned = is_planned,
        .planned_at_ms = is_planned ? endian_get_u64_le(value.data + 12) : 0,
    };
    return 0;
}

int system__ranges_add(struct system__ranges *ranges, const struct system__shard *shard)
{
    if (ranges->count + ranges->planned_count == SLOTS_SHARD_COUNT_MAX) {
        return ERROR_CORRUPT;
    }
    if (shard->is_planned) {
        ranges->planned[ranges->planned_count++] = *shard;
        return 0;
    }
    uint32_t place = ranges->count++;
    while (place > 0 && ranges->items[place - 1].first > shard->range.first) {
        ranges->items[place] = ranges->items[place - 1];
        place--;
    }
    ranges->items[place] = shard->range;
    return 0;
}

/* I11 */
static int add_plan(const struct slots *slots, const struct system__shard *shard,
                    struct system__plans *plans)
{
    const struct slots_range *child = &shard->range;
    if (child->first >= SLOTS_COUNT) {
        return -EINVAL;
    }
    const struct slots_range *parent = &slots->ranges[slots_place_of(slots, child->first)];
    if (child->first == parent->first || child->end != parent->end) {
        return -EINVAL;
    }
    for (uint32_t i = 0; i < plans->count; i++) {
        if (plans->items[i].parent == parent->shard) {
            return -EINVAL;
        }
    }
    plans->items[plans->count++] = (struct system_planned){.parent = parent->shard,
                                                           .child = child->shard,
                                                           .first = child->first,
                                                           .planned_at_ms = shard->planned_at_ms};
    return 0;
}

int system__ranges_settle(const struct system__ranges *ranges, struct slots *slots,
                          struct system__plans *plans)
{
    int status = 0;
    plans->count = 0;
    if (ranges->count == 0) {
        slots_divide(slots, 1);
        return ranges->planned_count == 0 ? 0 : -EINVAL;
    }
    if (slots_set(slots, ranges->items, ranges->count) != 0) {
        return ERROR_CORRUPT;
    }
    for (uint32_t i = 0; i < ranges->planned_count && status == 0; i++) {
        status = add_plan(slots, &ranges->planned[i], plans);
    }
    return status;
}
