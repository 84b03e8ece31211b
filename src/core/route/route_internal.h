/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this folder share.
 *
 *   route.c          the public functions, the hot path
 *   route_place.c    where the leader is: asking, streams, giving up
 *   route_floor.c    what is not needed any more
 *   route_line.c     requests that are kept, in the order of their session
 *   route_send.c     from the lines to the local replica or into a stream, and replies
 *   route_guest.c    requests of other nodes
 *   route_message.c  messages as bytes
 *   route_table.c    a hash table */
#ifndef CORE_ROUTE_ROUTE_INTERNAL_H
#define CORE_ROUTE_ROUTE_INTERNAL_H

#include "base/random/random.h"
#include "core/route/route.h"

/* ---- route_table.c --------------------------------------------------------------------------- */

/* Items are embedded; keys are unique. All zeros is empty. */
struct route_table_item {
    uint64_t key;
    struct route_table_item *next;
};

struct route_table {
    struct route_table_item **buckets;
    uint32_t bucket_count;
    uint32_t item_count;
};

void route__table_add(struct route_table *table, uint64_t key, struct route_table_item *item);
struct route_table_item *route__table_find(const struct route_table *table, uint64_t key);
void route__table_remove(struct route_table *table, struct route_table_item *item);
/* Without looking at items, which may be gone. */
void route__table_deinit(struct route_table *table);

/* ---- route_message.c ------------------------------------------------------------------------- */

enum route_message_kind {
    ROUTE_MESSAGE_ASK = 1,
    ROUTE_MESSAGE_TOLD = 2,
    ROUTE_MESSAGE_REQUESTS = 3,
    ROUTE_MESSAGE_REPLIES = 4,
    ROUTE_MESSAGE_ENDED = 5,
    ROUTE_MESSAGE_FLOOR = 6,
};

enum route_ended_reason {
    ROUTE_ENDED_NOT_LEADER = 1, /* Does not lead any more. */
    ROUTE_ENDED_UNKNOWN = 2,    /* No such grant. */
    ROUTE_ENDED_GAP = 3,        /* A message is missing. */
    ROUTE_ENDED_FULL = 4,       /* More than the room that was told. */
};

/* What a reply says; the refusals mean that the request was not submitted or changed nothing. */
enum route_verdict {
    ROUTE_VERDICT_ANSWERED = 0,
    ROUTE_VERDICT_NOT_LEADER = 1,
    ROUTE_VERDICT_NO_SPACE = 2,
    ROUTE_VERDICT_TOO_LARGE = 3,
    ROUTE_VERDICT_UNKNOWN = 4,
    /* Not submitted: something before it in its session was refused. Or a read whose reply was too much, or
     * that stood behind such a read. */
    ROUTE_VERDICT_RETURNED = 5,
    ROUTE_VERDICT_MOVED = 6, /* The shard has other slots. */
    ROUTE_VERDICT_COUNT,
};

/* After which nothing of the session is submitted until the asking side has seen it (R4). */
static inline bool route__is_refusal(enum route_verdict verdict)
{
    return verdict >= ROUTE_VERDICT_NO_SPACE && verdict != ROUTE_VERDICT_MOVED;
}

enum {
    ROUTE__ASK_SIZE_BYTES = 16,
    ROUTE__TOLD_SIZE_BYTES = 48,
    ROUTE__REQUESTS_HEAD_SIZE_BYTES = 48,
    ROUTE__REQUEST_HEAD_SIZE_BYTES = 40,
    ROUTE__REPLIES_HEAD_SIZE_BYTES = 40,
    ROUTE__REPLY_HEAD_SIZE_BYTES = 16,
    ROUTE__ENDED_SIZE_BYTES = 32,
    ROUTE__FLOOR_SIZE_BYTES = 24,
};

/* A request's encoded form is at most so long; its reply too. */
#define ROUTE__ITEM_SIZE_BYTES_MAX ROUTE_REPLY_SIZE_BYTES_MAX

struct route_message {
    enum route_message_kind kind;
    wal_shard shard;
    uint64_t number; /* ASK, TOLD: the question's; FLOOR: the origin; else the grant's. */

