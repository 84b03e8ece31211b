/* SPDX-License-Identifier: Apache-2.0 */
#include "core/shard/shard_world.h"

#include <string.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "core/shard/shard_internal.h"
#include "core/shard/shard_message.h"

/* ---- The machine ----------------------------------------------------------------------------- */

static int toy_load(void *context, struct rows *rows, struct bytes saved, struct error *error)
{
    struct shard__world *world = context;
    ASSERT(saved.size_bytes < sizeof world->loaded);
    memset(world->loaded, 0, sizeof world->loaded);
    if (saved.size_bytes > 0) {
        memcpy(world->loaded, saved.data, saved.size_bytes);
    }
    return 0;
}

static void toy_save(void *context, struct buffer *saved)
{
    buffer_append(saved, bytes_of_text(((struct shard__world *)context)->loaded));
}

static int toy_get(struct rows *rows, const struct shard_command *command,
                   const struct reply *reply, bool is_late_secret)
{
    struct bytes value;
    int status = rows_get(rows, command->arguments[0], &value);
    if (status == -ENOENT) {
        reply_null(reply);
        return 0;
    }
    if (status == 0 && bytes_have_prefix(value, BYTES("late"))) {
        if (is_late_secret) {
            return ERROR_EXPIRED_SEEN;
        }
        reply_null(reply);
        return 0;
    }
    if (status == 0) {
        reply_bulk(reply, value);
    }
    return status;
}

static int toy_execute(void *context, struct rows *rows, const struct shard_stamp *stamp,
                       const struct shard_command *command, const struct reply *reply)
{
    struct shard__world *world = context;
    world->executed_count++;
    struct bytes value = {0};
    struct buffer joined = {0};
    int status = 0;
    switch (command->opcode) {
    case OPCODE_SET:
        world->known_count += stamp->known == SET_FOUND;
        *stamp->found = SET_FOUND;
        rows_put(rows, command->arguments[0], command->arguments[1]);
        reply_ok(reply);
        return 0;
    case OPCODE_APPEND:
        status = rows_get(rows, command->arguments[0], &value);
        buffer_append(&joined, status == 0 ? value : bytes_make(NULL, 0));
        buffer_append(&joined, command->arguments[1]);
        rows_put(rows, command->arguments[0], buffer_bytes(&joined));
        reply_integer(reply, (int64_t)joined.size_bytes);
        buffer_deinit(&joined);
        return 0;
    default:
        return toy_get(rows, command, reply, false);
    }
}

static bool is_locked(const struct shard__world *world, const struct shard_command *command)
{
    return world->locked_key != NULL && command->argument_count > 0 &&
           bytes_equal(command->arguments[0], bytes_of_text(world->locked_key));
}

static int toy_read(void *context, struct rows *rows, const struct shard_moment *moment,
                    const struct shard_command *command, const struct reply *reply)
{
    const struct shard__world *world = context;
    if (command->opcode == OPCODE_COUNT) {
        ASSERT(!world->is_elsewhere);
        reply_integer(reply, world->executed_count);
        return 0;
    }
    if (!moment->may_be_stale && is_locked(context, command)) {
        return ERROR_LOCKED;
    }
    return toy_get(rows, command, reply, moment->durable_time_ms < moment->time_ms);
}

/* APPEND goes past nobody who waits for its key. */
static bool toy_must_wait(void *context, const struct shard_command *command)
{
    const struct shard__world *world = context;
    return world->is_split_gathered || is_locked(world, command) ||
           (command->opcode == OPCODE_APPEND &&
            memchr(world->waiting, command->arguments[0].data[0], sizeof world->waiting) != NULL);
}

static void toy_gathered(void *context, const struct shard_command *command)
{
    struct shard__world *world = context;
    world->gathered_count += command != NULL;
    world->is_split_gathered = command != NULL && command->opcode == SHARD_OPCODE_SPLIT;
}

static void toy_waits(void *context, const struct shard_command *command)
{
    struct shard__world *world = context;
    size_t count = strlen(world->waiting);
    if (command == NULL) {
        memset(world->waiting, 0, sizeof world->waiting);
        world->told_anew_count++;
    } else {
        ASSERT(count + 1 < sizeof world->waiting);
        world->waiting[count] = (char)command->arguments[0].data[0];
    }
}

static bool toy_declines(void *context, const struct shard_command *command,
                         const struct reply *reply)
{
    if (!((struct shard__world *)context)->does_decline) {
        return false;
    }
    reply_error(reply, "LOCKED");
    return true;
}

