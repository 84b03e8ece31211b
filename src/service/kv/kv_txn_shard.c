/* SPDX-License-Identifier: Apache-2.0 */
/* A shard of the world. */
#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "service/kv/kv_part.h"
#include "service/kv/kv_record.h"
#include "service/kv/kv_txn_world_internal.h"

enum { CACHE_SIZE_BYTES = 1 << 20, WINDOW_COUNT_MAX = 1 << 14, LOOK_MS = 500 };

static void start(struct shard_replica *shard, struct bytes saved)
{
    shard->rows = rows_create(memstore_interface(shard->store), CACHE_SIZE_BYTES);
    shard->kv = kv_create();
    rows_set_tier(shard->rows, ENV_TIER_DISK);
    rows_set_digest(shard->rows, shard->digest);
    struct shard_machine machine = kv_machine(shard->kv);
    struct error error = {0};
    if (machine.load(machine.context, shard->rows, saved, &error) != 0) {
        kv__txn_world_fail(shard->world, "a state cannot be loaded", 0, 0);
    }
}

static void stop(struct shard_replica *shard)
{
    rows_destroy(shard->rows);
    kv_destroy(shard->kv);
}

void kv__txn_shard_open(struct shard_replica *shard)
{
    list_init(&shard->parked);
    shard->store = memstore_create(1);
    start(shard, BYTES(""));
}

static void drop_parked(struct shard_replica *shard)
{
    for (struct list *member; (member = list_pop_front(&shard->parked)) != NULL;) {
        memory_free(LIST_ITEM(member, struct message, link));
    }
}

void kv__txn_shard_end(struct shard_replica *shard)
{
    drop_parked(shard);
    stop(shard);
    memstore_destroy(shard->store);
    for (uint64_t i = 0; i < shard->log_count; i++) {
        memory_free(shard->log[i]);
    }
    for (uint64_t i = 0; i < shard->window_count; i++) {
        buffer_deinit(&shard->window[i].reply);
    }
    memory_free(shard->log);
    memory_free(shard->window);
    buffer_deinit(&shard->saved);
}

uint64_t kv__txn_shard_time_ms(struct shard_replica *shard)
{
    uint64_t wall_ms = kv__txn_world_wall_ms(shard->world);
    shard->stamp_ms = wall_ms > shard->stamp_ms ? wall_ms : shard->stamp_ms;
    return shard->stamp_ms;
}

/* ---- Executing ------------------------------------------------------------------------------- */

static void remember(struct shard_replica *shard, uint64_t sequence, struct bytes reply)
{
    if (sequence == 0 || shard->window_count == WINDOW_COUNT_MAX) {
        return;
    }
    if (shard->window == NULL) {
        shard->window = memory_allocate(WINDOW_COUNT_MAX * sizeof shard->window[0]);
    }
    struct window_reply *kept = &shard->window[shard->window_count++];
    *kept = (struct window_reply){.sequence = sequence};
    buffer_append(&kept->reply, reply);
}

/* Executes an entry on any replica; the answer is in `answer`. */
static void execute(struct rows *rows, struct kv *kv, const struct message *entry, uint64_t index,
                    struct buffer *answer)
{
    struct shard_machine machine = kv_machine(kv);
    const struct shard_stamp stamp = {.time_ms = entry->time_ms, .version = index << 16};
    const struct reply reply = {.target = answer, .protocol = 2};
    buffer_clear(answer);
    rows_set_tier(rows, ENV_TIER_DISK);
    int status = machine.execute(machine.context, rows, &stamp, &entry->command, &reply);
    ASSERT(status == 0);
    ASSERT(rows_commit(rows, NULL) == 0);
}