    raft_node leader;         /* TOLD, ENDED: a hint; 0: unknown. */
    uint64_t grant;           /* TOLD; 0: does not lead. */
    uint64_t room_bytes;      /* TOLD */
    raft_index applied_index; /* TOLD, REPLIES */
    enum route_ended_reason reason;

    uint64_t message_number; /* REQUESTS, REPLIES: from 1 in each direction of a stream. ENDED: the
                                newest of REQUESTS that was accepted. */
    uint64_t origin;         /* REQUESTS */
    uint64_t floor;          /* FLOOR */
    uint64_t seen_number;    /* REQUESTS: messages of replies that had come before it was sent. */
    uint16_t first_slot;     /* REQUESTS: of all of them, */
    uint16_t end_slot;       /* as in shard.h; 0: not said. */
    uint32_t item_count;     /* REQUESTS, REPLIES */
    struct bytes items;      /* For route__next_request(), route__next_reply(). */
};

struct route_wire_request {
    uint64_t session;
    uint64_t sequence;
    raft_index known_index;
    uint16_t opcode;
    uint8_t protocol;
    bool is_write;
    bool does_grow;
    bool is_retry;
    uint32_t patience_ms; /* Not worth submitting after that. */
    uint32_t argument_count;
    struct bytes arguments; /* Each a size of 4 bytes and its bytes. */
};

struct route_wire_reply {
    uint64_t sequence;
    enum route_verdict verdict;
    struct bytes reply;
};

/* ERROR_PROTOCOL unless every byte is as it must be, those of all items too. `message` borrows. */
MUST_USE int route__decode(struct bytes source, struct route_message *message);
/* Of what route__decode() has accepted: take the first item off. */
void route__next_request(struct bytes *items, struct route_wire_request *request);
void route__next_reply(struct bytes *items, struct route_wire_reply *reply);
/* Write `argument_count` views. */
void route__decode_arguments(struct bytes source, uint32_t argument_count, struct bytes *arguments);

/* Heads; items of REQUESTS and REPLIES follow. The buffers have the sizes above. */
void route__encode_ask(uint8_t *target, wal_shard shard, uint64_t number);
void route__encode_told(uint8_t *target, const struct route_message *message);
void route__encode_ended(uint8_t *target, const struct route_message *message);
void route__encode_floor(uint8_t *target, wal_shard shard, uint64_t origin, uint64_t floor);
void route__encode_requests_head(uint8_t *target, const struct route_message *message);
void route__encode_replies_head(uint8_t *target, const struct route_message *message);
/* All but the arguments of `request`, of which `arguments.size_bytes` counts. */
void route__encode_request_head(uint8_t *target, const struct route_wire_request *request);
void route__encode_reply_head(uint8_t *target, const struct route_wire_reply *reply);
uint64_t route__arguments_size_bytes(const struct shard_command *command);
void route__encode_arguments(uint8_t *target, const struct shard_command *command);

/* ---- Kept requests --------------------------------------------------------------------------- */

/* What a kept request takes, here or at the other side, about. */
static inline uint64_t route__charge(uint64_t encoded_size_bytes)
{
    return encoded_size_bytes + 256;
}

/* A request that is kept, with its command in the form in which it is sent. */
struct route_held {
    struct list link;                    /* In its line: waiting or sent. */
    struct list age;                     /* In the place's `ages`. */
    struct route_table_item by_sequence; /* While sent. */
    struct shard_request *request;
    struct route_line *line;
    bool is_write;    /* To its gateway. */
    bool is_in_doubt; /* A log may have it. */
    bool is_logged;   /* A read that is sent as a write (R3). */
    bool is_sent;
    uint64_t message_number; /* That it was sent in. */
    bool is_refused;         /* In this stream: what sent it knows that it was not submitted. */
    uint32_t encoded_size_bytes;
    uint8_t encoded[]; /* Head and arguments. */
};

/* How many there are of some requests of a line, by order key; some keys share a bucket, which costs a wait and
 * nothing else. */
enum { ROUTE__KEY_BUCKET_COUNT = 16 };
struct route_keys {
    uint32_t count;
    uint32_t unknown_count; /* Of these, with a key of 0. */
    uint32_t buckets[ROUTE__KEY_BUCKET_COUNT];
};