static const struct shard_command *toy_instead(void *context, const struct shard_command *command,
                                               uint64_t load_size_bytes)
{
    static const struct bytes sorry = {(const uint8_t *)"sorry", 5};
    static const struct shard_command get = {
        .opcode = OPCODE_GET, .argument_count = 1, .arguments = &sorry};
    const struct shard__world *world = context;
    return world->load_size_bytes > 0 && load_size_bytes > world->load_size_bytes ? &get : NULL;
}

static int toy_prefetch(void *context, struct rows *rows, const struct shard_command *command,
                        uint64_t *load_size_bytes)
{
    struct bytes value;
    if (command->opcode == SHARD_OPCODE_SPLIT || command->opcode == OPCODE_COUNT) {
        return 0;
    }
    int status = rows_get(rows, command->arguments[0], &value);
    *load_size_bytes += status == 0 ? value.size_bytes : 0;
    return status == ERROR_INCOMPLETE ? status : 0;
}

static uint64_t toy_approach(void *context, const struct rows *rows,
                             const struct shard_command *command)
{
    struct shard__world *world = context;
    world->late_approach_count += world->approached_count < world->executed_count;
    world->approached_count++;
    return rows_approach(rows, command->argument_count > 0 ? command->arguments[0] : BYTES(""));
}

/* A letter has 630 slots or 631. */
static void toy_append_slot_row(uint32_t slot, struct buffer *row)
{
    buffer_append_byte(row, slot == SLOTS_COUNT ? '~' : (uint8_t)('a' + slot * 26 / SLOTS_COUNT));
}

/* Of its first letter; a digit has none. */
static int32_t toy_slot_of(void *context, const struct shard_command *command, uint64_t lot)
{
    int32_t letter = command->arguments[0].data[0] - 'a';
    return letter < 0 ? -1 : letter * (int32_t)SLOTS_COUNT / 26;
}

static bool toy_background(void *context, struct rows *rows, uint64_t time_ms,
                           struct shard_command *command, uint64_t *next_ms)
{
    struct shard__world *world = context;
    static uint8_t numbers[2][4];
    static const struct bytes arguments[] = {{numbers[0], 4}, {numbers[1], 4}};
    *next_ms = time_ms;
    if (world->split_child == 0 || world->machine_range[1] == world->split_slot) {
        return false;
    }
    endian_put_u32_le(numbers[0], world->split_child);
    endian_put_u32_le(numbers[1], world->split_slot);
    *command = (struct shard_command){SHARD_OPCODE_SPLIT, 2, arguments};
    return true;
}

static void toy_set_range(void *context, uint32_t first_slot, uint32_t end_slot)
{
    struct shard__world *world = context;
    world->machine_range[0] = first_slot;
    world->machine_range[1] = end_slot;
}

static int toy_split(void *context, struct rows *rows, uint32_t first_slot,
                     struct buffer *child_saved)
{
    struct shard__world *world = context;
    if (first_slot <= world->machine_range[0] || first_slot >= world->machine_range[1]) {
        return ERROR_CORRUPT;
    }
    world->machine_range[1] = first_slot;
    world->is_split_gathered = false;
    buffer_append(child_saved, BYTES("of the child"));
    return 0;
}

/* ---- The host -------------------------------------------------------------------------------- */

static uint64_t host_clock(void *context)
{
    return ((struct shard__world *)context)->wall_ms;
}

static void host_persist(void *context, struct shard *shard, const struct wal_record *record,
                         uint64_t sequence)
{
    struct shard__world *world = context;
    ASSERT(sequence == world->persisting_sequence || sequence == world->persisting_sequence + 1);
    world->persisting_sequence = sequence;
    if (record->kind == WAL_RECORD_HARD_STATE) {
        world->hard_state = record->hard_state;
        return;
    }
    if (record->kind == WAL_RECORD_TRUNCATE) {
        world->last_index = record->index - 1;
        return;
    }
    if (world->last_index == 0) {
        world->first_index = record->index;
    }
    ASSERT(world->last_index == 0 || record->index == world->last_index + 1);
    ASSERT(record->index < LOG_COUNT_MAX);
    world->last_index = record->index;
    world->log[record->index].term = record->term;
    buffer_clear(&world->log[record->index].payload);
    buffer_append(&world->log[record->index].payload, record->payload);
}

static void host_read_log(void *context, struct shard_log_read *read)
{
    struct shard__world *world = context;
    ASSERT(world->log_read_count < LOG_READ_COUNT_MAX);
    world->log_reads[world->log_read_count++] = read;
}

