/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/resp/resp_world.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/assert/assert.h"
#include "base/endian/endian.h"
#include "base/memory/memory.h"
#include "base/random/random.h"

enum { STRING_COUNT_MAX = 64, SERVER_COUNT_MAX = 4, SPLIT_COUNT_MAX = 16, WAIT_MS_MAX = 30000 };

struct pair {
    struct buffer key;
    struct buffer value;
    uint64_t version;
};

/* A server with its own little database. */
struct place {
    struct world *world;
    struct os_loop *loop;
    struct os_thread *thread;
    struct resp_server *server;
    struct resp_backend backend;
    struct list waiting; /* Writes, and reads behind them, of struct later. */
    struct os_timer *timer;
    struct random random;
    struct os_message stop;
    struct pair pairs[STRING_COUNT_MAX];
    uint64_t version;
};

/* Executed when it is answered. */
struct later {
    struct list link;
    struct shard_request *request;
    wal_shard shard;
    bool will_fail;
    struct bytes *arguments; /* Copied, with their bytes behind. */
};

struct world {
    struct resp_group *group;
    /* Maps by age; of these the shards are as the one, and the gateway knows the other. */
    struct slots maps[SPLIT_COUNT_MAX + 1];
    _Atomic int split_count;
    _Atomic int shown_count;
    _Atomic int split_after; /* So many answers; 0: no split is planned. */
    _Atomic uint32_t split_slot;
    _Atomic int moved_count;
    struct place places[SERVER_COUNT_MAX];
    uint32_t place_count;
    uint16_t port;
    bool is_stopping;
    _Atomic bool is_holding;
    _Atomic bool is_losing;
    _Atomic bool is_replacing; /* What has moved was given another command by a leader before. */
    _Atomic wal_shard held_shard;
    _Atomic bool is_shuffling;
    _Atomic int let_count;
    _Atomic bool is_reading_late;
    _Atomic int refusal_status;
    _Atomic int refusal_count;
    _Atomic int failure_status;
    _Atomic int failure_count;
    _Atomic int stop_count;
    _Atomic int stale_count;
    _Atomic int order_keys[WORLD_ORDER_KEYS_MAX];
    _Atomic int order_key_count;
    _Atomic bool is_cluster;
    _Atomic uint32_t stopped_count;
};

/* ---- The database ---------------------------------------------------------------------------- */

static struct pair *pair_of(struct place *place, struct bytes key)
{
    struct pair *free_pair = NULL;
    for (uint32_t i = 0; i < STRING_COUNT_MAX; i++) {
        struct pair *pair = &place->pairs[i];
        if (pair->version != 0 && bytes_equal(buffer_bytes(&pair->key), key)) {
            return pair;
        }
        free_pair = free_pair == NULL && pair->version == 0 ? pair : free_pair;
    }
    ASSERT(free_pair != NULL);
    return free_pair;
}

static bool is_opcode(const struct shard_command *command, const char *name)
{
    return command->opcode == kv_command_find(bytes_of_text(name))->opcode;
}

static const struct slots *true_slots(const struct world *world)
{
    return &world->maps[atomic_load(&world->split_count)];
}

/* Of several shards: commands about some keys, or about all of the shard. */
static bool execute_some(struct place *place, wal_shard shard, const struct shard_command *command,
                         const struct reply *reply)
{
    const struct slots *slots = true_slots(place->world);
    bool is_deleting = is_opcode(command, "del");
    bool is_flushing = is_opcode(command, "flushall");
    bool is_listing = is_opcode(command, "keys");
    bool is_choosing = is_opcode(command, "randomkey");
    int64_t count = 0;
    struct buffer names = {0};
    struct reply list = {.target = &names, .protocol = reply->protocol};
    if (is_opcode(command, "mget")) {
        reply_array(reply, command->argument_count);
        for (uint32_t i = 0; i < command->argument_count; i++) {
            struct pair *pair = pair_of(place, command->arguments[i]);
            if (pair->version != 0) {
                reply_bulk(reply, buffer_bytes(&pair->value));
            } else {
                reply_null(reply);
            }
        }
        return true;
    }
    if (is_deleting || is_opcode(command, "exists")) {
        for (uint32_t i = 0; i < command->argument_count; i++) {
            struct pair *pair = pair_of(place, command->arguments[i]);
            count += pair->version != 0;
            pair->version = is_deleting ? 0 : pair->version;
        }
        reply_integer(reply, count);
        return true;
    }
    if (!is_flushing && !is_listing && !is_choosing && !is_opcode(command, "dbsize")) {
        return false;
    }
    for (uint32_t i = 0; i < STRING_COUNT_MAX; i++) {
        struct pair *pair = &place->pairs[i];
        uint16_t slot = kv_slot_of_key(buffer_bytes(&pair->key));
        if (pair->version == 0 || slots_shard_of(slots, slot) != shard) {
            continue;
        }
        if (!is_choosing || count == 0) {
            reply_bulk(&list, buffer_bytes(&pair->key));
        }
        count++;
        pair->version = is_flushing ? 0 : pair->version;
    }
    if (is_flushing) {
        reply_ok(reply);
    } else if (is_choosing && count == 0) {
        reply_null(reply);
    } else if (!is_choosing && !is_listing) {
        reply_integer(reply, count);
    } else {
        if (is_listing) {
            reply_array(reply, (uint64_t)count);
        }
        buffer_append(reply->target, buffer_bytes(&names));
    }
    buffer_deinit(&names);
    return true;
}

