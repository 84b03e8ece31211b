/* SPDX-License-Identifier: Apache-2.0 */
/* route: the way of a request from a gateway to the leader of its shard, wherever that is.
 * Layer: core.
 *
 * A gateway submits here as it would to a shard. While this node's replica leads, that is all that
 * happens: the request goes straight to it, uncopied. Otherwise the command is copied and goes into
 * the message that this tick sends to the leader's node, whose route submits it there and sends
 * back the reply. When the leader changes, dies or cannot be reached, the next one is found and
 * what is unanswered is submitted again, under the same identity, so that it takes effect once
 * (shard.h, I7). Each node has one instance; it is the asking side and the answering side.
 *
 * Invariants
 *   I1. A request is refused by route_submit() with nothing changed, answered by it, or its done()
 *       is called exactly once, never from within route_submit().
 *   I2. A write keeps its identity (origin, sequence) from the first submission to its answer, and
 *       is marked a retry from the moment that a log may have it.
 *   I3. Requests of one session take effect in the order of their submission, and none shows what a
 *       later one did, whichever leaders they meet. See below.
 *   I4. ERROR_NOT_LEADER and every other refusal mean that the request had no effect and will have
 *       none. What may have had an effect ends with its reply or with ERROR_OUTCOME_UNKNOWN.
 *   I5. A reply goes to the request that it answers, or nowhere.
 *   I6. What is kept is bounded: by held_size_bytes_max for this node's gateways, or half of that and one request
 *       that is larger (more is refused with -EBUSY, but for what is bounded by whoever asks: is_bounded); by
 *       guest_size_bytes_max for each other node (which is told beforehand), or half of that and one request that
 *       is larger, whose turn comes before that of those behind it; and half as much again, in any case, for
 *       requests that release what others wait for (does_release), which also go before those of other sessions.
 *       Else those that wait could fill all of it, and wait for ever for steps of the transaction that holds their
 *       keys. Replies to another node are bounded by reply_size_bytes_max and one, but for those of a kilobyte at
 *       most.
 *   I7. A message that is malformed changes nothing.
 *
 * ---- Streams ----
 *
 * To use the leader on another node, a route asks that node: do you lead? One that does *grants* a
 * stream: a number that it never gave before. Requests then go in numbered messages under the
 * grant. The answering side takes exactly the next message of the newest grant that it gave to that
 * node, in that node's life (boot id); at a gap it ends the stream. It ends all streams when its
 * replica does not lead any more. Whoever asks again has ended the stream before. What is queued on
 * the answering side, and was not yet submitted to the replica, ends with its stream: nothing is
 * submitted behind the back of one that has gone elsewhere. So does what the replica has and has not put into its
 * log, because a transaction holds a key of it (is_unwanted). The asking side gives a stream up when
 * the connection broke, when a reply is missing, when nothing comes any more, when it hears of
 * another leader. The question costs a round trip for each change of leader, and nothing after.
 *
 * So a request is submitted to a replica only in a leadership in which its stream was granted, and
 * a message that is delayed until nobody expects it any more is refused.
 *
 * ---- Order (I3) ----
 *
 * The requests of a session that wait or are under way elsewhere stand in its *line*, in the order
 * of submission. Rules:
 *
 *   R1  A session's requests are at one place at a time: at the local replica, or in one stream.
 *       They get there in the order of the line, without gaps. While the local replica has some of
 *       them and no longer leads, the others wait until it has answered or handed back each.
 *   R2  When the place is given up, all unanswered ones go back into the line, at their old place,
 *       and to the next place in that order; writes among them that may be in a log as retries.
 *   R3  No write goes into a stream while a read of its session, of the same keys as far as their
 *       order keys tell (shard.h), is unanswered in it. A read that has such a write behind it in the
 *       line, and is cheap, goes through the log itself, with an identity of its own; to this rule it
 *       is a write.
 *   R4  After the leader has refused a request of a session, nothing more of the session is
 *       submitted there before the session knows of the refusal. What was on its way is returned.
 *       A read whose reply is too much to be kept counts as refused, and comes again; so do the plain
 *       reads behind it that the replica has: the first must not show more than they do.
 *       It is not so when the shard turned out to have other slots than the request names: a range
 *       that is over never comes back (decision 18), so what follows under the same range is
 *       refused as well, each by itself.
 *
 * Writes: let a come before b. While both are at one place, the shard's own order (shard.h, I4)
 * holds, for the stream delivers without gaps and the answering side submits in order, also what a
 * busy shard refuses. If both are submitted again, the leader that grants the next stream has
 * applied all that may be committed from earlier leaderships before it is ready. If it knows b, it
 * knows a: b had been submitted behind a by the earlier leader, and logs have no gaps. a is then
 * answered from the window, and b too. If it knows a alone, b follows. If it knows neither, a goes
 * into its log before b. What the earlier leader still does is not committed any more. If it is the
 * same leader, in the same term, that grants again (a connection broke), what was queued for the
 * old stream is gone, what was submitted is refused as being on its way (-EBUSY) until it is
 * answered or let go, with everything of the session waiting behind it. What is let go, because it was waiting for a
 * lock, had everything of its session that is not in the log behind it, and that is let go as well.
 *
 * A write that is refused (the disk is full) may be accepted when it comes again; it must not do so
 * after b has taken effect. By R4 b was not submitted unless a's refusal had arrived here, and then
 * a does not come again.
 *
 * Reads: by R3 no write to its keys behind a read is under way in a stream until the read is
 * answered. So when a read must be asked again, nothing of its keys that was submitted behind it has
 * taken effect, and what was submitted before it is in the line before it. A read that goes through
 * the log is answered as of its place in the log, the second time from the window. What is asked
 * again may be answered as of later than a write behind it to other keys; who has neither answer yet
 * cannot have relied on that.
 *
 * The local replica is given writes behind unanswered reads, because a session there would
 * otherwise wait for the log at each change from reading to writing. A read that is handed back is
 * answered ERROR_OUTCOME_UNKNOWN if a write behind it, of the same keys, took effect or may have.
 * That needs a pipeline that reads what it then writes, and a leader that loses its office, while
 * alive, with entries open; a leader that hands over in peace has none open. Other reads are asked
 * again.
 *
 * Alternatives to R3 for a session that sends N reads and N writes, in turn, at once, of one key, and
 * a leader elsewhere (messages both ways; the test "the price of order" counts them; of different keys
 * they are 2, too):
 *   all at once, and answer such reads with ERROR_OUTCOME_UNKNOWN    2
 *   wait for the reads before each write                             2 N + 2, N + 1 commits in turn
 *   cheap reads through the log                                      2, and N commands in the log
 *
 * ---- Several shards ----
 *
 * What a session has under way is at one shard, and names the same slots of it (or none): its next
 * request may go to another one, or name others, once all have been answered. That is the gateway's
 * to keep; it is asserted here. So I3 holds across shards: whatever shows that a request took
 * effect was done after the ones before it were answered, by I1 of shard.h durably so, and a read
 * that was answered earlier cannot show what came later. Nothing weaker would give that order. If
 * b, at another shard, were submitted while a is under way, b could be seen while a is not, and a
 * could be lost with its leader and take effect much later, when it is asked again; two reads could
 * be answered as of moments in the wrong order. So it is when a shard splits: those that were
 * refused go by a newer map once nothing is under way under the older one, in their order. The
 * price is a commit for each change of shard in a pipeline of writes. Sessions know nothing of each
 * other: whoever needs several answers at once from several shards, in no order, uses several, as a
 * gateway does for a connection (decision 19).
 *
 * ---- Floors ----
 *
 * For each shard a route knows the least sequence of its requests that are not done there: its
 * *floor* (the next sequence, if there are none). Sequences grow over all shards and all that is
 * submitted, so a floor never falls, and nothing below it is, or will be, under way. It is said
 * to whoever leads, that replicas may forget what they have answered (shard.h, "Forgetting").
 *   Every request counts, from its submission until it is done, wherever it is: with the local
 * replica, in a line, in a stream, handed back, asked again; also reads, any of which may come
 * to go through the log. Each has this route's origin, whoever submitted it: parts of a
 * transaction, of one that is being recovered, or of a command that is spread over shards, are
 * requests like any other, and what is asked again after ERROR_MOVED, or by a recoverer, is a
 * new one. One that was given up (ERROR_OUTCOME_UNKNOWN) is done, though copies of it may be
 * under way: what becomes of those nobody will ask.
 *   A replica here is told at the end of a tick; one elsewhere ten times a second while many
 * requests are answered, every few seconds while there are few, and not at all when there are none.
 *
 * ---- Time ----
 *
 * A request that does not reach a leader is given up after deadline_ms, counted from when it was
 * first kept here (a replica that leads answers or hands back in its own time, which does not
 * count). Nodes are asked in turn, at once where there is a hint, else after 10 ms doubling to
 * 200 ms, each with jitter.
 *
 * Driven by the node on the loop of its shards, or by the simulator:
 *   - route_receive() for each message, route_peer_gone() when the connection to a node broke or
 *     another life of the node connected;
 *   - route_leader_changed() whenever shard_leader() or shard_is_ready() of the local replica
 *     changed, at the latest at the end of the tick, before its route_tick();
 *   - route_tick() at the end of each tick, after shard_tick(), and when it asked for it.
 *
 * What it needs of the replica beyond the contract of shard_submit(): requests of one leadership
 * are handed back once that ends, also those that were on their way to the log (a prefetch), and
 * also when the replica leads again; a read that already has its snapshot may be answered instead.
 * A split ends a leadership in this sense. A replica that has more slots than a request names lags
 * behind a split: it refuses with -EBUSY, not with ERROR_MOVED (the session's later requests might
 * meet a leader that takes them), or answers, if that may be stale.
 *
 * Memory: requests and their sessions are the gateway's until done; the session must live until the
 * last of its requests is done, and is then over without a word. done() may submit. An instance
 * belongs to one thread. Messages: docs/formats/route.md. */