static int host_read_back(void *context, struct shard_log_read *read)
{
    if (((struct shard__world *)context)->is_read_back_refused) {
        return -EBUSY;
    }
    host_read_log(context, read);
    return 0;
}

static int host_read_elsewhere(void *context, struct shard_read *read)
{
    struct shard__world *world = context;
    if (world->read != NULL) {
        return -EBUSY;
    }
    world->read = read;
    return 0;
}

static void host_write_elsewhere(void *context, struct shard_write *write)
{
    struct shard__world *world = context;
    ASSERT(world->write == NULL);
    world->write = write;
}

static void host_poll_writes(void *context)
{
    struct shard__world *world = context;
    if (world->is_write_over_when_polled) {
        shard__world_write(world);
    }
}

static void host_send(void *context, struct shard *shard, raft_node to, const struct bytes *pieces,
                      uint32_t piece_count)
{
    struct shard__world *world = context;
    world->sent = memory_resize(world->sent, (world->sent_count + 1) * sizeof world->sent[0]);
    struct shard__sent *sent = &world->sent[world->sent_count++];
    *sent = (struct shard__sent){.to = to};
    for (uint32_t i = 0; i < piece_count; i++) {
        buffer_append(&sent->bytes, pieces[i]);
    }
}

static bool host_send_beat(void *context, struct shard *shard, const struct raft_message *message)
{
    struct shard__world *world = context;
    if (world->do_beats_gather) {
        ASSERT(world->beat_count < BEAT_COUNT_MAX);
        world->beats[world->beat_count++] = *message;
    }
    return world->do_beats_gather;
}

static int host_work_elsewhere(void *context, struct shard_work *work)
{
    struct shard__world *world = context;
    if (world->work != NULL) {
        return -EBUSY;
    }
    world->work = work;
    return 0;
}

/* From the last to the first: nothing depends on their order. */
static void host_run_parts(void *context, void (*run)(void *argument, uint32_t part),
                           void *argument, uint32_t part_count)
{
    struct shard__world *world = context;
    world->run_part_count += part_count;
    while (part_count > 0) {
        run(argument, --part_count);
    }
}

static int host_load_entry(void *context, wal_shard shard, raft_index index, raft_term *term,
                           struct buffer *payload, struct error *error)
{
    struct shard__world *world = context;
    ASSERT(index >= world->first_index && index <= world->last_index);
    *term = world->log[index].term;
    buffer_append(payload, buffer_bytes(&world->log[index].payload));
    return 0;
}

static int host_load_head(void *context, wal_shard shard, raft_index index, uint32_t size_bytes,
                          raft_term *term, struct buffer *payload, struct error *error)
{
    size_t before = payload->size_bytes;
    int status = host_load_entry(context, shard, index, term, payload, error);
    if (payload->size_bytes > before + size_bytes) {
        payload->size_bytes = before + size_bytes;
    }
    return status;
}

static void host_failed(void *context, struct shard *shard, int status, const struct error *error)
{
    ((struct shard__world *)context)->failed_status = status;
}

static void host_split(void *context, struct shard *shard, const struct slots_range *child)
{
    struct shard__world *world = context;
    world->child_count++;
    world->child = *child;
    world->child_index = shard_applied_index(shard);
}

static uint32_t host_list_nodes(void *context, raft_node nodes[SHARD_NODE_COUNT_MAX])
{
    const struct shard__world *world = context;
    uint32_t count = 0;
    for (raft_node i = 1; i <= world->node_count; i++) {
        nodes[count] = i;
        count += i != world->self;
    }
    return count;
}

static bool host_knows_floors(void *context, raft_node node)
{
    return (((const struct shard__world *)context)->older_nodes >> (node - 1) & 1u) == 0;
}

static void host_note_found(void *context, const struct recall_entry *entry)
{
    recall_note(((struct shard__world *)context)->recall, entry);
}

static bool host_recall_found(void *context, struct recall_entry *entry)
{
    return recall_find(((struct shard__world *)context)->recall, entry);
}

static void host_emptied(void *context, struct shard *shard)
{
    ((struct shard__world *)context)->emptied_count++;
}

static struct env_store host_store(struct shard__world *world)
{
    struct env_store store = memstore_interface(world->memstore);
    world->store_ops = *store.ops;
    return (struct env_store){&world->store_ops, store.context};
}

