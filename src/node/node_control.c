/* SPDX-License-Identifier: Apache-2.0 */
/* What an operator asks of this node and tells it; docs/formats/control.md has what each verb takes
 * and answers. Questions are answered from what all nodes say at that moment; what changes the
 * cluster is a command of its log, but for who leads a shard, which is asked of who does. */
#include "node/node_control.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "core/token/token.h"
#include "node/node_overview.h"

enum {
    TOKEN_TTL_S_DEFAULT = 3600,
    CHANGE_SHOWN_MS_MAX = 3000,
    CHANGE_POLL_MS = 10,
    TRANSFER_MS = 3000,
    TRANSFER_POLL_MS = 20,
};

struct node_control {
    struct node_cluster *cluster;
    struct control *control;
    struct list splits; /* Those that are waited for. */
    struct list transfers;
    struct list changes; /* Done, and not shown here yet; and those that remove this node. */
};

/* ---- Questions ------------------------------------------------------------------------------- */

/* What is to be known of a shard, and of a node. */
struct finding {
    wal_shard shard;
    uint32_t node;
    raft_node leader;        /* Of the shard, if it said so itself; else 0. */
    bool has_replica;        /* The node, of the shard. */
    uint32_t replica_count;  /* Of the node. */
    wal_shard needing_shard; /* It has no majority without the node, which runs. 0: none. */
    wal_shard untold_shard;  /* Its leader did not say who is a member: any node may be. 0: none. */
};

/* Something for which it must be known how all nodes are. */
struct question {
    struct os_work work;
    struct node_cluster *cluster;
    struct control_call *call;
    struct overview *overview;
    struct finding finding;
    /* On the loop, with what was found. NULL: the call is answered with what all nodes say. */
    void (*go_on)(const struct question *question);
    void *context;
};

static void answer_read(struct control_call *call, const struct overview *overview)
{
    const struct json *arguments = call->arguments;
    double shard = json_number(json_get(arguments, "shard"), 0);
    double node = json_number(json_get(arguments, "node"), 0);
    if (shard != 0 && node_overview_find(overview, shard) == NULL) {
        control_refuse(call, 404, "unknown",
                       "there is no shard %.0f; `tutti shards` shows those that there are", shard);
        return;
    }
    uint32_t whole = json_whole(json_get(arguments, "node"), 0);
    if (node != 0 && (whole == 0 || node_overview_written(overview, whole) == NULL)) {
        control_refuse(call, 404, "unknown", "there is no node %.0f", node);
        return;
    }
    struct json *answer = json_object_create();
    struct buffer shards = {0};
    node_overview_judge(overview, answer);
    if (call->verb == CONTROL_STATUS) {
        node_overview_status(overview, answer);
        control_reply(call, 200, answer);
    } else if (call->verb == CONTROL_NODES) {
        node_overview_nodes(overview, json_flag(json_get(arguments, "all"), false), answer);
        control_reply(call, 200, answer);
    } else if (call->verb == CONTROL_SHARDS) {
        node_overview_shards(overview, shard, node, answer, &shards);
        control_reply_with(call, answer, "shards", &shards);
    } else {
        ASSERT(call->verb == CONTROL_WHY);
        node_overview_why(overview, shard, answer, &shards);
        control_reply_with(call, answer, "shards", &shards);
    }
}

static void find(const struct overview *overview, struct finding *finding)
{
    const struct overview_shard *shard = node_overview_find(overview, finding->shard);
    const struct overview_node *node = node_overview_node(overview, finding->node);
    finding->leader = shard != NULL && shard->is_told ? shard->leader : 0;
    finding->has_replica = shard != NULL && node_overview_has_replica(shard, finding->node);
    finding->replica_count = node != NULL ? node->replica_count : 0;
    if (finding->shard == 0) { /* The node is to be removed. */
        finding->needing_shard = node_overview_needs(overview, finding->node);
        finding->untold_shard = node_overview_untold(overview);
    }
}

/* The shards are many: not on the loop. */
static void question_run(struct os_work *work)
{
    struct question *question = LIST_ITEM(work, struct question, work);
    node_overview_settle(question->overview);
    if (question->go_on == NULL) {
        answer_read(question->call, question->overview);
    } else {
        find(question->overview, &question->finding);
    }
    node_overview_destroy(question->overview);
}

