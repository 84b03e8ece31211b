/* SPDX-License-Identifier: Apache-2.0 */
/* raft_world: a group of members with disks, clocks and a network, for tests only.
 *
 * The world does what a driver does, and no more: it keeps the entries, makes durable what it is
 * told to in order, lets messages leave when what they name is durable, and applies what is
 * committed to a state machine that remembers one number. What happens when is up to the test.
 * After every step it checks what must always hold; the first violation is kept in `violation`. */
#ifndef CORE_RAFT_RAFT_WORLD_H
#define CORE_RAFT_RAFT_WORLD_H

#include "base/bytes/bytes.h"
#include "core/raft/raft_internal.h"

#define RAFT__WORLD_NODE_COUNT_MAX 9u

struct raft__world_entry {
    raft_term term;
    enum raft_entry_kind kind;
    struct raft_configuration configuration;
    uint64_t value;        /* Of commands. */
    raft_term commit_term; /* Of a committed one: of who was the first to apply it. */
};

/* Entries first_index .. last_index; entry i is at [i - first_index]. */
struct raft__world_log {
    raft_index first_index;
    raft_term previous_term;
    raft_index last_index;
    struct raft__world_entry *entries;
    uint64_t capacity;
};

struct raft__world_packet {
    uint64_t number; /* In the order in which they were sent. */
    uint64_t after_sequence;
    struct raft_message message;
    struct raft__world_entry *entries;
};

struct raft__world_packets {
    struct raft__world_packet *room;
    struct raft__world_packet *items; /* In it, behind a gap: most leave at the front. */
    uint32_t gap;
    uint32_t count;
    uint32_t capacity;
};

/* Something that the disk was told to make durable. */
struct raft__world_write {
    struct raft_persist persist;
    struct raft__world_entry *entries;
};

/* The state of the machine: what was applied, and the configuration in force there. */
struct raft__world_state {
    raft_index index;
    raft_term term;
    uint64_t digest;
    raft_index configuration_index;
    struct raft_configuration configuration;
};

struct raft__world_node {
    raft_node id;
    struct raft *raft; /* NULL: not running. */
    bool exists;
    uint64_t now_ms;
    uint64_t heard_at_ms; /* Of a leader, by its own clock; also before a restart. */
    uint64_t seed;

    /* Lost in a crash. */
    struct raft__world_log log;
    struct raft__world_state applied;
    struct raft__world_write *writes; /* Under way, oldest first. */
    uint32_t write_count;
    uint32_t write_capacity;
    uint64_t durable_sequence;
    struct raft__world_packets held; /* Messages that wait for the disk. */
    struct raft_output output;       /* Of the last step. */
    uint32_t wanted_snapshot_count;
    raft_node wanted_snapshots[RAFT_PEER_COUNT_MAX];

    /* Kept. */
    struct raft_hard_state durable_hard_state;
    struct raft__world_log durable_log;
    struct raft__world_log former_log; /* Before it was last cut. */
    struct raft__world_state stored;
    bool is_impaired;
    bool was_impaired; /* When it started. */
    /* That it is whole again, when it crashes: its store was not flushed since. */
    bool does_forget;
};

struct raft__world {
    struct raft__world_node nodes[RAFT__WORLD_NODE_COUNT_MAX + 1]; /* By id. */
    struct raft__world_packets network;
    uint64_t packet_number;
    /* What has been committed: the first to apply an entry says what it is. */
    struct raft__world_log committed;
    uint64_t value;

    struct raft_options options; /* For all: the intervals. */
    bool does_show_messages;
    bool does_show_changes;
    bool does_prove_late; /* That a member is whole is durable only with raft__world_store(). */
    struct buffer shown;
    char violation[256]; /* Empty: none. */
    /* Cut appends into several of at most so many entries; 0: not. */
    uint32_t append_cut_count;
};

void raft__world_init(struct raft__world *world);
void raft__world_deinit(struct raft__world *world);

/* Make a member that has nothing but the configuration (no voters: a stranger). */
void raft__world_add(struct raft__world *world, raft_node id,
                     const struct raft_configuration *configuration);
/* Give it entries of these terms, and the newest term that it has seen. Before it is started; the
 * same entry is the same everywhere. */
void raft__world_prepare(struct raft__world *world, raft_node id, const uint32_t *terms,
                         uint32_t count, raft_term newest_term);
/* Begin from what is durable. */
void raft__world_start(struct raft__world *world, raft_node id);
/* Lose what is not durable; the first `kept_count` writes that are under way become durable. */
void raft__world_crash(struct raft__world *world, raft_node id, uint32_t kept_count);

/* Step with the node's own time and do what the output says. */
int raft__world_step(struct raft__world *world, raft_node id, struct raft_input input);
/* The oldest `count` writes that are under way become durable. */
void raft__world_persist(struct raft__world *world, raft_node id, uint32_t count);
/* The packet at this position of the network arrives; it stays there if `is_copy`. */
void raft__world_deliver(struct raft__world *world, uint32_t position, bool is_copy);
void raft__world_drop(struct raft__world *world, uint32_t position);
/* Bring what was applied to the disk, and drop the log up to `keep_count` entries before. */
void raft__world_store(struct raft__world *world, raft_node id);
void raft__world_compact(struct raft__world *world, raft_node id, uint64_t keep_count);
/* Send the applied state of a leader to a member that it was asked to send it to. */
void raft__world_snapshot(struct raft__world *world, raft_node from, raft_node to, bool has_failed);
/* Lose the log from `index` on, as damage does, and of the hard state all but `term` if that is
 * older; never so much that the log does not go with the rest. */
void raft__world_damage(struct raft__world *world, raft_node id, raft_index index, raft_term term);
/* Before that: what the log was when it was last cut comes back, because that it was cut was lost
 * too. Nothing when the stored state is not in it. */
void raft__world_damage_cut(struct raft__world *world, raft_node id);

/* Log matching: where two logs have an entry of the same term, they are the same up to there. */
void raft__world_check_logs(struct raft__world *world);
/* Is there a leader, and has every member of its configuration applied all up to `goal`? */
bool raft__world_is_healed(const struct raft__world *world, raft_index goal);
/* Is a majority that some member thinks is needed impaired? With two voters, and one of them
 * impaired, there is nobody to vote for a leader. */
bool raft__world_is_quorum_impaired(const struct raft__world *world);

void raft__world_violate(struct raft__world *world, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void raft__world_show(struct raft__world *world, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
const char *raft__world_kind_name(enum raft_message_kind kind);
void raft__world_show_configuration(struct buffer *target,
                                    const struct raft_configuration *configuration);
void raft__world_show_entry_configuration(struct raft__world *world, raft_node id, raft_index index,
                                          const struct raft_configuration *configuration);
void raft__world_show_message(struct raft__world *world, const struct raft_message *message,
                              uint64_t after_sequence);
void raft__world_show_persist(struct raft__world *world, raft_node id,
                              const struct raft_persist *persist);

const struct raft__world_entry *raft__world_entry_at(const struct raft__world_log *log,
                                                     raft_index index);

#endif
