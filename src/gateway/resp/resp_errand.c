/* SPDX-License-Identifier: Apache-2.0 */
/* Errands: what must be seen or done on the threads of all servers goes from one to the next and
 * comes home, so that nothing of a connection is ever touched by two threads and no lock is
 * needed. */
#include "base/assert/assert.h"
#include "gateway/resp/resp_internal.h"

static void arrive(struct os_message *message)
{
    struct errand *errand = LIST_ITEM(message, struct errand, message);
    struct resp_group *group = errand->origin->group;
    if (errand->visited_count == group->server_count) {
        errand->back(errand);
        return;
    }
    uint32_t index = (errand->origin->index + errand->visited_count) % group->server_count;
    struct resp_server *server = group->servers[index];
    errand->visit(errand, server);
    errand->visited_count++;
    uint32_t next = (errand->origin->index + errand->visited_count) % group->server_count;
    os_loop_post(group->servers[next]->loop, message);
}

void resp__errand_send(struct errand *errand, struct resp_server *origin)
{
    errand->origin = origin;
    errand->message = (struct os_message){.deliver = arrive};
    errand->visit(errand, origin);
    errand->visited_count = 1;
    if (origin->group->server_count == 1) {
        errand->back(errand);
        return;
    }
    uint32_t next = (origin->index + 1) % origin->group->server_count;
    os_loop_post(origin->group->servers[next]->loop, &errand->message);
}