static void apply_next(struct shard_replica *shard)
{
    struct message *entry = shard->log[shard->applied_count];
    struct buffer answer = {0};
    execute(shard->rows, shard->kv, entry, shard->applied_count + 1, &answer);
    shard->applied_count++;
    shard->digest = rows_digest(shard->rows);
    struct shard_machine machine = kv_machine(shard->kv);
    buffer_clear(&shard->saved);
    machine.save(machine.context, &shard->saved);
    if (bytes_have_prefix(buffer_bytes(&answer), BYTES("-TRYAGAIN"))) {
        kv__txn_world_fail(shard->world, "a command met a lock in the log", shard->applied_count,
                           entry->command.opcode);
    }
    remember(shard, entry->sequence, buffer_bytes(&answer));
    kv__txn_shard_reply(shard, entry, buffer_bytes(&answer));
    buffer_deinit(&answer);
}

static bool must_wait(struct shard_replica *shard, const struct message *message)
{
    struct shard_machine machine = kv_machine(shard->kv);
    return machine.must_wait(machine.context, &message->command) && !BUG("shard.lock_passed");
}

/* ---- The line -------------------------------------------------------------------------------- */

static bool visit_keys(struct shard_replica *shard, const struct message *message,
                       kv__key_visitor *visit, void *context)
{
    bool is_prepare = message->command.opcode == KV_OPCODE_PREPARE;
    struct kv__part part;
    const struct kv_call call = {
        .kv = shard->kv,
        .entry = kv__entry_of_opcode(is_prepare ? KV_OPCODE_TRANSACTION : message->command.opcode),
        .arguments = message->command.arguments + (is_prepare ? 1 : 0),
        .argument_count = message->command.argument_count - (is_prepare ? 1 : 0),
    };
    if (is_prepare) {
        return kv__part_parse(&call, &part) && kv__part_visit(&call, &part, visit, context);
    }
    return kv__keys_visit(&call, visit, context);
}

static bool is_other(void *context, struct bytes name)
{
    return !bytes_equal(*(const struct bytes *)context, name);
}

struct comparison {
    struct shard_replica *shard;
    const struct message *waiting;
};

static bool is_unused(void *context, struct bytes name)
{
    const struct comparison *comparison = context;
    return visit_keys(comparison->shard, comparison->waiting, is_other, &name);
}

/* A PREPARE that gets into the log passes nobody who came before it and wants one of its keys. */
static void check_line(struct shard_replica *shard, const struct message *message)
{
    struct txn_header header;
    bool is_decoded = message->command.opcode == KV_OPCODE_PREPARE &&
                      txn_header_decode(message->command.arguments[0], &header);
    if (!is_decoded || kv__unfinished_has(shard->kv, header.id, header.place)) {
        return; /* It has its locks already. */
    }
    for (struct list *member = shard->parked.next; member != &shard->parked;
         member = member->next) {
        struct comparison comparison = {shard, LIST_ITEM(member, struct message, link)};
        if (comparison.waiting->arrived < message->arrived &&
            !visit_keys(shard, message, is_unused, &comparison)) {
            kv__txn_world_fail(shard->world, "a PREPARE passes what waits", message->arrived,
                               comparison.waiting->arrived);
        }
    }
}

/* It has no turn yet: it waits, or is answered. Takes the message. */
static void park(struct shard_replica *shard, struct message *message)
{
    struct shard_machine machine = kv_machine(shard->kv);
    list_push_back(&shard->parked, &message->link);
    machine.waits(machine.context, &message->command);
}

static void keep_or_answer(struct shard_replica *shard, struct message *message)
{
    struct shard_machine machine = kv_machine(shard->kv);
    struct buffer answer = {0};
    const struct reply reply = {.target = &answer, .protocol = 2};
    if (message->is_write && machine.declines(machine.context, &message->command, &reply)) {
        kv__txn_shard_reply(shard, message, buffer_bytes(&answer));
        memory_free(message);
    } else {
        shard->world->statistics.waited_count++;
        shard->world->statistics.prepares_count += message->command.opcode == KV_OPCODE_PREPARE;
        park(shard, message);
    }
    buffer_deinit(&answer);
}