static inline void route__keys_add(struct route_keys *keys, uint16_t order_key)
{
    keys->count++;
    keys->unknown_count += order_key == 0;
    keys->buckets[order_key % ROUTE__KEY_BUCKET_COUNT]++;
}

static inline void route__keys_remove(struct route_keys *keys, uint16_t order_key)
{
    keys->count--;
    keys->unknown_count -= order_key == 0;
    keys->buckets[order_key % ROUTE__KEY_BUCKET_COUNT]--;
}

/* May one of them be about what a request with this key is about? */
static inline bool route__keys_have(const struct route_keys *keys, uint16_t order_key)
{
    return keys->unknown_count > 0 || (order_key == 0 && keys->count > 0) ||
           keys->buckets[order_key % ROUTE__KEY_BUCKET_COUNT] > 0;
}

/* The kept requests of one session, in order: `sent`, then `waiting`. There is a line while there
 * are such requests. All are for the same slots. */
struct route_line {
    struct list link;  /* In the place's `lines`. */
    struct list ready; /* In the place's `ready`: may have something to send. */
    struct route_place *place;
    struct shard_session *session;
    uint16_t first_slot;
    uint16_t end_slot;
    struct list sent;
    struct list waiting;
    uint32_t held_count;
    struct route_keys waiting_writes;
    struct route_keys sent_reads; /* Those that do not go through the log. */
    bool must_gather;             /* R4: what is sent comes back before anything more is sent. */
    bool has_handed_back;         /* By the local replica, since reads were last looked at. */
};

enum route_place_kind {
    ROUTE_PLACE_NONE,    /* Ask at `at_ms`, if there is anything to send. */
    ROUTE_PLACE_ASKED,   /* `node`, until `at_ms`. */
    ROUTE_PLACE_GRANTED, /* A stream to `node`. */
    ROUTE_PLACE_LOCAL,
};

/* Where a shard's requests go, and those of others that come here. */
struct route_place {
    struct route *route;
    wal_shard shard;
    struct list active; /* In the route's; alone: it is at rest. */

    enum route_place_kind kind;
    raft_node node;
    uint64_t at_ms;
    raft_node hint;           /* Ask it first; 0: none. */
    uint32_t at_once_count;   /* Questions without delay since something was answered. */
    uint32_t failed_count;    /* Questions in vain. */
    uint32_t backoff_ms;      /* The next delay. */
    raft_node last_in_turn;   /* next_node() */
    uint64_t ask_number;      /* Of the newest question. */
    uint64_t grant;           /* The stream's: */
    uint64_t sent_number;     /* messages so far, */
    uint64_t reply_number;    /* replies so far, */
    uint64_t room_bytes;      /* what the other side keeps, */
    uint64_t sent_size_bytes; /* what of it is used, */
    /* and what beside it, by requests that release what others wait for. */
    uint64_t sent_release_size_bytes;
    uint64_t heard_at_ms;
    bool is_asked_for_word;
    bool is_choked;           /* The host could not send. */
    uint64_t accepted_number; /* When it ends: messages that came. */
    bool owes_sight;          /* The other side waits to hear that a refusal was seen. */
    uint32_t local_epoch;     /* Counts the times that this has become LOCAL. */
    raft_index seen_index;    /* The newest that the shard is known to have applied. */

    struct list undone;    /* All requests of this node that are not done, by sequence. */
    struct list unsaid;    /* In the route's, while another node is to be told; else alone. */
    uint32_t unsaid_count; /* Ended since the floor was said; */
    uint64_t said_floor;   /* in this stream; 0: never. */
    uint64_t floor_said_at_ms;

    struct list lines;
    struct list ready;
    struct list ages;        /* Of all kept requests, the first to be given up first. */
    struct route_table sent; /* By sequence. */

    struct list guests;
};

/* Requests of a message; its head is a piece, too. */
#define ROUTE__BATCH_COUNT_MAX (ROUTE_PIECE_COUNT_MAX - 1)

