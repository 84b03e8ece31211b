/* SPDX-License-Identifier: Apache-2.0 */
/* Commands of service/system go the way of any client's request: through the route, to whoever
 * leads the first shard. Those that somebody waits for come again while that is busy: it is handing
 * its leadership over, say, or a node that was just started has not made its cluster yet. */
#include "base/assert/assert.h"
#include "base/list/list.h"
#include "base/memory/memory.h"
#include "node/node_cluster.h"

enum { BUSY_RETRY_MS = 10, BUSY_MS_MAX = 5000 };

struct errand {
    struct node_cluster *cluster;
    struct bytes arguments[SYSTEM_ARGUMENT_COUNT_MAX];
    struct buffer words; /* The bytes of the arguments. */
    struct shard_command command;
    bool is_write;
    bool may_be_stale;
    struct shard_request request;
    struct shard_session session;
    node_errand_done done;
    void *context;
    struct buffer reply;
    int status;
    uint64_t again_until_ms; /* Sent again until then, if refused as busy; 0: not at all. */
    struct os_timer *timer;  /* Once it was refused as busy. */
    struct os_message message;
    struct list member; /* Of the cluster's errands. */
};

static void errand_destroy(struct errand *errand)
{
    list_remove(&errand->member);
    if (errand->timer != NULL) {
        os_timer_destroy(errand->timer);
    }
    buffer_deinit(&errand->words);
    buffer_deinit(&errand->reply);
    memory_free(errand);
}

static void end(struct errand *errand)
{
    if (errand->done != NULL) {
        errand->done(errand->context, errand->status, buffer_bytes(&errand->reply));
    }
    errand_destroy(errand);
}

static void deliver(struct os_message *message)
{
    end(LIST_ITEM(message, struct errand, message));
}

static void submit(void *context);

/* Who is refused as busy, or is there before the cluster, has changed nothing, and comes again. False: not any more. */
static bool is_sent_again(struct errand *errand, int status, struct bytes reply)
{
    bool is_early = status == 0 && system_reply_is_early(reply);
    if ((status != -EBUSY && !is_early) || os_monotonic_ms() >= errand->again_until_ms) {
        return false;
    }
    if (errand->timer == NULL) {
        errand->timer = os_timer_create(errand->cluster->loop, submit, errand);
    }
    os_timer_start(errand->timer, BUSY_RETRY_MS, 0);
    return true;
}

static void answered(struct shard_request *request, int status, struct bytes reply)
{
    struct errand *errand = LIST_ITEM(request, struct errand, request);
    if (!is_sent_again(errand, status, reply)) {
        errand->status = status;
        buffer_append(&errand->reply, reply);
        end(errand);
    }
}

static void submit(void *context)
{
    struct errand *errand = context;
    shard_session_init(&errand->session);
    buffer_clear(&errand->reply);
    errand->request = (struct shard_request){
        .command = errand->command,
        .protocol = 2,
        .is_write = errand->is_write,
        .may_be_stale = errand->may_be_stale,
        .done = answered,
        .session = &errand->session,
    };
    struct reply reply = {.target = &errand->reply, .protocol = 2};
    int status = route_submit(errand->cluster->route, SLOTS_FIRST_SHARD, &errand->request, &reply);
    if (status == SHARD_PENDING) {
        return;
    }
    errand->status = status == SHARD_ANSWERED ? 0 : status;
    if (is_sent_again(errand, errand->status, buffer_bytes(&errand->reply))) {
        return;
    }
    errand->message.deliver = deliver; /* Never from within. */
    os_loop_post(errand->cluster->loop, &errand->message);
}

/* It outlives the one that it is made of. */
static void copy_command(struct errand *errand, const struct system_command *command)
{
    const struct shard_command *from = &command->command;
    for (uint32_t i = 0; i < from->argument_count; i++) {
        buffer_append(&errand->words, from->arguments[i]);
    }
    const uint8_t *place = errand->words.data;
    for (uint32_t i = 0; i < from->argument_count; i++) {
        errand->arguments[i] = bytes_make(place, from->arguments[i].size_bytes);
        place += from->arguments[i].size_bytes;
    }
    errand->command = *from;
    errand->command.arguments = errand->arguments;
    errand->is_write = command->is_write;
}

static struct errand *create(struct node_cluster *cluster, const struct system_command *command,
                             node_errand_done done, void *context)
{
    struct errand *errand = memory_allocate_zeroed(1, sizeof *errand);
    list_push_back(&cluster->errands, &errand->member);
    errand->cluster = cluster;
    errand->done = done;
    errand->context = context;
    copy_command(errand, command);
    return errand;
}

void node_errand_send(struct node_cluster *cluster, const struct system_command *command,
                      node_errand_done done, void *context)
{
    struct errand *errand = create(cluster, command, done, context);
    errand->again_until_ms = os_monotonic_ms() + BUSY_MS_MAX;
    submit(errand);
}

void node_errand_try(struct node_cluster *cluster, const struct system_command *command,
                     node_errand_done done, void *context)
{
    submit(create(cluster, command, done, context));
}

void node_errand_look(struct node_cluster *cluster, const struct system_command *command,
                      node_errand_done done, void *context)
{
    struct errand *errand = create(cluster, command, done, context);
    ASSERT(!errand->is_write);
    errand->may_be_stale = true;
    submit(errand);
}

void node_errands_close(struct node_cluster *cluster)
{
    while (!list_is_empty(&cluster->errands)) {
        errand_destroy(LIST_ITEM(cluster->errands.next, struct errand, member));
    }
}