static void append(struct shard_replica *shard, struct message *message)
{
    struct shard_machine machine = kv_machine(shard->kv);
    check_line(shard, message);
    shard->log = memory_resize(shard->log, (shard->log_count + 1) * sizeof shard->log[0]);
    message->time_ms = kv__txn_shard_time_ms(shard);
    shard->log[shard->log_count++] = message;
    machine.gathered(machine.context, &message->command);
    if (!shard->is_apply_due) {
        shard->is_apply_due = true;
        (void)kv__txn_world_schedule(shard->world, EVENT_APPLY,
                                     kv__txn_world_delay_ms(shard->world) / 2,
                                     (uint32_t)(shard - shard->world->shards));
    }
}

/* Takes the message, whose turn it is. */
static void begin(struct shard_replica *shard, struct message *message)
{
    if (message->is_write) {
        append(shard, message);
        return;
    }
    struct shard_machine machine = kv_machine(shard->kv);
    struct buffer answer = {0};
    const struct reply reply = {.target = &answer, .protocol = 2};
    uint64_t time_ms = kv__txn_shard_time_ms(shard);
    const struct shard_moment moment = {.time_ms = time_ms, .durable_time_ms = time_ms};
    rows_set_tier(shard->rows, ENV_TIER_DISK);
    int status = machine.read(machine.context, shard->rows, &moment, &message->command, &reply);
    if (status != 0) { /* must_wait() knows all locks. */
        kv__txn_world_fail(shard->world, "a read met a lock", shard->applied_count, 0);
    } else {
        kv__txn_shard_reply(shard, message, buffer_bytes(&answer));
    }
    buffer_deinit(&answer);
    memory_free(message);
}

static void resume_parked(struct shard_replica *shard)
{
    struct shard_machine machine = kv_machine(shard->kv);
    struct list ready;
    list_init(&ready);
    list_append_all(&ready, &shard->parked);
    machine.waits(machine.context, NULL);
    for (struct list *member; (member = list_pop_front(&ready)) != NULL;) {
        struct message *message = LIST_ITEM(member, struct message, link);
        if (must_wait(shard, message)) {
            park(shard, message);
        } else {
            begin(shard, message);
        }
    }
}

void kv__txn_shard_apply(struct shard_replica *shard)
{
    shard->is_apply_due = false;
    uint64_t count = 1 + random_below(&shard->world->random, 4);
    while (shard->applied_count < shard->log_count && count-- > 0) {
        apply_next(shard);
    }
    resume_parked(shard);
    if (shard->applied_count < shard->log_count && !shard->is_apply_due) {
        shard->is_apply_due = true;
        (void)kv__txn_world_schedule(shard->world, EVENT_APPLY, 1,
                                     (uint32_t)(shard - shard->world->shards));
    }
}

void kv__txn_shard_deliver(struct shard_replica *shard, struct message *message)
{
    for (uint64_t i = 0; i < shard->window_count && message->sequence != 0; i++) {
        if (shard->window[i].sequence == message->sequence) {
            kv__txn_shard_reply(shard, message, buffer_bytes(&shard->window[i].reply));
            memory_free(message);
            return;
        }
    }
    for (uint64_t i = shard->applied_count; i < shard->log_count && message->sequence != 0; i++) {
        if (shard->log[i]->sequence == message->sequence) {
            memory_free(message); /* It is on its way. */
            return;
        }
    }
    for (struct list *member = shard->parked.next; member != &shard->parked;
         member = member->next) {
        if (message->sequence != 0 &&
            LIST_ITEM(member, struct message, link)->sequence == message->sequence) {
            memory_free(message);
            return;
        }
    }
    message->arrived = ++shard->arrived_count;
    if (must_wait(shard, message)) {
        keep_or_answer(shard, message);
    } else {
        begin(shard, message);
    }
}

