/* SPDX-License-Identifier: Apache-2.0 */
/* The machine: what the shard calls, and the way of a command to whoever executes it. */
#include "base/assert/assert.h"
#include "base/endian/endian.h"
#include "base/memory/memory.h"
#include "service/system/system_internal.h"

enum { BACKGROUND_DELAY_MS = 1000 };

struct system *system_create(void)
{
    struct system *system = memory_allocate_zeroed(1, sizeof *system);
    system->token_expires_at_ms = UINT64_MAX;
    slots_divide(&system->slots, 1);
    return system;
}

void system_destroy(struct system *system)
{
    memory_free(system->nodes);
    slots_deinit(&system->slots);
    buffer_deinit(&system->value);
    memory_free(system);
}

/* ---- Questions ------------------------------------------------------------------------------- */

uint64_t system_generation(const struct system *system)
{
    return system->state.settings.generation;
}

const struct system_settings *system_settings(const struct system *system)
{
    return &system->state.settings;
}

uint32_t system_node_count(const struct system *system)
{
    return system->node_count;
}

const struct system_node *system_node_at(const struct system *system, uint32_t index)
{
    ASSERT(index < system->node_count);
    return &system->nodes[index];
}

const struct system_node *system_node_below(const struct system *system, uint32_t feature)
{
    for (uint32_t i = 0; i < system->node_count; i++) {
        const struct system_node *node = &system->nodes[i];
        if (node->state != SYSTEM_NODE_REMOVED && node->feature_max < feature) {
            return node;
        }
    }
    return NULL;
}

const struct slots *system_slots(const struct system *system)
{
    return &system->slots;
}

uint32_t system_planned_count(const struct system *system)
{
    return system->plans.count;
}

void system_planned_at(const struct system *system, uint32_t place, struct system_planned *planned)
{
    ASSERT(place < system->plans.count);
    *planned = system->plans.items[place];
}

/* Where a node of that id is, or would be. */
static uint32_t place_of(const struct system *system, uint32_t id)
{
    uint32_t lower = 0;
    uint32_t upper = system->node_count;
    while (lower < upper) {
        uint32_t middle = lower + (upper - lower) / 2;
        if (system->nodes[middle].id < id) {
            lower = middle + 1;
        } else {
            upper = middle;
        }
    }
    return lower;
}

struct system_node *system__node_find(struct system *system, uint32_t id)
{
    uint32_t place = place_of(system, id);
    return place < system->node_count && system->nodes[place].id == id ? &system->nodes[place]
                                                                       : NULL;
}

const struct system_node *system_node_find(const struct system *system, uint32_t id)
{
    uint32_t place = place_of(system, id);
    return place < system->node_count && system->nodes[place].id == id ? &system->nodes[place]
                                                                       : NULL;
}

/* ---- Loading and saving ---------------------------------------------------------------------- */

void system__node_append(struct system *system, const struct system_node *node)
{
    ASSERT(system->node_count == 0 || system->nodes[system->node_count - 1].id < node->id);
    if (system->node_count == system->node_capacity) {
        system->node_capacity = system->node_capacity == 0 ? 8 : 2 * system->node_capacity;
        system->nodes = memory_resize(system->nodes, system->node_capacity * sizeof *system->nodes);
    }
    system->nodes[system->node_count++] = *node;
}

static int load_row(void *context, struct bytes key, struct bytes value)
{
    struct system *system = context;
    struct system__row_name name;
    if (!system__row_parse(key, &name)) {
        return ERROR_CORRUPT;
    }
    if (name.kind == SYSTEM_ROW_SETTINGS) {
        return system__settings_decode(value, &system->state);
    }
    if (name.kind == SYSTEM_ROW_SHARD) {
        struct system__shard shard;
        int decoded = system__shard_decode(value, (wal_shard)name.number, &shard);
        return decoded != 0 ? decoded : system__ranges_add(&system->ranges, &shard);
    }
    if (name.kind != SYSTEM_ROW_NODE) {
        return 0;
    }
    struct system_node node;
    int status = system__node_decode(value, (uint32_t)name.number, &node);
    bool is_known = node.id < system->state.settings.node_id_next;
    if (status == 0 && (!is_known || system->node_count >= SYSTEM_NODE_ROW_COUNT_MAX)) {
        return ERROR_CORRUPT;
    }
    if (status == 0) {
        system__node_append(system, &node);
    }
    return status;
}