static void question_done(struct os_work *work)
{
    struct question *question = LIST_ITEM(work, struct question, work);
    if (question->go_on != NULL) {
        question->go_on(question);
    }
    memory_free(question);
}

/* On the disk pool, unless that has no room. */
static void nodes_have_answered(void *context, struct node_survey *survey)
{
    struct question *question = context;
    struct node_cluster *cluster = question->cluster;
    struct os_pool *pool = cluster->shards->pool;
    bool is_stopping = cluster->shards->stop_until_ms != 0; /* Nobody would hear of its end. */
    question->overview = node_overview_begin(cluster, survey);
    if (pool == NULL || is_stopping || os_pool_submit(pool, cluster->loop, &question->work) != 0) {
        question_run(&question->work);
        question_done(&question->work);
    }
}

static void ask_nodes(const struct question *what)
{
    struct question *question = memory_allocate(sizeof *question);
    *question = *what;
    question->work = (struct os_work){.run = question_run, .done = question_done};
    node_survey_start(question->cluster, nodes_have_answered, question);
}

/* ---- Changes --------------------------------------------------------------------------------- */

/* A change on its way. Who was told that it is done asks this node how things are, and that has a copy of its own of the
 * first shard: so it says that it is done when that shows it, too. */
struct change {
    struct control_call *call; /* NULL: it is answered, and still on its way. */
    struct node_control *control;
    struct json *answer; /* For when it is done. */
    uint32_t node;       /* Whose state it changes; 0: none. */
    enum system_node_state state;
    uint32_t replicas;       /* How many there shall be; 0: that is not what it changes. */
    uint64_t shown_until_ms; /* By then it is done, shown or not. */
    struct os_timer *timer;  /* Once it is done and not shown. */
    struct list member;      /* Of those, of the control; and when it removes this node. */
};

static struct change *change_create(struct node_control *control, struct control_call *call)
{
    struct change *change = memory_allocate_zeroed(1, sizeof *change);
    change->call = call;
    change->control = control;
    change->answer = json_object_create();
    list_init(&change->member);
    return change;
}

static void change_end(struct change *change)
{
    if (change->timer != NULL) {
        os_timer_destroy(change->timer);
    }
    list_remove(&change->member);
    if (change->call != NULL) {
        control_reply(change->call, 200, change->answer);
    }
    memory_free(change);
}

static bool is_of_own_removal(const struct change *change)
{
    return change->node == change->control->cluster->self && change->state == SYSTEM_NODE_REMOVED;
}

void node_control_stop(struct node_control *control)
{
    bool is_removed = control->cluster->is_removed;
    LIST_EACH(member, next, &control->changes)
    {
        struct change *change = LIST_ITEM(member, struct change, member);
        bool is_done = change->shown_until_ms != 0 || (is_removed && is_of_own_removal(change));
        if (is_done && change->call != NULL) {
            control_reply(change->call, 200, change->answer);
            change->call = NULL;
        }
    }
    control_stop(control->control);
}

/* Does what this node says of the cluster have the change, or what came of it? */
static bool is_shown(const struct change *change)
{
    const struct node_cluster *cluster = change->control->cluster;
    const struct system *system = cluster->shards->system;
    if (!node_cluster_has_rows(cluster)) {
        return true; /* What it knows, it was told: see node_roster_note_state. */
    }
    if (change->replicas != 0) {
        return system_settings(system)->replicas == change->replicas;
    }
    const struct system_node *node = system_node_find(system, change->node);
    enum system_node_state shown = node != NULL ? node->state : SYSTEM_NODE_REMOVED;
    return change->node == 0 || shown == change->state ||
           (change->state == SYSTEM_NODE_DRAINING && shown != SYSTEM_NODE_ACTIVE);
}

static void look_whether_shown(void *context)
{
    struct change *change = context;
    if (is_shown(change) || os_monotonic_ms() >= change->shown_until_ms) {
        change_end(change);
        return;
    }
    if (change->timer == NULL) {
        change->timer = os_timer_create(change->control->cluster->loop, look_whether_shown, change);
    }
    os_timer_start(change->timer, CHANGE_POLL_MS, 0);
}

/* The loop has stopped; nobody hears it. */
static void end_changes(struct list *changes)
{
    while (!list_is_empty(changes)) {
        change_end(LIST_ITEM(changes->next, struct change, member));
    }
}