#ifndef CORE_ROUTE_ROUTE_H
#define CORE_ROUTE_ROUTE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes/bytes.h"
#include "base/error/error.h"
#include "base/reply/reply.h"
#include "core/env/env.h"
#include "core/raft/raft.h"
#include "core/shard/shard.h"
#include "core/wal/wal.h"

/* Most pieces of a message that is sent. */
#define ROUTE_PIECE_COUNT_MAX 256u
/* A longer reply goes to no other node: its outcome is unknown there. */
#define ROUTE_REPLY_SIZE_BYTES_MAX (1u << 30)

struct route;

/* What a route needs of its node. None of these may call the route back from within, but for the
 * done() of other requests than the one that is submitted. */
struct route_host {
    void *context;
    struct env_clock clock; /* now_ms only. */

    /* shard_submit() on the local replica of the shard. ERROR_NOT_LEADER when there is none. */
    int (*submit_local)(void *context, wal_shard shard, struct shard_request *request,
                        const struct reply *reply);
    /* Who leads, as far as the local replica knows. 0: nobody; this node only if its replica leads
     * and is ready. */
    raft_node (*local_leader)(void *context, wal_shard shard);
    /* 0 when there is no local replica. */
    raft_index (*local_applied_index)(void *context, wal_shard shard);