static int load(void *context, struct rows *rows, struct bytes saved, struct error *error)
{
    struct system *system = context;
    system->state = (struct system__settings){0};
    system->node_count = 0;
    system->token_expires_at_ms = UINT64_MAX;
    system->ranges.count = 0;
    system->ranges.planned_count = 0;
    /* Settings come first, so a node's id can be compared with what they say. */
    int status = system__rows_each(rows, SYSTEM_ROW_SETTINGS, load_row, system);
    if (status == 0) {
        status = system__rows_each(rows, SYSTEM_ROW_NODE, load_row, system);
    }
    if (status == 0) {
        status = system__rows_each(rows, SYSTEM_ROW_SHARD, load_row, system);
    }
    if (status == 0 &&
        system__ranges_settle(&system->ranges, &system->slots, &system->plans) != 0) {
        status = ERROR_CORRUPT;
    }
    if (status == 0) {
        status = system__tokens_look(system, rows);
    }
    if (status != 0) {
        return error_set(error, status, "rows of the system");
    }
    const struct shard_machine *data = &system->data;
    return data->load == NULL ? 0 : data->load(data->context, rows, saved, error);
}

static void save(void *context, struct buffer *saved)
{
    const struct system *system = context;
    if (system->data.save != NULL) {
        system->data.save(system->data.context, saved);
    }
}

/* ---- Commands -------------------------------------------------------------------------------- */

#define BIT(name) SYSTEM_FIELD_BIT(name)
#define FACTS (BIT(REDIS) | BIT(ADMIN) | BIT(ZONE) | BIT(SOFTWARE))
#define JOINER (BIT(KEY) | BIT(PEER) | BIT(FEATURE))

static const struct {
    uint16_t opcode;
    uint32_t required;
    uint32_t allowed;
    system__handler *execute;
} writes[] = {
    {SYSTEM_OPCODE_BOOTSTRAP, BIT(CLUSTER) | JOINER, FACTS | BIT(REPLICAS) | BIT(SHARDS),
     system__execute_bootstrap},
    {SYSTEM_OPCODE_TOKENADD, BIT(TOKEN) | BIT(TTL) | BIT(USES), 0, system__execute_token_add},
    {SYSTEM_OPCODE_JOIN, BIT(TOKEN) | JOINER, FACTS, system__execute_join},
    {SYSTEM_OPCODE_NODESET, BIT(NODE), FACTS | JOINER, system__execute_node_set},
    {SYSTEM_OPCODE_NODESTATE, BIT(NODE) | BIT(STATE), 0, system__execute_node_state},
    {SYSTEM_OPCODE_SETTING, 0, BIT(REPLICAS) | BIT(FEATURE), system__execute_setting},
    {SYSTEM_OPCODE_AUDIT, BIT(KIND) | BIT(NODE) | BIT(TEXT), 0, system__execute_audit},
    {SYSTEM_OPCODE_TOKENSWEEP, 0, 0, system__execute_token_sweep},
    {SYSTEM_OPCODE_SPLIT, BIT(SLOT), 0, system__execute_split},
    {SYSTEM_OPCODE_SPLITDONE, BIT(SHARD), 0, system__execute_split_done},
};
enum { WRITE_COUNT = sizeof writes / sizeof writes[0] };

static int execute_write(struct system *system, struct rows *rows, uint64_t time_ms,
                         const struct shard_command *command, const struct reply *reply)
{
    struct system__arguments arguments;
    uint32_t place = 0;
    while (place < WRITE_COUNT && writes[place].opcode != command->opcode) {
        place++;
    }
    if (place == WRITE_COUNT) {
        return ERROR_NEWER_FORMAT; /* Written by a version that has more commands. */
    }
    const char *problem =
        system__arguments_parse(command, writes[place].required, writes[place].allowed, &arguments);
    if (problem != NULL) {
        reply_error(reply, "INVALID %s", problem);
        return 0;
    }
    if (system->state.settings.generation == 0 && command->opcode != SYSTEM_OPCODE_BOOTSTRAP) {
        reply_error(reply, "NOCLUSTER there is no cluster yet");
        return 0;
    }
    struct system__call call = {
        .system = system,
        .rows = rows,
        .reply = reply,
        .arguments = &arguments,
        .time_ms = time_ms,
    };
    return writes[place].execute(&call);
}

/* What a read answers: rows as they are in the store, each a size (4) and the key, a size (4) and
 * the value. */
