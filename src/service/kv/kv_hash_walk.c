/* SPDX-License-Identifier: Apache-2.0 */
/* Hashes: the commands that walk over fields. HGETALL, HKEYS and HVALS visit all of them, HSCAN
 * about COUNT, HRANDFIELD those that it answers and a few more, except when it is asked for a good
 * part of the hash: then it visits all, once. */
#include "base/assert/assert.h"
#include "base/hash/hash.h"
#include "base/memory/memory.h"
#include "base/random/random.h"
#include "service/kv/kv_field.h"
#include "service/kv/kv_hash.h"
#include "service/kv/kv_walk.h"

enum {
    /* A field by chance: up to so many fields on from a random position. */
    RANDOM_STEP_COUNT = 16,
    /* Fields by chance, all different: so many at most, and one in so many at most, are looked for
     * one by one. */
    RANDOM_PICK_COUNT_MAX = 1024,
    RANDOM_PICK_SHARE = 8,
};

/* ---- All fields ------------------------------------------------------------------------------ */

enum parts { PART_NAME = 1, PART_VALUE = 2 };

static void reply_parts(const struct reply *reply, const struct rows_iterator *iterator,
                        unsigned parts)
{
    if ((parts & PART_NAME) != 0) {
        reply_bulk(reply, kv__fields_name(iterator));
    }
    if ((parts & PART_VALUE) != 0) {
        reply_bulk(reply, rows_iterator_value(iterator));
    }
}

/* Answer the parts of every field. */
static int walk_all(struct kv_call *call, const struct kv_key *key, const struct kv_value *hash,
                    unsigned parts)
{
    struct rows_iterator *iterator;
    int status = kv__fields_open(call->rows, key->slot, hash->generation, &iterator);
    if (status != 0) {
        return status;
    }
    uint64_t count = 0;
    status = kv__fields_seek(iterator, key->slot, hash->generation, 0);
    while (status == 0) {
        reply_parts(call->reply, iterator, parts);
        count++;
        status = rows_iterator_next(iterator);
    }
    rows_iterator_close(iterator);
    if (status == -ENOENT) {
        /* The length was announced before, so it must be true. */
        status = count == hash->count ? 0 : ERROR_CORRUPT; /* I3 */
    }
    return status;
}

static int answer_all(struct kv_call *call, unsigned parts)
{
    struct kv_key key;
    struct kv_value hash;
    int status = kv__typed_lookup(call, KV_TYPE_HASH, &key, &hash);
    if (status != 0) {
        return kv__ended(status);
    }
    if (parts == (PART_NAME | PART_VALUE)) {
        reply_map(call->reply, hash.count);
    } else {
        reply_array(call->reply, hash.count);
    }
    return hash.type == KV_TYPE_NONE ? 0 : walk_all(call, &key, &hash, parts);
}

int kv__command_hgetall(struct kv_call *call)
{
    return answer_all(call, PART_NAME | PART_VALUE);
}

int kv__command_hkeys(struct kv_call *call)
{
    return answer_all(call, PART_NAME);
}

int kv__command_hvals(struct kv_call *call)
{
    return answer_all(call, PART_VALUE);
}

/* ---- HSCAN ----------------------------------------------------------------------------------- */

/* As scan_page() of SCAN; the position is the hash alone. */
static int scan_fields(struct kv_call *call, struct rows_iterator *iterator,
                       const struct kv__scan_options *options, struct kv__late_answer *answer,
                       uint64_t *cursor)
{
    struct kv__page page = {.row_count_min = options->count};
    int status = 0;
    while (status == 0) {
        uint64_t position = kv__fields_hash(iterator);
        if (!kv__page_takes(&page, position)) {
            *cursor = position;
            return 0;
        }
        if (kv__scan_matches(options, kv__fields_name(iterator))) {
            reply_parts(call->reply, iterator, PART_NAME | PART_VALUE);
            answer->count += 2;
        }
        status = rows_iterator_next(iterator);
    }
    *cursor = 0;
    return status == -ENOENT ? 0 : status;
}