/* What a read of the content of a key answers: service/kv/kv_move.c. */
static void reply_content(const struct pair *pair, const struct reply *reply)
{
    struct buffer content = {0};
    uint8_t *head = buffer_extend(&content, 17);
    memset(head, 0, 17);
    if (pair->version != 0) {
        endian_put_u64_le(head, pair->version);
        head[16] = 1; /* A string. */
        buffer_append(&content, buffer_bytes(&pair->value));
    }
    reply_bulk(reply, buffer_bytes(&content));
    buffer_deinit(&content);
}

static void execute(struct place *place, wal_shard shard, const struct shard_command *command,
                    const struct reply *reply)
{
    if (world_execute_step(command, atomic_load(&place->world->is_losing), reply)) {
        return;
    }
    if (command->opcode == kv_slot_count_opcode()) {
        reply_integer(reply, 77);
        return;
    }
    if (command->opcode == kv_slot_keys_opcode()) {
        reply_array(reply, 1);
        reply_bulk(reply, command->arguments[1]);
        return;
    }
    if (true_slots(place->world)->range_count > 1 && execute_some(place, shard, command, reply)) {
        return;
    }
    struct pair *pair =
        pair_of(place, command->argument_count > 0 ? command->arguments[0] : BYTES(""));
    bool is_get = is_opcode(command, "get") || is_opcode(command, "getex");
    if (is_opcode(command, "set")) {
        buffer_clear(&pair->key);
        buffer_append(&pair->key, command->arguments[0]);
        buffer_clear(&pair->value);
        buffer_append(&pair->value, command->arguments[1]);
        pair->version = ++place->version;
        reply_ok(reply);
    } else if (is_get && pair->version != 0) {
        reply_bulk(reply, buffer_bytes(&pair->value));
    } else if (is_get) {
        reply_null(reply);
    } else if (command->opcode == kv_versions_opcode()) {
        for (uint32_t i = 0; i < command->argument_count; i++) {
            uint64_t version = pair_of(place, command->arguments[i])->version;
            buffer_append(reply->target, bytes_make(&version, sizeof version));
        }
    } else if (command->opcode == kv_content_opcode()) {
        reply_content(pair, reply);
    } else {
        reply_status(reply, "transaction");
    }
}

/* What a gateway has to keep. */
static void check(const struct place *place, wal_shard shard, const struct shard_request *request)
{
    const struct slots *slots = true_slots(place->world);
    ASSERT(slots_find(slots, shard) < slots->range_count);
    ASSERT(request->first_slot < request->end_slot && request->end_slot <= SLOTS_COUNT);
    LIST_EACH(member, next, &place->waiting)
    {
        const struct later *later = LIST_ITEM(member, struct later, link);
        if (later->request->session == request->session) {
            ASSERT(later->shard == shard);
            ASSERT(later->request->first_slot == request->first_slot);
            ASSERT(later->request->end_slot == request->end_slot);
        }
    }
    const struct shard_command *command = &request->command;
    bool are_keys =
        is_opcode(command, "mget") || is_opcode(command, "del") || is_opcode(command, "exists");
    bool is_key = is_opcode(command, "set") || is_opcode(command, "get") ||
                  command->opcode == kv_content_opcode();
    uint32_t count = are_keys ? command->argument_count : 1;
    if (command->opcode == kv_txn_opcodes().prepare) {
        world_check_part(request);
    }
    if (is_key || are_keys) {
        for (uint32_t i = 0; i < count; i++) {
            uint16_t slot = kv_slot_of_key(command->arguments[i]);
            ASSERT(slot >= request->first_slot && slot < request->end_slot);
        }
    }
}