struct content {
    struct buffer bytes;
    uint64_t number_min; /* Of records. */
};

static int append_row(void *context, struct bytes key, struct bytes value)
{
    struct content *content = context;
    struct system__row_name name;
    if (!system__row_parse(key, &name)) {
        return ERROR_CORRUPT;
    }
    if (name.kind == SYSTEM_ROW_AUDIT && name.number < content->number_min) {
        return 0;
    }
    uint8_t *target = buffer_extend(&content->bytes, 8 + key.size_bytes + value.size_bytes);
    endian_put_u32_le(target, (uint32_t)key.size_bytes);
    memcpy(target + 4, key.data, key.size_bytes);
    endian_put_u32_le(target + 4 + key.size_bytes, (uint32_t)value.size_bytes);
    memcpy(target + 8 + key.size_bytes, value.data, value.size_bytes);
    return 0;
}

/* The rows of the command's kind; only what `rows` has, for this may run on another thread. */
static int read_rows(struct rows *rows, uint16_t opcode, uint64_t count_max,
                     struct content *content)
{
    struct system__row row;
    struct system__settings settings;
    struct bytes value;
    system__row_settings(&row);
    int status = rows_get(rows, row.key, &value);
    if (status == 0) {
        status = system__settings_decode(value, &settings);
    }
    if (status != 0) {
        return status;
    }
    switch (opcode) {
    case SYSTEM_OPCODE_NODES:
        status = append_row(content, row.key, value);
        return status != 0 ? status : system__rows_each(rows, SYSTEM_ROW_NODE, append_row, content);
    case SYSTEM_OPCODE_SETTINGS:
        return append_row(content, row.key, value);
    case SYSTEM_OPCODE_TOKENS:
        return system__rows_each(rows, SYSTEM_ROW_TOKEN, append_row, content);
    case SYSTEM_OPCODE_AUDITLOG:
        content->number_min = settings.audit_next > count_max ? settings.audit_next - count_max : 1;
        return system__rows_each(rows, SYSTEM_ROW_AUDIT, append_row, content);
    default:
        return ERROR_NEWER_FORMAT;
    }
}

static int execute_read(struct rows *rows, const struct shard_command *command,
                        const struct reply *reply)
{
    if (command->opcode > SYSTEM_OPCODE_READ_LAST) {
        return ERROR_NEWER_FORMAT;
    }
    struct system__arguments arguments;
    uint32_t allowed = command->opcode == SYSTEM_OPCODE_AUDITLOG ? BIT(COUNT) : 0;
    const char *problem = system__arguments_parse(command, 0, allowed, &arguments);
    if (problem != NULL) {
        reply_error(reply, "INVALID %s", problem);
        return 0;
    }
    struct content content = {0};
    uint64_t count_max = system__has(&arguments, SYSTEM_FIELD_COUNT)
                             ? arguments.numbers[SYSTEM_FIELD_COUNT]
                             : SYSTEM_AUDIT_COUNT_MAX;
    int status = read_rows(rows, command->opcode, count_max, &content);
    if (status == 0) {
        reply_bulk(reply, buffer_bytes(&content.bytes));
    } else if (status == -ENOENT) {
        reply_error(reply, "NOCLUSTER there is no cluster yet");
        status = 0;
    }
    buffer_deinit(&content.bytes);
    return status;
}

static int execute(void *context, struct rows *rows, const struct shard_stamp *stamp,
                   const struct shard_command *command, const struct reply *reply)
{
    struct system *system = context;
    if (system_is_write(command->opcode)) {
        return execute_write(system, rows, stamp->time_ms, command, reply);
    }
    if (system_is_opcode(command->opcode)) {
        return execute_read(rows, command, reply);
    }
    const struct shard_machine *data = &system->data;
    return data->execute == NULL ? ERROR_NEWER_FORMAT
                                 : data->execute(data->context, rows, stamp, command, reply);
}

static int read_command(void *context, struct rows *rows, const struct shard_moment *moment,
                        const struct shard_command *command, const struct reply *reply)
{
    const struct system *system = context;
    if (system_is_opcode(command->opcode)) {
        ASSERT(!system_is_write(command->opcode));
        return execute_read(rows, command, reply);
    }
    ASSERT(system->data.read != NULL);
    return system->data.read(system->data.context, rows, moment, command, reply);
}

