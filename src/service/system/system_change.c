/* SPDX-License-Identifier: Apache-2.0 */
/* Commands about the cluster and its nodes, and what all commands change rows with. A refusal comes
 * before any change. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "service/system/system_internal.h"

/* ---- Rows ------------------------------------------------------------------------------------ */

void system__settings_write(struct system__call *call)
{
    struct system *system = call->system;
    struct system__row row;
    system__row_settings(&row);
    buffer_clear(&system->value);
    system__settings_encode(&system->value, &system->state);
    rows_put(call->rows, row.key, buffer_bytes(&system->value));
}

void system__generation_raise(struct system__call *call)
{
    call->system->state.settings.generation++;
    system__settings_write(call);
}

void system__node_write(struct system__call *call, const struct system_node *node)
{
    struct system *system = call->system;
    struct system__row row;
    system__row_node(&row, node->id);
    buffer_clear(&system->value);
    system__node_encode(&system->value, node);
    rows_put(call->rows, row.key, buffer_bytes(&system->value));
}

void system__shard_write(struct system__call *call, const struct system__shard *shard)
{
    struct system *system = call->system;
    struct system__row row;
    system__row_shard(&row, shard->range.shard);
    buffer_clear(&system->value);
    system__shard_encode(&system->value, shard);
    rows_put(call->rows, row.key, buffer_bytes(&system->value));
}

/* The removed node with the lowest id makes room for another. */
static void forget_one(struct system__call *call)
{
    struct system *system = call->system;
    uint32_t place = 0;
    while (place < system->node_count && system->nodes[place].state != SYSTEM_NODE_REMOVED) {
        place++;
    }
    ASSERT(place < system->node_count); /* Fewer than the rows may be other than removed. */
    struct system__row row;
    system__row_node(&row, system->nodes[place].id);
    rows_delete(call->rows, row.key);
    memmove(&system->nodes[place], &system->nodes[place + 1],
            (system->node_count - place - 1) * sizeof *system->nodes);
    system->node_count--;
}

_Static_assert(SYSTEM_NODE_COUNT_MAX < SYSTEM_NODE_ROW_COUNT_MAX, "there is one to forget");

struct system_node *system__node_add(struct system__call *call, const struct system_node *node)
{
    struct system *system = call->system;
    if (system->node_count == SYSTEM_NODE_ROW_COUNT_MAX) {
        forget_one(call);
    }
    struct system_node added = *node;
    added.id = system->state.settings.node_id_next++; /* I2. */
    system__node_append(system, &added);
    system__node_write(call, &added);
    system__generation_raise(call);
    return &system->nodes[system->node_count - 1];
}

/* ---- Facts ----------------------------------------------------------------------------------- */

static bool take_text(char *text, size_t size, const struct system__arguments *arguments,
                      enum system__field field)
{
    if (!system__has(arguments, field)) {
        return false;
    }
    struct bytes value = arguments->texts[field];
    ASSERT(value.size_bytes < size);
    if (bytes_equal(bytes_of_text(text), value)) {
        return false;
    }
    memset(text, 0, size);
    memcpy(text, value.data, value.size_bytes);
    return true;
}

bool system__node_take_facts(struct system_node *node, const struct system__arguments *arguments)
{
    bool is_new = take_text(node->peer, sizeof node->peer, arguments, SYSTEM_FIELD_PEER);
    is_new |= take_text(node->redis, sizeof node->redis, arguments, SYSTEM_FIELD_REDIS);
    is_new |= take_text(node->admin, sizeof node->admin, arguments, SYSTEM_FIELD_ADMIN);
    is_new |= take_text(node->zone, sizeof node->zone, arguments, SYSTEM_FIELD_ZONE);
    is_new |= take_text(node->software, sizeof node->software, arguments, SYSTEM_FIELD_SOFTWARE);
    if (system__has(arguments, SYSTEM_FIELD_FEATURE)) {
        uint32_t feature_max = (uint32_t)arguments->numbers[SYSTEM_FIELD_FEATURE];
        is_new |= node->feature_max != feature_max;
        node->feature_max = feature_max;
    }
    if (system__has(arguments, SYSTEM_FIELD_KEY)) {
        is_new |= memcmp(&node->key, &arguments->key, sizeof node->key) != 0;
        node->key = arguments->key;
    }
    return is_new;
}

