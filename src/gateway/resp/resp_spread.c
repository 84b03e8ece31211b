/* SPDX-License-Identifier: Apache-2.0 */
/* Which shard a command is of, and commands of several.
 *
 * A command whose keys are in several shards is cut into *parts*, one for each shard, if it is one of
 * those whose effect is the sum of its parts (DEL, EXISTS, MGET, …); so is one about all keys. It waits
 * until nothing of its connection is under way, its parts go to all shards at once, each in a session
 * of its own, and the connection goes on when all are answered. Each part happens at one moment, and
 * different parts at different moments (docs/redis.md says so). A part whose shard has other slots by then
 * (it was split) did nothing; it is cut anew by a newer map. What must be all or nothing is a
 * transaction (MSET, MSETNX, LCS: resp_across.c; RENAME, COPY: resp_move.c). */
#include <stdlib.h>

#include "base/assert/assert.h"
#include "base/endian/endian.h"
#include "base/memory/memory.h"
#include "base/trace/trace.h"
#include "gateway/resp/resp_internal.h"

enum { VERSION_SIZE = 8, PARTS_MIN = 4, EMPTY_ANSWER_SIZE = 32 };

#define COUNT_OF(array) ((uint32_t)(sizeof(array) / sizeof(array)[0]))

/* ---- Where a command goes -------------------------------------------------------------------- */

uint32_t resp__group_of_slot(void *slots, uint32_t slot)
{
    return resp__range_of_slot(slots, slot).shard;
}

enum spread_kind resp__spread_kind(struct bytes name)
{
    static const struct {
        const char *name;
        enum spread_kind kind;
    } kinds[] = {
        {"dbsize", SPREAD_SUM},  {"del", SPREAD_SUM},       {"exists", SPREAD_SUM},
        {"touch", SPREAD_SUM},   {"unlink", SPREAD_SUM},    {"keys", SPREAD_JOIN},
        {"mget", SPREAD_MERGE},  {"randomkey", SPREAD_ANY}, {"flushall", SPREAD_ALL},
        {"flushdb", SPREAD_ALL}, {"watch", SPREAD_WATCH},
    };
    for (uint32_t i = 0; i < COUNT_OF(kinds); i++) {
        if (bytes_equal(name, bytes_of_text(kinds[i].name))) {
            return kinds[i].kind;
        }
    }
    return SPREAD_NONE;
}

/* The positions of a command's keys, counted with its name. */
struct positions {
    uint32_t first;
    uint32_t end;
    uint32_t step;
};

static struct positions positions_of(const struct kv_command *command, uint32_t count)
{
    struct kv_key_range keys = command->keys;
    if (keys.first <= 0) {
        return (struct positions){0, 0, 1};
    }
    int64_t last = keys.last >= 0 ? keys.last : (int64_t)count + keys.last;
    last = last >= count ? (int64_t)count - 1 : last;
    return (struct positions){(uint32_t)keys.first, last < 0 ? 0 : (uint32_t)last + 1,
                              (uint32_t)keys.step};
}

bool resp__find_range(const struct slots *slots, const struct command_entry *entry,
                      const struct bytes *arguments, uint32_t count, struct slots_range *range)
{
    *range = resp__range_of_slot(slots, 0);
    if (slots == NULL || slots->range_count == 1) {
        return true;
    }
    struct positions keys = positions_of(entry->command, count);
    if (keys.first == 0) {
        if (entry->spread == SPREAD_NONE && count > 1 && resp__is(arguments[0], "scan")) {
            *range = resp__range_of_slot(slots, kv_scan_slot(arguments[1]));
        }
        return entry->spread == SPREAD_NONE;
    }
    uint32_t place = 0;
    for (uint32_t i = keys.first; i < keys.end; i += keys.step) {
        uint32_t found = slots_place_of(slots, kv_slot_of_key(arguments[i]));
        if (i > keys.first && found != place) {
            return false;
        }
        place = found;
    }
    *range = slots->ranges[place];
    return true;
}

