/* SPDX-License-Identifier: Apache-2.0 */
#include "service/kv/kv_work.h"

#include "base/number/number.h"
#include "service/kv/kv_hash.h"

static bool is_named(const struct kv_call *call, const char *name)
{
    return kv__is_named(&call->entry->command, name);
}

static bool has_flag(const struct kv_call *call, enum kv_flag flag)
{
    return (call->entry->command.flags & flag) != 0;
}

static uint64_t larger(uint64_t left, uint64_t right)
{
    return left > right ? left : right;
}

static uint64_t size_of_arguments(const struct kv_call *call)
{
    uint64_t size = 0;
    for (uint32_t i = 0; i < call->argument_count; i++) {
        size += call->arguments[i].size_bytes;
    }
    return size;
}

/* ---- What it looks at ------------------------------------------------------------------------ */

struct visit {
    struct kv__work *work;
    const struct kv_call *call;
    uint64_t size_bytes; /* Of the arguments. */
    uint32_t count;
    struct kv__extent *extents[2]; /* Of the first two keys. */
};

static uint64_t cost_of_all(const struct kv__extent *extent)
{
    return extent->size_bytes + extent->field_count * KV_WORK_OF_FIELD;
}

static uint64_t cost_of_fields(const struct kv__extent *extent, uint64_t count)
{
    return count * (extent->field_size_bytes + KV_WORK_OF_FIELD);
}

/* The fields that a fast command of hashes names. */
static uint64_t named_field_count(const struct kv_call *call)
{
    bool are_pairs = is_named(call, "hset") || is_named(call, "hmset");
    return are_pairs ? call->argument_count / 2 : call->argument_count - 1;
}

/* A pattern takes as many steps as it is long, times what it is compared with. */
static uint64_t cost_of_matching(const struct kv_call *call, const struct kv__extent *extent)
{
    uint64_t size = 0;
    for (uint32_t i = 2; i + 1 < call->argument_count; i += 2) {
        size = kv__is_word(call->arguments[i], "match") ? call->arguments[i + 1].size_bytes : size;
    }
    return KV_WORK_OF_STEP * size * (extent->size_bytes + extent->field_count);
}

/* Any of the fields, again and again. */
static uint64_t cost_of_drawing(const struct kv_call *call, const struct kv__extent *extent)
{
    int64_t count;
    bool is_done = call->argument_count > 1 && extent->field_count > 0 &&
                   number_parse_integer(call->arguments[1], &count) && count < 0 &&
                   count >= -KV_RANDOM_FIELD_COUNT_MAX;
    return is_done ? cost_of_fields(extent, (uint64_t)-count) : 0;
}

static uint64_t cost_of_looking(const struct visit *visit, const struct kv__extent *extent)
{
    const struct kv_call *call = visit->call;
    if (kv_command_moves(&call->entry->command)) {
        return visit->count == 0 ? 2 * cost_of_all(extent) : 0; /* Read and written. */
    }
    bool is_fast = has_flag(call, KV_FLAG_FAST);
    if (call->entry->command.family != KV_FAMILY_HASH) {
        return is_fast ? extent->size_bytes : cost_of_all(extent);
    }
    if (is_fast) {
        uint64_t of_a_string = extent->field_count == 0 ? extent->size_bytes : 0;
        return of_a_string + cost_of_fields(extent, named_field_count(call));
    }
    uint64_t cost = cost_of_all(extent);
    cost += is_named(call, "hscan") ? cost_of_matching(call, extent) : 0;
    cost += is_named(call, "hrandfield") ? cost_of_drawing(call, extent) : 0;
    return cost;
}

/* ---- What becomes of it ---------------------------------------------------------------------- */

static void grow_fields(const struct visit *visit, struct kv__extent *extent)
{
    uint64_t size = visit->size_bytes + NUMBER_INTEGER_SIZE_MAX;
    size += is_named(visit->call, "hincrbyfloat") ? NUMBER_DOUBLE_SIZE_MAX : 0;
    extent->size_bytes += size;
    extent->field_count += visit->call->argument_count / 2;
    extent->field_size_bytes = larger(extent->field_size_bytes, size);
}

