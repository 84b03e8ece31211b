/* SPDX-License-Identifier: Apache-2.0 */
/* Walks over all keys: SCAN, KEYS, RANDOMKEY.
 *
 * The keys of a slot stand before the slot's other rows, in the order of (hash, key). A walk meets
 * the first of those others and goes on at the next slot, so that a hash of a million fields costs
 * it one step. SCAN visits about COUNT rows, such steps and keys that do not match included. KEYS
 * visits all rows, in the order of the store and through one iterator, so what it holds is no more
 * than its answer. The keys of one slot are walked for CLUSTER COUNTKEYSINSLOT and GETKEYSINSLOT.
 * Keys that have expired are passed over. */
#include "base/endian/endian.h"
#include "base/glob/glob.h"
#include "service/kv/kv_walk.h"

enum {
    /* RANDOMKEY goes on by up to so many keys from where chance sent it, so that a key behind a
     * wide gap is not much likelier than others. */
    RANDOM_STEP_COUNT = 16,
};

static int open_keys(struct kv_call *call, struct rows_iterator **iterator)
{
    uint8_t lower[KV_ROW_PREFIX_SIZE_BYTES];
    uint8_t upper[KV_ROW_PREFIX_SIZE_BYTES];
    kv__row_bounds(call->kv, lower, upper);
    return rows_iterator_open(call->rows, bytes_make(lower, sizeof lower),
                              bytes_make(upper, sizeof upper), iterator);
}

/* Move to the first row at or behind a position. */
static int seek_position(struct rows_iterator *iterator, uint64_t position)
{
    uint32_t slot = kv__cursor_slot(position);
    if (slot >= KV_SLOT_COUNT) {
        return -ENOENT;
    }
    uint8_t from[KV_KEY_ROW_PREFIX_SIZE_BYTES];
    kv__row_prefix(from, slot, KV_ROW_KEY);
    endian_put_u32_be(from + KV_ROW_PREFIX_SIZE_BYTES, kv__cursor_hash(position));
    return rows_iterator_seek(iterator, bytes_make(from, sizeof from));
}

/* What stands at the iterator. */
static int read_name(const struct rows_iterator *iterator, struct kv_row_name *name)
{
    return kv__row_parse(rows_iterator_key(iterator), name) ? 0 : ERROR_CORRUPT;
}

/* The key at the iterator: has it the wanted type (NONE: any), and not expired? 1, 0, or a
 * status. */
static int is_alive(struct kv_call *call, const struct rows_iterator *iterator, bool has_type,
                    enum kv_type type)
{
    struct kv_value value;
    int status = kv__value_decode(rows_iterator_value(iterator), &value);
    if (status != 0) {
        return status;
    }
    int is_expired = kv__value_is_expired(call, &value);
    if (is_expired < 0) {
        return is_expired;
    }
    return is_expired == 0 && (!has_type || value.type == type) ? 1 : 0;
}

/* Where a walk goes on that has come to the end of the shard's slots. */
static uint64_t cursor_behind(const struct kv *kv)
{
    uint32_t end_slot = kv__end_slot(kv);
    return end_slot == KV_SLOT_COUNT ? 0 : kv__cursor_make(end_slot, 0);
}

/* Append the keys of one page; `*cursor` (at first: where to begin) is where to go on, 0 at the
 * end of all slots. */
static int scan_page(struct kv_call *call, struct rows_iterator *iterator,
                     const struct kv__scan_options *options, struct kv__late_answer *answer,
                     uint64_t *cursor)
{
    struct kv__page page = {.row_count_min = options->count};
    int status = seek_position(iterator, *cursor);
    while (status == 0) {
        struct kv_row_name name;
        status = read_name(iterator, &name);
        if (status != 0) {
            break;
        }
        if (name.kind != KV_ROW_KEY) {
            uint64_t position = kv__cursor_make(name.slot + 1u, 0);
            page.row_count++;
            status = seek_position(iterator, position);
            if (status == 0 && page.row_count >= page.row_count_min) {
                *cursor = position;
                return 0;
            }
            continue;
        }
        uint64_t position = kv__cursor_make(name.slot, name.hash);
        if (!kv__page_takes(&page, position)) {
            *cursor = position;
            return 0;
        }
        if (kv__scan_matches(options, name.name)) {
            status = is_alive(call, iterator, options->has_type, options->type);
            if (status < 0) {
                break;
            }
            if (status == 1) {
                reply_bulk(call->reply, name.name);
                answer->count++;
            }
        }
        status = rows_iterator_next(iterator);
    }
    *cursor = cursor_behind(call->kv);
    return status == -ENOENT ? 0 : status;
}

int kv__command_scan(struct kv_call *call)
{
    uint64_t cursor;
    struct kv__scan_options options;
    if (!kv__scan_cursor_parse(call, call->arguments[0], &cursor) ||
        !kv__scan_options_parse(call, 1, true, &options)) {
        return 0;
    }
    struct rows_iterator *iterator;
    int status = open_keys(call, &iterator);
    if (status != 0) {
        return status;
    }
    struct kv__late_answer answer = kv__late_begin(call);
    status = scan_page(call, iterator, &options, &answer, &cursor);
    rows_iterator_close(iterator);
    if (status == 0) {
        kv__late_end_scan(call, &answer, cursor);
    }
    return status;
}

int kv__command_keys(struct kv_call *call)
{
    struct kv__scan_options options = {.pattern = call->arguments[0],
                                       .has_pattern = !glob_matches_all(call->arguments[0]),
                                       .count = UINT64_MAX};
    struct rows_iterator *iterator;
    int status = open_keys(call, &iterator);
    if (status != 0) {
        return status;
    }
    struct kv__late_answer answer = kv__late_begin(call);
    uint64_t cursor = 0;
    status = scan_page(call, iterator, &options, &answer, &cursor);
    rows_iterator_close(iterator);
    if (status == 0) {
        kv__late_end_array(call, &answer);
    }
    return status;
}