bool resp__names_keys(const struct command_entry *entry, uint32_t count)
{
    struct positions keys = positions_of(entry->command, count);
    return keys.first != 0 && keys.first < keys.end;
}

uint16_t resp__order_key(const struct command_entry *entry, const struct bytes *arguments,
                         uint32_t count)
{
    struct positions keys = positions_of(entry->command, count + 1);
    if (entry->handler != NULL || !resp__names_keys(entry, count + 1)) {
        return 0;
    }
    uint16_t slot = kv_slot_of_key(arguments[keys.first - 1]);
    for (uint32_t i = keys.first + keys.step; i < keys.end; i += keys.step) {
        if (kv_slot_of_key(arguments[i - 1]) != slot) {
            return 0;
        }
    }
    return (uint16_t)(slot + 1);
}

void resp__reply_cross(const struct reply *reply)
{
    reply_error(reply,
                "CROSSSLOT Keys in request don't hash to the same slot, and are in different "
                "shards; keys with the same {tag} are together");
}

/* ---- Parts ----------------------------------------------------------------------------------- */

enum part_state { PART_READY, PART_SUBMITTED, PART_DONE };

struct part {
    struct shard_request request; /* First: done() finds the part. */
    struct shard_session session;
    struct spread *spread;
    uint32_t number; /* Among the parts. */
    struct slots_range range;
    enum part_state state;
    int status;
    struct buffer answer;
    struct bytes rest; /* Of the answer: elements that were not taken yet. */
    struct bytes *arguments;
    uint32_t argument_count;
};

struct spread {
    struct list link; /* In the server's `spreads` while a part is ready. */
    struct slot *slot;
    const struct command_entry *entry;
    bool is_submitting;
    uint64_t size_bytes;        /* Of the copies, and of answers that came. */
    uint64_t answer_size_bytes; /* Of these, all that came. */
    bool is_too_large;          /* They were more than one answer may be, and are gone. */
    uint32_t open_count;        /* Parts that are not done. */
    uint32_t key_count;         /* Of SPREAD_MERGE, */
    uint32_t *key_parts;        /* and the number of each key's part. */
    struct bytes *copies;       /* Of all arguments; their bytes stand behind the array. */
    struct bytes *items;        /* The arguments of the parts, one part after the other. */
    uint32_t part_count;
    uint32_t part_capacity;
    struct part **parts; /* They may become more. */
};

/* One more, of zeros. */
static struct part *add_part(struct spread *spread)
{
    if (spread->part_count == spread->part_capacity) {
        spread->part_capacity = spread->part_capacity == 0 ? PARTS_MIN : 2 * spread->part_capacity;
        spread->parts = memory_resize(spread->parts, spread->part_capacity * sizeof(struct part *));
    }
    struct part *part = memory_allocate_zeroed(1, sizeof *part);
    part->spread = spread;
    part->number = spread->part_count;
    spread->parts[spread->part_count++] = part;
    return part;
}

static void spread_free(struct spread *spread)
{
    for (uint32_t i = 0; i < spread->part_count; i++) {
        buffer_deinit(&spread->parts[i]->answer);
        memory_free(spread->parts[i]);
    }
    list_remove(&spread->link);
    memory_free(spread->parts);
    memory_free(spread->key_parts);
    memory_free(spread->copies);
    memory_free(spread->items);
    memory_free(spread);
}

/* ---- The answer of all ----------------------------------------------------------------------- */

/* ":17", "*3": the number, off the front. */
static int64_t take_number(struct bytes *rest, uint8_t kind)
{
    int64_t number = 0;
    bool is_number = kv_reply_take_number(rest, kind, &number);
    ASSERT(is_number); /* A machine of ours wrote it. */
    return number;
}

static struct bytes take_element(struct bytes *rest)
{
    struct bytes element;
    bool is_whole = kv_reply_take(rest, &element);
    ASSERT(is_whole);
    return element;
}

