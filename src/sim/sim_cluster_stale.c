/* SPDX-License-Identifier: Apache-2.0 */
/* Reads that may be stale: some connections of callers are as after READONLY. What they read is asked of the
 * node's own replica, through its route, whatever that is to its group, and of the leader where there is
 * nothing to ask. They also write keys that soon expire, which nobody else has: the search for
 * linearizability knows nothing of time, and sees none of this.
 *
 * Where SPLIT is under way, onlookers read such keys at its leader, again and again: one that expires just then
 * must not take the read into the log behind SPLIT.
 *
 * A read on a replica is compared with what its keys were where that replica is (sim_cluster_oracle.c). Here
 * is compared what arrives: it must have been so at some place of the log, and not before the replica was asked, unless
 * it was the leader that answered, and then not before what had been acknowledged by then. */
#include "sim/sim_cluster_stale.h"
#include <string.h>

#include "base/memory/memory.h"

#include "sim/sim_cluster_host.h"

enum { TTL_MS_MAX = 30, LONG_TTL_MS_MAX = 3000, LOOK_COUNT = 16 };

/* A read with a session of its own. */
struct onlooker {
    struct list link;
    struct shard_request request;
    struct shard_session session;
    struct cluster_question question;
    struct cluster_stale stale;
};

/* ---- What they ask --------------------------------------------------------------------------- */

static void add_time_to_live(struct cluster *cluster, struct cluster_question *question)
{
    bool is_long = random_chance(&cluster->random, 1, 5);
    struct buffer number = {0};
    buffer_append_format(
        &number, "%u",
        sim__cluster_between(&cluster->random, 1, is_long ? LONG_TTL_MS_MAX : TTL_MS_MAX));
    sim__cluster_question_add(question, BYTES("PX"));
    sim__cluster_question_add(question, buffer_bytes(&number));
    buffer_deinit(&number);
}

bool sim__cluster_stale_draw(struct cluster *cluster, struct cluster_question *question)
{
    if (random_chance(&cluster->random, 1, 3)) {
        sim__cluster_question_draw(cluster, question);
        return !sim__cluster_question_is_write(question);
    }
    static const char *const names[] = {"set", "set",    "get",    "get",
                                        "get", "strlen", "exists", "mget"};
    const char *name = names[random_below(&cluster->random, sizeof names / sizeof names[0])];
    uint64_t key = random_below(&cluster->random, cluster->nature.key_count);
    bool is_whole = cluster->nature.shard_count == 1 && !cluster->nature.does_split;
    *question = (struct cluster_question){
        .command = kv_command_find(bytes_of_text(name)),
        .started_at_us = cluster->now_us,
        .started_at = sim__cluster_history_moment(cluster->history),
    };
    sim__cluster_question_add_key(cluster, question, 'x', key);
    question->place = sim__cluster_place_of_key(cluster, question->arguments[0]);
    if (sim__cluster_question_is_write(question)) {
        sim__cluster_question_add_value(cluster, question);
        add_time_to_live(cluster, question);
    } else if (strcmp(name, "mget") == 0 && is_whole) {
        sim__cluster_question_add_key(cluster, question, 'k', key);
    }
    cluster->result->request_count++;
    return true;
}

/* ---- What arrives ---------------------------------------------------------------------------- */

static raft_index applied_of(const struct cluster_node *node, uint32_t place)
{
    const struct shard *shard = sim__cluster_node_shard(node, place);
    return shard == NULL ? 0 : shard_applied_index(shard);
}

struct cluster_stale sim__cluster_stale_begin(struct cluster *cluster, struct cluster_node *node,
                                              uint32_t place)
{
    raft_index applied = applied_of(node, place);
    struct cluster_stale stale = {
        .place = place,
        .node = node,
        .from = sim__cluster_oracle_acknowledged_version(cluster, place),
        .was_empty = applied == 0,
        .emptied_count = cluster->emptied_count,
    };
    if (applied > 0 && stale.from > (applied << 16 | 0xffff)) {
        stale.from = applied << 16 | 0xffff;
    }
    return stale;
}

static void check_answer(struct cluster *cluster, const struct cluster_question *question,
                         const struct cluster_stale *stale, struct bytes reply)
{
    /* Has it got its state since then? Nobody says that this has all that had been acknowledged. */
    bool is_another = cluster->emptied_count != stale->emptied_count ||
                      (stale->was_empty && applied_of(stale->node, stale->place) > 0);
    struct cluster_read read = {
        .from = is_another ? 0 : stale->from,
        .to = UINT64_MAX - 1,
        .arguments = question->arguments,
        .argument_count = question->argument_count,
        .reply = reply,
    };
    if (!sim__cluster_oracle_explains(cluster, stale->place, question->command->opcode, &read)) {
        sim__cluster_fail(cluster,
                          "node %u answers a read with what was not so, or is older than it has",
                          sim__cluster_node_id(stale->node));
    }
}

