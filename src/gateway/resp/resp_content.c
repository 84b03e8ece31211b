/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/resp/resp_content.h"

#include "base/assert/assert.h"
#include "base/memory/memory.h"

enum { READ_AT_ONCE_MAX = 8 };

void resp__contents_begin(struct contents *contents, uint32_t count)
{
    ASSERT(contents->reads == NULL);
    contents->reads = memory_allocate_zeroed(count + 1u, sizeof contents->reads[0]);
    contents->count = count;
    contents->status = 0;
    for (uint32_t i = 0; i < count; i++) {
        contents->reads[i].contents = contents;
    }
}

void resp__contents_drop(struct contents *contents)
{
    ASSERT(contents->under_way_count == 0);
    for (uint32_t i = 0; i < contents->count; i++) {
        buffer_deinit(&contents->reads[i].answer);
    }
    memory_free(contents->reads);
    contents->reads = NULL;
    contents->count = 0;
    contents->done_count = 0;
    contents->ready_from = 0;
    contents->size_bytes = 0;
    contents->capacity_bytes = 0;
}

bool resp__contents_are_too_large(const struct contents *contents)
{
    return contents->size_bytes >
           KV_EVALUATION_READ_SIZE_BYTES_MAX +
               (uint64_t)contents->done_count * KV_CONTENT_HEAD_SIZE_BYTES_MAX;
}

uint64_t resp__contents_size_bytes(const struct contents *contents)
{
    return contents->capacity_bytes + contents->count * sizeof contents->reads[0];
}

bool resp__contents_reply_failed(const struct contents *contents, const struct command_entry *entry,
                                 const struct reply *reply)
{
    if (contents->status != 0) {
        resp__reply_failure(entry, false, contents->status, reply);
        return true;
    }
    for (uint32_t i = 0; i < contents->count; i++) {
        const struct buffer *answer = &contents->reads[i].answer;
        if (answer->size_bytes > 0 && answer->data[0] == '-') {
            buffer_append(reply->target, buffer_bytes(answer));
            return true;
        }
    }
    return false;
}

/* ---- Asking ---------------------------------------------------------------------------------- */

static bool is_over(const struct contents *contents)
{
    bool is_stopped = contents->status != 0 || resp__contents_are_too_large(contents);
    return contents->under_way_count == 0 &&
           (is_stopped || contents->done_count == contents->count);
}

static void end_one(struct content_read *read, int status)
{
    struct contents *contents = read->contents;
    read->state = CONTENT_DONE;
    contents->done_count++;
    contents->size_bytes += read->answer.size_bytes;
    contents->capacity_bytes += read->answer.capacity_bytes;
    contents->status = contents->status != 0 ? contents->status : status;
}

static void make_ready(struct content_read *read)
{
    struct contents *contents = read->contents;
    uint32_t index = (uint32_t)(read - contents->reads);
    read->state = CONTENT_READY;
    contents->ready_from = index < contents->ready_from ? index : contents->ready_from;
}

static void answered(struct shard_request *request, int status, struct bytes answer)
{
    struct content_read *read = LIST_ITEM(request, struct content_read, request);
    struct contents *contents = read->contents;
    resp__server_read_answered(contents->server, answer.size_bytes);
    contents->under_way_count--;
    if (status == ERROR_MOVED) {
        make_ready(read);
        contents->wait(contents);
        os_loop_tick_again(contents->server->loop);
        return;
    }
    buffer_append(&read->answer, answer);
    end_one(read, status);
    if (!contents->is_submitting) {
        resp__contents_submit(contents);
    }
}

/* False: not now. */
static bool submit_one(struct content_read *read)
{
    struct contents *contents = read->contents;
    struct resp_server *server = contents->server;
    const struct resp_backend *backend = server->backend;
    const struct reply reply = {.target = &read->answer, .protocol = 2};
    const struct slots_range range =
        resp__range_of_slot(resp__slots(server), kv_slot_of_key(read->arguments[0]));
    shard_session_init(&read->session);
    read->request = (struct shard_request){
        .command = {.opcode = kv_content_opcode(),
                    .argument_count = 2,
                    .arguments = read->arguments},
        .protocol = 2,
        .done = answered,
        .session = &read->session,
    };
    read->state = CONTENT_SUBMITTED;
    resp__name_slots(&read->request, &range);
    int status = backend->submit(backend->context, range.shard, &read->request, &reply);
    if (status == SHARD_PENDING) {
        server->pending_read_count++;
        contents->under_way_count++;
        return true;
    }
    if (status < 0) {
        buffer_clear(&read->answer);
    }
    if (status == -EBUSY || status == ERROR_MOVED) {
        make_ready(read);
        return false;
    }
    end_one(read, status);
    return true;
}

/* One read always goes on; more of them while clients' reads have room. */
static bool may_ask(const struct contents *contents)
{
    return contents->under_way_count == 0 || (contents->under_way_count < READ_AT_ONCE_MAX &&
                                              resp__server_may_read(contents->server));
}

void resp__contents_submit(struct contents *contents)
{
    contents->is_submitting = true;
    while (contents->ready_from < contents->count && may_ask(contents) && contents->status == 0 &&
           !resp__contents_are_too_large(contents)) {
        struct content_read *read = &contents->reads[contents->ready_from++];
        if (read->state == CONTENT_READY && !submit_one(read)) {
            contents->wait(contents);
            break;
        }
    }
    contents->is_submitting = false;
    if (is_over(contents)) {
        contents->over(contents);
    } else {
        contents->charge(contents);
    }
}