struct shard_options shard__world_options(struct shard__world *world)
{
    struct raft_configuration configuration = {.voter_count = world->voter_count};
    for (uint32_t i = 0; i < world->voter_count; i++) {
        configuration.voters[i] = i + 1;
    }
    return (struct shard_options){
        .id = world->id,
        .self = world->self,
        .store = host_store(world),
        .cache_size_bytes = 1 << 20,
        .store_row_count = world->store_row_count,
        .in_flight_size_bytes_max = 1 << 20,
        .account = world->account,
        .waiting_size_bytes_max = world->waiting_size_bytes,
        .pace = world->pace,
        .recent_size_bytes_max = 1 << 20,
        .window_size_bytes_max = 1 << 20,
        .is_asked_by_host_only = world->is_asked_by_host_only,
        .floor_delay_ms = world->floor_delay_ms,
        .piece_size_bytes = world->piece_size_bytes,
        .first_slot = world->first_slot,
        .end_slot = world->end_slot,
        .append_slot_row = toy_append_slot_row,
        .configuration = configuration,
        .machine = {world, toy_load, toy_save, toy_execute, toy_read, toy_prefetch, toy_approach,
                    toy_background, toy_must_wait, toy_gathered, toy_waits, toy_declines,
                    toy_instead, toy_set_range, toy_split, toy_slot_of},
        .host = {.context = world,
                 .clock = {world, host_clock, host_clock},
                 .persist = host_persist,
                 .read_log = host_read_log,
                 .read_back = world->waiting_size_bytes > 0 ? host_read_back : NULL,
                 .read_elsewhere = host_read_elsewhere,
                 .write_elsewhere = host_write_elsewhere,
                 .send = host_send,
                 .send_beat = host_send_beat,
                 .poll_writes = host_poll_writes,
                 .run_parts = host_run_parts,
                 .load_entry = host_load_entry,
                 .load_head = host_load_head,
                 .note_found = host_note_found,
                 .recall_found = host_recall_found,
                 .work_elsewhere = host_work_elsewhere,
                 .split = host_split,
                 .list_nodes = world->node_count > 0 ? host_list_nodes : NULL,
                 .knows_floors = host_knows_floors,
                 .emptied = host_emptied,
                 .failed = host_failed},
    };
}

void shard__world_start(struct shard__world *world, bool has_log)
{
    struct error error = {0};
    struct shard_options options = shard__world_options(world);
    ASSERT(shard_open(&world->shard, &options, &error) == 0);
    world->persisting_sequence = 0;
    struct wal_shard_state state = {
        .shard = world->id,
        .hard_state = world->hard_state,
        .first_index = world->last_index > 0 ? world->first_index : 0,
        .last_index = world->last_index,
        .last_term = world->log[world->last_index].term,
    };
    ASSERT(shard_start(world->shard, has_log ? &state : NULL, &error) == 0);
}

void shard__world_depose(struct shard__world *world)
{
    struct shard_statistics statistics;
    shard_get_statistics(world->shard, &statistics);
    struct raft_message message = {
        .kind = RAFT_MESSAGE_VOTE_REQUEST,
        .term = statistics.term + 1,
        .is_transfer = true, /* Else the leader would know better. */
    };
    uint8_t bytes[SHARD_MESSAGE_RAFT_SIZE_BYTES];
    shard__message_encode_raft(&message, bytes);
    shard_receive(world->shard, 2, bytes_make(bytes, sizeof bytes));
    ASSERT(!shard_is_ready(world->shard));
}

void shard__world_write(struct shard__world *world)
{
    struct shard_write *write = world->write;
    if (write != NULL) {
        world->write = NULL;
        shard_write_run(write);
        shard_write_done(write);
    }
}

void shard__world_tick(struct shard__world *world)
{
    (void)shard_tick(world->shard);
    while (world->write != NULL) {
        shard__world_write(world);
        (void)shard_tick(world->shard);
    }
}

void shard__world_settle(struct shard__world *world)
{
    uint64_t done = 0;
    while (done < world->persisting_sequence) {
        done = world->persisting_sequence;
        shard_persisted(world->shard, done);
        shard__world_write(world);
        (void)shard_tick(world->shard);
    }
    shard__world_write(world);
}

struct shard__world *shard__world_create_bare(struct memstore *memstore)
{
    struct shard__world *world = memory_allocate_zeroed(1, sizeof *world);
    world->is_memstore_borrowed = memstore != NULL;
    world->memstore = memstore != NULL ? memstore : memstore_create(7);
    world->id = 1;
    world->self = 1;
    world->voter_count = 1;
    world->end_slot = SLOTS_COUNT;
    world->wall_ms = 1000;
    world->store_row_count = 1;
    world->recall = recall_create();
    return world;
}

