/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens and joining. A token that is used up stays until it expires, because who got an id from it
 * may not have heard so and ask again. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "service/system/system_internal.h"

/* ---- All tokens ------------------------------------------------------------------------------ */

struct overview {
    uint64_t time_ms;
    uint32_t count;
    uint64_t expires_at_ms; /* The first that expires; UINT64_MAX: none. */
    uint32_t expired_count;
    struct system_digest expired[SYSTEM_TOKEN_COUNT_MAX];
    uint64_t used_up_expires_at_ms; /* Of the used-up ones, the first that expires. */
    struct system_digest used_up;
};

static int look_at(void *context, struct bytes key, struct bytes value)
{
    struct overview *overview = context;
    struct system__row_name name;
    struct system__token token;
    if (!system__row_parse(key, &name) || name.kind != SYSTEM_ROW_TOKEN) {
        return ERROR_CORRUPT;
    }
    int status = system__token_decode(value, &name.hash, &token);
    if (status != 0) {
        return status;
    }
    if (overview->count == SYSTEM_TOKEN_COUNT_MAX) {
        return ERROR_CORRUPT;
    }
    overview->count++;
    uint64_t expires_at_ms = token.token.expires_at_ms;
    if (expires_at_ms <= overview->time_ms) {
        overview->expired[overview->expired_count++] = name.hash;
        return 0;
    }
    if (expires_at_ms < overview->expires_at_ms) {
        overview->expires_at_ms = expires_at_ms;
    }
    if (token.token.used_count == token.token.uses &&
        expires_at_ms < overview->used_up_expires_at_ms) {
        overview->used_up_expires_at_ms = expires_at_ms;
        overview->used_up = name.hash;
    }
    return 0;
}

static int look(struct rows *rows, uint64_t time_ms, struct overview *overview)
{
    memset(overview, 0, sizeof *overview);
    overview->time_ms = time_ms;
    overview->expires_at_ms = UINT64_MAX;
    overview->used_up_expires_at_ms = UINT64_MAX;
    return system__rows_each(rows, SYSTEM_ROW_TOKEN, look_at, overview);
}

int system__tokens_look(struct system *system, struct rows *rows)
{
    struct overview overview;
    int status = look(rows, 0, &overview);
    if (status == 0) {
        system->token_expires_at_ms = overview.expires_at_ms;
    }
    return status;
}

static void delete_token(struct system__call *call, const struct system_digest *hash)
{
    struct system__row row;
    system__row_token(&row, hash);
    rows_delete(call->rows, row.key);
}

/* Delete what has expired; `overview` is of what is left. */
static int sweep(struct system__call *call, struct overview *overview)
{
    int status = look(call->rows, call->time_ms, overview);
    if (status != 0) {
        return status;
    }
    for (uint32_t i = 0; i < overview->expired_count; i++) {
        delete_token(call, &overview->expired[i]);
    }
    overview->count -= overview->expired_count;
    call->system->token_expires_at_ms = overview->expires_at_ms;
    return 0;
}

int system__execute_token_sweep(struct system__call *call)
{
    struct overview overview;
    int status = sweep(call, &overview);
    reply_integer(call->reply, overview.expired_count);
    return status;
}

/* ---- One token ------------------------------------------------------------------------------- */

static int find_token(struct system__call *call, struct system__token *token)
{
    struct system__row row;
    struct bytes value;
    system__row_token(&row, &call->arguments->token);
    int status = rows_get(call->rows, row.key, &value);
    return status != 0 ? status : system__token_decode(value, &call->arguments->token, token);
}

static void write_token(struct system__call *call, const struct system__token *token)
{
    struct system *system = call->system;
    struct system__row row;
    system__row_token(&row, &token->token.hash);
    buffer_clear(&system->value);
    system__token_encode(&system->value, token);
    rows_put(call->rows, row.key, buffer_bytes(&system->value));
}

int system__execute_token_add(struct system__call *call)
{
    const struct system__arguments *arguments = call->arguments;
    struct overview overview;
    struct system__token token;
    int status = sweep(call, &overview);
    if (status != 0) {
        return status;
    }
    status = find_token(call, &token);
    if (status == 0) {
        reply_integer(call->reply, (int64_t)token.token.expires_at_ms);
        return 0;
    }
    if (status != -ENOENT) {
        return status;
    }
    if (overview.count == SYSTEM_TOKEN_COUNT_MAX) {
        if (overview.used_up_expires_at_ms == UINT64_MAX) {
            reply_error(call->reply,
                        "LIMIT there are %d tokens that can still be used; wait until one expires",
                        SYSTEM_TOKEN_COUNT_MAX);
            return 0;
        }
        delete_token(call, &overview.used_up);
    }
    uint64_t ttl_ms = arguments->numbers[SYSTEM_FIELD_TTL];
    token.token = (struct system_token){
        .hash = arguments->token,
        .created_at_ms = call->time_ms,
        .expires_at_ms = call->time_ms + ttl_ms,
        .uses = (uint32_t)arguments->numbers[SYSTEM_FIELD_USES],
    };
    write_token(call, &token);
    status = system__tokens_look(call->system, call->rows);
    if (status != 0) {
        return status;
    }
    reply_integer(call->reply, (int64_t)token.token.expires_at_ms);
    return system__audit_write(call, SYSTEM_AUDIT_TOKEN, 0,
                               "uses %" PRIu32 ", expires in %" PRIu64 " s", token.token.uses,
                               ttl_ms / 1000);
}

