/* SPDX-License-Identifier: Apache-2.0 */
/* A shard is to become two (decision 18). What all nodes must know comes first, so that no log gets a
 * command that somebody's software does not understand; then the split is written down, and whoever asked
 * is told when it shows in the map of this node. */
#include <inttypes.h>
#include <stdio.h>

#include "base/memory/memory.h"
#include "node/node_cluster.h"
#include "node/node_control.h"
#include "service/kv/kv.h"

/* An answer is due before CONTROL_TIMEOUT_MS; who wants to wait longer asks again. */
enum { WAIT_MS = 10000, POLL_MS = 20, TEXT_SIZE = 256, RANGE_TEXT_SIZE = 48 };

struct split {
    struct control_call *call;
    struct node_cluster *cluster;
    uint32_t slot;    /* 0: only the number of the child is known. */
    wal_shard parent; /* 0: the same. */
    wal_shard child;  /* 0: not written down yet. */
    uint32_t end;     /* Of the child, as far as this node knows; 0: it does not. */
    bool is_waiting;
    uint64_t started_at_ms;
    struct os_timer *timer; /* Once it waits; then it is a member of `waiting`. */
    struct list member;
    struct list *waiting;
};

static const struct slots *map_of(const struct node_cluster *cluster)
{
    return node_shards_map(cluster->shards);
}

static void stop_waiting(struct split *split)
{
    if (split->timer != NULL) {
        os_timer_destroy(split->timer);
        list_remove(&split->member);
        split->timer = NULL;
    }
}

static void end_split(struct split *split)
{
    stop_waiting(split);
    memory_free(split);
}

/* "slots 0 to 8191", "slot 8191" */
static const char *name_range(uint32_t first, uint32_t end, char text[RANGE_TEXT_SIZE])
{
    if (end == first + 1) {
        (void)snprintf(text, RANGE_TEXT_SIZE, "slot %" PRIu32, first);
    } else {
        (void)snprintf(text, RANGE_TEXT_SIZE, "slots %" PRIu32 " to %" PRIu32, first, end - 1);
    }
    return text;
}

/* ---- Waiting until it is done ---------------------------------------------------------------- */

static struct json *begin_answer(const struct split *split, bool is_done)
{
    struct json *answer = json_object_create();
    json_set_unsigned(answer, "new_shard", split->child);
    json_set_boolean(answer, "is_done", is_done);
    json_set_unsigned(answer, "took_ms", os_monotonic_ms() - split->started_at_ms);
    return answer;
}

/* Of the shard that it was split off. The one before it in the map may have come in between since. */
static const struct slots_range *parent_of(const struct split *split, const struct slots *slots,
                                           uint32_t place)
{
    uint32_t parent = split->parent != 0 ? slots_find(slots, split->parent) : place - 1;
    return &slots->ranges[parent < place ? parent : place - 1];
}

static void answer_done(struct split *split)
{
    const struct slots *slots = map_of(split->cluster);
    uint32_t place = slots_find(slots, split->child);
    const struct slots_range *child = &slots->ranges[place];
    const struct slots_range *parent = parent_of(split, slots, place);
    char text[TEXT_SIZE];
    char lower[RANGE_TEXT_SIZE];
    char upper[RANGE_TEXT_SIZE];
    struct json *answer = begin_answer(split, true);
    (void)snprintf(text, sizeof text, "Shard %u has %s now, shard %u has %s.", parent->shard,
                   name_range(parent->first, parent->end, lower), child->shard,
                   name_range(child->first, child->end, upper));
    json_set_text(answer, "text", text);
    json_set_unsigned(answer, "shard", parent->shard);
    json_set_unsigned(answer, "slot", child->first);
    control_reply(split->call, 200, answer);
    end_split(split);
}

static void answer_planned(struct split *split)
{
    char text[TEXT_SIZE];
    char upper[RANGE_TEXT_SIZE];
    struct json *answer = begin_answer(split, false);
    if (split->end == 0) {
        (void)snprintf(text, sizeof text, "Shard %u is not there yet.", split->child);
    } else {
        (void)snprintf(text, sizeof text, "Shard %u will get %s of shard %u.", split->child,
                       name_range(split->slot, split->end, upper), split->parent);
        json_set_unsigned(answer, "shard", split->parent);
        json_set_unsigned(answer, "slot", split->slot);
    }
    json_set_text(answer, "text", text);
    control_reply(split->call, 200, answer);
    end_split(split);
}

/* Also when it could not be marked: the conductor will do it. */
static void is_marked(void *context, int status, struct bytes reply)
{
    answer_done(context);
}