bool system__node_collides(const struct system *system, const struct system_node *node,
                           struct system__problem *problem)
{
    for (uint32_t i = 0; i < system->node_count; i++) {
        const struct system_node *other = &system->nodes[i];
        if (other->id == node->id || other->state == SYSTEM_NODE_REMOVED) {
            continue;
        }
        if (memcmp(&other->key, &node->key, sizeof node->key) == 0) {
            (void)snprintf(problem->text, sizeof problem->text,
                           "EXISTS the key is that of node %" PRIu32, other->id);
            return true;
        }
        if (strcmp(other->peer, node->peer) == 0) {
            (void)snprintf(problem->text, sizeof problem->text,
                           "EXISTS %s is the peer address of node %" PRIu32, node->peer, other->id);
            return true;
        }
    }
    return false;
}

/* ---- Records --------------------------------------------------------------------------------- */

/* Control characters become blanks, and a character that is cut goes whole. */
static void clean(char *text, size_t size_bytes)
{
    for (size_t i = 0; i < size_bytes; i++) {
        bool is_control = (uint8_t)text[i] < ' ' || text[i] == 0x7f;
        text[i] = is_control ? ' ' : text[i];
    }
    if (size_bytes == SYSTEM_AUDIT_TEXT_SIZE - 1) {
        while (size_bytes > 0 && ((uint8_t)text[size_bytes - 1] & 0xc0) == 0x80) {
            size_bytes--;
        }
        if (size_bytes > 0 && (uint8_t)text[size_bytes - 1] >= 0x80) {
            size_bytes--;
        }
    }
    text[size_bytes] = '\0';
}

static void write_audit(struct system__call *call, const struct system_audit *audit)
{
    struct system *system = call->system;
    struct system__row row;
    system__row_audit(&row, audit->number);
    buffer_clear(&system->value);
    system__audit_encode(&system->value, audit);
    rows_put(call->rows, row.key, buffer_bytes(&system->value));
}

/* The newest record. -ENOENT: there is none. */
static int newest_audit(struct system__call *call, struct system_audit *audit)
{
    uint64_t number = call->system->state.audit_next - 1;
    struct system__row row;
    struct bytes value;
    system__row_audit(&row, number);
    int status = rows_get(call->rows, row.key, &value);
    return status != 0 ? status : system__audit_decode(value, number, audit);
}

static int write_record(struct system__call *call, struct system_audit *audit)
{
    struct system *system = call->system;
    struct system_audit newest;
    int status = newest_audit(call, &newest);
    if (status != 0 && status != -ENOENT) {
        return status;
    }
    /* Who is refused again and again must not push out everything else. */
    if (status == 0 && newest.kind == audit->kind && newest.node == audit->node &&
        newest.count < UINT32_MAX && strcmp(newest.text, audit->text) == 0) {
        newest.count++;
        newest.last_at_ms = audit->last_at_ms;
        write_audit(call, &newest);
        return 0;
    }
    audit->number = system->state.audit_next++;
    write_audit(call, audit);
    if (audit->number > SYSTEM_AUDIT_COUNT_MAX) {
        struct system__row row;
        system__row_audit(&row, audit->number - SYSTEM_AUDIT_COUNT_MAX);
        rows_delete(call->rows, row.key);
    }
    system__settings_write(call);
    return 0;
}

int system__audit_write(struct system__call *call, enum system_audit_kind kind, uint32_t node,
                        const char *format, ...)
{
    struct system_audit audit = {
        .kind = kind,
        .node = node,
        .count = 1,
        .first_at_ms = call->time_ms,
        .last_at_ms = call->time_ms,
    };
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(audit.text, sizeof audit.text, format, arguments);
    va_end(arguments);
    ASSERT(length >= 0);
    size_t size_bytes = (size_t)length < sizeof audit.text ? (size_t)length : sizeof audit.text - 1;
    clean(audit.text, size_bytes);
    return write_record(call, &audit);
}

/* ---- SYSTEM.BOOTSTRAP ------------------------------------------------------------------------ */

/* There is a cluster: is it the one that the command asks for? */
static int bootstrap_again(struct system__call *call)
{
    const struct system *system = call->system;
    const struct system_node *first = system_node_find(system, 1);
    bool is_same_cluster = bytes_equal(call->arguments->texts[SYSTEM_FIELD_CLUSTER],
                                       bytes_of_text(system->state.settings.cluster));
    bool is_same_key =
        first != NULL && memcmp(&first->key, &call->arguments->key, sizeof first->key) == 0;
    if (!is_same_cluster || !is_same_key) {
        reply_error(call->reply, "EXISTS this is cluster %s, made by another node",
                    system->state.settings.cluster);
    } else {
        reply_integer(call->reply, 1);
    }
    return 0;
}

/* A cluster with one shard is written as it was before there could be several. */
static void write_shards(struct system__call *call, uint32_t shard_count)
{
    struct system *system = call->system;
    slots_divide(&system->slots, shard_count);
    for (uint32_t i = 0; i < shard_count && shard_count > 1; i++) {
        const struct system__shard shard = {.range = system->slots.ranges[i]};
        system__shard_write(call, &shard);
    }
}