/* Of SETRANGE; of what changes nothing, or is refused, 0. */
static uint64_t end_of_range(const struct kv_call *call)
{
    int64_t offset;
    uint64_t size = call->arguments[2].size_bytes;
    bool is_done = size > 0 && number_parse_integer(call->arguments[1], &offset) && offset >= 0 &&
                   (uint64_t)offset + size <= KV_VALUE_SIZE_BYTES_MAX;
    return is_done ? (uint64_t)offset + size : 0;
}

/* How large the value may be then, when there are such bytes now. */
static uint64_t grown(const struct visit *visit, uint64_t size_bytes)
{
    const struct kv_call *call = visit->call;
    if (is_named(call, "append")) {
        return size_bytes + call->arguments[1].size_bytes;
    }
    if (is_named(call, "setrange")) {
        return larger(size_bytes, end_of_range(call));
    }
    if (is_named(call, "mset") || is_named(call, "msetnx")) {
        return larger(size_bytes, call->arguments[2 * (size_t)visit->count + 1].size_bytes);
    }
    uint64_t number_size_bytes =
        is_named(call, "incrbyfloat") ? NUMBER_DOUBLE_SIZE_MAX : NUMBER_INTEGER_SIZE_MAX;
    return larger(size_bytes, larger(visit->size_bytes, number_size_bytes));
}

static bool visit_key(void *context, struct bytes name)
{
    struct visit *visit = context;
    struct kv__work *work = visit->work;
    struct kv__extent *extent = work->extent_of(work->context, name);
    work->done += KV_WORK_OF_KEY + cost_of_looking(visit, extent);
    bool does_grow =
        has_flag(visit->call, KV_FLAG_GROWS) && !kv_command_moves(&visit->call->entry->command);
    if (does_grow && visit->call->entry->command.family == KV_FAMILY_HASH) {
        grow_fields(visit, extent);
    } else if (does_grow) {
        extent->size_bytes = grown(visit, extent->size_bytes);
        bool is_rewritten = is_named(visit->call, "append") ||
                            (is_named(visit->call, "setrange") && end_of_range(visit->call) > 0);
        work->done += is_rewritten ? extent->size_bytes : 0; /* Else what is written is given. */
    }
    if (visit->count < 2) {
        visit->extents[visit->count] = extent;
    }
    visit->count++;
    return work->done <= KV_EVALUATION_WORK_MAX;
}

static void move(const struct visit *visit)
{
    struct kv__extent *source = visit->extents[0];
    struct kv__extent *target = visit->extents[1];
    if (source == target) {
        return;
    }
    target->size_bytes = larger(target->size_bytes, source->size_bytes);
    target->field_count = larger(target->field_count, source->field_count);
    target->field_size_bytes = larger(target->field_size_bytes, source->field_size_bytes);
    if (is_named(visit->call, "rename")) {
        *source = (struct kv__extent){0};
    }
}

/* ---- Counting -------------------------------------------------------------------------------- */

bool kv__work_add_extent(struct kv__work *work, const struct kv__extent *extent)
{
    work->done += cost_of_all(extent);
    return work->done <= KV_EVALUATION_WORK_MAX;
}

bool kv__work_add_command(struct kv__work *work, const struct kv_call *call)
{
    struct visit visit = {.work = work, .call = call, .size_bytes = size_of_arguments(call)};
    work->done += KV_WORK_OF_COMMAND + visit.size_bytes;
    if (work->done > KV_EVALUATION_WORK_MAX || !kv__keys_visit(call, visit_key, &visit)) {
        return false;
    }
    if (is_named(call, "lcs")) {
        work->done += KV_WORK_OF_CELL * visit.extents[0]->size_bytes * visit.extents[1]->size_bytes;
    } else if (kv_command_moves(&call->entry->command)) {
        move(&visit);
    }
    return work->done <= KV_EVALUATION_WORK_MAX;
}