/* Has the child a leader, as far as this node can know? */
static bool is_led(const struct node_cluster *cluster, wal_shard child)
{
    const struct node_shard *shard = node_shards_find(cluster->shards, child);
    bool is_member =
        shard != NULL &&
        (raft_configuration_has_voter(shard_configuration(shard->shard), cluster->self));
    return !is_member || shard_leader(shard->shard) != 0;
}

/* A number may have been given twice, by a cluster that lost what it had: it is the slot that tells. */
static void refuse_number(struct split *split, const struct slots_range *other)
{
    char text[RANGE_TEXT_SIZE];
    control_refuse(split->call, 409, "state",
                   "shard %u was to begin at slot %" PRIu32
                   ", but has %s: its number was given twice, "
                   "and this split will not be made",
                   split->child, split->slot, name_range(other->first, other->end, text));
    end_split(split);
}

static void look(void *context)
{
    struct split *split = context;
    const struct slots *slots = map_of(split->cluster);
    uint32_t place = slots_find(slots, split->child);
    bool is_there = place < slots->range_count && place > 0;
    if (is_there && split->slot != 0 && slots->ranges[place].first != split->slot) {
        refuse_number(split, &slots->ranges[place]);
    } else if (is_there && is_led(split->cluster, split->child)) {
        /* So that whoever asked can have it split again at once. */
        struct system_command command;
        system_split_done_command(&command, split->child);
        stop_waiting(split);
        node_errand_send(split->cluster, &command, is_marked, split);
    } else if (!split->is_waiting || split->cluster->is_leaving ||
               os_monotonic_ms() >= split->started_at_ms + WAIT_MS) {
        answer_planned(split); /* While stopping, nobody waits any more. */
    } else {
        if (split->timer == NULL) {
            split->timer = os_timer_create(split->cluster->loop, look, split);
            list_push_back(split->waiting, &split->member);
        }
        os_timer_start(split->timer, POLL_MS, 0);
    }
}

/* ---- Writing it down ------------------------------------------------------------------------- */

static void refuse(struct split *split, int status, const char *code, const struct error *error)
{
    control_refuse(split->call, status, code, "%s", error->message);
    end_split(split);
}

/* False: it is refused. */
static bool take_reply(struct split *split, int status, const struct error *error)
{
    switch (status) {
    case 0:
        return true;
    case -EINVAL:
        refuse(split, 400, "arguments", error);
        return false;
    case -EEXIST:
    case -EPERM:
        refuse(split, 409, "state", error);
        return false;
    case -ENOSPC:
        refuse(split, 409, "limit", error);
        return false;
    default:
        refuse(split, 503, "unavailable", error);
        return false;
    }
}

/* Nobody could be asked who has the rows of the cluster. */
static int no_leader(int status, struct error *error)
{
    return error_say(
        error, -EAGAIN,
        "nobody leads the first shard, which has to write it down (%s): `tutti why` says "
        "what is missing",
        error_text(status));
}

static void is_written(void *context, int status, struct bytes reply)
{
    struct split *split = context;
    struct error error = {0};
    uint64_t child = 0;
    status = status != 0 ? no_leader(status, &error) : system_reply_number(reply, &child, &error);
    if (take_reply(split, status, &error)) {
        split->child = (wal_shard)child;
        look(split);
    }
}

/* -EPERM: a node's software does not know what a split is. */
static int check_software(const struct system_nodes *nodes, struct error *error)
{
    for (uint32_t i = 0; i < nodes->node_count; i++) {
        const struct system_node *node = &nodes->nodes[i];
        if (node->state != SYSTEM_NODE_REMOVED && node->feature_max < SYSTEM_FEATURE_SPLIT) {
            return error_say(error, -EPERM,
                             "node %" PRIu32
                             " runs version %.63s, which cannot split shards: bring "
                             "it up to date first (`tutti nodes --json` has the version of each)",
                             node->id, node->software[0] != '\0' ? node->software : "?");
        }
    }
    return 0;
}

static void nodes_came(void *context, int status, struct bytes reply)
{
    struct split *split = context;
    struct system_nodes nodes;
    struct error error = {0};
    if (status != 0) {
        status = no_leader(status, &error);
    } else if ((status = system_reply_nodes(reply, &nodes, &error)) == 0) {
        status = check_software(&nodes, &error);
        system_nodes_deinit(&nodes);
    }
    if (take_reply(split, status, &error)) {
        struct system_command command;
        system_split_command(&command, split->slot);
        node_errand_send(split->cluster, &command, is_written, split);
    }
}

/* ---- What is asked for ----------------------------------------------------------------------- */