/* ---- One slot -------------------------------------------------------------------------------- */

uint16_t kv_slot_count_opcode(void)
{
    return KV_OPCODE_SLOT_COUNT;
}

uint16_t kv_slot_keys_opcode(void)
{
    return KV_OPCODE_SLOT_KEYS;
}

static bool parse_slot(struct kv_call *call, uint32_t *slot)
{
    int64_t number;
    if (!kv__parse_integer(call, call->arguments[0], &number)) {
        return false;
    }
    if (number < 0 || number >= KV_SLOT_COUNT) {
        reply_error(call->reply, "ERR Invalid slot");
        return false;
    }
    *slot = (uint32_t)number;
    return true;
}

/* Count the keys of a slot, up to `count_max`, and append them to an answer. */
static int walk_slot(struct kv_call *call, uint32_t slot, uint64_t count_max, bool is_listing,
                     struct kv__late_answer *answer)
{
    uint8_t lower[KV_ROW_PREFIX_SIZE_BYTES];
    uint8_t upper[KV_ROW_PREFIX_SIZE_BYTES];
    struct rows_iterator *iterator;
    kv__row_prefix(lower, slot, KV_ROW_KEY);
    kv__row_prefix(upper, slot, KV_ROW_FIELD);
    int status = rows_iterator_open(call->rows, bytes_make(lower, sizeof lower),
                                    bytes_make(upper, sizeof upper), &iterator);
    if (status != 0) {
        return status;
    }
    status = rows_iterator_seek(iterator, bytes_make(lower, sizeof lower));
    while (status == 0 && answer->count < count_max) {
        struct kv_row_name name;
        status = read_name(iterator, &name);
        int alive = status == 0 ? is_alive(call, iterator, false, KV_TYPE_NONE) : status;
        if (alive < 0) {
            status = alive;
            break;
        }
        if (alive == 1 && is_listing) {
            reply_bulk(call->reply, name.name);
        }
        answer->count += (uint64_t)alive;
        status = rows_iterator_next(iterator);
    }
    rows_iterator_close(iterator);
    return status == -ENOENT ? 0 : status;
}

int kv__execute_slot_count(struct kv_call *call)
{
    uint32_t slot;
    struct kv__late_answer answer = {0};
    if (!parse_slot(call, &slot)) {
        return 0;
    }
    int status = walk_slot(call, slot, UINT64_MAX, false, &answer);
    if (status == 0) {
        reply_integer(call->reply, (int64_t)answer.count);
    }
    return status;
}

int kv__execute_slot_keys(struct kv_call *call)
{
    uint32_t slot;
    int64_t count_max;
    if (!parse_slot(call, &slot) || !kv__parse_integer(call, call->arguments[1], &count_max)) {
        return 0;
    }
    if (count_max < 0) {
        reply_error(call->reply, "ERR Invalid number of keys");
        return 0;
    }
    struct kv__late_answer answer = kv__late_begin(call);
    int status = walk_slot(call, slot, (uint64_t)count_max, true, &answer);
    if (status == 0) {
        kv__late_end_array(call, &answer);
    }
    return status;
}

/* ---- RANDOMKEY ------------------------------------------------------------------------------- */

/* Move to the first key that is alive, at the iterator or behind it. */
static int find_alive(struct kv_call *call, struct rows_iterator *iterator, int status)
{
    while (status == 0) {
        struct kv_row_name name;
        status = read_name(iterator, &name);
        if (status != 0) {
            break;
        }
        if (name.kind != KV_ROW_KEY) {
            status = seek_position(iterator, kv__cursor_make(name.slot + 1u, 0));
            continue;
        }
        int is_found = is_alive(call, iterator, false, KV_TYPE_NONE);
        if (is_found != 0) {
            return is_found < 0 ? is_found : 0;
        }
        status = rows_iterator_next(iterator);
    }
    return status;
}

/* Move to a key that is alive, by chance. -ENOENT: there is none. */
static int find_random(struct kv_call *call, struct rows_iterator *iterator)
{
    uint64_t number = kv__random(call);
    const struct kv *kv = call->kv;
    uint32_t first_slot = kv__first_slot(kv);
    uint64_t start =
        kv__cursor_make(first_slot, 0) + number % kv__cursor_make(kv__end_slot(kv) - first_slot, 0);
    uint32_t step_count = (uint32_t)(number >> 48) % RANDOM_STEP_COUNT;
    int status = find_alive(call, iterator, seek_position(iterator, start));
    for (uint32_t i = 0; status == 0 || status == -ENOENT; i++) {
        if (status == -ENOENT) { /* Around the end; none from there on: there is no key at all. */
            status = find_alive(call, iterator, seek_position(iterator, 0));
        }
        if (status != 0 || i == step_count) {
            break;
        }
        status = find_alive(call, iterator, rows_iterator_next(iterator));
    }
    return status;
}

int kv__command_randomkey(struct kv_call *call)
{
    struct rows_iterator *iterator;
    int status = open_keys(call, &iterator);
    if (status != 0) {
        return status;
    }
    status = find_random(call, iterator);
    struct kv_row_name name;
    if (status == 0) {
        status = read_name(iterator, &name);
    }
    if (status == 0) {
        reply_bulk(call->reply, name.name);
    } else if (status == -ENOENT) {
        reply_null(call->reply);
        status = 0;
    }
    rows_iterator_close(iterator);
    return status;
}