/* Another node. */
struct route_neighbour {
    struct list link;
    raft_node node;
    uint64_t reply_size_bytes; /* Replies that wait to be sent to it, of all shards. */
};

struct route {
    struct route_options options;
    struct random random;
    struct route_place **places; /* In the order in which they were added. */
    uint32_t place_count;
    uint32_t place_capacity;
    struct route_place **places_by_shard;
    uint32_t shard_end;      /* Of that array. */
    struct list active;      /* Places at which something is under way, or was just now. */
    struct list unsaid;      /* Places whose floor another node is to be told. */
    struct list neighbours;  /* Nodes that have sent requests. */
    uint64_t floors_at_ms;   /* Not before. */
    uint64_t sequence;       /* The newest request's. */
    uint64_t session_number; /* The newest session's. */
    uint64_t ask_number;
    uint64_t next_grant;
    uint64_t pass; /* Over guests' queues. */
    bool is_stopping;
    uint64_t stop_by_ms;
    struct route_statistics statistics;

    /* Scratch. */
    struct bytes *arguments;
    uint32_t argument_capacity;
    struct buffer answer;
    struct route_held *batch[ROUTE__BATCH_COUNT_MAX];
    struct bytes pieces[ROUTE__BATCH_COUNT_MAX + 1];
};

/* ---- route.c --------------------------------------------------------------------------------- */

uint64_t route__now_ms(const struct route *route);
int route__submit_local(struct route_place *place, struct shard_request *request,
                        const struct reply *reply);
raft_node route__local_leader(const struct route_place *place);
/* The newest applied index that is known, here or elsewhere. */
raft_index route__seen_index(struct route_place *place);
/* Send, and count what was sent. */
int route__send(struct route *route, raft_node node, const struct bytes *pieces,
                uint32_t piece_count);
/* Room for the views of a command's arguments; borrowed until the next call. */
struct bytes *route__arguments(struct route *route, uint32_t count);
/* Of two requests of a session: may a read of them not be answered as of later than the other? */
bool route__are_ordered(const struct shard_request *left, const struct shard_request *right);
/* Submit to the local replica with done() caught. As shard_submit(); the request is as before
 * unless it is pending. */
int route__submit_direct(struct route_place *place, struct shard_request *request,
                         const struct reply *reply);

/* Something happened that ticks have to see to. */
static inline void route__activate(struct route_place *place)
{
    if (list_is_empty(&place->active)) {
        list_push_back(&place->route->active, &place->active);
    }
}

/* ---- route_floor.c --------------------------------------------------------------------------- */

/* There may be an answer that nobody needs any more. */
void route__floor_rises(struct route_place *place);

/* A request has begun, with the highest sequence so far; it is done. */
static inline void route__begin(struct route_place *place, struct shard_request *request)
{
    list_push_back(&place->undone, &request->route.undone);
}

static inline void route__end(struct shard_request *request)
{
    list_remove(&request->route.undone);
}

/* The same of one that a log may have. */
static inline void route__end_logged(struct route_place *place, struct shard_request *request)
{
    route__end(request);
    route__floor_rises(place);
}

/* A stream begins. */
void route__floor_begin(struct route_place *place, uint64_t now_ms);
/* At the end of a tick: if the leader is here, tell it. */
void route__say_floor_here(struct route_place *place);
/* Tell others. Returns when to be called again. */
uint64_t route__say_floors(struct route *route, uint64_t now_ms);

/* ---- route_line.c ---------------------------------------------------------------------------- */

/* Keep a request, at its place in the line of its session; the command is copied. */
void route__hold(struct route_place *place, struct shard_request *request, bool is_in_doubt);
/* It is about to be submitted: if no log has seen it, the shard cannot have it up to where it is
 * known to be now. A gateway that was new to the shard has learnt that only from its leader. */
