/* SPDX-License-Identifier: Apache-2.0 */
/* Claim: whatever bytes the log, the store or the saved state hold, kv refuses them or keeps its
 * invariants; it never reads past them and never contradicts itself. Where a census was begun the shard
 * is split at last, and both halves count what they have.
 *
 * The first byte of an input chooses: 0 the value of a key row, 1 the name of a row, 2 the saved
 * state, anything else commands: each has a size byte per argument, and the opcode is the argument
 * before them. */
#include "base/assert/assert.h"
#include "base/endian/endian.h"
#include "base/number/number.h"
#include "core/memstore/memstore.h"
#include "service/kv/kv_internal.h"

enum { ARGUMENT_COUNT_MAX = 64, COMMAND_COUNT_MAX = 64, NUMBER_MAX = 100000 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

struct world {
    struct memstore *memstore;
    struct rows *rows;
    struct kv *kv;
    struct buffer reply;
    uint64_t index;
};

static void fuzz_value(struct bytes input)
{
    struct kv_value value;
    struct buffer encoded = {0};
    if (kv__value_decode(input, &value) == 0) {
        kv__value_encode(&encoded, &value);
        ASSERT(bytes_equal(buffer_bytes(&encoded), input));
    }
    buffer_deinit(&encoded);
}

static void fuzz_row(struct bytes input)
{
    struct kv_row_name name;
    if (kv__row_parse(input, &name)) {
        ASSERT(name.slot < KV_SLOT_COUNT && name.name.size_bytes <= input.size_bytes);
        ASSERT(name.name.data + name.name.size_bytes == input.data + input.size_bytes);
    }
}

static void fuzz_saved(struct world *world, struct bytes input)
{
    struct error error = {0};
    struct shard_machine machine = kv_machine(world->kv);
    if (machine.load(machine.context, world->rows, input, &error) != 0) {
        ASSERT(error.code != 0);
    }
}

/* A number that would only make the target slow: 512 MB of zeros, a million random fields. */
static bool is_huge_number(struct bytes argument)
{
    int64_t value;
    return argument.size_bytes > 4 && number_parse_integer(argument, &value) &&
           ((value > NUMBER_MAX && value < INT64_MAX / 1000000) ||
            (value < -NUMBER_MAX && value > INT64_MIN / 1000000));
}

static bool take(struct bytes *input, size_t size_bytes, struct bytes *taken)
{
    if (input->size_bytes < size_bytes) {
        return false;
    }
    *taken = bytes_make(input->data, size_bytes);
    *input = bytes_make(input->data + size_bytes, input->size_bytes - size_bytes);
    return true;
}

/* Opcode (2), count (1), then a size (1) and the bytes of each argument. */
static bool take_command(struct bytes *input, struct shard_command *command,
                         struct bytes arguments[ARGUMENT_COUNT_MAX])
{
    struct bytes part;
    if (!take(input, 3, &part) || part.data[2] > ARGUMENT_COUNT_MAX) {
        return false;
    }
    *command = (struct shard_command){endian_get_u16_le(part.data), part.data[2], arguments};
    for (uint32_t i = 0; i < command->argument_count; i++) {
        if (!take(input, 1, &part) || !take(input, part.data[0], &arguments[i]) ||
            is_huge_number(arguments[i])) {
            return false;
        }
    }
    return true;
}

/* False: the log contradicts itself, and a node would stop. */
static bool run_command(struct world *world, const struct shard_command *command)
{
    const struct kv__entry *entry = kv__entry_of_opcode(command->opcode);
    struct shard_machine machine = kv_machine(world->kv);
    struct reply reply = {.target = &world->reply, .protocol = world->index % 2 == 0 ? 2 : 3};
    struct shard_stamp stamp = {.time_ms = 1000 + world->index * 50,
                                .version = ++world->index << 16};
    buffer_clear(&world->reply);
    if (entry == NULL) {
        ASSERT(machine.execute(machine.context, world->rows, &stamp, command, &reply) ==
               ERROR_NEWER_FORMAT);
        return false;
    }
    ASSERT(machine.prefetch(machine.context, world->rows, command, &(uint64_t){0}) == 0);
    int status = ERROR_EXPIRED_SEEN;
    if ((entry->command.flags & KV_FLAG_READ) != 0) {
        struct shard_moment moment = {.time_ms = stamp.time_ms,
                                      .durable_time_ms = stamp.time_ms - 50};
        status = machine.read(machine.context, world->rows, &moment, command, &reply);
        ASSERT(status == 0 || status == ERROR_EXPIRED_SEEN);
    }
    if (status == ERROR_EXPIRED_SEEN) {
        buffer_clear(&world->reply);
        status = machine.execute(machine.context, world->rows, &stamp, command, &reply);
        if (status == ERROR_CORRUPT && (entry->command.flags & KV_FLAG_INTERNAL) != 0) {
            return false;
        }
        ASSERT(status == 0);
        ASSERT(rows_commit(world->rows, NULL) == 0);
    }
    ASSERT(world->reply.size_bytes > 0 || command->opcode == KV_OPCODE_ANSWER ||
           command->opcode == KV_OPCODE_VERSIONS);
    return true;
}

/* Count what the census has not counted, and split the shard there. */
static void fuzz_split(struct world *world)
{
    struct error error = {0};
    uint32_t first_slot = world->kv->census.first_slot;
    uint8_t numbers[12];
    endian_put_u32_le(numbers, first_slot);
    endian_put_u64_le(numbers + 4, UINT64_MAX);
    const struct bytes arguments[] = {bytes_make(numbers, 4), bytes_make(numbers + 4, 8)};
    const struct shard_command command = {KV_OPCODE_CENSUS, 2, arguments};
    ASSERT(run_command(world, &command));
    struct env_store store = memstore_interface(world->memstore);
    struct shard_machine machine = kv_machine(world->kv);
    struct buffer saved = {0};
    ASSERT(machine.split(machine.context, world->rows, first_slot, &saved) == 0);
    struct kv *child = kv_create_range(first_slot, KV_SLOT_COUNT);
    machine = kv_machine(child);
    ASSERT(machine.load(machine.context, world->rows, buffer_bytes(&saved), &error) == 0);
    ASSERT(kv_verify_counts(world->kv, store, NULL, &error) == 0);
    ASSERT(kv_verify_counts(child, store, NULL, &error) == 0);
    kv_destroy(child);
    buffer_deinit(&saved);
}

static void fuzz_commands(struct world *world, struct bytes input)
{
    struct bytes arguments[ARGUMENT_COUNT_MAX];
    struct shard_command command;
    struct error error = {0};
    struct kv_statistics statistics;
    struct shard_machine machine = kv_machine(world->kv);
    ASSERT(machine.load(machine.context, world->rows, BYTES(""), &error) == 0);
    for (uint32_t i = 0; i < COMMAND_COUNT_MAX && take_command(&input, &command, arguments); i++) {
        if (!run_command(world, &command)) {
            return;
        }
    }
    kv_get_statistics(world->kv, &statistics);
    ASSERT(kv_verify(memstore_interface(world->memstore), NULL, statistics.key_count, &error) == 0);
    ASSERT(kv_verify_counts(world->kv, memstore_interface(world->memstore), NULL, &error) == 0);
    if (world->kv->census.first_slot != 0 && statistics.locked_key_count == 0) {
        fuzz_split(world);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    if (size_bytes == 0) {
        return 0;
    }
    struct bytes input = bytes_make(data + 1, size_bytes - 1);
    struct world world = {.memstore = memstore_create(1)};
    world.rows = rows_create(memstore_interface(world.memstore), 1 << 20);
    rows_set_tier(world.rows, ENV_TIER_DISK);
    world.kv = kv_create();
    switch (data[0]) {
    case 0:
        fuzz_value(input);
        break;
    case 1:
        fuzz_row(input);
        break;
    case 2:
        fuzz_saved(&world, input);
        break;
    default:
        fuzz_commands(&world, input);
    }
    kv_destroy(world.kv);
    rows_destroy(world.rows);
    memstore_destroy(world.memstore);
    buffer_deinit(&world.reply);
    return 0;
}