static bool is_null(struct bytes answer)
{
    return answer.size_bytes > 0 &&
           (answer.data[0] == '_' || bytes_equal(answer, BYTES("$-1\r\n")));
}

/* A part that failed; before all, one whose outcome is unknown. NULL: none. */
static const struct part *failed_part(const struct spread *spread)
{
    const struct part *failed = NULL;
    for (uint32_t i = 0; i < spread->part_count; i++) {
        const struct part *part = spread->parts[i];
        bool has_failed =
            part->status != 0 || (part->answer.size_bytes > 0 && part->answer.data[0] == '-');
        if (has_failed && (failed == NULL || part->status == ERROR_OUTCOME_UNKNOWN)) {
            failed = part;
        }
    }
    return failed;
}

static void add_up(struct spread *spread, const struct reply *reply)
{
    int64_t sum = 0;
    for (uint32_t i = 0; i < spread->part_count; i++) {
        struct bytes answer = buffer_bytes(&spread->parts[i]->answer);
        sum += take_number(&answer, ':');
    }
    reply_integer(reply, sum);
}

static void begin_arrays(struct spread *spread, const struct reply *reply)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < spread->part_count; i++) {
        struct part *part = spread->parts[i];
        part->rest = buffer_bytes(&part->answer);
        count += (uint64_t)take_number(&part->rest, '*');
    }
    reply_array(reply, count);
}

static void merge(struct spread *spread, const struct reply *reply)
{
    begin_arrays(spread, reply);
    for (uint32_t i = 0; i < spread->key_count; i++) {
        struct part *part = spread->parts[spread->key_parts[i]];
        buffer_append(reply->target, take_element(&part->rest));
    }
}

static void choose_any(struct spread *spread, const struct reply *reply)
{
    uint32_t start;
    os_random_fill(&start, sizeof start);
    for (uint32_t i = 0; i < spread->part_count; i++) {
        uint32_t place = (start % spread->part_count + i) % spread->part_count;
        struct bytes answer = buffer_bytes(&spread->parts[place]->answer);
        if (!is_null(answer)) {
            buffer_append(reply->target, answer);
            return;
        }
    }
    reply_null(reply);
}

/* WATCH: the versions, 8 bytes each, of the keys. */
static void keep_versions(struct spread *spread, const struct reply *reply)
{
    struct connection *connection = spread->slot->connection;
    for (uint32_t i = 0; i < spread->part_count; i++) {
        struct part *part = spread->parts[i];
        part->rest = buffer_bytes(&part->answer);
        if (part->status != 0) {
            resp__reply_failure(spread->entry, false, part->status, reply);
            return;
        }
        if (part->rest.size_bytes != (size_t)part->argument_count * VERSION_SIZE) {
            buffer_append(reply->target, part->rest); /* An error. */
            return;
        }
    }
    for (uint32_t i = 0; i < spread->key_count && !connection->is_hung_up; i++) {
        struct part *part = spread->parts[spread->key_parts[i]];
        resp__transaction_watch(connection, spread->copies[i], endian_get_u64_le(part->rest.data));
        part->rest =
            bytes_make(part->rest.data + VERSION_SIZE, part->rest.size_bytes - VERSION_SIZE);
    }
    reply_ok(reply);
}

/* Has a write failed at some shards and taken effect at others, or may it have? */
static bool is_half_done(const struct spread *spread)
{
    bool has_failed = false;
    bool has_effect = false;
    for (uint32_t i = 0; i < spread->part_count; i++) {
        int status = spread->parts[i]->status;
        has_failed |= status != 0;
        has_effect |= status == 0;
    }
    return has_failed && has_effect && spread->parts[0]->request.is_write;
}

