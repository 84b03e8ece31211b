/* SPDX-License-Identifier: Apache-2.0 */
/* Commands of service/system go the way of any client's request: through the route, to whoever
 * leads the first shard. */
#include "base/list/list.h"
#include "base/memory/memory.h"
#include "node/node_cluster.h"

struct errand {
    struct shard_request request;
    struct shard_session session;
    node_errand_done done;
    void *context;
    struct buffer reply;
    int status;
    struct os_message message;
    struct list member; /* Of the cluster's errands. */
};

static void errand_destroy(struct errand *errand)
{
    list_remove(&errand->member);
    buffer_deinit(&errand->reply);
    memory_free(errand);
}

static void end(struct errand *errand)
{
    errand->done(errand->context, errand->status, buffer_bytes(&errand->reply));
    errand_destroy(errand);
}

static void deliver(struct os_message *message)
{
    end(LIST_ITEM(message, struct errand, message));
}

static void answered(struct shard_request *request, int status, struct bytes reply)
{
    struct errand *errand = LIST_ITEM(request, struct errand, request);
    errand->status = status;
    buffer_append(&errand->reply, reply);
    end(errand);
}

void node_errand_send(struct node_cluster *cluster, const struct system_command *command,
                      node_errand_done done, void *context)
{
    struct errand *errand = memory_allocate_zeroed(1, sizeof *errand);
    list_push_back(&cluster->errands, &errand->member);
    errand->done = done;
    errand->context = context;
    shard_session_init(&errand->session);
    errand->request = (struct shard_request){
        .command = command->command,
        .protocol = 2,
        .is_write = command->is_write,
        .done = answered,
        .session = &errand->session,
    };
    struct reply reply = {&errand->reply, 2};
    int status = route_submit(cluster->route, SLOTS_FIRST_SHARD, &errand->request, &reply);
    if (status == SHARD_PENDING) {
        return;
    }
    errand->status = status == SHARD_ANSWERED ? 0 : status;
    errand->message.deliver = deliver; /* Never from within. */
    os_loop_post(cluster->loop, &errand->message);
}

void node_errands_close(struct node_cluster *cluster)
{
    while (!list_is_empty(&cluster->errands)) {
        errand_destroy(LIST_ITEM(cluster->errands.next, struct errand, member));
    }
}
