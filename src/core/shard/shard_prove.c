/* SPDX-License-Identifier: Apache-2.0 */
/* A replica that was impaired is whole again, and says so when that is durable (I8 of core/raft).
 *
 *   Raft knows that it has all    shard_internal.h: is_flag_stale, proof.is_wanted
 *   a batch has its meta row      proof.is_written, when the store has it
 *   the store is flushed          on a worker
 *   Raft hears of it              it votes, counts, and may be made a voter
 *
 * Until then it is impaired for everybody. Else it could be made a voter without whom its group has no majority,
 * end, and not know any more that it is whole: the group would wait for ever. */
#include "base/trace/trace.h"
#include "core/shard/shard_internal.h"

enum { RETRY_MS = 50 };

static void run(struct shard_work *work)
{
    struct shard_proof *proof = LIST_ITEM(work, struct shard_proof, work);
    struct shard *shard = LIST_ITEM(proof, struct shard, proof);
    const struct env_store *store = &shard->options.store;
    proof->status = store->ops->flush(store->context, &proof->error);
}

static void done(struct shard_work *work)
{
    struct shard_proof *proof = LIST_ITEM(work, struct shard_proof, work);
    struct shard *shard = LIST_ITEM(proof, struct shard, proof);
    proof->is_working = false;
    shard->works_elsewhere--;
    if (proof->status == -ENOSPC || proof->status == -EBUSY) {
        proof->retry_at_ms = shard__now_ms(shard) + RETRY_MS;
    } else if (proof->status != 0) {
        shard__fail(shard, proof->status, &proof->error);
    } else if (proof->is_wanted && proof->is_written && shard->discard == NULL) {
        PROBE("shard.proven_whole");
        shard__step_whole(shard);
    }
    shard__finish_step(shard);
}

uint64_t shard__prove_tick(struct shard *shard, uint64_t now_ms)
{
    struct shard_proof *proof = &shard->proof;
    if (!proof->is_wanted || !proof->is_written || proof->is_working || shard->is_stateless ||
        shard->discard != NULL) {
        return UINT64_MAX; /* What it waits for brings a tick. */
    }
    if (now_ms < proof->retry_at_ms) {
        return proof->retry_at_ms;
    }
    struct shard_host *host = &shard->options.host;
    proof->work = (struct shard_work){.run = run, .done = done};
    if (host->work_elsewhere(host->context, &proof->work) != 0) {
        proof->retry_at_ms = now_ms + RETRY_MS;
        return proof->retry_at_ms;
    }
    proof->is_working = true;
    shard->works_elsewhere++;
    return UINT64_MAX;
}
