/* SPDX-License-Identifier: Apache-2.0 */
/* From replies back to numbers and structs. Replies come from another node's shard, so everything is
 * checked. */
#include <stdio.h>

#include "base/assert/assert.h"
#include "base/endian/endian.h"
#include "base/memory/memory.h"
#include "base/number/number.h"
#include "service/system/system_internal.h"

static int malformed(struct error *error)
{
    return error_set(error, ERROR_PROTOCOL, "reply of the system shard");
}

/* The first line of a reply, without its type; false when there is none. */
static bool take_line(struct bytes *reply, struct bytes *line)
{
    const uint8_t *end =
        reply->size_bytes < 3 ? NULL : memchr(reply->data, '\r', reply->size_bytes - 1);
    if (end == NULL || end == reply->data || end[1] != '\n') {
        return false;
    }
    size_t size_bytes = (size_t)(end - reply->data);
    *line = bytes_make(reply->data + 1, size_bytes - 1);
    *reply = bytes_make(end + 2, reply->size_bytes - size_bytes - 2);
    return true;
}

/* An error reply becomes a status, and its text a message. */
static int refusal(struct bytes line, struct error *error)
{
    static const struct {
        const char *word;
        int status;
    } refusals[] = {
#define REFUSAL(word, status) {#word, status},
        SYSTEM_REFUSAL_TABLE(REFUSAL)
#undef REFUSAL
    };
    const uint8_t *blank = line.size_bytes == 0 ? NULL : memchr(line.data, ' ', line.size_bytes);
    size_t word_size = blank == NULL ? line.size_bytes : (size_t)(blank - line.data);
    int status = -EAGAIN;
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        if (bytes_equal(bytes_make(line.data, word_size), bytes_of_text(refusals[i].word))) {
            status = refusals[i].status;
            line = bytes_make(line.data + word_size, line.size_bytes - word_size);
            break;
        }
    }
    if (status != -EAGAIN && line.size_bytes > 0) {
        line = bytes_make(line.data + 1, line.size_bytes - 1);
    }
    int size = line.size_bytes < ERROR_MESSAGE_SIZE ? (int)line.size_bytes : ERROR_MESSAGE_SIZE;
    return error_say(error, status, "%.*s", size, (const char *)line.data);
}

int system_reply_number(struct bytes reply, uint64_t *number, struct error *error)
{
    struct bytes line;
    uint64_t parsed;
    char type = reply.size_bytes > 0 ? (char)reply.data[0] : ' ';
    if (!take_line(&reply, &line) || reply.size_bytes != 0) {
        return malformed(error);
    }
    if (type == '-') {
        return refusal(line, error);
    }
    if (type != ':' || !number_parse_unsigned(line, &parsed)) {
        return malformed(error);
    }
    *number = parsed;
    return 0;
}

bool system_reply_is_early(struct bytes reply)
{
    return bytes_have_prefix(reply, BYTES("-NOCLUSTER "));
}

/* The bytes of a bulk string. */
static int take_content(struct bytes reply, struct bytes *content, struct error *error)
{
    struct bytes line;
    uint64_t size_bytes;
    char type = reply.size_bytes > 0 ? (char)reply.data[0] : ' ';
    if (!take_line(&reply, &line)) {
        return malformed(error);
    }
    if (type == '-') {
        return refusal(line, error);
    }
    if (type != '$' || !number_parse_unsigned(line, &size_bytes) || reply.size_bytes < 2 ||
        size_bytes != reply.size_bytes - 2 ||
        memcmp(reply.data + reply.size_bytes - 2, "\r\n", 2) != 0) {
        return malformed(error);
    }
    *content = bytes_make(reply.data, reply.size_bytes - 2);
    return 0;
}

/* ---- Rows in the content --------------------------------------------------------------------- */

static bool take_bytes(struct bytes *content, struct bytes *taken)
{
    if (content->size_bytes < 4) {
        return false;
    }
    uint32_t size_bytes = endian_get_u32_le(content->data);
    if (size_bytes > content->size_bytes - 4) {
        return false;
    }
    *taken = bytes_make(content->data + 4, size_bytes);
    *content = bytes_make(taken->data + size_bytes, content->size_bytes - 4 - size_bytes);
    return true;
}

struct item {
    struct system__row_name name;
    struct bytes value;
};

static bool take_row(struct bytes *content, struct item *item)
{
    struct bytes key;
    return take_bytes(content, &key) && take_bytes(content, &item->value) &&
           system__row_parse(key, &item->name);
}