int system__execute_bootstrap(struct system__call *call)
{
    struct system *system = call->system;
    const struct system__arguments *arguments = call->arguments;
    if (system->state.settings.generation != 0) {
        return bootstrap_again(call);
    }
    uint64_t shard_count =
        system__has(arguments, SYSTEM_FIELD_SHARDS) ? arguments->numbers[SYSTEM_FIELD_SHARDS] : 1;
    uint32_t feature = system_feature_of_shards(shard_count);
    if (arguments->numbers[SYSTEM_FIELD_FEATURE] < feature) {
        reply_error(call->reply, "INVALID so many shards need feature version %u", feature);
        return 0;
    }
    struct bytes cluster = arguments->texts[SYSTEM_FIELD_CLUSTER];
    struct system__settings state = {
        .settings = {.created_at_ms = call->time_ms,
                     .replicas = system__has(arguments, SYSTEM_FIELD_REPLICAS)
                                     ? (uint32_t)arguments->numbers[SYSTEM_FIELD_REPLICAS]
                                     : SYSTEM_REPLICAS_DEFAULT,
                     .feature = (uint32_t)arguments->numbers[SYSTEM_FIELD_FEATURE],
                     .node_id_next = 1},
        .audit_next = 1,
    };
    memcpy(state.settings.cluster, cluster.data, cluster.size_bytes);
    struct system_node node = {
        .state = SYSTEM_NODE_ACTIVE,
        .joined_at_ms = call->time_ms,
        .changed_at_ms = call->time_ms,
    };
    (void)system__node_take_facts(&node, arguments);
    system->state = state;
    write_shards(call, (uint32_t)shard_count);
    uint32_t id = system__node_add(call, &node)->id;
    int status = system__audit_write(call, SYSTEM_AUDIT_BOOTSTRAP, id, "cluster %s, node at %s",
                                     state.settings.cluster, node.peer);
    reply_integer(call->reply, id);
    return status;
}

/* ---- SYSTEM.NODESET -------------------------------------------------------------------------- */

/* The node that the arguments name, unless it was removed; else the refusal is answered. */
static struct system_node *find_member(struct system__call *call)
{
    uint32_t id = (uint32_t)call->arguments->numbers[SYSTEM_FIELD_NODE];
    struct system_node *node = system__node_find(call->system, id);
    if (node == NULL) {
        reply_error(call->reply, "NONODE there is no node %" PRIu32, id);
    } else if (node->state == SYSTEM_NODE_REMOVED) {
        reply_error(call->reply, "STATE node %" PRIu32 " was removed from the cluster", id);
        node = NULL;
    }
    return node;
}

int system__execute_node_set(struct system__call *call)
{
    struct system_node *node = find_member(call);
    if (node == NULL) {
        return 0;
    }
    struct system_node changed = *node;
    struct system__problem problem;
    uint32_t feature = call->system->state.settings.feature;
    if (!system__node_take_facts(&changed, call->arguments)) {
        reply_integer(call->reply, 0);
        return 0;
    }
    if (changed.feature_max < feature) {
        reply_error(call->reply,
                    "STATE the cluster has agreed on feature version %" PRIu32
                    ", which software that knows %" PRIu32 " at most does not understand",
                    feature, changed.feature_max);
        return 0;
    }
    if (system__node_collides(call->system, &changed, &problem)) {
        reply_error(call->reply, "%s", problem.text);
        return 0;
    }
    bool has_new_key = memcmp(&node->key, &changed.key, sizeof node->key) != 0;
    *node = changed;
    system__node_write(call, node);
    system__generation_raise(call);
    reply_integer(call->reply, 1);
    if (has_new_key) {
        return system__audit_write(call, SYSTEM_AUDIT_CERTIFICATE, node->id, "another key");
    }
    return system__audit_write(
        call, SYSTEM_AUDIT_CONFIGURATION, node->id, "peer %s, zone %s, software %s", node->peer,
        node->zone[0] != '\0' ? node->zone : "-", node->software[0] != '\0' ? node->software : "-");
}

/* ---- SYSTEM.NODESTATE ------------------------------------------------------------------------ */

static uint32_t count_active(const struct system *system)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < system->node_count; i++) {
        count += system->nodes[i].state == SYSTEM_NODE_ACTIVE;
    }
    return count;
}