/* ---- SYSTEM.JOIN ----------------------------------------------------------------------------- */

/* Answer why, and write a record of it. */
static int refuse(struct system__call *call, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static int refuse(struct system__call *call, const char *format, ...)
{
    struct system__problem problem;
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(problem.text, sizeof problem.text, format, arguments);
    va_end(arguments);
    ASSERT(length > 0);
    reply_error(call->reply, "%s", problem.text);
    const char *reason = strchr(problem.text, ' ');
    ASSERT(reason != NULL);
    return system__audit_write(call, SYSTEM_AUDIT_JOIN_REFUSED, 0, "%s", reason + 1);
}

/* Who used the token with this key: the node's id; 0: nobody. */
static uint32_t used_by(const struct system__token *token, const struct system_digest *key)
{
    for (uint32_t i = 0; i < token->token.used_count; i++) {
        if (memcmp(&token->uses[i].key, key, sizeof *key) == 0) {
            return token->uses[i].node;
        }
    }
    return 0;
}

static int join_again(struct system__call *call, uint32_t id)
{
    const struct system_node *node = system_node_find(call->system, id);
    if (node == NULL || node->state == SYSTEM_NODE_REMOVED) {
        return refuse(call, "STATE node %" PRIu32 " was removed from the cluster", id);
    }
    reply_integer(call->reply, id);
    return 0;
}

static uint32_t count_members(const struct system *system)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < system->node_count; i++) {
        count += system->nodes[i].state != SYSTEM_NODE_REMOVED;
    }
    return count;
}

static int admit(struct system__call *call, struct system__token *token)
{
    const struct system *system = call->system;
    const struct system_settings *settings = &system->state.settings;
    struct system_node node = {
        .state = SYSTEM_NODE_ACTIVE,
        .joined_at_ms = call->time_ms,
        .changed_at_ms = call->time_ms,
    };
    struct system__problem problem;
    (void)system__node_take_facts(&node, call->arguments);
    if (node.feature_max < settings->feature) {
        return refuse(call,
                      "STATE the cluster has agreed on feature version %" PRIu32
                      "; the software of %s knows %" PRIu32 " at most: install a newer one",
                      settings->feature, node.peer, node.feature_max);
    }
    if (system__node_collides(system, &node, &problem)) {
        return refuse(call, "%s", problem.text);
    }
    if (count_members(system) >= SYSTEM_NODE_COUNT_MAX) {
        return refuse(call, "LIMIT the cluster has %d nodes, the most there may be",
                      SYSTEM_NODE_COUNT_MAX);
    }
    uint32_t id = system__node_add(call, &node)->id;
    ASSERT(token->token.used_count < token->token.uses);
    token->uses[token->token.used_count++] =
        (struct system__use){.key = call->arguments->key, .node = id};
    write_token(call, token);
    reply_integer(call->reply, id);
    return system__audit_write(call, SYSTEM_AUDIT_JOIN, id, "from %s, zone %s", node.peer,
                               node.zone[0] != '\0' ? node.zone : "-");
}

int system__execute_join(struct system__call *call)
{
    struct system__token token;
    int status = find_token(call, &token);
    if (status != 0 && status != -ENOENT) {
        return status;
    }
    bool is_there = status == 0;
    if (is_there && token.token.expires_at_ms <= call->time_ms) {
        struct overview overview;
        status = sweep(call, &overview);
        if (status != 0) {
            return status;
        }
        return refuse(call, "NOTOKEN the token has expired; make another with `tutti token`");
    }
    if (!is_there) {
        return refuse(call, "NOTOKEN the token is not known here: it has expired, or is of another "
                            "cluster; make another with `tutti token`");
    }
    uint32_t id = used_by(&token, &call->arguments->key);
    if (id != 0) {
        return join_again(call, id);
    }
    if (token.token.used_count == token.token.uses) {
        return refuse(call, "NOTOKEN the token is used up; make another with `tutti token`");
    }
    return admit(call, &token);
}
