/* SPDX-License-Identifier: Apache-2.0 */
/* RENAME, RENAMENX and COPY between shards: the content of a key, as a read answers it, and the
 * transaction that puts it elsewhere.
 *
 *   offset  size  content, integers little-endian
 *   0       8     version; 0: there is no such key
 *   8       8     when it expires; 0: never
 *   16      1     type: enum kv_type, or KV_CONTENT_TOO_LARGE and nothing behind
 *   17            of a string, its bytes; of a hash, field by field, name and value, a length (4)
 *                 before each
 */
#include <inttypes.h>
#include <stdio.h>

#include "base/assert/assert.h"
#include "base/endian/endian.h"
#include "base/memory/memory.h"
#include "base/number/number.h"
#include "base/trace/trace.h"
#include "service/kv/kv_content.h"
#include "service/kv/kv_field.h"

enum {
    CONTENT_HEAD_SIZE_BYTES = 17,
    FIELD_COST_BYTES = 64, /* Counted for each field: what reading it takes. */
};

/* Before it there is the length of a bulk string, behind it the end of its line. */
_Static_assert(CONTENT_HEAD_SIZE_BYTES + NUMBER_INTEGER_SIZE_MAX + 5 <=
                   KV_CONTENT_HEAD_SIZE_BYTES_MAX,
               "an answer is counted without its head");

/* ---- Reading --------------------------------------------------------------------------------- */

static void append_piece(struct buffer *content, struct bytes piece)
{
    endian_put_u32_le(buffer_extend(content, 4), (uint32_t)piece.size_bytes);
    buffer_append(content, piece);
}

/* -E2BIG: more than so many bytes. */
static int append_fields(struct kv_call *call, const struct kv_key *key,
                         const struct kv_value *hash, uint64_t size_bytes_max,
                         struct buffer *content)
{
    struct rows_iterator *iterator;
    int status = kv__fields_open(call->rows, key->slot, hash->generation, &iterator);
    if (status != 0) {
        return status;
    }
    uint64_t count = 0;
    status = kv__fields_seek(iterator, key->slot, hash->generation, 0);
    while (status == 0) {
        append_piece(content, kv__fields_name(iterator));
        append_piece(content, rows_iterator_value(iterator));
        count++;
        status = content->size_bytes + count * FIELD_COST_BYTES > size_bytes_max
                     ? -E2BIG
                     : rows_iterator_next(iterator);
    }
    rows_iterator_close(iterator);
    if (status == -ENOENT) {
        return count == hash->count ? 0 : ERROR_CORRUPT; /* I3 */
    }
    return status;
}

static int append_content(struct kv_call *call, const struct kv_key *key,
                          const struct kv_value *value, uint64_t size_bytes_max,
                          struct buffer *content)
{
    if (value->type == KV_TYPE_HASH) {
        return value->count > size_bytes_max / FIELD_COST_BYTES
                   ? -E2BIG
                   : append_fields(call, key, value, size_bytes_max, content);
    }
    if (value->type == KV_TYPE_STRING && value->data.size_bytes > size_bytes_max) {
        return -E2BIG;
    }
    if (value->type == KV_TYPE_STRING) {
        buffer_append(content, value->data);
    }
    return 0;
}

int kv__execute_content(struct kv_call *call)
{
    struct kv_key key;
    struct kv_value value;
    int64_t size_bytes_max;
    if (!kv__parse_integer(call, call->arguments[1], &size_bytes_max)) {
        return 0;
    }
    kv__key_init(&key, call->arguments[0]);
    int status = kv__key_lookup(call, &key, &value);
    if (status != 0) {
        return status;
    }
    bool is_there = value.type != KV_TYPE_NONE;
    struct buffer content = {0};
    uint8_t *head = buffer_extend(&content, CONTENT_HEAD_SIZE_BYTES);
    endian_put_u64_le(head, is_there ? value.version : 0);
    endian_put_u64_le(head + 8, is_there ? value.expire_ms : 0);
    head[16] = (uint8_t)value.type;
    status = append_content(call, &key, &value, (uint64_t)size_bytes_max, &content);
    if (status == -E2BIG) {
        content.size_bytes = CONTENT_HEAD_SIZE_BYTES;
        content.data[16] = KV_CONTENT_TOO_LARGE;
        status = 0;
    }
    if (status == 0) {
        reply_bulk(call->reply, buffer_bytes(&content));
    }
    buffer_deinit(&content);
    return status;
}

uint16_t kv_content_opcode(void)
{
    return KV_OPCODE_CONTENT;
}

/* ---- Planning -------------------------------------------------------------------------------- */

bool kv_command_moves(const struct kv_command *command)
{
    static const char *const names[] = {"rename", "renamenx", "copy"};
    return kv__is_one_of(command, names, 3);
}

bool kv__content_parse(struct bytes answer, struct kv__content *content)
{
    struct bytes rest = answer;
    struct bytes whole;
    const uint8_t *end = answer.size_bytes == 0 || answer.data[0] != '$'
                             ? NULL
                             : memchr(answer.data, '\n', answer.size_bytes);
    if (end == NULL || !kv_reply_take(&rest, &whole) || rest.size_bytes != 0) {
        return false;
    }
    size_t head = (size_t)(end - answer.data) + 1;
    if (answer.size_bytes < head + CONTENT_HEAD_SIZE_BYTES + 2) {
        return false;
    }
    const uint8_t *data = answer.data + head;
    *content = (struct kv__content){
        .version = endian_get_u64_le(data),
        .expire_ms = endian_get_u64_le(data + 8),
        .type = data[16],
        .rest = bytes_make(data + CONTENT_HEAD_SIZE_BYTES,
                           answer.size_bytes - head - CONTENT_HEAD_SIZE_BYTES - 2),
    };
    return content->type <= KV_TYPE_HASH || content->type == KV_CONTENT_TOO_LARGE;
}