/* How many rows there are, all of one kind; false: something else is there. */
static bool count_rows(struct bytes content, enum system__row_kind kind, uint32_t count_max,
                       uint32_t *count)
{
    struct item item;
    *count = 0;
    while (content.size_bytes > 0) {
        if (!take_row(&content, &item) || item.name.kind != kind || *count == count_max) {
            return false;
        }
        (*count)++;
    }
    return true;
}

static int take_settings(struct bytes *content, struct system_settings *settings)
{
    struct item item;
    struct system__settings all;
    if (!take_row(content, &item) || item.name.kind != SYSTEM_ROW_SETTINGS) {
        return ERROR_PROTOCOL;
    }
    int status = system__settings_decode(item.value, &all);
    if (status == 0) {
        *settings = all.settings;
    }
    return status;
}

int system_reply_settings(struct bytes reply, struct system_settings *settings, struct error *error)
{
    struct bytes content;
    struct system_settings decoded;
    int status = take_content(reply, &content, error);
    if (status != 0) {
        return status;
    }
    if (take_settings(&content, &decoded) != 0 || content.size_bytes != 0) {
        return malformed(error);
    }
    *settings = decoded;
    return 0;
}

int system_reply_nodes(struct bytes reply, struct system_nodes *nodes, struct error *error)
{
    struct bytes content;
    struct system_nodes decoded = {0};
    struct item item;
    uint32_t count;
    int status = take_content(reply, &content, error);
    if (status != 0) {
        return status;
    }
    if (take_settings(&content, &decoded.settings) != 0 ||
        !count_rows(content, SYSTEM_ROW_NODE, SYSTEM_NODE_ROW_COUNT_MAX, &count)) {
        return malformed(error);
    }
    decoded.nodes = memory_allocate_zeroed((size_t)count + 1, sizeof *decoded.nodes);
    uint32_t id_last = 0;
    while (decoded.node_count < count && take_row(&content, &item) && item.name.number > id_last &&
           system__node_decode(item.value, (uint32_t)item.name.number,
                               &decoded.nodes[decoded.node_count]) == 0) {
        id_last = (uint32_t)item.name.number;
        decoded.node_count++;
    }
    if (decoded.node_count < count) {
        system_nodes_deinit(&decoded);
        return malformed(error);
    }
    *nodes = decoded;
    return 0;
}

void system_nodes_deinit(struct system_nodes *nodes)
{
    memory_free(nodes->nodes);
    *nodes = (struct system_nodes){0};
}

int system_reply_tokens(struct bytes reply, struct system_tokens *tokens, struct error *error)
{
    struct bytes content;
    struct system_tokens decoded = {0};
    struct item item;
    struct system__token token;
    uint32_t count;
    int status = take_content(reply, &content, error);
    if (status != 0) {
        return status;
    }
    if (!count_rows(content, SYSTEM_ROW_TOKEN, SYSTEM_TOKEN_COUNT_MAX, &count)) {
        return malformed(error);
    }
    decoded.tokens = memory_allocate_zeroed((size_t)count + 1, sizeof *decoded.tokens);
    while (decoded.token_count < count && take_row(&content, &item) &&
           system__token_decode(item.value, &item.name.hash, &token) == 0) {
        decoded.tokens[decoded.token_count++] = token.token;
    }
    if (decoded.token_count < count) {
        system_tokens_deinit(&decoded);
        return malformed(error);
    }
    *tokens = decoded;
    return 0;
}

void system_tokens_deinit(struct system_tokens *tokens)
{
    memory_free(tokens->tokens);
    *tokens = (struct system_tokens){0};
}

int system_reply_auditlog(struct bytes reply, struct system_audits *audits, struct error *error)
{
    struct bytes content;
    struct system_audits decoded = {0};
    struct item item;
    uint32_t count;
    int status = take_content(reply, &content, error);
    if (status != 0) {
        return status;
    }
    if (!count_rows(content, SYSTEM_ROW_AUDIT, SYSTEM_AUDIT_COUNT_MAX, &count)) {
        return malformed(error);
    }
    decoded.audits = memory_allocate_zeroed((size_t)count + 1, sizeof *decoded.audits);
    while (decoded.audit_count < count && take_row(&content, &item) &&
           system__audit_decode(item.value, item.name.number,
                                &decoded.audits[decoded.audit_count]) == 0) {
        decoded.audit_count++;
    }
    if (decoded.audit_count < count) {
        system_audits_deinit(&decoded);
        return malformed(error);
    }
    *audits = decoded;
    return 0;
}

void system_audits_deinit(struct system_audits *audits)
{
    memory_free(audits->audits);
    *audits = (struct system_audits){0};
}