static void combine(struct spread *spread, const struct reply *reply)
{
    if (spread->is_too_large) {
        resp__reply_too_large(spread->slot->connection->server, spread->entry, reply);
        return;
    }
    if (spread->entry->spread == SPREAD_WATCH) {
        keep_versions(spread, reply);
        return;
    }
    const struct part *failed = failed_part(spread);
    if (is_half_done(spread)) {
        reply_error(reply, "UNKNOWN the write has taken effect in some shards and not, or perhaps "
                           "not, in others");
        return;
    }
    if (failed != NULL && failed->status == 0) {
        buffer_append(reply->target, buffer_bytes(&failed->answer));
        return;
    }
    if (failed != NULL) {
        resp__reply_failure(spread->entry, failed->request.is_write, failed->status, reply);
        return;
    }
    switch ((enum spread_kind)spread->entry->spread) {
    case SPREAD_SUM:
        add_up(spread, reply);
        return;
    case SPREAD_JOIN:
        begin_arrays(spread, reply);
        for (uint32_t i = 0; i < spread->part_count; i++) {
            buffer_append(reply->target, spread->parts[i]->rest);
        }
        return;
    case SPREAD_MERGE:
        merge(spread, reply);
        return;
    case SPREAD_ANY:
        choose_any(spread, reply);
        return;
    case SPREAD_ALL:
        reply_ok(reply);
        return;
    case SPREAD_NONE:
    case SPREAD_WATCH:
        break;
    }
    ASSERT(false);
}

static void finish(struct spread *spread)
{
    struct slot *slot = spread->slot;
    struct connection *connection = slot->connection;
    struct buffer answer = {0};
    struct reply reply = {.target = &answer, .protocol = slot->request.protocol};
    if (!connection->is_hung_up) {
        buffer_reserve(&answer, spread->answer_size_bytes + EMPTY_ANSWER_SIZE);
        combine(spread, &reply);
    }
    connection->spread = NULL;
    spread_free(spread);
    connection->is_blocked = false;
    resp__slot_close(slot, 0, buffer_bytes(&answer)); /* The connection may be gone. */
    buffer_deinit(&answer);
}

/* ---- On their way ---------------------------------------------------------------------------- */

static void drop_answers(struct spread *spread)
{
    for (uint32_t i = 0; i < spread->part_count; i++) {
        if (spread->parts[i]->state == PART_DONE) {
            spread->size_bytes -= spread->parts[i]->answer.capacity_bytes;
            buffer_deinit(&spread->parts[i]->answer);
        }
    }
    spread->answer_size_bytes = 0;
}

/* Each shard limits what it answers; that all of them together do not exceed one answer's limit is seen to
 * here. What writes answer is small. */
static void part_is_done(struct part *part, int status)
{
    struct spread *spread = part->spread;
    const struct resp_options *options = &spread->slot->connection->server->group->options;
    part->state = PART_DONE;
    part->status = status;
    spread->size_bytes += part->answer.capacity_bytes;
    spread->answer_size_bytes += part->answer.size_bytes;
    spread->open_count--;
    if (!part->request.is_write && spread->answer_size_bytes > options->answer_size_bytes_max) {
        PROBE("resp.answers_too_large");
        spread->is_too_large = true;
        drop_answers(spread);
    }
}

static void cut_anew(struct part *part);

void resp__spread_drop(struct spread *spread)
{
    drop_answers(spread);
    resp__slot_charge(spread->slot, spread->size_bytes);
}

static void answered(struct shard_request *request, int status, struct bytes answer)
{
    struct part *part = LIST_ITEM(request, struct part, request);
    struct spread *spread = part->spread;
    struct connection *connection = spread->slot->connection;
    if (!part->request.is_write) {
        resp__server_read_answered(connection->server, answer.size_bytes);
    }
    if (status == ERROR_MOVED) {
        cut_anew(part);
        if (list_is_empty(&spread->link)) {
            list_push_back(&connection->server->spreads, &spread->link);
        }
        os_loop_tick_again(connection->server->loop);
        return;
    }
    if (!connection->is_hung_up && !spread->is_too_large) {
        buffer_append(&part->answer, answer);
    }
    part_is_done(part, status);
    resp__slot_charge(spread->slot, spread->size_bytes);
    if (spread->open_count == 0 && !spread->is_submitting) {
        finish(spread);
    }
}