static int prefetch(void *context, struct rows *rows, const struct shard_command *command,
                    uint64_t *load_size_bytes)
{
    const struct system *system = context;
    if (system_is_opcode(command->opcode)) {
        return 0; /* A few rows, seldom. */
    }
    ASSERT(system->data.prefetch != NULL);
    return system->data.prefetch(system->data.context, rows, command, load_size_bytes);
}

static uint64_t approach(void *context, const struct rows *rows,
                         const struct shard_command *command)
{
    const struct system *system = context;
    return system_is_opcode(command->opcode)
               ? 0
               : system->data.approach(system->data.context, rows, command);
}

static bool background(void *context, struct rows *rows, uint64_t time_ms,
                       struct shard_command *command, uint64_t *next_ms)
{
    struct system *system = context;
    if (system->token_expires_at_ms <= time_ms) {
        *command = (struct shard_command){.opcode = SYSTEM_OPCODE_TOKENSWEEP};
        return true;
    }
    if (system->data.background == NULL) {
        *next_ms += BACKGROUND_DELAY_MS;
        return false;
    }
    uint64_t latest_ms = *next_ms + BACKGROUND_DELAY_MS;
    bool has_work = system->data.background(system->data.context, rows, time_ms, command, next_ms);
    *next_ms = *next_ms < latest_ms ? *next_ms : latest_ms;
    return has_work;
}

/* A command that other nodes would not understand is said to wait, so that it can be declined: it is
 * refused before the log has it, which they would have to read. */
static bool must_wait(void *context, const struct shard_command *command)
{
    const struct system *system = context;
    return system_is_opcode(command->opcode)
               ? system__is_foreign(system, command->opcode)
               : system->data.must_wait(system->data.context, command);
}

static void gathered(void *context, const struct shard_command *command)
{
    const struct system *system = context;
    if (command == NULL || !system_is_opcode(command->opcode)) {
        system->data.gathered(system->data.context, command);
    }
}

static void waits(void *context, const struct shard_command *command)
{
    const struct system *system = context;
    if (command == NULL || !system_is_opcode(command->opcode)) {
        system->data.waits(system->data.context, command);
    }
}

static bool declines(void *context, const struct shard_command *command, const struct reply *reply)
{
    const struct system *system = context;
    if (system_is_opcode(command->opcode)) {
        bool is_foreign = system__is_foreign(system, command->opcode);
        if (is_foreign) { /* Else it waits for something else. */
            system__refuse_foreign(system, reply);
        }
        return is_foreign;
    }
    return system->data.declines(system->data.context, command, reply);
}

static const struct shard_command *instead(void *context, const struct shard_command *command,
                                           uint64_t load_size_bytes)
{
    const struct system *system = context;
    return system_is_opcode(command->opcode)
               ? NULL
               : system->data.instead(system->data.context, command, load_size_bytes);
}

static void set_range(void *context, uint32_t first_slot, uint32_t end_slot)
{
    const struct system *system = context;
    system->data.set_range(system->data.context, first_slot, end_slot);
}

/* The rows of the cluster itself stay with the slots that are before the child's. */
static int split(void *context, struct rows *rows, uint32_t first_slot, struct buffer *child_saved)
{
    const struct system *system = context;
    return system->data.split(system->data.context, rows, first_slot, child_saved);
}

static int32_t slot_of(void *context, const struct shard_command *command, uint64_t lot)
{
    const struct system *system = context;
    return system_is_opcode(command->opcode)
               ? -1
               : system->data.slot_of(system->data.context, command, lot);
}

struct shard_machine system_machine_over(struct system *system, const struct shard_machine *data)
{
    system->data = data == NULL ? (struct shard_machine){0} : *data;
    return (struct shard_machine){
        .context = system,
        .load = load,
        .save = save,
        .execute = execute,
        .read = read_command,
        .prefetch = prefetch,
        .approach = system->data.approach == NULL ? NULL : approach,
        .background = background,
        .must_wait = system->data.must_wait == NULL ? NULL : must_wait,
        .gathered = system->data.gathered == NULL ? NULL : gathered,
        .waits = system->data.waits == NULL ? NULL : waits,
        .declines = system->data.declines == NULL ? NULL : declines,
        .instead = system->data.instead == NULL ? NULL : instead,
        .set_range = system->data.set_range == NULL ? NULL : set_range,
        .split = system->data.split == NULL ? NULL : split,
        .slot_of = system->data.slot_of == NULL ? NULL : slot_of,
    };
}