    /* shard_set_floor() on the local replica of the shard, if there is one. */
    void (*set_floor)(void *context, wal_shard shard, const struct shard_floor *floor);

    /* Send a message to the route of another node: route_receive() there. The pieces, at most
     * ROUTE_PIECE_COUNT_MAX, are borrowed for the call. Messages may be lost, those that arrive do
     * so in order (what does not is found out and repaired). -EBUSY: not now, try again at the next
     * tick; -ENOTCONN: not connected. Nothing was sent then. */
    int (*send)(void *context, raft_node node, const struct bytes *pieces, uint32_t piece_count);

    /* Nodes that may know who leads the shard, each in its turn: the one after `after` in an order
     * of the host's choice, from the last back to the first; 0 for `after`: the first. Never this
     * node. 0: there are none. */
    raft_node (*next_node)(void *context, wal_shard shard, raft_node after);

    /* Does the software of the node know that shards become two? One that does not refuses requests that
     * name slots, so they do not: its shards have those that they always had. NULL: all do. As of the
     * present connection. */
    bool (*knows_slots)(void *context, raft_node node);

    /* Does it know what a floor is? Else it is told of none. NULL: all do. */
    bool (*knows_floors)(void *context, raft_node node);
};

struct route_options {
    raft_node self;
    struct route_host host;
    uint64_t origin;      /* Random, not 0, never used before: the identity of writes. */
    uint64_t random_seed; /* Of backoff, and of the numbers of grants. */

    /* The rest: 0 means the default. */
    uint32_t deadline_ms;          /* 30000. */
    uint64_t held_size_bytes_max;  /* 64 MiB: requests kept for this node's gateways. */
    uint64_t guest_size_bytes_max; /* 8 MiB: requests, and replies, of each other node. One that is
                                      larger goes beside half of that. */
    /* 64 MiB: replies to another node, of all shards, that wait to be sent. While there are more its requests
     * wait; what replicas answer then all the same is not kept if it is long: a plain read is asked again, with
     * those of its session behind it; of what went through the log the outcome is unknown. */
    uint64_t reply_size_bytes_max;
    uint32_t backoff_ms_min; /* 10. */
    uint32_t backoff_ms_max; /* 200. */
    /* 500: without a word from a node that owes one, it is asked whether it is there, and given up
     * after another such time; so long an answer to who leads is waited for. */
    uint32_t silence_ms;
    /* 5000: another node is told of a floor after so long, if it makes few answers useless; ten
     * times a second, if many. */
    uint32_t floor_delay_ms;
    uint32_t message_size_bytes_max; /* 1 MiB: a longer one has a single request or reply. */
};

/* Give an instance. Errors: -EINVAL when an option contradicts another or is missing. */
MUST_USE int route_create(struct route **route, const struct route_options *options,
                          struct error *error);
/* After the shards are closed. What is still kept is not answered. */
void route_destroy(struct route *route);

