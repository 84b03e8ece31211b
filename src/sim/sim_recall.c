/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/sim_recall.h"

#include "base/random/random.h"

enum { GROUP_SIZE_BYTES_MIN = 100, FILE_SIZE_BYTES_MAX = 1 << 20, FILE_NUMBER = 1 };

static void lose_some(struct buffer *file, struct random *random)
{
    if (file->size_bytes == 0) {
        return;
    }
    switch (random_below(random, 8)) {
    case 0:
        buffer_clear(file);
        return;
    case 1:
        file->data[random_below(random, file->size_bytes)] ^= 1;
        return;
    case 2:
    case 3:
        file->size_bytes = random_below(random, file->size_bytes);
        return;
    default:
        return;
    }
}

void sim__recall_begin(struct sim__recall *recall, uint64_t seed,
                       raft_index (*first_needed)(void *context, wal_shard shard), void *context)
{
    struct random random; /* Its own: what else happens does not depend on the file. */
    random_init(&random, seed);
    recall_destroy(recall->recall);
    recall->recall = recall_create();
    lose_some(&recall->file, &random);
    recall->file.size_bytes =
        recall_load(recall->recall, buffer_bytes(&recall->file), first_needed, context);
}

void sim__recall_deinit(struct sim__recall *recall)
{
    recall_destroy(recall->recall);
    buffer_deinit(&recall->file);
    *recall = (struct sim__recall){0};
}

void sim__recall_note(struct sim__recall *recall, const struct recall_entry *entry)
{
    recall_note(recall->recall, entry);
    if (recall_gathered_size_bytes(recall->recall) >= GROUP_SIZE_BYTES_MIN) {
        if (recall->file.size_bytes > FILE_SIZE_BYTES_MAX) {
            buffer_clear(&recall->file);
        }
        recall_take(recall->recall, FILE_NUMBER, &recall->file);
    }
}

bool sim__recall_find(struct sim__recall *recall, struct recall_entry *entry)
{
    return recall_find(recall->recall, entry);
}
