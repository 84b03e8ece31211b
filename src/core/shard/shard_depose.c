/* SPDX-License-Identifier: Apache-2.0 */
/* Leadership was lost: whatever was not answered goes back to where it came from, with its command.
 *
 * A write that is in the log may still be committed, by the next leader; whoever asked submits it
 * there again, with the same identity (I7). What is applied already is answered as ever. Requests
 * of a session go back in their order: those in entries first, then the one that was on its way to
 * memory or waited for a quorum, then those that waited behind it. A read or prefetch that a worker
 * has goes back when the worker is done with it. After a split what is in no entry goes back in the same
 * way, though the replica still leads. */
#include "base/assert/assert.h"
#include "base/trace/trace.h"
#include "core/shard/shard_internal.h"

/* The commands of an entry are in its payload; those of reads have copies. */
void shard__hand_back_entry(struct shard *shard, struct shard_entry *entry)
{
    struct shard_decoder decoder = {0};
    if (entry->answers.item_count == 0) {
        return;
    }
    int status = shard__entry_is_configuration(entry)
                     ? 0
                     : shard__decode_begin(&decoder, buffer_bytes(&entry->payload));
    ASSERT(status == 0);                        /* It was made here, */
    ASSERT(entry->answers.answered_count == 0); /* and not begun. */
    for (uint32_t i = 0; i < entry->answers.item_count; i++) {
        struct shard_request *request = entry->answers.items[i].request;
        if (entry->answers.items[i].is_write) {
            struct shard_decoded decoded;
            status = shard__decode_next(shard, &decoder, &decoded);
            ASSERT(status == 0);
            if (request == NULL) {
                shard->is_background_pending = false;
                continue;
            }
            request->command = decoded.command;
        }
        shard__hand_back(shard, request);
    }
    entry->answers.item_count = 0;
}

static void hand_back_open(struct shard *shard)
{
    struct shard_entry *entry = shard->open;
    if (entry->answers.item_count == 0) {
        return;
    }
    shard__entry_end(entry, 0);
    shard->in_flight_size_bytes -= entry->payload.size_bytes - SHARD_ENTRY_HEADER_SIZE_BYTES;
    shard->open = shard__entry_take(shard); /* Nothing may join it any more. */
    shard__entry_begin(&shard->open->payload);
    shard__hand_back_entry(shard, entry);
    shard__entry_give(shard, entry);
}

/* Who gets one back may submit another one, which waits there again. */
static void hand_back_list(struct shard *shard, struct list *requests)
{
    struct list waiting;
    list_init(&waiting);
    list_append_all(&waiting, requests);
    for (struct list *member; (member = list_pop_front(&waiting)) != NULL;) {
        struct shard_request *request = LIST_ITEM(member, struct shard_request, link);
        request->session->is_alone = false;
        shard__hand_back_untouched(shard, request);
    }
}

static void hand_back_cold(struct shard *shard, struct list *requests)
{
    struct list waiting;
    list_init(&waiting);
    list_append_all(&waiting, requests);
    for (struct list *member; (member = list_pop_front(&waiting)) != NULL;) {
        struct shard_request *request = LIST_ITEM(member, struct shard_request, link);
        shard->cold_count--;
        request->session->is_alone = false;
        shard__hand_back_untouched(shard, request);
    }
}

void shard__hand_back_all(struct shard *shard)
{
    raft_index last = shard->log.first_index + shard->log.count;
    for (raft_index index = shard->applied_index + 1; index < last; index++) {
        struct shard_entry *entry = shard__log_at(shard, index);
        if (entry != NULL) {
            shard__hand_back_entry(shard, entry);
        }
    }
    hand_back_open(shard);
    if (shard->options.machine.gathered != NULL) {
        shard->options.machine.gathered(shard->options.machine.context, NULL);
    }
    if (BUG("shard.deposed_leader_answers") && !shard->is_stateless) {
        shard__answer_unconfirmed(shard);
    }
    shard->is_splitting = false;
    shard__hand_back_waiting(shard);
}

void shard__hand_back_waiting(struct shard *shard)
{
    shard__forget_waiting(shard);
    hand_back_list(shard, &shard->locked);
    hand_back_list(shard, &shard->confirming);
    hand_back_list(shard, &shard->unconfirmed);
    hand_back_cold(shard, &shard->cold_reads);
    hand_back_cold(shard, &shard->cold_writes);
}