/* The shard has other slots than the request names. */
static bool has_moved(const struct world *world, wal_shard shard,
                      const struct shard_request *request)
{
    const struct slots *slots = true_slots(world);
    const struct slots_range *range = &slots->ranges[slots_find(slots, shard)];
    return request->first_slot != range->first || request->end_slot != range->end;
}

static struct bytes *copy_arguments(const struct shard_command *command)
{
    size_t size = 0;
    for (uint32_t i = 0; i < command->argument_count; i++) {
        size += sizeof(struct bytes) + command->arguments[i].size_bytes;
    }
    struct bytes *copies = memory_allocate(size + 1);
    uint8_t *place = (uint8_t *)(copies + command->argument_count);
    for (uint32_t i = 0; i < command->argument_count; i++) {
        struct bytes argument = command->arguments[i];
        copies[i] = bytes_make(place, argument.size_bytes);
        if (argument.size_bytes > 0) {
            memcpy(place, argument.data, argument.size_bytes);
        }
        place += argument.size_bytes;
    }
    return copies;
}

static bool is_idle(const struct place *place, wal_shard shard)
{
    LIST_EACH(member, next, &place->waiting)
    {
        if (LIST_ITEM(member, struct later, link)->shard == shard) {
            return false;
        }
    }
    return true;
}

static int submit(void *context, wal_shard shard, struct shard_request *request,
                  const struct reply *reply)
{
    struct place *place = context;
    struct world *world = place->world;
    check(place, shard, request);
    (void)atomic_fetch_add(&world->stale_count, request->may_be_stale);
    if (atomic_load(&world->refusal_count) > 0 &&
        (request->is_write || atomic_load(&world->refusal_status) != -ENOSPC)) {
        (void)atomic_fetch_sub(&world->refusal_count, 1);
        return atomic_load(&world->refusal_status);
    }
    if (has_moved(world, shard, request) && is_idle(place, shard)) {
        (void)atomic_fetch_add(&world->moved_count, 1);
        return ERROR_MOVED;
    }
    bool will_fail = atomic_load(&world->failure_count) > 0;
    if (!request->is_write && is_idle(place, shard) && !will_fail &&
        !atomic_load(&world->is_reading_late)) {
        execute(place, shard, &request->command, reply);
        return SHARD_ANSWERED;
    }
    int number = atomic_fetch_add(&world->order_key_count, 1);
    if (number < (int)WORLD_ORDER_KEYS_MAX) {
        atomic_store(&world->order_keys[number], request->order_key);
    }
    struct later *later = memory_allocate_zeroed(1, sizeof *later);
    later->request = request;
    later->shard = shard;
    later->will_fail = will_fail;
    later->arguments = copy_arguments(&request->command);
    request->command.arguments = NULL;
    (void)atomic_fetch_sub(&world->failure_count, will_fail);
    list_push_back(&place->waiting, &later->link);
    os_timer_start(place->timer, 1, 1);
    return SHARD_PENDING;
}

static void split_if_planned(struct world *world)
{
    if (atomic_load(&world->split_after) > 0 && atomic_fetch_sub(&world->split_after, 1) == 1) {
        world_split(world, atomic_load(&world->split_slot));
    }
}

static const struct bytes replacement = {(const uint8_t *)"-OOM no\r\n", 9};

static void answer_one(struct place *place, struct later *later)
{
    struct world *world = place->world;
    struct shard_request *request = later->request;
    struct buffer answer = {0};
    const struct reply reply = {.target = &answer, .protocol = request->protocol};
    int status = later->will_fail ? atomic_load(&world->failure_status) : 0;
    request->command.arguments = later->arguments;
    if (status == 0 && has_moved(world, later->shard, request)) {
        status = ERROR_MOVED;
        (void)atomic_fetch_add(&world->moved_count, 1);
        if (atomic_load(&world->is_replacing)) {
            request->command = (struct shard_command){kv_answer_opcode(), .argument_count = 1,
                                                      .arguments = &replacement};
        }
    } else if (status == 0) {
        execute(place, later->shard, &request->command, &reply);
        split_if_planned(world);
    }
    request->done(request, status, buffer_bytes(&answer));
    buffer_deinit(&answer);
    memory_free(later->arguments);
    memory_free(later);
}

static struct later *later_of(struct list *member)
{
    return LIST_ITEM(member, struct later, link);
}

