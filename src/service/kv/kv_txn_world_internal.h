/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the world share. */
#ifndef SERVICE_KV_KV_TXN_WORLD_INTERNAL_H
#define SERVICE_KV_KV_TXN_WORLD_INTERNAL_H

#include "service/kv/kv_internal.h"
#include "service/kv/kv_txn_world.h"

struct txn_world;

/* A command on its way, or in a log. */
struct message {
    struct list link;
    struct shard_command command; /* Its bytes stand behind. */
    uint64_t request;             /* Whom the reply is for: index of txn_world.requests. */
    uint64_t sequence;            /* Its identity; 0: none. */
    uint64_t time_ms;             /* In a log: the stamp. */
    uint64_t arrived;             /* Where it waits: its place in the line. */
    bool is_write;
};

struct window_reply {
    uint64_t sequence;
    struct buffer reply;
};

struct shard_replica {
    struct txn_world *world;
    struct memstore *store;
    struct rows *rows;
    struct kv *kv;
    struct buffer saved;
    uint64_t digest;
    struct message **log; /* Index 1 is at 0. */
    uint64_t log_count;
    uint64_t applied_count;
    uint64_t stamp_ms;
    struct list parked; /* In the order of their arrival. */
    uint64_t arrived_count;
    struct window_reply *window;
    uint64_t window_count;
    bool is_apply_due;
};

/* Somebody waits for a reply. */
struct request_state {
    struct shard_request *request; /* A coordinator's; NULL: of a client. */
    uint32_t owner;                /* Index of coordinator or client. */
    uint64_t life;                 /* Of the coordinator. */
    bool is_open;
    struct message *original; /* To be sent once more. */
};

struct coordinator {
    struct txn_world *world;
    struct txn *txn;
    uint64_t life;
    uint64_t submission_count;
    bool is_tick_due;
    bool is_doomed; /* Dies at the next event. */
};

enum client_state {
    CLIENT_IDLE,
    CLIENT_PLAIN,
    CLIENT_VERSIONS, /* Of what it watches, */
    CLIENT_READS,    /* and what that has. */
    CLIENT_CONTENTS, /* Of what is evaluated. */
    CLIENT_COMMITS,
};

struct client {
    struct txn_world *world;
    enum client_state state;
    uint32_t operation;
    uint64_t request; /* That it waits for. */
    uint32_t coordinator;
    uint64_t life;
    /* A transaction: which steps are in which part, in order. */
    uint32_t part_count;
    uint32_t part_shards[KV__SHARD_COUNT_MAX];
    uint32_t watch_key;
    uint64_t watch_version;
    struct kv__txn_evaluating *evaluating; /* NULL: its transaction is not. */
};

enum event_kind {
    EVENT_DELIVER,
    EVENT_REPLY,
    EVENT_TIMEOUT,
    EVENT_APPLY,
    EVENT_TICK,
    EVENT_CLIENT,
    EVENT_LOOK_AT_COORDINATORS,
    EVENT_LOOK_AT_SHARDS,
};

struct event {
    uint64_t at_ms;
    uint64_t order;
    enum event_kind kind;
    uint32_t who;
    uint64_t request;
    struct message *message;
    struct buffer reply;
};

struct txn_world {
    struct kv__txn_options options;
    struct random random;
    uint64_t now_ms;
    uint64_t wall_offset_ms;
    uint64_t event_count;
    uint64_t next_order;
    uint64_t next_life;
    struct event *events; /* A heap. */
    uint32_t event_capacity;
    uint32_t events_waiting;
    struct shard_replica shards[KV__SHARD_COUNT_MAX];
    struct coordinator coordinators[KV__COORDINATOR_COUNT_MAX];
    struct client clients[KV__CLIENT_COUNT_MAX];
    struct request_state *requests;
    uint64_t request_count;
    uint64_t request_capacity;
    struct kv__operation *operations;
    uint32_t operation_count;
    uint64_t next_element;
    char keys[KV__KEY_COUNT_MAX][16];
    bool is_healed;
    const char *failure;
    char *text;
    struct kv__txn_statistics statistics;
};

void kv__txn_world_fail(struct txn_world *world, const char *what, uint64_t a, uint64_t b);
bool kv__txn_world_chance(struct txn_world *world, uint32_t percent); /* Never when it is healed. */
uint64_t kv__txn_world_wall_ms(const struct txn_world *world);
struct event *kv__txn_world_schedule(struct txn_world *world, enum event_kind kind,
                                     uint64_t delay_ms, uint32_t who);
uint64_t kv__txn_world_delay_ms(struct txn_world *world);

uint32_t kv__txn_world_shard_of_slot(const struct txn_world *world, uint32_t slot);
uint32_t kv__txn_world_slot_of_key(const struct txn_world *world, uint32_t key);

/* Send a command to a shard for somebody; returns the request. */
uint64_t kv__txn_world_send(struct txn_world *world, uint32_t shard,
                            const struct shard_command *command, bool is_write,
                            struct shard_request *request, uint32_t owner);

/* kv_txn_shard.c */
void kv__txn_shard_open(struct shard_replica *shard);
void kv__txn_shard_end(struct shard_replica *shard);
void kv__txn_shard_deliver(struct shard_replica *shard, struct message *message);
void kv__txn_shard_apply(struct shard_replica *shard);
void kv__txn_shard_look(struct shard_replica *shard);
void kv__txn_shard_restart(struct shard_replica *shard);
uint64_t kv__txn_shard_time_ms(struct shard_replica *shard);
/* What a replica that executes the whole log comes to must be the same. */
void kv__txn_shard_check(struct shard_replica *shard);
void kv__txn_shard_reply(struct shard_replica *shard, const struct message *message,
                         struct bytes reply);
void kv__txn_shard_read_list(struct shard_replica *shard, struct bytes key, struct buffer *list);

/* kv_txn_client.c */
void kv__txn_client_event(struct client *client);
void kv__txn_client_reply(struct client *client, struct bytes reply);
void kv__txn_client_lost(struct client *client);
void kv__txn_client_add_step(const struct client *client, struct kv_transaction *transaction,
                             const struct kv__step *step);
/* Take one reply off the front of `replies`: an integer, or a list that GET answered. */
bool kv__txn_client_take_reply(struct bytes *replies, struct buffer *list);

/* kv_txn_evaluate.c */
void kv__txn_evaluate_begin(struct client *client, const struct kv__operation *operation);
/* Of a read. `*is_read`: that was the last one, and this is what came out. */
enum kv_evaluated kv__txn_evaluate_reply(struct client *client, struct bytes reply, bool *is_read);
/* What is to be committed; borrowed. Returns how many. */
uint32_t kv__txn_evaluate_parts(const struct client *client, struct txn_part *parts);
/* False: the replies are wrong. */
bool kv__txn_evaluate_committed(struct client *client, struct kv__operation *operation,
                                const struct txn_done *done);
void kv__txn_evaluate_drop(struct client *client);

#endif