struct shard__world *shard__world_create(void)
{
    struct shard__world *world = shard__world_create_bare(NULL);
    /* A row of somebody else's: over an empty store nothing would ever be cold. */
    struct env_store store = memstore_interface(world->memstore);
    struct env_change change = {ENV_CHANGE_PUT, BYTES("\xff"), BYTES("")};
    ASSERT(store.ops->write(store.context, &change, 1, NULL) == 0);
    shard__world_start(world, false);
    shard__world_settle(world);
    ASSERT(shard_is_ready(world->shard));
    ASSERT(shard_settle(world->shard) == 0);
    return world;
}

void shard__world_work(struct shard__world *world)
{
    struct shard_work *work = world->work;
    if (work != NULL) {
        world->work = NULL;
        work->run(work);
        work->done(work);
    }
}

void shard__world_stop(struct shard__world *world)
{
    ASSERT(world->work == NULL && world->read == NULL);
    if (world->write != NULL) {
        struct shard_write *write = world->write;
        world->write = NULL;
        write->status = -EBUSY; /* As if it had never been tried. */
        shard_write_done(write);
    }
    shard_close(world->shard);
    world->shard = NULL;
}

void shard__world_destroy(struct shard__world *world)
{
    while (world->write != NULL) {
        shard__world_write(world);
    }
    shard_close(world->shard);
    if (!world->is_memstore_borrowed) {
        memstore_destroy(world->memstore);
    }
    for (uint32_t i = 0; i < world->sent_count; i++) {
        buffer_deinit(&world->sent[i].bytes);
    }
    memory_free(world->sent);
    recall_destroy(world->recall);
    for (int i = 0; i < LOG_COUNT_MAX; i++) {
        buffer_deinit(&world->log[i].payload);
    }
    memory_free(world);
}

/* ---- A client -------------------------------------------------------------------------------- */

static void client_done(struct shard_request *request, int status, struct bytes reply)
{
    struct shard__client *client = (struct shard__client *)request;
    buffer_append(&client->answer, reply);
    client->answer_count++;
    client->status = status;
}

int shard__world_submit(struct shard__world *world, struct shard__client *client,
                        struct shard_session *session, uint16_t opcode, const char *key,
                        const char *value)
{
    *client = (struct shard__client){0};
    client->arguments[0] = bytes_of_text(key);
    client->arguments[1] = bytes_of_text(value);
    client->request = (struct shard_request){
        .command = {opcode,
                    opcode == OPCODE_COUNT ? 0
                    : opcode == OPCODE_GET ? 1
                                           : 2,
                    client->arguments},
        .protocol = 2,
        .is_write = opcode != OPCODE_GET && opcode != OPCODE_COUNT,
        .does_grow = true,
        .done = client_done,
        .session = session,
    };
    struct reply reply = {.target = &client->answer, .protocol = 2};
    int submitted = shard_submit(world->shard, &client->request, &reply);
    client->answer_count = submitted == SHARD_ANSWERED;
    /* The arguments were borrowed for the call only. */
    client->arguments[0] = client->arguments[1] = BYTES("overwritten");
    return submitted;
}

void shard__world_expect(struct shard__client *client, const char *answer)
{
    ASSERT(client->answer_count == 1 && client->status == 0);
    ASSERT(client->answer.size_bytes == strlen(answer));
    ASSERT(memcmp(client->answer.data, answer, strlen(answer)) == 0);
    buffer_deinit(&client->answer);
}

void shard__world_expect_handed_back(const struct shard__client *client)
{
    ASSERT(client->answer_count == 1 && client->status == ERROR_NOT_LEADER);
    ASSERT(client->answer.size_bytes == 0);
}

void shard__world_expect_moved(const struct shard__client *client)
{
    ASSERT(client->answer_count == 1 && client->status == ERROR_MOVED);
    ASSERT(client->answer.size_bytes == 0);
}

void shard__world_put_and_start_cold(struct shard__world *world, struct shard_session *session)
{
    struct shard__client set;
    (void)shard__world_submit(world, &set, session, OPCODE_SET, "k", "v");
    shard__world_settle(world);
    shard__world_expect(&set, "+OK\r\n");
    memstore_flush(world->memstore);
    shard_close(world->shard);
    shard__world_start(world, true);
    shard__world_settle(world);
    memstore_set_faults(world->memstore, (struct memstore_faults){.incomplete_percent = 100});
}