void sim__cluster_stale_ended(struct cluster *cluster, struct cluster_question *question,
                              const struct cluster_stale *stale, int status, struct bytes reply)
{
    if (status == 0 && sim__cluster_question_is_write(question)) {
        sim__cluster_oracle_acknowledged(cluster, sim__cluster_question_hash(question),
                                         sim__reply_hash(NULL, reply));
    } else if (status == 0) {
        check_answer(cluster, question, stale, reply);
    }
    sim__cluster_question_forget(question);
}

/* ---- Onlookers ------------------------------------------------------------------------------- */

static void end_onlooker(struct onlooker *onlooker)
{
    sim__cluster_question_forget(&onlooker->question);
    list_remove(&onlooker->link);
    memory_free(onlooker);
}

static void onlooker_done(struct shard_request *request, int status, struct bytes reply)
{
    struct onlooker *onlooker = LIST_ITEM(request, struct onlooker, request);
    struct cluster_node *node = onlooker->stale.node;
    if (sim__cluster_node_is_running(node)) {
        sim__cluster_note(node->cluster, "onlooker.done", node->id, request->sequence,
                          (uint64_t)-status);
        sim__cluster_stale_ended(node->cluster, &onlooker->question, &onlooker->stale, status,
                                 reply);
    }
    end_onlooker(onlooker);
}

static void look_at_key(struct cluster_node *node, uint32_t place, uint64_t key)
{
    struct cluster *cluster = node->cluster;
    struct onlooker *onlooker = memory_allocate_zeroed(1, sizeof *onlooker);
    struct cluster_question *question = &onlooker->question;
    list_init(&onlooker->link);
    list_push_back(&cluster->onlookers, &onlooker->link);
    question->command = kv_command_find(BYTES("get"));
    sim__cluster_question_add_key(cluster, question, 'x', key);
    struct slots_range range =
        sim__cluster_range_of(cluster, question, sim__cluster_node_map(node));
    if (range.shard != place + 1) {
        end_onlooker(onlooker);
        return;
    }
    shard_session_init(&onlooker->session);
    onlooker->stale = sim__cluster_stale_begin(cluster, node, place);
    onlooker->request = (struct shard_request){
        .command = {question->command->opcode, 1, question->arguments},
        .protocol = 2,
        .may_be_stale = true,
        .done = onlooker_done,
        .session = &onlooker->session,
        .first_slot = (uint16_t)range.first,
        .end_slot = (uint16_t)range.end,
    };
    struct buffer answer = {0};
    struct reply reply = {.target = &answer, .protocol = 2};
    int status = route_submit(node->route, place + 1, &onlooker->request, &reply);
    if (status != SHARD_PENDING) {
        onlooker_done(&onlooker->request, status, buffer_bytes(&answer));
    }
    buffer_deinit(&answer);
}

static void look(struct cluster *cluster, const struct cluster_event *event)
{
    for (uint64_t key = 0; key < cluster->nature.key_count && !cluster->is_quiet; key++) {
        look_at_key(event->node, (uint32_t)event->value, key);
    }
    sim__cluster_node_look(cluster, event->node);
}

void sim__cluster_stale_split_begins(struct cluster *cluster, struct cluster_node *node,
                                     uint32_t place)
{
    const struct cluster_nature *nature = &cluster->nature;
    uint64_t takes_us = 1000 + UINT64_C(4) * (nature->disk_us + nature->network_us);
    for (uint32_t i = 0; i < LOOK_COUNT && nature->stale_percent > 0; i++) {
        sim__cluster_schedule(cluster, random_below(&cluster->random, takes_us), look, node, place,
                              NULL);
    }
}

void sim__cluster_stale_buried(struct cluster *cluster, const struct cluster_node *node)
{
    LIST_EACH(member, next, &cluster->onlookers)
    {
        struct onlooker *onlooker = LIST_ITEM(member, struct onlooker, link);
        if (onlooker->stale.node == node) {
            end_onlooker(onlooker);
        }
    }
}

/* ---- What is left ---------------------------------------------------------------------------- */

bool sim__cluster_is_anything_asked(const struct cluster *cluster)
{
    for (uint32_t i = 0; i < cluster->nature.node_count; i++) {
        const struct cluster_node *node = cluster->nodes[i];
        struct route_statistics route = {0};
        if (node->route != NULL) {
            route_get_statistics(node->route, &route);
        }
        for (uint32_t place = 0; place < cluster->shard_count; place++) {
            struct shard_statistics shard = {0};
            if (node->replicas[place].shard != NULL) {
                shard_get_statistics(node->replicas[place].shard, &shard);
            }
            if (shard.pending_request_count > 0) {
                return true;
            }
        }
        if (route.held_count > 0 || route.guest_request_count > 0) {
            return true;
        }
    }
    return !list_is_empty(&cluster->onlookers);
}