static void change_is_done(void *context, int status, struct bytes reply)
{
    struct change *change = context;
    struct error error = {0};
    uint64_t number = 0;
    list_remove(&change->member);
    if (change->call == NULL) {
        change_end(change);
        return;
    }
    if (status != 0) {
        control_refuse(change->call, 503, "unavailable", "the cluster has no leader now: %s",
                       error_text(status));
        json_destroy(change->answer);
    } else if ((status = system_reply_number(reply, &number, &error)) != 0) {
        control_refuse(change->call,
                       status == -ENOENT   ? 404
                       : status == -EINVAL ? 400
                       : status == -EAGAIN ? 503
                                           : 409,
                       status == -ENOENT   ? "unknown"
                       : status == -EINVAL ? "arguments"
                       : status == -ENOSPC ? "limit"
                       : status == -EAGAIN ? "unavailable"
                                           : "state",
                       "%s", error.message);
        json_destroy(change->answer);
    } else {
        if (change->node != 0) {
            node_roster_note_state(change->control->cluster, change->node, change->state);
        }
        change->shown_until_ms = os_monotonic_ms() + CHANGE_SHOWN_MS_MAX;
        list_push_back(&change->control->changes, &change->member);
        look_whether_shown(change);
        return;
    }
    memory_free(change);
}