int kv__command_hscan(struct kv_call *call)
{
    uint64_t cursor;
    if (!kv__scan_cursor_parse(call, call->arguments[1], &cursor)) {
        return 0;
    }
    struct kv_key key;
    struct kv_value hash;
    int status = kv__typed_lookup(call, KV_TYPE_HASH, &key, &hash);
    if (status != 0) {
        return kv__ended(status);
    }
    struct kv__late_answer answer = kv__late_begin(call);
    if (hash.type == KV_TYPE_NONE) {
        kv__late_end_scan(call, &answer, 0);
        return 0;
    }
    struct kv__scan_options options;
    if (!kv__scan_options_parse(call, 2, false, &options)) {
        return 0;
    }
    if (cursor > UINT32_MAX) {
        kv__late_end_scan(call, &answer, 0);
        return 0;
    }
    struct rows_iterator *iterator;
    status = kv__fields_open(call->rows, key.slot, hash.generation, &iterator);
    if (status != 0) {
        return status;
    }
    status = kv__fields_seek(iterator, key.slot, hash.generation, (uint32_t)cursor);
    cursor = 0;
    if (status == 0) {
        status = scan_fields(call, iterator, &options, &answer, &cursor);
    }
    rows_iterator_close(iterator);
    if (status == 0 || status == -ENOENT) {
        kv__late_end_scan(call, &answer, cursor);
        return 0;
    }
    return status;
}

/* ---- HRANDFIELD ------------------------------------------------------------------------------ */

/* A search for fields by chance. */
struct draw {
    struct kv_call *call;
    const struct kv_value *hash;
    uint16_t slot;
    bool has_values;
    struct rows_iterator *iterator;
    struct random random;
};

static void reply_drawn(const struct draw *draw)
{
    const struct reply *reply = draw->call->reply;
    if (draw->has_values && reply->protocol > 2) {
        reply_array(reply, 2);
    }
    reply_parts(reply, draw->iterator, PART_NAME | (draw->has_values ? PART_VALUE : 0u));
}

/* Move to the next field, after the last one to the first. */
static int step_around(struct draw *draw, int status)
{
    if (status == 0) {
        status = rows_iterator_next(draw->iterator);
    }
    if (status == -ENOENT) {
        status = kv__fields_seek(draw->iterator, draw->slot, draw->hash->generation, 0);
    }
    return status == -ENOENT ? ERROR_CORRUPT : status; /* I3: no hash is empty. */
}

/* Move to a field by chance: in a small hash each is equally likely; in a large one nearly so,
 * because the steps even out the gaps between hashes. */
static int draw_one(struct draw *draw)
{
    uint64_t count = draw->hash->count;
    bool is_small = count <= RANDOM_STEP_COUNT;
    uint32_t start = is_small ? 0 : (uint32_t)random_next(&draw->random);
    uint64_t step_count = random_below(&draw->random, is_small ? count : RANDOM_STEP_COUNT);
    int status = kv__fields_seek(draw->iterator, draw->slot, draw->hash->generation, start);
    if (status == -ENOENT) {
        status = step_around(draw, -ENOENT);
    }
    for (uint64_t i = 0; i < step_count && status == 0; i++) {
        status = step_around(draw, 0);
    }
    return status == -ENOENT ? ERROR_CORRUPT : status;
}

/* Fields that may repeat. */
static int draw_repeating(struct draw *draw, uint64_t wanted_count)
{
    int status = 0;
    for (uint64_t i = 0; i < wanted_count && status == 0; i++) {
        status = draw_one(draw);
        if (status == 0) {
            reply_drawn(draw);
        }
    }
    return status;
}

/* Different fields, few of many: one by one, and on to the next when one was drawn before. */
static int draw_few(struct draw *draw, uint64_t wanted_count)
{
    ASSERT(wanted_count <= RANDOM_PICK_COUNT_MAX && wanted_count < draw->hash->count);
    /* Hashes of the names; a collision only means a step more. */
    uint64_t drawn[RANDOM_PICK_COUNT_MAX];
    int status = 0;
    for (uint64_t count = 0; count < wanted_count && status == 0; count++) {
        status = draw_one(draw);
        for (uint64_t i = 0; i < count && status == 0;) {
            uint64_t hash = hash_bytes(kv__fields_name(draw->iterator), 1);
            bool is_new = drawn[i] != hash;
            i++;
            if (!is_new) {
                status = step_around(draw, 0);
                i = 0;
            }
        }
        if (status == 0) {
            drawn[count] = hash_bytes(kv__fields_name(draw->iterator), 1);
            reply_drawn(draw);
        }
    }
    return status;
}

