/* SPDX-License-Identifier: Apache-2.0 */
#include "service/kv/kv_walk.h"

#include "base/assert/assert.h"
#include "base/endian/endian.h"
#include "base/glob/glob.h"
#include "base/hash/hash.h"

enum { SCAN_COUNT_DEFAULT = 10 };

struct kv__late_answer kv__late_begin(const struct kv_call *call)
{
    return (struct kv__late_answer){.start_bytes = call->reply->target->size_bytes};
}

/* Move what was appended since the beginning behind `head`. */
static void insert_head(const struct kv_call *call, const struct kv__late_answer *answer,
                        struct buffer *head)
{
    struct buffer *target = call->reply->target;
    size_t moved_bytes = target->size_bytes - answer->start_bytes;
    (void)buffer_extend(target, head->size_bytes);
    uint8_t *start = target->data + answer->start_bytes;
    memmove(start + head->size_bytes, start, moved_bytes);
    memcpy(start, head->data, head->size_bytes);
    buffer_deinit(head);
}

void kv__late_end_scan(const struct kv_call *call, const struct kv__late_answer *answer,
                       uint64_t cursor)
{
    ASSERT(cursor <= INT64_MAX);
    struct buffer head = {0};
    const struct reply reply = {.target = &head, .protocol = call->reply->protocol};
    reply_array(&reply, 2);
    reply_bulk_integer(&reply, (int64_t)cursor);
    reply_array(&reply, answer->count);
    insert_head(call, answer, &head);
}

void kv__late_end_array(const struct kv_call *call, const struct kv__late_answer *answer)
{
    struct buffer head = {0};
    const struct reply reply = {.target = &head, .protocol = call->reply->protocol};
    reply_array(&reply, answer->count);
    insert_head(call, answer, &head);
}

/* ---- Options --------------------------------------------------------------------------------- */

static enum kv_type type_of_word(struct bytes word)
{
    if (kv__is_word(word, "string")) {
        return KV_TYPE_STRING;
    }
    return kv__is_word(word, "hash") ? KV_TYPE_HASH : KV_TYPE_NONE;
}

bool kv__scan_options_parse(struct kv_call *call, uint32_t first, bool allows_type,
                            struct kv__scan_options *options)
{
    *options = (struct kv__scan_options){.count = SCAN_COUNT_DEFAULT};
    for (uint32_t i = first; i < call->argument_count; i += 2) {
        struct bytes word = call->arguments[i];
        bool has_value = i + 1 < call->argument_count;
        struct bytes value = has_value ? call->arguments[i + 1] : BYTES("");
        int64_t count;
        if (has_value && kv__is_word(word, "count")) {
            if (!kv__parse_integer(call, value, &count)) {
                return false;
            }
            if (count < 1) {
                kv__reply_syntax_error(call);
                return false;
            }
            options->count = (uint64_t)count;
        } else if (has_value && kv__is_word(word, "match")) {
            options->pattern = value;
            options->has_pattern = !glob_matches_all(value);
        } else if (has_value && allows_type && kv__is_word(word, "type")) {
            options->has_type = true;
            options->type = type_of_word(value);
        } else {
            kv__reply_syntax_error(call);
            return false;
        }
    }
    return true;
}

bool kv__scan_cursor_parse(struct kv_call *call, struct bytes text, uint64_t *cursor)
{
    if (!kv__cursor_parse(text, cursor)) {
        reply_error(call->reply, "ERR invalid cursor");
        return false;
    }
    return true;
}

bool kv__scan_matches(const struct kv__scan_options *options, struct bytes name)
{
    return !options->has_pattern || glob_matches(options->pattern, name, false);
}

/* ---- Chance ---------------------------------------------------------------------------------- */

uint64_t kv__random(struct kv_call *call)
{
    /* Reads may run on several threads, which only need different numbers: no order is implied. */
    uint64_t asked = __atomic_fetch_add(&call->kv->random_count, 1, __ATOMIC_RELAXED);
    uint8_t seed[16];
    endian_put_u64_le(seed, call->time_ms);
    endian_put_u64_le(seed + 8, asked);
    return hash_bytes(bytes_make(seed, sizeof seed), 0);
}

/* ---- Before executing ------------------------------------------------------------------------ */

int kv__prefetch_by_reading(struct kv_call *call)
{
    ASSERT((call->entry->command.flags & KV_FLAG_READ) != 0);
    struct buffer dropped = {0};
    struct reply_limit nothing = {0};
    const struct reply reply = {.target = &dropped, .protocol = 2, .limit = &nothing};
    struct kv_call copy = *call;
    copy.is_execute = false;
    copy.reply = &reply;
    copy.time_ms = 0; /* Nothing has expired: every row is read. */
    bool is_refused = kv_command_refuses(&copy.entry->command, copy.arguments, copy.argument_count,
                                         copy.reply); /* It says so when it is executed. */
    int status = is_refused ? 0 : copy.entry->execute(&copy);
    buffer_deinit(&dropped);
    return status;
}