void route__note_seen(struct route_place *place, const struct route_held *held);
/* Forget a kept request that the local replica has now. May end its line. */
void route__release(struct route_held *held);
/* The same, and tell the gateway. */
void route__finish(struct route_held *held, int status, struct bytes reply);
/* With what the leader, or the local replica, refused it with. */
void route__finish_refused(struct route_held *held, int status);
/* The shard has other slots: nothing happened, and the gateway gets the command back. */
void route__finish_moved(struct route_held *held);
/* What is sent goes back into the lines (R2). */
void route__take_back(struct route_place *place);
/* Give up what is late. Returns when the next one will be; UINT64_MAX. */
uint64_t route__expire(struct route_place *place, uint64_t now_ms);
/* Nobody waits longer than until then. */
void route__hasten(struct route_place *place, uint64_t until_ms);
/* Does a log change, or answer, by it? */
bool route__is_logged(const struct route_held *held);
void route__line_ready(struct route_line *line);
/* One that was sent waits again: it was not submitted. */
void route__return(struct route_held *held);
void route__lines_destroy(struct route_place *place);

/* ---- route_send.c ---------------------------------------------------------------------------- */

/* What the other side keeps of such requests. */
static inline uint64_t *route__sent_size_bytes(struct route_place *place,
                                               const struct route_held *held)
{
    return held->request->does_release ? &place->sent_release_size_bytes : &place->sent_size_bytes;
}

/* LOCAL: submit what waits. GRANTED: send it. */
void route__dispatch(struct route_place *place, uint64_t now_ms);
/* Ask whether the other side is there. */
void route__send_nothing(struct route_place *place);
void route__replies(struct route_place *place, const struct route_message *message);

/* ---- route_place.c --------------------------------------------------------------------------- */

/* The local replica leads. */
void route__place_local(struct route_place *place);
/* Leave whatever it is, take back what was sent, ask again at once. */
void route__place_leave(struct route_place *place);
/* As above, after a delay that grows. */
void route__place_leave_later(struct route_place *place, uint64_t now_ms);
void route__told(struct route_place *place, raft_node from, const struct route_message *message,
                 uint64_t now_ms);
void route__ended(struct route_place *place, const struct route_message *message, uint64_t now_ms);
/* Go on; returns when to be called again. */
uint64_t route__place_tick(struct route_place *place, uint64_t now_ms);

/* ---- route_chunk.c: replies to another node, until they are sent ------------------------------ */

struct route_chunks {
    struct route *route;
    struct route_neighbour *neighbour;
    struct list list;
    struct route_chunk *spare;
    uint64_t size_bytes;
    uint64_t number; /* The newest chunk's, from 1 in each stream. */
};

void route__chunks_init(struct route_chunks *chunks, struct route *route, raft_node node);
void route__chunks_deinit(struct route_chunks *chunks); /* None is left. */
bool route__chunks_are_empty(const struct route_chunks *chunks);
/* Is it worth while to submit what will be answered? */
bool route__chunks_have_room(const struct route_chunks *chunks);
/* A message has room for a reply of ROUTE_REPLY_SIZE_BYTES_MAX, and memory for as much as the limit, and one reply. */
bool route__chunks_may_take(const struct route_chunks *chunks, struct bytes reply);
void route__chunks_add(struct route_chunks *chunks, const struct route_wire_reply *reply);
/* A message without replies, if there is none. */
void route__chunks_add_word(struct route_chunks *chunks);
void route__chunks_clear(struct route_chunks *chunks);
/* 0: all are sent. Else what the host says; the others are still there. `head`: shard, number, applied_index. */
int route__chunks_send(struct route_chunks *chunks, const struct route_message *head);

/* ---- route_guest.c --------------------------------------------------------------------------- */

void route__asked(struct route_place *place, raft_node from, uint64_t boot_id,
                  const struct route_message *message);
/* About a shard that is not known here. */
void route__asked_unknown(struct route *route, raft_node from, const struct route_message *message);
void route__requests(struct route_place *place, raft_node from, uint64_t boot_id,
                     const struct route_message *message);
void route__guest_gone(struct route_place *place, raft_node node);
/* The local replica does not lead, or the node stops: end all streams. */
void route__guests_end(struct route_place *place);
uint64_t route__guests_tick(struct route_place *place, uint64_t now_ms);
/* Have ticks nothing to do for any of them? */
bool route__guests_are_at_rest(const struct route_place *place);
void route__guests_destroy(struct route_place *place);
void route__guests_count(const struct route_place *place, struct route_statistics *statistics);

#endif