/* Its leader dies. */
void kv__txn_shard_restart(struct shard_replica *shard)
{
    struct txn_world *world = shard->world;
    drop_parked(shard);
    uint64_t kept = shard->applied_count +
                    random_below(&world->random, shard->log_count - shard->applied_count + 1);
    for (uint64_t i = kept; i < shard->log_count; i++) {
        memory_free(shard->log[i]);
    }
    shard->log_count = kept;
    stop(shard);
    if (random_chance(&world->random, 1, 3)) {
        /* A replica that has executed everything by itself. */
        memstore_destroy(shard->store);
        shard->store = memstore_create(1);
        shard->digest = 0;
        start(shard, BYTES(""));
        struct buffer answer = {0};
        for (uint64_t i = 0; i < shard->applied_count; i++) {
            execute(shard->rows, shard->kv, shard->log[i], i + 1, &answer);
        }
        shard->digest = rows_digest(shard->rows);
        buffer_deinit(&answer);
    } else {
        start(shard, buffer_bytes(&shard->saved));
    }
    /* It has everything of the log before it is ready. */
    while (shard->applied_count < shard->log_count) {
        apply_next(shard);
    }
}

/* Background work, and death. */
void kv__txn_shard_look(struct shard_replica *shard)
{
    struct txn_world *world = shard->world;
    struct shard_command command;
    struct shard_machine machine = kv_machine(shard->kv);
    uint64_t next_ms = 0;
    if (machine.background(machine.context, shard->rows, kv__txn_shard_time_ms(shard), &command,
                           &next_ms)) {
        (void)kv__txn_world_send(world, (uint32_t)(shard - world->shards), &command, true, NULL,
                                 UINT32_MAX);
    }
    if (kv__txn_world_chance(world, world->options.restart_percent)) {
        kv__txn_shard_restart(shard);
    }
    (void)kv__txn_world_schedule(world, EVENT_LOOK_AT_SHARDS, LOOK_MS,
                                 (uint32_t)(shard - world->shards));
}

/* ---- Looking at it from outside -------------------------------------------------------------- */

void kv__txn_shard_read_list(struct shard_replica *shard, struct bytes key, struct buffer *list)
{
    struct kv_key parsed;
    struct bytes row;
    struct kv_value value;
    kv__key_init(&parsed, key);
    rows_set_tier(shard->rows, ENV_TIER_DISK);
    if (rows_get(shard->rows, parsed.row, &row) == 0) {
        ASSERT(kv__value_decode(row, &value) == 0);
        buffer_append(list, value.data);
    }
}

void kv__txn_shard_check(struct shard_replica *shard)
{
    struct memstore *store = memstore_create(1);
    struct rows *rows = rows_create(memstore_interface(store), CACHE_SIZE_BYTES);
    struct kv *kv = kv_create();
    struct shard_machine machine = kv_machine(kv);
    struct buffer answer = {0};
    ASSERT(machine.load(machine.context, rows, BYTES(""), NULL) == 0);
    for (uint64_t i = 0; i < shard->applied_count; i++) {
        execute(rows, kv, shard->log[i], i + 1, &answer);
    }
    struct bytes all = BYTES("");
    if (rows_digest(rows) != shard->digest ||
        memstore_hash(store, all, all) != memstore_hash(shard->store, all, all)) {
        kv__txn_world_fail(shard->world, "replicas differ", shard->applied_count, 0);
    }
    buffer_clear(&answer);
    machine.save(machine.context, &answer);
    if (shard->saved.size_bytes > 0 &&
        !bytes_equal(buffer_bytes(&answer), buffer_bytes(&shard->saved))) {
        kv__txn_world_fail(shard->world, "what replicas save differs", shard->applied_count, 0);
    }
    struct error error = {0};
    if (kv_verify(memstore_interface(shard->store), NULL, shard->kv->key_count, &error) != 0) {
        kv__txn_world_fail(shard->world, "the rows contradict themselves", 0, 0);
    }
    buffer_deinit(&answer);
    rows_destroy(rows);
    kv_destroy(kv);
    memstore_destroy(store);
}