static void say_of(struct json *answer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void say_of(struct json *answer, const char *format, ...)
{
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    json_set_text(answer, "text", text);
}

static void make_token(struct node_control *control, struct control_call *call)
{
    double ttl_s = json_number(json_get(call->arguments, "ttl_s"), TOKEN_TTL_S_DEFAULT);
    double uses = json_number(json_get(call->arguments, "uses"), 1);
    if (ttl_s < 1 || ttl_s * 1000 > (double)SYSTEM_TOKEN_TTL_MS_MAX || uses < 1 ||
        uses > SYSTEM_TOKEN_USES_MAX) {
        control_refuse(call, 400, "arguments", "ttl_s must be 1 to %" PRIu64 ", uses 1 to %d",
                       (uint64_t)(SYSTEM_TOKEN_TTL_MS_MAX / 1000), SYSTEM_TOKEN_USES_MAX);
        return;
    }
    struct token token;
    char text[TOKEN_TEXT_SIZE];
    memcpy(token.fingerprint, control->cluster->identity.fingerprint.bytes,
           sizeof token.fingerprint);
    os_random_fill(token.secret, sizeof token.secret);
    struct bytes secret = bytes_make(token.secret, sizeof token.secret);
    struct tls_digest digest = tls_sha256(&secret, 1);
    struct system_digest hash;
    memcpy(hash.bytes, digest.bytes, sizeof hash.bytes);
    uint64_t ttl_ms = (uint64_t)(ttl_s * 1000);
    struct change *change = change_create(control, call);
    say_of(change->answer, "a node that knows this token may join within %.0f s", ttl_s);
    json_set_text(change->answer, "token", token_encode(&token, text));
    json_set_unsigned(change->answer, "expires_ms", os_wall_clock_ms() + ttl_ms);
    json_set_unsigned(change->answer, "uses", (uint64_t)uses);
    json_set_text(change->answer, "peer", control->cluster->peer_text);
    tls_wipe(&token, sizeof token);
    tls_wipe(text, sizeof text);
    struct system_command command;
    system_token_add_command(&command, &hash, ttl_ms, (uint32_t)uses);
    node_errand_send(control->cluster, &command, change_is_done, change);
}

/* The node that the arguments name; 0: refused. */
static uint32_t node_argument(struct control_call *call)
{
    uint32_t node = json_whole(json_get(call->arguments, "node"), 0);
    if (node == 0) {
        control_refuse(call, 400, "arguments", "node must be the number of a node");
    }
    return node;
}

static void set_state(struct node_control *control, struct control_call *call, uint32_t node,
                      enum system_node_state state, const char *text)
{
    struct change *change = change_create(control, call);
    say_of(change->answer, text, node);
    json_set_unsigned(change->answer, "node", node);
    json_set_text(change->answer, "state", system_node_state_name(state));
    change->node = node;
    change->state = state;
    if (is_of_own_removal(change)) { /* The others may hang up before they answer. */
        list_push_back(&control->changes, &change->member);
    }
    struct system_command command;
    system_node_state_command(&command, node, state);
    node_errand_send(control->cluster, &command, change_is_done, change);
}

static void drain(struct node_control *control, struct control_call *call)
{
    uint32_t node = node_argument(call);
    if (node == 0) {
        return;
    }
    if (json_flag(json_get(call->arguments, "cancel"), false)) {
        set_state(control, call, node, SYSTEM_NODE_ACTIVE, "node %" PRIu32 " is active again");
        return;
    }
    set_state(control, call, node, SYSTEM_NODE_DRAINING,
              "node %" PRIu32 " is being emptied; `tutti nodes` tells when it is drained");
}

static void remove_if_empty(const struct question *question)
{
    struct control_call *call = question->call;
    uint32_t node = question->finding.node;
    bool is_forced = json_flag(json_get(call->arguments, "force"), false);
    if (question->finding.replica_count > 0 && !is_forced) {
        control_refuse(call, 409, "state",
                       "node %" PRIu32 " has replicas: `tutti drain %" PRIu32
                       "` moves them away; --force removes it all the same",
                       node, node);
        return;
    }
    if (question->finding.untold_shard != 0 && !is_forced) {
        control_refuse(call, 409, "state",
                       "no leader of shard %" PRIu32 " answers, so node %" PRIu32
                       " may have a replica that is needed: `tutti why %" PRIu32
                       "` tells more; --force removes the node all the same",
                       question->finding.untold_shard, node, question->finding.untold_shard);
        return;
    }
    if (question->finding.needing_shard != 0) {
        control_refuse(call, 409, "state",
                       "node %" PRIu32 " runs, and shard %" PRIu32
                       " has no majority of its voters without it: `tutti drain %" PRIu32
                       "` moves its replicas away; to lose them all the same, stop it first",
                       node, question->finding.needing_shard, node);
        return;
    }
    set_state(question->context, call, node, SYSTEM_NODE_REMOVED,
              "node %" PRIu32 " is no part of the cluster any more");
}

static void remove_node(struct node_control *control, struct control_call *call)
{
    uint32_t node = node_argument(call);
    if (node != 0) {
        ask_nodes(&(struct question){.cluster = control->cluster,
                                     .call = call,
                                     .finding = {.node = node},
                                     .go_on = remove_if_empty,
                                     .context = control});
    }
}

/* ---- Handing leadership over ----------------------------------------------------------------- */

/* Whoever leads the shard is asked to hand it over; then everybody is asked who leads, until it is
 * the one that shall, or time is up. */
struct transfer {
    struct control_call *call;
    struct node_cluster *cluster;
    wal_shard shard;
    uint32_t node;
    uint64_t started_at_ms;
    raft_node leader; /* Who was asked; 0: nobody yet. */
    struct os_timer *timer;
    struct list member; /* Of the transfers under way. */
};

static void look_who_leads(void *context);

static void end_transfer(struct transfer *transfer)
{
    if (transfer->timer != NULL) {
        os_timer_destroy(transfer->timer);
    }
    list_remove(&transfer->member);
    memory_free(transfer);
}

/* The loop has stopped, so nobody comes back with an answer. */
static void end_transfers(struct list *transfers)
{
    while (!list_is_empty(transfers)) {
        struct transfer *transfer = LIST_ITEM(transfers->next, struct transfer, member);
        control_refuse(transfer->call, 503, "unavailable", "the node is stopping");
        end_transfer(transfer);
    }
}

static void look_again(struct transfer *transfer)
{
    if (transfer->timer == NULL) {
        transfer->timer = os_timer_create(transfer->cluster->loop, look_who_leads, transfer);
    }
    os_timer_start(transfer->timer, TRANSFER_POLL_MS, 0);
}

static void was_asked(void *context, const struct node_handover_result *result)
{
    struct transfer *transfer = context;
    if (!result->is_answered) {
        control_refuse(transfer->call, 503, "unavailable",
                       "node %" PRIu32 ", which leads the shard, did not answer", transfer->leader);
        end_transfer(transfer);
        return;
    }
    switch (result->outcome) {
    case INQUIRY_NO_REPLICA:
        control_refuse(transfer->call, 409, "state",
                       "node %" PRIu32 " has no replica of shard %u that could lead",
                       transfer->node, transfer->shard);
        end_transfer(transfer);
        return;
    case INQUIRY_NOT_LEADER: /* It was, a moment ago. */
    case INQUIRY_NOT_NOW:
        transfer->leader = 0;
        break;
    case INQUIRY_DONE:
        break;
    }
    look_again(transfer);
}

static void write_record(const struct transfer *transfer)
{
    char text[SYSTEM_AUDIT_TEXT_SIZE];
    struct system_command command;
    (void)snprintf(text, sizeof text, "shard %u: transfer_leader node %" PRIu32 " (operator)",
                   transfer->shard, transfer->node);
    system_audit_command(&command, SYSTEM_AUDIT_TRANSFER, transfer->node, text);
    node_errand_try(transfer->cluster, &command, NULL, NULL);
}

static void it_leads(struct transfer *transfer)
{
    struct json *answer = json_object_create();
    if (transfer->leader != 0) {
        write_record(transfer);
    }
    if (transfer->leader == 0) {
        say_of(answer, "node %" PRIu32 " leads shard %u already", transfer->node, transfer->shard);
    } else {
        say_of(answer, "node %" PRIu32 " leads shard %u now", transfer->node, transfer->shard);
    }
    json_set_unsigned(answer, "shard", transfer->shard);
    json_set_unsigned(answer, "node", transfer->node);
    json_set_unsigned(answer, "took_ms", os_monotonic_ms() - transfer->started_at_ms);
    control_reply(transfer->call, 200, answer);
    end_transfer(transfer);
}

static void who_leads_is_known(const struct question *question)
{
    struct transfer *transfer = question->context;
    raft_node leader = question->finding.leader;
    if (leader == transfer->node) {
        it_leads(transfer);
    } else if (os_monotonic_ms() >= transfer->started_at_ms + TRANSFER_MS &&
               transfer->leader == 0 && leader == 0) {
        control_refuse(transfer->call, 503, "unavailable",
                       "nobody leads shard %u who could hand over: `tutti why %u` tells more",
                       transfer->shard, transfer->shard);
        end_transfer(transfer);
    } else if (os_monotonic_ms() >= transfer->started_at_ms + TRANSFER_MS) {
        control_refuse(transfer->call, 503, "unavailable",
                       "node %" PRIu32 " has not taken over shard %u within %u s; try again",
                       transfer->node, transfer->shard, TRANSFER_MS / 1000);
        end_transfer(transfer);
    } else if (leader != 0 && !question->finding.has_replica) {
        control_refuse(transfer->call, 409, "state", "node %" PRIu32 " has no replica of shard %u",
                       transfer->node, transfer->shard);
        end_transfer(transfer);
    } else if (leader != 0 && transfer->leader == 0) {
        struct node_handover_request request = {
            .shard = transfer->shard, .leader = leader, .node = transfer->node};
        transfer->leader = leader;
        node_handover_start(transfer->cluster, &request, was_asked, transfer);
    } else {
        look_again(transfer);
    }
}

static void look_who_leads(void *context)
{
    struct transfer *transfer = context;
    ask_nodes(&(struct question){.cluster = transfer->cluster,
                                 .finding = {.shard = transfer->shard, .node = transfer->node},
                                 .go_on = who_leads_is_known,
                                 .context = transfer});
}

static void start_transfer(struct node_cluster *cluster, struct list *transfers,
                           struct control_call *call)
{
    uint32_t node = node_argument(call);
    if (node == 0) {
        return;
    }
    const struct json *named = json_get(call->arguments, "shard");
    wal_shard shard = named != NULL ? json_whole(named, 0) : SLOTS_FIRST_SHARD;
    if (shard == 0 || node_shards_find(cluster->shards, shard) == NULL) {
        control_refuse(call, 404, "unknown", "there is no shard %g", json_number(named, 0));
        return;
    }
    struct transfer *transfer = memory_allocate(sizeof *transfer);
    *transfer = (struct transfer){
        .call = call,
        .cluster = cluster,
        .shard = shard,
        .node = node,
        .started_at_ms = os_monotonic_ms(),
    };
    list_push_back(transfers, &transfer->member);
    look_who_leads(transfer);
}

/* ---- The others ------------------------------------------------------------------------------ */

static void set_replicas(struct node_control *control, struct control_call *call)
{
    double replicas = json_number(json_get(call->arguments, "replicas"), 0);
    if (replicas != 1 && replicas != 3 && replicas != 5) {
        control_refuse(call, 400, "arguments", "replicas must be 1, 3 or 5");
        return;
    }
    struct change *change = change_create(control, call);
    say_of(change->answer, "%.0f replicas from now on; they are added or removed by themselves",
           replicas);
    change->replicas = (uint32_t)replicas;
    json_set_unsigned(change->answer, "replicas", (uint64_t)replicas);
    json_set_unsigned(change->answer, "before",
                      system_settings(control->cluster->shards->system)->replicas);
    struct system_command command;
    system_setting_command(&command, (uint32_t)replicas, 0);
    node_errand_send(control->cluster, &command, change_is_done, change);
}

static void records_came(void *context, int status, struct bytes reply)
{
    struct change *change = context;
    struct system_audits audits;
    struct error error = {0};
    if (status != 0 || system_reply_auditlog(reply, &audits, &error) != 0) {
        control_refuse(change->call, 503, "unavailable", "the cluster has no leader now");
        json_destroy(change->answer);
        memory_free(change);
        return;
    }
    struct json *records = json_array_create();
    for (uint32_t i = 0; i < audits.audit_count; i++) {
        const struct system_audit *audit = &audits.audits[i];
        struct json *record = json_object_create();
        json_set_unsigned(record, "number", audit->number);
        json_set_unsigned(record, "first_ms", audit->first_at_ms);
        json_set_unsigned(record, "last_ms", audit->last_at_ms);
        json_set_unsigned(record, "count", audit->count);
        json_set_text(record, "kind", system_audit_kind_name(audit->kind));
        json_set_unsigned(record, "node", audit->node);
        json_set_text(record, "text", audit->text);
        json_append(records, record);
    }
    json_set(change->answer, "records", records);
    system_audits_deinit(&audits);
    control_reply(change->call, 200, change->answer);
    memory_free(change);
}

static void answer_audit(struct node_control *control, struct control_call *call)
{
    double count = json_number(json_get(call->arguments, "count"), 100);
    struct system_command command;
    struct change *change = change_create(control, call);
    system_auditlog_command(&command, count < 1 ? 1 : count > 1000 ? 1000 : (uint32_t)count);
    struct node_cluster *cluster = control->cluster;
    const struct node_shard *first = node_shards_first(cluster->shards);
    bool is_old = first->leader == 0 && node_cluster_has_rows(cluster);
    json_set_boolean(change->answer, "may_be_old", is_old);
    if (is_old) { /* An operator wants to know what was done before the quorum was lost. */
        node_errand_look(cluster, &command, records_came, change);
    } else {
        node_errand_send(cluster, &command, records_came, change);
    }
}

static void call(void *context, struct control_call *call)
{
    struct node_control *control = context;
    struct node_cluster *cluster = control->cluster;
    switch (call->verb) {
    case CONTROL_STATUS:
    case CONTROL_NODES:
    case CONTROL_SHARDS:
    case CONTROL_WHY:
        ask_nodes(&(struct question){.cluster = cluster, .call = call});
        return;
    case CONTROL_AUDIT:
        answer_audit(control, call);
        return;
    case CONTROL_TOKEN:
        make_token(control, call);
        return;
    case CONTROL_DRAIN:
        drain(control, call);
        return;
    case CONTROL_REMOVE:
        remove_node(control, call);
        return;
    case CONTROL_TRANSFER:
        start_transfer(cluster, &control->transfers, call);
        return;
    case CONTROL_REPLICAS:
        set_replicas(control, call);
        return;
    case CONTROL_SPLIT:
        node_control_split(cluster, &control->splits, call);
        return;
    case CONTROL_RECOVER:
        control_refuse(
            call, 409, "state",
            "a recovery works on the data directory of a node that is stopped: stop this "
            "one, then run `tutti recover`");
        return;
    }
}

int node_control_open(struct node_control **control, struct node_cluster *cluster,
                      struct error *error)
{
    struct node_control *created = memory_allocate_zeroed(1, sizeof *created);
    created->cluster = cluster;
    list_init(&created->splits);
    list_init(&created->transfers);
    list_init(&created->changes);
    struct control_backend backend = {.call = call, .context = created};
    created->control = control_create(cluster->loop, &backend);
    int status =
        control_listen(created->control, node_data_path(cluster->data, NODE_FILE_CONTROL), error);
    if (status != 0) {
        node_control_close(created);
        return status;
    }
    *control = created;
    return 0;
}

void node_control_close(struct node_control *control)
{
    if (control != NULL) {
        control_destroy(control->control);
        node_control_end_splits(&control->splits);
        end_transfers(&control->transfers);
        end_changes(&control->changes);
        memory_free(control);
    }
}