static void add(struct kv_transaction *transaction, const char *name, const struct bytes *arguments,
                uint32_t count)
{
    kv_transaction_add(transaction, kv_command_find(bytes_of_text(name)), arguments, count);
}

static bool take_piece(struct bytes *rest, struct bytes *piece)
{
    if (rest->size_bytes < 4 || endian_get_u32_le(rest->data) > rest->size_bytes - 4) {
        return false;
    }
    *piece = bytes_make(rest->data + 4, endian_get_u32_le(rest->data));
    *rest = bytes_make(piece->data + piece->size_bytes, rest->size_bytes - 4 - piece->size_bytes);
    return true;
}

bool kv__content_extent(const struct kv__content *content, struct kv__extent *extent)
{
    struct bytes rest = content->rest;
    struct bytes name;
    struct bytes value;
    *extent = (struct kv__extent){.size_bytes = rest.size_bytes};
    while (content->type == KV_TYPE_HASH && rest.size_bytes > 0) {
        if (!take_piece(&rest, &name) || !take_piece(&rest, &value)) {
            return false;
        }
        uint64_t size_bytes = name.size_bytes + value.size_bytes;
        extent->field_count++;
        if (size_bytes > extent->field_size_bytes) {
            extent->field_size_bytes = size_bytes;
        }
    }
    return true;
}

/* HSET with all fields; false: malformed. */
static bool add_fields(struct kv_transaction *transaction, struct bytes target, struct bytes rest)
{
    struct bytes piece;
    uint32_t count = 1;
    for (struct bytes at = rest; at.size_bytes > 0; count++) {
        if (!take_piece(&at, &piece)) {
            return false;
        }
    }
    if (count < 3 || count % 2 == 0) {
        return false;
    }
    struct bytes *arguments = memory_allocate(count * sizeof arguments[0]);
    arguments[0] = target;
    for (uint32_t i = 1; i < count; i++) {
        bool is_whole = take_piece(&rest, &arguments[i]);
        ASSERT(is_whole); /* It was looked at. */
    }
    add(transaction, "hset", arguments, count);
    memory_free(arguments);
    return true;
}

bool kv__content_add_writes(struct kv_transaction *transaction, struct bytes target,
                            const struct kv__content *content)
{
    char expire[24];
    int size = snprintf(expire, sizeof expire, "%" PRIu64, content->expire_ms);
    const struct bytes expiry[] = {target, bytes_make(expire, (size_t)size)};
    const struct bytes set[] = {target, content->rest};
    if (content->type == KV_TYPE_STRING) {
        add(transaction, "set", set, 2);
    } else {
        add(transaction, "unlink", &target, 1);
        if (!add_fields(transaction, target, content->rest)) {
            return false;
        }
    }
    if (content->expire_ms != 0) {
        add(transaction, "pexpireat", expiry, 2);
    }
    return true;
}

/* What the client is told when nothing is moved; NULL: something is. */
static bool answer_unmoved(const struct kv__content *source, bool is_copy,
                           const struct reply *reply)
{
    if (source->type == KV_CONTENT_TOO_LARGE) {
        reply_error(reply, "CROSSSLOT the keys are in different shards, and the value is too large "
                           "to go from one to the other");
        return true;
    }
    if (source->type != KV_TYPE_NONE) {
        return false;
    }
    if (is_copy) {
        reply_integer(reply, 0);
    } else {
        reply_error(reply, "ERR no such key");
    }
    return true;
}

enum kv_move kv_move_plan(const struct kv_move_request *request, struct kv_transaction *transaction,
                          const struct reply *reply)
{
    struct bytes keys[] = {request->arguments[0], request->arguments[1]};
    bool is_copy = kv__is_named(request->command, "copy");
    bool does_replace = kv__is_named(request->command, "rename");
    struct kv_call call = {
        .reply = reply, .arguments = request->arguments, .argument_count = request->argument_count};
    struct kv__content source;
    struct kv__content target;
    if (is_copy && !kv__copy_options(&call, &does_replace)) {
        return KV_MOVE_ANSWERED;
    }
    if (!kv__content_parse(request->source, &source) ||
        !kv__content_parse(request->target, &target)) {
        return KV_MOVE_MALFORMED;
    }
    if (answer_unmoved(&source, is_copy, reply)) {
        return KV_MOVE_ANSWERED;
    }
    bool is_refused = !does_replace && target.type != KV_TYPE_NONE;
    if (!BUG("kv.move_source_unwatched")) {
        kv_transaction_watch(transaction, keys[0], source.version);
    }
    if (!does_replace && !BUG("kv.move_target_unwatched")) {
        kv_transaction_watch(transaction, keys[1], target.version);
    }
    if (!is_refused && !kv__content_add_writes(transaction, keys[1], &source)) {
        return KV_MOVE_MALFORMED;
    }
    if (!is_refused && !is_copy) {
        add(transaction, "unlink", &keys[0], 1);
    }
    if (kv__is_named(request->command, "rename")) {
        reply_ok(reply);
    } else {
        reply_integer(reply, is_refused ? 0 : 1);
    }
    return KV_MOVE_COMMIT;
}