static void submit_part(struct part *part)
{
    struct resp_server *server = part->spread->slot->connection->server;
    const struct resp_backend *backend = server->backend;
    struct reply reply = {.target = &part->answer, .protocol = part->request.protocol};
    if (part->spread->is_too_large) {
        part_is_done(part, 0);
        return;
    }
    if (!part->request.is_write && !resp__server_may_read(server)) {
        return; /* Each part is a read. */
    }
    part->request.command.arguments = part->arguments;
    part->state = PART_SUBMITTED;
    resp__name_slots(&part->request, &part->range);
    int status = backend->submit(backend->context, part->range.shard, &part->request, &reply);
    if (status == -EBUSY) {
        part->state = PART_READY;
    } else if (status == ERROR_MOVED) {
        cut_anew(part);
    } else if (status == SHARD_PENDING) {
        server->pending_read_count += !part->request.is_write;
    } else {
        part_is_done(part, status);
    }
    if (status < 0) {
        buffer_clear(&part->answer);
    }
}

/* May end it. */
static void submit_parts(struct spread *spread)
{
    struct resp_server *server = spread->slot->connection->server;
    bool is_any_ready = false;
    spread->is_submitting = true;
    for (uint32_t i = 0; i < spread->part_count; i++) {
        if (spread->parts[i]->state == PART_READY) {
            submit_part(spread->parts[i]);
            is_any_ready |= spread->parts[i]->state == PART_READY;
        }
    }
    spread->is_submitting = false;
    if (spread->open_count == 0) {
        finish(spread);
        return;
    }
    resp__slot_charge(spread->slot, spread->size_bytes);
    if (is_any_ready && list_is_empty(&spread->link)) {
        list_push_back(&server->spreads, &spread->link);
    }
}

void resp__spreads_retry(struct resp_server *server)
{
    struct list waiting;
    list_init(&waiting);
    list_append_all(&waiting, &server->spreads);
    for (struct list *member; (member = list_pop_front(&waiting)) != NULL;) {
        submit_parts(LIST_ITEM(member, struct spread, link));
    }
}

/* ---- Cutting --------------------------------------------------------------------------------- */

uint64_t resp__arguments_size_bytes(const struct bytes *arguments, uint32_t count)
{
    uint64_t size = 0;
    for (uint32_t i = 0; i < count; i++) {
        size += sizeof(struct bytes) + arguments[i].size_bytes;
    }
    return size;
}

struct bytes *resp__arguments_copy(const struct bytes *arguments, uint32_t count)
{
    struct bytes *copies =
        memory_allocate(sizeof(struct bytes) + resp__arguments_size_bytes(arguments, count));
    uint8_t *place = (uint8_t *)(copies + count + 1);
    for (uint32_t i = 0; i < count; i++) {
        copies[i] = bytes_make(place, arguments[i].size_bytes);
        if (arguments[i].size_bytes > 0) {
            memcpy(place, arguments[i].data, arguments[i].size_bytes);
        }
        place += arguments[i].size_bytes;
    }
    return copies;
}

/* Finds the part that has a place in the map of shards, among those that there are: a hash table, so that
 * it costs the same with however many shards. */
struct dealing {
    struct spread *spread;
    const struct slots *slots;
    uint32_t *numbers; /* 1 + the number of a part; 0: free. */
    uint32_t mask;
};

static struct part *part_of_place(struct dealing *dealing, uint32_t place)
{
    struct spread *spread = dealing->spread;
    wal_shard shard = dealing->slots->ranges[place].shard;
    uint32_t at = place & dealing->mask;
    while (dealing->numbers[at] != 0) {
        struct part *part = spread->parts[dealing->numbers[at] - 1];
        if (part->range.shard == shard) {
            return part;
        }
        at = (at + 1) & dealing->mask;
    }
    struct part *part = add_part(spread);
    part->range = dealing->slots->ranges[place];
    dealing->numbers[at] = part->number + 1;
    return part;
}