/* I3: which record a change of state leaves; 0: there is no such change. */
static uint32_t transition(enum system_node_state before, enum system_node_state after)
{
    switch (after) {
    case SYSTEM_NODE_ACTIVE:
        return before == SYSTEM_NODE_DRAINING || before == SYSTEM_NODE_DRAINED ? SYSTEM_AUDIT_ACTIVE
                                                                               : 0;
    case SYSTEM_NODE_DRAINING:
        return before == SYSTEM_NODE_ACTIVE ? SYSTEM_AUDIT_DRAIN : 0;
    case SYSTEM_NODE_DRAINED:
        return before == SYSTEM_NODE_DRAINING ? SYSTEM_AUDIT_DRAINED : 0;
    case SYSTEM_NODE_REMOVED:
        return before != SYSTEM_NODE_REMOVED ? SYSTEM_AUDIT_REMOVE : 0;
    }
    return 0;
}

int system__execute_node_state(struct system__call *call)
{
    uint32_t id = (uint32_t)call->arguments->numbers[SYSTEM_FIELD_NODE];
    enum system_node_state after =
        (enum system_node_state)call->arguments->numbers[SYSTEM_FIELD_STATE];
    struct system_node *node = system__node_find(call->system, id);
    if (node == NULL) {
        reply_error(call->reply, "NONODE there is no node %" PRIu32, id);
        return 0;
    }
    enum system_node_state before = node->state;
    if (before == after) {
        reply_integer(call->reply, 0);
        return 0;
    }
    uint32_t kind = transition(before, after);
    if (kind == 0) {
        reply_error(call->reply, "STATE node %" PRIu32 " is %s and cannot become %s", id,
                    system_node_state_name(before), system_node_state_name(after));
        return 0;
    }
    if (before == SYSTEM_NODE_ACTIVE && count_active(call->system) == 1) {
        reply_error(call->reply, "STATE node %" PRIu32 " is the only active one", id);
        return 0;
    }
    node->state = after;
    node->changed_at_ms = call->time_ms;
    system__node_write(call, node);
    system__generation_raise(call);
    reply_integer(call->reply, 1);
    return system__audit_write(call, (enum system_audit_kind)kind, id, "%s, was %s",
                               system_node_state_name(after), system_node_state_name(before));
}

/* ---- SYSTEM.SETTING, SYSTEM.AUDIT ------------------------------------------------------------ */

/* I6. False: the refusal is answered. */
static bool may_agree_on(struct system__call *call, uint32_t feature)
{
    const struct system *system = call->system;
    if (feature < system->state.settings.feature) {
        reply_error(call->reply, "STATE feature version %" PRIu32 " is agreed on for ever",
                    system->state.settings.feature);
        return false;
    }
    const struct system_node *node = system_node_below(system, feature);
    if (node != NULL) {
        reply_error(call->reply,
                    "STATE node %" PRIu32 " has software that knows feature version %" PRIu32
                    " at most",
                    node->id, node->feature_max);
    }
    return node == NULL;
}

int system__execute_setting(struct system__call *call)
{
    const struct system__arguments *arguments = call->arguments;
    struct system_settings *settings = &call->system->state.settings;
    uint32_t replicas = system__has(arguments, SYSTEM_FIELD_REPLICAS)
                            ? (uint32_t)arguments->numbers[SYSTEM_FIELD_REPLICAS]
                            : settings->replicas;
    uint32_t feature = system__has(arguments, SYSTEM_FIELD_FEATURE)
                           ? (uint32_t)arguments->numbers[SYSTEM_FIELD_FEATURE]
                           : settings->feature;
    if (replicas == settings->replicas && feature == settings->feature) {
        reply_integer(call->reply, 0);
        return 0;
    }
    if (!may_agree_on(call, feature)) {
        return 0;
    }
    settings->replicas = replicas;
    settings->feature = feature;
    system__generation_raise(call);
    reply_integer(call->reply, 1);
    return system__audit_write(call, SYSTEM_AUDIT_CONFIGURATION, 0,
                               "replicas %" PRIu32 ", feature version %" PRIu32, replicas, feature);
}

int system__execute_audit(struct system__call *call)
{
    const struct system__arguments *arguments = call->arguments;
    struct bytes text = arguments->texts[SYSTEM_FIELD_TEXT];
    int size =
        text.size_bytes < SYSTEM_AUDIT_TEXT_SIZE ? (int)text.size_bytes : SYSTEM_AUDIT_TEXT_SIZE;
    int status = system__audit_write(
        call, (enum system_audit_kind)arguments->numbers[SYSTEM_FIELD_KIND],
        (uint32_t)arguments->numbers[SYSTEM_FIELD_NODE], "%.*s", size, (const char *)text.data);
    reply_integer(call->reply, (int64_t)(call->system->state.audit_next - 1));
    return status;
}