/* A shard that may be named from now on; not twice. Also while others are in use (a child: before
 * whoever submits can know of it). Not from within. Numbers are below ROUTE_SHARD_END. */
void route_add_shard(struct route *route, wal_shard shard);
bool route_has_shard(const struct route *route, wal_shard shard);
#define ROUTE_SHARD_END (1u << 20)

/* Have the shard execute `request`, as shard_submit(): SHARD_ANSWERED with the answer in `reply`;
 * SHARD_PENDING: done() will be called. Refused, with nothing changed: -EBUSY (keep it, and what
 * its session submits later, and try again after the next tick); -ENOSPC; -E2BIG;
 * ERROR_STOPPED after route_stop(), unless this node leads.
 *
 * ERROR_MOVED: the shard has other slots than the request names. Ask by a newer map, once nothing
 * of the session is under way any more; without one, after a while.
 *
 * The gateway fills in what is its own: command (borrowed for the call), protocol, is_write,
 * does_grow, may_be_stale, is_cheap, first_slot, end_slot, order_key, done, session. Identity, known_index and
 * is_retry are the route's.
 *
 * done() has status 0 and the reply, or an empty reply and:
 *   ERROR_OUTCOME_UNKNOWN  a write that may or may not have taken effect, now or in the moments to
 *                          come; or a read whose answer is lost and cannot be had again (R3)
 *   ERROR_NOT_LEADER       no leader was found in time: nothing happened
 *   -ENOSPC, -E2BIG        the leader refused: nothing happened
 *   ERROR_MOVED            as above: nothing happened. The command is valid during the call; what
 *                          is submitted again is a new request
 *
 * A read that may be stale goes to the local replica, past what waits, or like any other when there
 * is none or it has other slots (it may lag). */
MUST_USE int route_submit(struct route *route, wal_shard shard, struct shard_request *request,
                          const struct reply *reply);

/* A message of another node's route; `boot_id` differs in each life of the sender. ERROR_PROTOCOL:
 * it is malformed and changed nothing; the sender is not to be trusted. Answers come before this
 * returns. */
MUST_USE int route_receive(struct route *route, raft_node from, uint64_t boot_id,
                           struct bytes message);

/* What was sent to and by the node may be lost: ask again, elsewhere if need be. */
void route_peer_gone(struct route *route, raft_node node);

/* The local replica has learned who leads, or that nobody does, or has become ready, or is not any
 * more. */
void route_leader_changed(struct route *route, wal_shard shard);

/* End of a tick: send what was gathered, give up what is late. Returns when to be called again at
 * the latest (env_clock.now_ms); UINT64_MAX: when something happens. */
uint64_t route_tick(struct route *route);

/* The node is about to stop: end the streams of others, which thereby look for another leader, and
 * give up what is unanswered after `patience_ms`. */
void route_stop(struct route *route, uint32_t patience_ms);

struct route_statistics {
    /* This node's requests. */
    uint64_t local_count;           /* Went straight to the local replica. */
    uint64_t kept_count;            /* Were kept: for a leader elsewhere or to come. */
    uint64_t forwarded_count;       /* Times that one was sent to another node, */
    uint64_t retried_count;         /* of these, and of those to the local replica, retries; */
    uint64_t logged_read_count;     /* reads that went through the log (R3). */
    uint64_t answered_count;        /* Kept ones with status 0. */
    uint64_t outcome_unknown_count; /* Given up by status: */
    uint64_t no_leader_count;
    uint64_t moved_count;       /* Refused, or ended, with ERROR_MOVED. */
    uint64_t refused_count;     /* The leader's other refusals; */
    uint64_t busy_count;        /* those of route_submit() with -EBUSY. */
    uint64_t asked_count;       /* Questions who leads. */
    uint64_t granted_count;     /* Streams. */
    uint64_t lost_stream_count; /* Of these, given up with requests unanswered. */
    uint64_t held_count;        /* Now: kept, */
    uint64_t waiting_count;     /* of these, not sent; */
    uint64_t held_size_bytes;   /* and what they take. */
    /* Other nodes' requests. */
    uint64_t guest_count; /* Now: lives of nodes that are known here, */
    uint64_t guest_session_count;
    uint64_t guest_request_count;
    uint64_t guest_queued_count; /* that wait because the shard is busy, */
    uint64_t guest_size_bytes;   /* and what all of them take. */
    uint64_t served_count;       /* Since the start: submitted for others. */
    uint64_t ended_stream_count;
    /* Messages. */
    uint64_t sent_message_count;
    uint64_t sent_bytes;
    uint64_t received_message_count;
    uint64_t received_bytes;
    uint64_t malformed_count;
};
void route_get_statistics(const struct route *route, struct route_statistics *statistics);

#endif