/* The first one of the session that has the one at `place`. */
static struct later *first_of_session(struct place *place, uint64_t at)
{
    struct list *member = place->waiting.next;
    for (; at > 0; at--) {
        member = member->next;
    }
    const struct shard_session *session = later_of(member)->request->session;
    member = place->waiting.next;
    while (later_of(member)->request->session != session) {
        member = member->next;
    }
    return later_of(member);
}

/* NULL: none may be answered. */
static struct later *choose(struct place *place)
{
    const struct world *world = place->world;
    wal_shard held_shard = atomic_load(&world->held_shard);
    struct later *first = NULL;
    uint64_t count = 0;
    LIST_EACH(member, next, &place->waiting)
    {
        if (first == NULL && later_of(member)->shard != held_shard) {
            first = later_of(member);
        }
        count++;
    }
    if (first == NULL || !atomic_load(&world->is_shuffling)) {
        return first;
    }
    struct later *any = first_of_session(place, random_below(&place->random, count));
    return any->shard != held_shard ? any : first;
}

static void answer_waiting(void *context)
{
    struct place *place = context;
    struct world *world = place->world;
    for (struct later *later; (later = choose(place)) != NULL;) {
        bool is_let = atomic_load(&world->let_count) > 0;
        if (atomic_load(&world->is_holding) && !is_let) {
            return;
        }
        (void)atomic_fetch_sub(&world->let_count, is_let);
        list_remove(&later->link);
        answer_one(place, later);
        if (atomic_load(&world->is_shuffling) && random_chance(&place->random, 1, 4)) {
            return; /* The rest another time. */
        }
    }
    if (list_is_empty(&place->waiting)) {
        os_timer_stop(place->timer);
    }
}

static const struct slots *newest_slots(void *context)
{
    const struct world *world = ((struct place *)context)->world;
    return &world->maps[atomic_load(&world->shown_count)];
}

static void get_information(void *context, struct resp_information *information)
{
    *information = (struct resp_information){
        .data_directory = "/data",
        .configuration_file = "",
        .run_id = "0123456789012345678901234567890123456789",
        .is_flush_always = true,
        .durable_at_ms = 1700000000999,
        .key_count = 7,
        .expiring_key_count = 3,
        .hit_count = 11,
        .miss_count = 12,
    };
}

static void get_cluster(void *context, struct resp_cluster *cluster)
{
    const struct place *place = context;
    static const struct resp_cluster_node nodes[] = {
        {.id = 3, .host = "fd00::3", .port = 6380, .peer_port = 7380, .offset = 5},
        {.id = 1, .host = "", .peer_port = 7380, .is_self = true, .is_online = true, .offset = 9},
        {.id = 2, .host = "10.0.0.2", .port = 6379, .peer_port = 7380, .is_online = true},
    };
    static const uint32_t replicas[][2] = {{2, 3}, {1, 3}, {3, 1}};
    static const struct resp_cluster_range ranges[] = {
        {0, 5460, 1, replicas[0], 2},
        {5461, 5470, 1, replicas[0], 2},
        {5470, 10922, 2, replicas[1], 2},
        {10923, 16383, 0, replicas[2], 2},
    };
    if (!atomic_load(&place->world->is_cluster)) {
        return;
    }
    resp_cluster_set(cluster, "0123456789abcdef0123456789abcdef", 42);
    for (uint32_t i = 0; i < 3; i++) {
        resp_cluster_add_node(cluster, &nodes[i]);
    }
    for (uint32_t i = 0; i < 4; i++) {
        resp_cluster_add_range(cluster, &ranges[i]);
    }
}

static bool find_leader(void *context, uint16_t slot, struct resp_place *found)
{
    const struct place *place = context;
    if (!atomic_load(&place->world->is_cluster) || slot <= 5470 || slot > 10922) {
        return false;
    }
    *found = (struct resp_place){.host = "10.0.0.2", .port = 6379};
    return true;
}

static bool setting_at(void *context, uint32_t index, const char **name, struct buffer *value)
{
    if (index > 0) {
        return false;
    }
    *name = "flush";
    buffer_append(value, BYTES("always"));
    return true;
}

static void stop_node(void *context)
{
    struct place *place = context;
    (void)atomic_fetch_add(&place->world->stop_count, 1);
}

/* ---- Threads --------------------------------------------------------------------------------- */

static void run(void *context)
{
    struct place *place = context;
    os_loop_run(place->loop);
}