/* Different fields, in one walk: each is taken with the chance that makes all choices equally
 * likely (Knuth, The Art of Computer Programming, volume 2, 3.4.2, algorithm S). */
static int draw_many(struct draw *draw, uint64_t wanted_count)
{
    uint64_t left_count = draw->hash->count;
    int status = kv__fields_seek(draw->iterator, draw->slot, draw->hash->generation, 0);
    while (status == 0 && wanted_count > 0) {
        if (random_below(&draw->random, left_count) < wanted_count) {
            reply_drawn(draw);
            wanted_count--;
        }
        left_count--;
        if (wanted_count > 0) {
            status = left_count > 0 ? rows_iterator_next(draw->iterator) : ERROR_CORRUPT;
        }
    }
    return status == -ENOENT ? ERROR_CORRUPT : status; /* I3 */
}

/* False: the error is answered. */
static bool parse_draw(struct kv_call *call, int64_t *count, bool *has_values)
{
    if (!kv__parse_integer(call, call->arguments[1], count)) {
        return false;
    }
    if (*count == INT64_MIN) {
        reply_error(call->reply, "ERR value is out of range, value must between %lld and %lld",
                    (long long)-INT64_MAX, (long long)INT64_MAX);
        return false;
    }
    *has_values = call->argument_count == 3;
    if (call->argument_count > 3 ||
        (*has_values && !kv__is_word(call->arguments[2], "withvalues"))) {
        kv__reply_syntax_error(call);
        return false;
    }
    if (*count < -KV_RANDOM_FIELD_COUNT_MAX || (*has_values && *count > INT64_MAX / 2)) {
        reply_error(call->reply, "ERR value is out of range");
        return false;
    }
    return true;
}

static void reply_draw_head(const struct draw *draw, uint64_t count)
{
    bool is_flat = draw->has_values && draw->call->reply->protocol == 2;
    reply_array(draw->call->reply, is_flat ? count * 2 : count);
}

static int draw_fields(struct draw *draw, int64_t count)
{
    const struct kv_value *hash = draw->hash;
    if (count < 0) {
        reply_draw_head(draw, (uint64_t)-count);
        return draw_repeating(draw, (uint64_t)-count);
    }
    uint64_t wanted_count = (uint64_t)count < hash->count ? (uint64_t)count : hash->count;
    reply_draw_head(draw, wanted_count);
    if (wanted_count <= RANDOM_PICK_COUNT_MAX && wanted_count <= hash->count / RANDOM_PICK_SHARE) {
        return draw_few(draw, wanted_count);
    }
    return draw_many(draw, wanted_count);
}

int kv__command_hrandfield(struct kv_call *call)
{
    bool has_count = call->argument_count > 1;
    struct draw draw = {.call = call};
    int64_t count = 1;
    if (has_count && !parse_draw(call, &count, &draw.has_values)) {
        return 0;
    }
    struct kv_key key;
    struct kv_value hash;
    int status = kv__typed_lookup(call, KV_TYPE_HASH, &key, &hash);
    if (status != 0) {
        return kv__ended(status);
    }
    if (hash.type == KV_TYPE_NONE || count == 0) {
        if (has_count) {
            reply_array(call->reply, 0);
        } else {
            reply_null(call->reply);
        }
        return 0;
    }
    draw.hash = &hash;
    draw.slot = key.slot;
    random_init(&draw.random, kv__random(call));
    status = kv__fields_open(call->rows, key.slot, hash.generation, &draw.iterator);
    if (status != 0) {
        return status;
    }
    if (has_count) {
        status = draw_fields(&draw, count);
    } else {
        status = draw_one(&draw);
        if (status == 0) {
            reply_drawn(&draw);
        }
    }
    rows_iterator_close(draw.iterator);
    return status;
}