/* Each shard gets the keys that it has; all arguments are keys. */
static void deal_keys(struct spread *spread, const struct slots *slots, uint32_t count)
{
    struct dealing dealing = {.spread = spread, .slots = slots, .mask = 1};
    while (dealing.mask < 2 * count && dealing.mask < 2 * slots->range_count) {
        dealing.mask = 2 * dealing.mask + 1;
    }
    dealing.numbers = memory_allocate_zeroed(dealing.mask + 1u, sizeof(uint32_t));
    spread->key_count = count;
    spread->key_parts = memory_allocate(((size_t)count + 1) * sizeof(uint32_t));
    for (uint32_t i = 0; i < count; i++) {
        uint32_t place = slots_place_of(slots, kv_slot_of_key(spread->copies[i]));
        struct part *part = part_of_place(&dealing, place);
        spread->key_parts[i] = part->number;
        part->argument_count++;
    }
    memory_free(dealing.numbers);
    struct bytes *next = spread->items;
    for (uint32_t i = 0; i < spread->part_count; i++) {
        spread->parts[i]->arguments = next;
        next += spread->parts[i]->argument_count;
        spread->parts[i]->argument_count = 0;
    }
    for (uint32_t i = 0; i < count; i++) {
        struct part *part = spread->parts[spread->key_parts[i]];
        part->arguments[part->argument_count++] = spread->copies[i];
    }
}

static void prepare_parts(struct spread *spread, const struct connection *connection)
{
    const struct kv_command *command = spread->entry->command;
    bool is_watch = spread->entry->spread == SPREAD_WATCH;
    bool is_write = (command->flags & KV_FLAG_WRITE) != 0;
    spread->open_count = spread->part_count;
    for (uint32_t i = 0; i < spread->part_count; i++) {
        struct part *part = spread->parts[i];
        shard_session_init(&part->session);
        part->request = (struct shard_request){
            .command = {.opcode = is_watch ? kv_versions_opcode() : command->opcode,
                        .argument_count = part->argument_count},
            .protocol = connection->protocol,
            .is_write = is_write,
            .does_grow = (command->flags & KV_FLAG_GROWS) != 0,
            .may_be_stale = connection->is_readonly && !is_write,
            .done = answered,
            .session = &part->session,
        };
    }
}

static bool is_within(struct bytes key, const struct slots_range *range)
{
    uint16_t slot = kv_slot_of_key(key);
    return slot >= range->first && slot < range->end;
}

/* The keys of a part that are in the range of another one go there; both keep their order. */
static void move_keys(struct part *part, struct part *other)
{
    struct spread *spread = part->spread;
    struct bytes *moved = memory_allocate((part->argument_count + 1u) * sizeof moved[0]);
    uint32_t kept_count = 0;
    uint32_t moved_count = 0;
    for (uint32_t i = 0; i < part->argument_count; i++) {
        if (is_within(part->arguments[i], &other->range)) {
            moved[moved_count++] = part->arguments[i];
        } else {
            part->arguments[kept_count++] = part->arguments[i];
        }
    }
    memcpy(part->arguments + kept_count, moved, moved_count * sizeof moved[0]);
    memory_free(moved);
    part->argument_count = kept_count;
    other->arguments = part->arguments + kept_count;
    other->argument_count = moved_count;
    other->request.command.argument_count = moved_count;
    for (uint32_t i = 0; i < spread->key_count; i++) {
        if (spread->key_parts[i] == part->number && is_within(spread->copies[i], &other->range)) {
            spread->key_parts[i] = other->number;
        }
    }
}