static void stopped(void *context)
{
    struct place *place = context;
    struct world *world = place->world;
    if (atomic_fetch_add(&world->stopped_count, 1) + 1 == world->place_count) {
        for (uint32_t i = 0; i < world->place_count; i++) {
            os_loop_stop(world->places[i].loop);
        }
    }
}

static void deliver_stop(struct os_message *message)
{
    struct place *place = LIST_ITEM(message, struct place, stop);
    resp_server_stop(place->server, stopped, place);
}

static void listen_at(struct world *world, struct place *place, const struct os_listener *sibling)
{
    struct error error;
    struct os_listener_options options = {.sibling = sibling, .flag = "--redis"};
    if (sibling == NULL) {
        ASSERT(os_address_parse(&options.address, "127.0.0.1:0", &error) == 0);
    }
    ASSERT(resp_server_listen(place->server, &options, &error) == 0);
    world->port = os_listener_address(resp_server_listener(place->server)).port;
}

struct world *world_create(const struct world_options *options)
{
    struct world *world = memory_allocate_zeroed(1, sizeof *world);
    struct resp_options resp = options->resp;
    struct error error;
    os_ignore_broken_pipes();
    slots_divide(&world->maps[0], options->shard_count == 0 ? 1 : options->shard_count);
    world->place_count = options->server_count == 0 ? 1 : options->server_count;
    resp.server_count = world->place_count;
    ASSERT(resp_group_create(&world->group, &resp, &error) == 0);
    for (uint32_t i = 0; i < world->place_count; i++) {
        struct place *place = &world->places[i];
        place->world = world;
        list_init(&place->waiting);
        random_init(&place->random, i + 1);
        ASSERT(os_loop_create(&place->loop, &error) == 0);
        place->timer = os_timer_create(place->loop, answer_waiting, place);
        place->backend = (struct resp_backend){.context = place,
                                               .slots = newest_slots,
                                               .submit = submit,
                                               .get_information = get_information,
                                               .setting_at = setting_at,
                                               .get_cluster = get_cluster,
                                               .find_leader = find_leader,
                                               .stop_node = stop_node};
        place->server = resp_server_create(world->group, place->loop, &place->backend);
        listen_at(world, place, i == 0 ? NULL : resp_server_listener(world->places[0].server));
    }
    for (uint32_t i = 0; i < world->place_count; i++) {
        ASSERT(os_thread_start(&world->places[i].thread, "server", run, &world->places[i],
                               &error) == 0);
    }
    return world;
}

void world_begin_stop(struct world *world)
{
    world->is_stopping = true;
    for (uint32_t i = 0; i < world->place_count; i++) {
        world->places[i].stop.deliver = deliver_stop;
        os_loop_post(world->places[i].loop, &world->places[i].stop);
    }
}

void world_destroy(struct world *world)
{
    if (!world->is_stopping) {
        world_begin_stop(world);
    }
    for (uint32_t i = 0; i < world->place_count; i++) {
        os_thread_join(world->places[i].thread);
    }
    for (uint32_t i = 0; i < world->place_count; i++) {
        struct place *place = &world->places[i];
        resp_server_destroy(place->server);
        os_timer_destroy(place->timer);
        os_loop_destroy(place->loop);
        for (uint32_t j = 0; j < STRING_COUNT_MAX; j++) {
            buffer_deinit(&place->pairs[j].key);
            buffer_deinit(&place->pairs[j].value);
        }
    }
    for (uint32_t i = 0; i <= SPLIT_COUNT_MAX; i++) {
        slots_deinit(&world->maps[i]);
    }
    resp_group_destroy(world->group);
    memory_free(world);
}

void world_split_unseen(struct world *world, uint32_t first_slot)
{
    int count = atomic_load(&world->split_count);
    ASSERT(count < SPLIT_COUNT_MAX);
    if (slots_shard_of(&world->maps[count], first_slot) !=
        slots_shard_of(&world->maps[count], first_slot - 1)) {
        return;
    }
    struct slots *slots = &world->maps[count + 1];
    slots_copy(slots, &world->maps[count]);
    wal_shard parent = slots_shard_of(slots, first_slot);
    ASSERT(slots_split(slots, parent, first_slot, slots->range_count + 1) == 0);
    atomic_store(&world->split_count, count + 1);
}

void world_show_splits(struct world *world)
{
    atomic_store(&world->shown_count, atomic_load(&world->split_count));
}

void world_split(struct world *world, uint32_t first_slot)
{
    world_split_unseen(world, first_slot);
    world_show_splits(world);
}

