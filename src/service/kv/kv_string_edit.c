/* SPDX-License-Identifier: Apache-2.0 */
/* Strings: parts of values, and values that are numbers. */
#include <math.h>

#include "base/assert/assert.h"
#include "base/number/number.h"
#include "service/kv/kv_internal.h"
#include "service/kv/kv_lcs.h"

static void replace_data(struct kv_call *call, const struct kv_key *key,
                         const struct kv_value *before, struct bytes data)
{
    struct kv_value after = {.type = KV_TYPE_STRING, .data = data, .expire_ms = before->expire_ms};
    kv__key_write(call, key, before, &after);
}

static bool fits_limit(struct kv_call *call, uint64_t size_bytes, uint64_t more_bytes)
{
    if (size_bytes + more_bytes >= size_bytes &&
        size_bytes + more_bytes <= KV_VALUE_SIZE_BYTES_MAX) {
        return true;
    }
    reply_error(call->reply, "ERR string exceeds maximum allowed size (proto-max-bulk-len)");
    return false;
}

int kv__command_append(struct kv_call *call)
{
    struct kv_key key;
    struct kv_value before;
    int status = kv__typed_lookup(call, KV_TYPE_STRING, &key, &before);
    if (status != 0) {
        return kv__ended(status);
    }
    struct bytes more = call->arguments[1];
    if (!fits_limit(call, before.data.size_bytes, more.size_bytes)) {
        return 0;
    }
    struct buffer *work = &call->kv->work;
    buffer_clear(work);
    buffer_reserve(work, before.data.size_bytes + more.size_bytes);
    buffer_append(work, before.data);
    buffer_append(work, more);
    replace_data(call, &key, &before, buffer_bytes(work));
    reply_integer(call->reply, (int64_t)work->size_bytes);
    return 0;
}

/* The part of `whole` from `start` to `end`, both included, negative ones counted from the end. */
static struct bytes part_of(struct bytes whole, int64_t start, int64_t end)
{
    int64_t size = (int64_t)whole.size_bytes;
    if (start < 0 && end < 0 && start > end) {
        return BYTES("");
    }
    start = start < 0 ? start + size : start;
    end = end < 0 ? end + size : end;
    start = start < 0 ? 0 : start;
    end = end < 0 ? 0 : end;
    end = end >= size ? size - 1 : end;
    if (size == 0 || start > end) {
        return BYTES("");
    }
    return bytes_make(whole.data + start, (size_t)(end - start + 1));
}

int kv__command_getrange(struct kv_call *call)
{
    int64_t start;
    int64_t end;
    if (!kv__parse_integer(call, call->arguments[1], &start) ||
        !kv__parse_integer(call, call->arguments[2], &end)) {
        return 0;
    }
    struct kv_key key;
    struct kv_value value;
    int status = kv__typed_lookup(call, KV_TYPE_STRING, &key, &value);
    if (status != 0) {
        return kv__ended(status);
    }
    reply_bulk(call->reply, part_of(value.data, start, end));
    return 0;
}

int kv__command_setrange(struct kv_call *call)
{
    int64_t offset;
    if (!kv__parse_integer(call, call->arguments[1], &offset)) {
        return 0;
    }
    if (offset < 0) {
        reply_error(call->reply, "ERR offset is out of range");
        return 0;
    }
    struct kv_key key;
    struct kv_value before;
    int status = kv__typed_lookup(call, KV_TYPE_STRING, &key, &before);
    if (status != 0) {
        return kv__ended(status);
    }
    struct bytes part = call->arguments[2];
    if (part.size_bytes == 0) {
        reply_integer(call->reply, (int64_t)before.data.size_bytes);
        return 0;
    }
    if (!fits_limit(call, (uint64_t)offset, part.size_bytes)) {
        return 0;
    }
    size_t end = (size_t)offset + part.size_bytes;
    size_t size = end > before.data.size_bytes ? end : before.data.size_bytes;
    struct buffer *work = &call->kv->work;
    buffer_clear(work);
    buffer_reserve(work, size);
    buffer_append(work, before.data);
    if (size > work->size_bytes) {
        size_t gap = size - work->size_bytes;
        memset(buffer_extend(work, gap), 0, gap);
    }
    memcpy(work->data + offset, part.data, part.size_bytes);
    replace_data(call, &key, &before, buffer_bytes(work));
    reply_integer(call->reply, (int64_t)size);
    return 0;
}