/* The slot that the arguments name; false: they name none, or what is none is refused. */
static bool slot_argument(struct control_call *call, uint32_t *slot)
{
    const char *key = json_text(json_get(call->arguments, "key"), NULL);
    if (key != NULL) {
        *slot = kv_slot_of_key(bytes_of_text(key));
        return true;
    }
    uint32_t named = json_whole(json_get(call->arguments, "slot"), SLOTS_COUNT);
    *slot = named < SLOTS_COUNT ? named : 0;
    return named < SLOTS_COUNT;
}

static bool has(const struct control_call *call, const char *argument)
{
    return json_get(call->arguments, argument) != NULL;
}

/* The range of the shard that is to be split; NULL: it is refused. `slot` 0: none is named. */
static const struct slots_range *range_argument(const struct slots *slots,
                                                struct control_call *call, uint32_t slot)
{
    if (!has(call, "shard")) {
        return &slots->ranges[slots_place_of(slots, slot)];
    }
    double id = json_number(json_get(call->arguments, "shard"), 0);
    wal_shard shard = json_whole(json_get(call->arguments, "shard"), 0);
    uint32_t place = shard != 0 ? slots_find(slots, shard) : slots->range_count;
    if (place == slots->range_count) {
        control_refuse(call, 404, "unknown",
                       "there is no shard %g; `tutti shards` shows those that there are", id);
        return NULL;
    }
    return &slots->ranges[place];
}

/* As this node knows the map: who writes it down looks again. False: it is refused. */
static bool check_slot(struct control_call *call, const struct slots_range *range, uint32_t slot)
{
    char text[RANGE_TEXT_SIZE];
    (void)name_range(range->first, range->end, text);
    if (range->end == range->first + 1) {
        control_refuse(call, 409, "state",
                       "shard %u has %s only, and a slot cannot be split: keys with the same {tag} "
                       "stay together",
                       range->shard, text);
    } else if (slot == range->first) {
        control_refuse(call, 409, "state",
                       "shard %u begins at slot %" PRIu32 " already, and has %s: name a later one, "
                       "as in `tutti split --shard %u --at %" PRIu32 "`",
                       range->shard, slot, text, range->shard,
                       range->first + (range->end - range->first) / 2);
    } else if (slot < range->first || slot >= range->end) {
        control_refuse(call, 400, "arguments", "shard %u has %s; slot %" PRIu32 " is none of them",
                       range->shard, text, slot);
    } else {
        return true;
    }
    return false;
}

/* Only wait for a child that was written down before. */
static void wait_for(struct split *split)
{
    split->child = json_whole(json_get(split->call->arguments, "new_shard"), 0);
    if (split->child == 0) {
        control_refuse(split->call, 400, "arguments", "new_shard must be the number of a shard");
        end_split(split);
        return;
    }
    split->parent = json_whole(json_get(split->call->arguments, "shard"), 0);
    if (!slot_argument(split->call, &split->slot)) {
        split->slot = 0;
    }
    look(split);
}

void node_control_split(struct node_cluster *cluster, struct list *waiting,
                        struct control_call *call)
{
    struct split *split = memory_allocate(sizeof *split);
    *split = (struct split){
        .call = call,
        .cluster = cluster,
        .waiting = waiting,
        .is_waiting = json_flag(json_get(call->arguments, "wait"), false),
        .started_at_ms = os_monotonic_ms(),
    };
    if (has(call, "new_shard")) {
        wait_for(split);
        return;
    }
    bool is_named = has(call, "key") || has(call, "slot");
    if ((!is_named && !has(call, "shard")) || (is_named && !slot_argument(call, &split->slot))) {
        control_refuse(call, 400, "arguments",
                       "name a key, a shard, or a slot from 1 to %u: there the new shard begins",
                       SLOTS_COUNT - 1);
        end_split(split);
        return;
    }
    const struct slots_range *range = range_argument(map_of(cluster), call, split->slot);
    if (range != NULL && !is_named) {
        split->slot = range->first + (range->end - range->first) / 2;
    }
    if (range == NULL || !check_slot(call, range, split->slot)) {
        end_split(split);
        return;
    }
    split->parent = range->shard;
    split->end = range->end;
    struct system_command command;
    system_nodes_command(&command);
    node_errand_send(cluster, &command, nodes_came, split);
}

void node_control_end_splits(struct list *waiting)
{
    while (!list_is_empty(waiting)) {
        struct split *split = LIST_ITEM(waiting->next, struct split, member);
        control_refuse(split->call, 503, "unavailable", "the node is stopping");
        end_split(split);
    }
}