void world_split_after(struct world *world, uint32_t first_slot, int answer_count)
{
    if (answer_count > 0) {
        atomic_store(&world->split_slot, first_slot);
    }
    atomic_store(&world->split_after, answer_count);
}

void world_wait_for_moved(const struct world *world, int count)
{
    for (int i = 0; i < WAIT_MS_MAX && world_moved_count(world) < count; i++) {
        os_sleep_ms(1);
    }
    ASSERT(world_moved_count(world) >= count);
}

void world_wait_for_pending(struct world *world, uint64_t count)
{
    enum { HANDED_OVER_MS = 10 };
    struct resp_statistics statistics = {0};
    for (int i = 0; i < WAIT_MS_MAX && statistics.pending_count < count; i++) {
        os_sleep_ms(1);
        resp_group_get_statistics(world_group(world), &statistics);
    }
    ASSERT(statistics.pending_count >= count);
    os_sleep_ms(HANDED_OVER_MS); /* It is counted right before that. */
}

int world_moved_count(const struct world *world)
{
    return atomic_load(&world->moved_count);
}

void world_let(struct world *world, int count)
{
    atomic_store(&world->let_count, count);
}

void world_set_holding(struct world *world, bool is_holding)
{
    atomic_store(&world->is_holding, is_holding);
}

void world_set_replacing(struct world *world, bool is_replacing)
{
    atomic_store(&world->is_replacing, is_replacing);
}

void world_set_losing(struct world *world, bool is_losing)
{
    atomic_store(&world->is_losing, is_losing);
}

void world_hold_shard(struct world *world, wal_shard shard)
{
    atomic_store(&world->held_shard, shard);
}

void world_set_shuffling(struct world *world, bool is_shuffling)
{
    atomic_store(&world->is_shuffling, is_shuffling);
}

void world_set_reading_late(struct world *world, bool is_reading_late)
{
    atomic_store(&world->is_reading_late, is_reading_late);
}

void world_refuse(struct world *world, int status, int count)
{
    atomic_store(&world->refusal_status, status);
    atomic_store(&world->refusal_count, count);
}

void world_set_cluster(struct world *world, bool is_cluster)
{
    atomic_store(&world->is_cluster, is_cluster);
}

int world_order_key(const struct world *world, int number)
{
    ASSERT(number < (int)WORLD_ORDER_KEYS_MAX && number < atomic_load(&world->order_key_count));
    return atomic_load(&world->order_keys[number]);
}

int world_stale_count(const struct world *world)
{
    return atomic_load(&world->stale_count);
}

void world_fail(struct world *world, int status, int count)
{
    atomic_store(&world->failure_status, status);
    atomic_store(&world->failure_count, count);
}

int world_stop_count(const struct world *world)
{
    return atomic_load(&world->stop_count);
}

struct resp_group *world_group(struct world *world)
{
    return world->group;
}

/* ---- Clients --------------------------------------------------------------------------------- */

int world_connect(struct world *world)
{
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ASSERT(client >= 0);
    struct timeval timeout = {.tv_sec = 60};
    ASSERT(setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout) == 0);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(world->port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    ASSERT(connect(client, (struct sockaddr *)&address, sizeof address) == 0);
    return client;
}

void world_send(int socket, struct bytes bytes)
{
    while (bytes.size_bytes > 0) {
        ssize_t sent = send(socket, bytes.data, bytes.size_bytes, MSG_NOSIGNAL);
        if (sent <= 0) {
            return; /* The server hung up; the test sees it when it reads. */
        }
        bytes = bytes_make(bytes.data + sent, bytes.size_bytes - (size_t)sent);
    }
}

void world_receive(int socket, size_t size_bytes, struct buffer *target)
{
    size_t end = target->size_bytes + size_bytes;
    while (target->size_bytes < end) {
        buffer_reserve(target, end - target->size_bytes);
        ssize_t got = recv(socket, target->data + target->size_bytes, end - target->size_bytes, 0);
        if (got <= 0) {
            return;
        }
        target->size_bytes += (size_t)got;
    }
}

bool world_is_closed(int socket)
{
    char byte;
    ssize_t got = recv(socket, &byte, 1, 0);
    return got == 0 || (got < 0 && errno == ECONNRESET); /* Else nothing came, or an answer. */
}

const char *world_reply(int socket, size_t size_bytes)
{
    static struct buffer reply;
    buffer_clear(&reply);
    world_receive(socket, size_bytes, &reply);
    buffer_append_byte(&reply, 0);
    return (const char *)reply.data;
}