uint64_t kv_command_made_size_bytes(const struct kv_command *command, const struct bytes *arguments,
                                    uint32_t argument_count)
{
    const struct kv__entry *entry = kv__entry_of_opcode(command->opcode);
    int64_t offset;
    if (entry == NULL || entry->execute != kv__command_setrange || argument_count != 3 ||
        arguments[2].size_bytes == 0 || !number_parse_integer(arguments[1], &offset) ||
        offset < 0) {
        return 0;
    }
    uint64_t size_bytes = (uint64_t)offset + arguments[2].size_bytes;
    return size_bytes > KV_VALUE_SIZE_BYTES_MAX ? 0 : size_bytes;
}

/* What is made is long though the arguments are short. */
int kv__prefetch_setrange(struct kv_call *call)
{
    kv__note_load(call, kv_command_made_size_bytes(&call->entry->command, call->arguments,
                                                   call->argument_count));
    return 0;
}

/* ---- Numbers --------------------------------------------------------------------------------- */

static int add_integer(struct kv_call *call, int64_t increment)
{
    struct kv_key key;
    struct kv_value before;
    int status = kv__typed_lookup(call, KV_TYPE_STRING, &key, &before);
    if (status != 0) {
        return kv__ended(status);
    }
    int64_t value = 0;
    if (before.type != KV_TYPE_NONE && !kv__parse_integer(call, before.data, &value)) {
        return 0;
    }
    if (__builtin_add_overflow(value, increment, &value)) {
        reply_error(call->reply, "ERR increment or decrement would overflow");
        return 0;
    }
    char text[NUMBER_INTEGER_SIZE_MAX];
    replace_data(call, &key, &before, bytes_make(text, number_format_integer(text, value)));
    reply_integer(call->reply, value);
    return 0;
}

int kv__command_incr(struct kv_call *call)
{
    return add_integer(call, 1);
}

int kv__command_decr(struct kv_call *call)
{
    return add_integer(call, -1);
}

int kv__command_incrby(struct kv_call *call)
{
    int64_t increment;
    return kv__parse_integer(call, call->arguments[1], &increment) ? add_integer(call, increment)
                                                                   : 0;
}

int kv__command_decrby(struct kv_call *call)
{
    int64_t decrement;
    if (!kv__parse_integer(call, call->arguments[1], &decrement)) {
        return 0;
    }
    if (decrement == INT64_MIN) {
        reply_error(call->reply, "ERR decrement would overflow");
        return 0;
    }
    return add_integer(call, -decrement);
}

bool kv__add_float(struct kv_call *call, struct bytes value, struct bytes increment, char *text,
                   size_t *text_size_bytes, const char *value_error)
{
    long double sum = 0;
    long double more;
    if (value.size_bytes > 0 && !number_parse_long_double(value, &sum)) {
        reply_error(call->reply, "%s", value_error);
        return false;
    }
    if (!number_parse_long_double(increment, &more)) {
        reply_error(call->reply, "ERR value is not a valid float");
        return false;
    }
    sum += more;
    if (isnan(sum) || isinf(sum)) {
        reply_error(call->reply, "ERR increment would produce NaN or Infinity");
        return false;
    }
    *text_size_bytes = number_format_long_double(text, sum);
    return true;
}

int kv__command_incrbyfloat(struct kv_call *call)
{
    struct kv_key key;
    struct kv_value before;
    int status = kv__typed_lookup(call, KV_TYPE_STRING, &key, &before);
    if (status != 0) {
        return kv__ended(status);
    }
    const char *value_error = "ERR value is not a valid float";
    if (before.type != KV_TYPE_NONE && before.data.size_bytes == 0) {
        reply_error(call->reply, "%s", value_error);
        return 0;
    }
    char text[NUMBER_DOUBLE_SIZE_MAX];
    size_t size;
    if (!kv__add_float(call, before.data, call->arguments[1], text, &size, value_error)) {
        return 0;
    }
    replace_data(call, &key, &before, bytes_make(text, size));
    reply_bulk(call->reply, bytes_make(text, size));
    return 0;
}

/* Reads run on other threads too, so the first value moves to a buffer of this call. */
int kv__command_lcs(struct kv_call *call)
{
    struct kv_key key;
    struct kv_value left;
    struct kv_value right;
    kv__key_init(&key, call->arguments[0]);
    int status = kv__key_lookup(call, &key, &left);
    if (status != 0) {
        return status;
    }
    struct buffer copy = {0};
    buffer_append(&copy, left.data);
    kv__key_init(&key, call->arguments[1]);
    status = kv__key_lookup(call, &key, &right);
    if (status == 0 && (left.type == KV_TYPE_HASH || right.type == KV_TYPE_HASH)) {
        reply_error(call->reply, "ERR The specified keys must contain string values");
    } else if (status == 0) {
        kv__lcs_answer(call->reply, buffer_bytes(&copy), right.data, call->arguments + 2,
                       call->argument_count - 2);
    }
    buffer_deinit(&copy);
    return status;
}