/* Another part, for slots that this one had. */
static struct part *branch_off(struct part *part, const struct slots_range *range)
{
    struct spread *spread = part->spread;
    ASSERT(spread->part_count < SLOTS_SHARD_COUNT_MAX); /* Each has slots of its own. */
    struct part *other = add_part(spread);
    *other = (struct part){.spread = spread,
                           .number = other->number,
                           .range = *range,
                           .state = PART_READY,
                           .request = part->request,
                           .arguments = part->arguments,
                           .argument_count = part->argument_count};
    list_init(&other->request.link);
    shard_session_init(&other->session);
    other->request.session = &other->session;
    spread->open_count++;
    return other;
}

static bool has_key_within(const struct part *part, const struct slots_range *range)
{
    for (uint32_t i = 0; i < part->argument_count; i++) {
        if (is_within(part->arguments[i], range)) {
            return true;
        }
    }
    return false;
}

/* The part's shard has other slots, and the part did nothing: by the newest map, several shards may have
 * what it is about. When there is no newer map yet, it is asked again as it is. */
static void cut_anew(struct part *part)
{
    struct spread *spread = part->spread;
    const struct slots *slots = resp__slots(spread->slot->connection->server);
    const struct slots_range old = part->range;
    bool has_keys = spread->key_count > 0;
    PROBE("resp.part_moved");
    part->state = PART_READY;
    part->range =
        resp__range_of_slot(slots, has_keys ? kv_slot_of_key(part->arguments[0]) : old.first);
    if (slots == NULL) {
        return;
    }
    for (uint32_t i = slots_place_of(slots, old.first);
         i < slots->range_count && slots->ranges[i].first < old.end; i++) {
        const struct slots_range *range = &slots->ranges[i];
        if (range->shard == part->range.shard || (has_keys && !has_key_within(part, range))) {
            continue;
        }
        struct part *other = branch_off(part, range);
        if (has_keys) {
            move_keys(part, other);
        }
    }
    part->request.command.argument_count = part->argument_count;
}

static struct spread *cut(struct connection *connection, const struct command_entry *entry,
                          const struct bytes *arguments, uint32_t count)
{
    const struct slots *slots = resp__slots(connection->server);
    struct spread *spread = memory_allocate_zeroed(1, sizeof *spread);
    list_init(&spread->link);
    spread->entry = entry;
    spread->copies = resp__arguments_copy(arguments, count);
    spread->items = memory_allocate((count + 1) * sizeof(struct bytes));
    if (entry->command->keys.first > 0) {
        deal_keys(spread, slots, count);
    } else {
        for (uint32_t i = 0; i < slots->range_count; i++) {
            struct part *part = add_part(spread);
            part->range = slots->ranges[i];
            part->arguments = spread->copies;
            part->argument_count = count;
        }
    }
    spread->size_bytes = sizeof *spread + spread->part_count * sizeof(struct part) +
                         resp__arguments_size_bytes(arguments, count) +
                         (count + 1) * sizeof(struct bytes);
    prepare_parts(spread, connection);
    return spread;
}

enum handled resp__spread(struct connection *connection, const struct command_entry *entry,
                          const struct bytes *arguments, uint32_t count, const struct reply *reply)
{
    if (kv_command_refuses(entry->command, arguments + 1, count - 1, reply)) {
        return HANDLED_DONE;
    }
    if (entry->spread == SPREAD_NONE && kv_command_may_be_split(entry->command)) {
        return resp__across_command(connection, entry, arguments, count, reply);
    }
    if (entry->spread == SPREAD_NONE && kv_command_moves(entry->command)) {
        return resp__move(connection, entry, arguments, count);
    }
    if (entry->spread == SPREAD_NONE) {
        resp__reply_cross(reply);
        return HANDLED_DONE;
    }
    if (connection->under_way_count > 0) {
        return HANDLED_AFTER;
    }
    struct spread *spread = cut(connection, entry, arguments + 1, count - 1);
    connection->is_blocked = true;
    connection->spread = spread;
    spread->slot = resp__slot_open(connection, entry, spread->size_bytes);
    submit_parts(spread);
    return HANDLED_DONE;
}
