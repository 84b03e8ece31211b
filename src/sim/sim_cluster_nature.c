/* SPDX-License-Identifier: Apache-2.0 */
/* What a life of a cluster is like. */
#include "base/memory/memory.h"
#include "sim/sim_cluster.h"
#include "sim/sim_settings.h"

uint32_t sim__cluster_between(struct random *random, uint32_t lower, uint32_t upper)
{
    return lower + (uint32_t)random_below(random, upper - lower + 1);
}

/* 0 in two of three lives. */
static uint32_t maybe(struct random *random, uint32_t lower, uint32_t upper)
{
    return random_chance(random, 1, 3) ? sim__cluster_between(random, lower, upper) : 0;
}

static void draw_callers(struct cluster_nature *nature, struct random *random)
{
    nature->caller_count = random_chance(random, 2, 3) ? sim__cluster_between(random, 1, 5) : 0;
    nature->call_count = nature->caller_count == 0 ? 0 : sim__cluster_between(random, 20, 1500);
    nature->burst_count_max = random_chance(random, 1, 3) ? 1 : sim__cluster_between(random, 2, 40);
    nature->deadline_ms =
        random_chance(random, 1, 2) ? sim__cluster_between(random, 100, 3000) : 30000;
    nature->silence_ms = sim__cluster_between(random, 20, 800);
    nature->held_size_bytes =
        random_chance(random, 1, 3) ? sim__cluster_between(random, 1000, 30000) : 1u << 20;
    nature->guest_size_bytes =
        random_chance(random, 1, 3) ? sim__cluster_between(random, 1000, 30000) : 1u << 20;
}

static void draw_most(struct cluster *cluster)
{
    struct random *random = &cluster->random;
    struct cluster_nature *nature = &cluster->nature;
    static const uint32_t node_counts[] = {3, 3, 3, 3, 3, 4, 5, 5, 2, 1};
    nature->node_count = node_counts[random_below(random, 10)];
    nature->does_start_whole = random_chance(random, 2, 3);
    nature->client_count = sim__cluster_between(random, 1, 8);
    nature->key_count = sim__cluster_between(random, 1, 6);
    nature->request_count = sim__cluster_between(random, 50, 1200);
    nature->think_us = sim__cluster_between(random, 100, 20000);
    nature->retry_us =
        random_chance(random, 1, 4) ? sim__cluster_between(random, 20000, 800000) : 5000;
    nature->impatience_us =
        random_chance(random, 2, 3) ? sim__cluster_between(random, 3000, 300000) : 0;
    nature->disk_us = sim__cluster_between(random, 50, 3000);
    nature->network_us = sim__cluster_between(random, 50, 2000);
    nature->election_timeout_ms = sim__cluster_between(random, 60, 400);
    nature->segment_size_bytes = 4096u * sim__cluster_between(random, 8, 64);
    nature->store_row_count =
        random_chance(random, 1, 2) ? sim__cluster_between(random, 1, 8) : 500;
    nature->store_flush_us = sim__cluster_between(random, 5000, 400000);
    nature->recent_size_bytes =
        random_chance(random, 1, 2) ? sim__cluster_between(random, 0, 3000) : 1u << 20;
    nature->window_size_bytes =
        random_chance(random, 1, 4) ? sim__cluster_between(random, 0, 5000) : 1u << 20;
    nature->floor_delay_ms = sim__cluster_between(random, 1, 1000);
    nature->value_size_max = random_chance(random, 1, 4) ? 5000 : 60;
    nature->kill_every_us = maybe(random, 100000, 3000000);
    nature->power_percent = random_chance(random, 1, 2) ? sim__cluster_between(random, 10, 100) : 0;
    nature->stay_down_us = sim__cluster_between(random, 1000, 1500000);
    nature->blackout_every_us = maybe(random, 1000000, 6000000);
    nature->pause_every_us = maybe(random, 100000, 2000000);
    nature->partition_every_us = maybe(random, 100000, 2000000);
    nature->break_every_us = maybe(random, 30000, 1000000);
    nature->slow_disk_every_us = maybe(random, 200000, 3000000);
    nature->full_every_us = maybe(random, 200000, 3000000);
    nature->flush_error_every_us = maybe(random, 200000, 3000000);
    nature->damage_every_us = maybe(random, 100000, 2000000);
    nature->does_cache_lie = random_chance(random, 1, 2);
    nature->does_directory_reorder = random_chance(random, 1, 2);
    nature->configure_every_us = maybe(random, 50000, 2000000);
    if (!nature->does_start_whole && nature->configure_every_us == 0) {
        nature->configure_every_us = sim__cluster_between(random, 50000, 500000);
    }
    nature->transfer_every_us = maybe(random, 50000, 2000000);
    nature->wall_jump_every_us = maybe(random, 100000, 2000000);
    nature->clock_rate_percent = maybe(random, 1, 8);
    nature->faults.busy_percent = maybe(random, 1, 30);
    nature->faults.incomplete_percent = maybe(random, 1, 30);
    draw_callers(nature, random);
}

static void draw_transactions(struct cluster_nature *nature, struct random *random)
{
    nature->list_count = nature->shard_count * sim__cluster_between(random, 1, 2);
    if (nature->caller_count == 0) {
        draw_callers(nature, random);
        nature->caller_count = nature->caller_count == 0 ? 2 : nature->caller_count;
        nature->call_count = sim__cluster_between(random, 20, 500);
    }
    nature->transaction_percent = sim__cluster_between(random, 10, 80);
    nature->watch_percent = maybe(random, 5, 80);
    nature->move_percent = maybe(random, 10, 70);
    nature->evaluate_percent = maybe(random, 10, 70);
    nature->transaction_deadline_ms = sim__cluster_between(random, 100, 4000);
    nature->prepare_timeout_ms = sim__cluster_between(random, 20, 1500);
    nature->recovery_age_ms = sim__cluster_between(random, 50, 3000);
    nature->recovery_look_ms = sim__cluster_between(random, 10, 1000);
    nature->aimed_per_mille = maybe(random, 1, 20);
}

/* In one life of four the data are divided. Drawn apart, so that other lives are as they were. */
static void draw_shards(struct cluster *cluster)
{
    struct random random;
    random_init(&random, cluster->options.seed ^ 0x736c6f7473);
    bool is_divided = random_chance(&random, 1, 4);
    cluster->nature.shard_count =
        is_divided ? 2 + (uint32_t)random_below(&random, CLUSTER_FOUNDED_COUNT_MAX - 1) : 1;
    cluster->shard_count = cluster->nature.shard_count;
    slots_divide(&cluster->slots, cluster->nature.shard_count);
    if (is_divided) {
        draw_transactions(&cluster->nature, &random);
    }
}

/* In one life of four a snapshot has many pieces; a store's flush may find the disk full. */
static void draw_snapshots(struct cluster *cluster)
{
    struct cluster_nature *nature = &cluster->nature;
    struct random random;
    random_init(&random, cluster->options.seed ^ 0x706965636573);
    nature->piece_size_bytes =
        random_chance(&random, 1, 4) ? sim__cluster_between(&random, 50, 3000) : 0;
    nature->faults.full_percent =
        random_chance(&random, 1, 4) ? sim__cluster_between(&random, 1, 50) : 0;
}

/* In one life of three callers read what may be stale. */
static void draw_stale(struct cluster *cluster)
{
    struct cluster_nature *nature = &cluster->nature;
    struct random random;
    random_init(&random, cluster->options.seed ^ 0x7374616c65);
    if (!random_chance(&random, 1, 3)) {
        return;
    }
    nature->stale_percent = sim__cluster_between(&random, 10, 100);
    if (nature->caller_count == 0) {
        draw_callers(nature, &random);
        nature->caller_count = nature->caller_count == 0 ? 2 : nature->caller_count;
        nature->call_count = sim__cluster_between(&random, 20, 1500);
    }
}

/* In one life of three entries answer before they are executed whole: there, replies of a few bytes are many. In one
 * of four they are too many for those who asked through another node, when others wait to be sent there. */
static void draw_early(struct cluster *cluster)
{
    struct random random;
    random_init(&random, cluster->options.seed ^ 0x6561726c79);
    cluster->nature.early_size_bytes =
        random_chance(&random, 1, 3) ? sim__cluster_between(&random, 1, 300) : 0;
    cluster->nature.reply_size_bytes =
        random_chance(&random, 1, 4) ? sim__cluster_between(&random, 1, 1000) : 0;
}

/* In one life of two entries leave memory, wherever a few wait to be applied. That some wait, more than a few
 * now and then, is so where a store is slow. */
static void draw_waiting(struct cluster *cluster)
{
    struct random random;
    random_init(&random, cluster->options.seed ^ 0x77616974);
    if (random_chance(&random, 1, 2)) {
        cluster->nature.waiting_size_bytes = sim__cluster_between(&random, 1, 2000);
        cluster->nature.store_times = sim__cluster_between(&random, 1, 60);
        cluster->nature.store_row_count = sim__cluster_between(&random, 1, 3);
    }
}

/* ---- Settings -------------------------------------------------------------------------------- */

#define SETTING(member) SIM__SETTING(struct cluster_nature, member)

static const struct sim__setting settings[] = {
    SETTING(node_count),
    SETTING(shard_count),
    SETTING(does_start_whole),
    SETTING(client_count),
    SETTING(key_count),
    SETTING(request_count),
    SETTING(caller_count),
    SETTING(call_count),
    SETTING(burst_count_max),
    SETTING(stale_percent),
    SETTING(deadline_ms),
    SETTING(silence_ms),
    SETTING(held_size_bytes),
    SETTING(guest_size_bytes),
    SETTING(reply_size_bytes),
    SETTING(think_us),
    SETTING(retry_us),
    SETTING(impatience_us),
    SETTING(disk_us),
    SETTING(network_us),
    SETTING(election_timeout_ms),
    SETTING(quiet_after_ms),
    SETTING(do_beats_gather),
    SETTING(are_beats_aligned),
    SETTING(do_beats_gather),
    SETTING(are_beats_aligned),
    SETTING(segment_size_bytes),
    SETTING(store_row_count),
    SETTING(store_flush_us),
    SETTING(recent_size_bytes),
    SETTING(window_size_bytes),
    SETTING(piece_size_bytes),
    SETTING(early_size_bytes),
    SETTING(waiting_size_bytes),
    SETTING(store_times),
    SETTING(floor_delay_ms),
    SETTING(value_size_max),
    SETTING(kill_every_us),
    SETTING(power_percent),
    SETTING(stay_down_us),
    SETTING(blackout_every_us),
    SETTING(pause_every_us),
    SETTING(partition_every_us),
    SETTING(break_every_us),
    SETTING(slow_disk_every_us),
    SETTING(full_every_us),
    SETTING(flush_error_every_us),
    SETTING(damage_every_us),
    SETTING(does_cache_lie),
    SETTING(does_directory_reorder),
    SETTING(configure_every_us),
    SETTING(transfer_every_us),
    SETTING(wall_jump_every_us),
    SETTING(split_every_us),
    SETTING(conducting.pace),
    SETTING(conducting.does_begin_alone),
    SETTING(conducting.replica_count),
    SETTING(conducting.grace_ms),
    SETTING(conducting.wish_every_us),
    SETTING(conducting.office_every_us),
    SETTING(conducting.split_size_bytes),
    SETTING(conducting.split_load_per_s),
    SETTING(conducting.slot_load),
    SETTING(conducting.hot_slot),
    SETTING(conducting.hot_load),
    SETTING(conducting.zone_count),
    SETTING(conducting.capacity_mib),
    SETTING(conducting.tight_every_us),
    SETTING(upgrade_every_us),
    SETTING(map_us),
    SETTING(clock_rate_percent),
    SETTING(transaction_percent),
    SETTING(watch_percent),
    SETTING(move_percent),
    SETTING(evaluate_percent),
    SETTING(transaction_deadline_ms),
    SETTING(prepare_timeout_ms),
    SETTING(recovery_age_ms),
    SETTING(recovery_look_ms),
    SETTING(aimed_per_mille),
    SETTING(faults.busy_percent),
    SETTING(faults.incomplete_percent),
    SETTING(faults.full_percent),
};

enum { SETTING_COUNT = sizeof settings / sizeof settings[0] };

static uint32_t within(uint32_t value, uint32_t least, uint32_t most)
{
    return value < least ? least : value > most ? most : value;
}

/* What one setting says of others. There may be fewer than were drawn, not more: what goes with them was
 * drawn, too. */
static void make_consistent(struct cluster *cluster, const struct cluster_nature *drawn)
{
    struct cluster_nature *nature = &cluster->nature;
    nature->node_count = within(nature->node_count, 1, drawn->node_count);
    nature->shard_count = within(nature->shard_count, 1, drawn->shard_count);
    nature->client_count = within(nature->client_count, 1, drawn->client_count);
    nature->key_count = within(nature->key_count, 1, drawn->key_count);
    nature->request_count = within(nature->request_count, 1, drawn->request_count);
    nature->caller_count = within(nature->caller_count, 0, drawn->caller_count);
    nature->call_count =
        nature->caller_count == 0 ? 0 : within(nature->call_count, 1, drawn->call_count);
    nature->stale_percent = nature->caller_count == 0 ? 0 : nature->stale_percent;
    bool has_transactions =
        nature->caller_count > 0 && nature->shard_count > 1 && drawn->list_count > 0;
    nature->list_count = has_transactions ? nature->shard_count : 0;
    nature->transaction_percent = has_transactions ? nature->transaction_percent : 0;
    const struct cluster_conducting *conducting = &nature->conducting;
    bool has_conductors = conducting->pace > 0;
    nature->does_split =
        nature->split_every_us > 0 ||
        (has_conductors && (conducting->split_size_bytes > 0 || conducting->split_load_per_s > 0));
    nature->does_start_whole |= /* Nobody makes it whole. */
        nature->configure_every_us == 0 && !has_conductors;
    cluster->older &= nature->upgrade_every_us == 0 ? 0 : (1u << nature->node_count) - 1;
    cluster->shard_count = nature->shard_count;
    slots_divide(&cluster->slots, nature->shard_count);
}

int sim__cluster_draw(struct cluster *cluster, struct error *error)
{
    const struct sim_options *options = &cluster->options;
    random_init(&cluster->random, options->seed);
    draw_most(cluster);
    draw_shards(cluster);
    draw_snapshots(cluster);
    sim__cluster_split_draw(cluster);
    sim__cluster_office_draw(cluster);
    sim__cluster_gossip_draw(cluster);
    sim__cluster_beats_draw(cluster);
    sim__cluster_versions_draw(cluster);
    draw_stale(cluster);
    draw_early(cluster);
    draw_waiting(cluster);
    uint64_t stream = sim__stream_seed(options);
    random_init(&cluster->disk_random, stream ^ 0x5eed);
    if (options->stream != 0) {
        random_init(&cluster->random, stream);
    }
    const struct cluster_nature drawn = cluster->nature;
    int status =
        sim__settings_apply(settings, SETTING_COUNT, &cluster->nature, options->settings, error);
    if (status == 0 && options->settings != NULL) {
        make_consistent(cluster, &drawn);
    }
    return status;
}

void sim__cluster_print_nature(const struct cluster *cluster, FILE *file)
{
    sim__settings_print(settings, SETTING_COUNT, &cluster->nature, file);
}

int sim_cluster_show_nature(const struct sim_options *options, FILE *file, struct error *error)
{
    struct cluster *cluster = memory_allocate_zeroed(1, sizeof *cluster);
    cluster->options = *options;
    int status = sim__cluster_draw(cluster, error);
    if (status == 0 && file != NULL) {
        sim__cluster_print_nature(cluster, file);
    }
    sim__cluster_maps_destroy(cluster);
    memory_free(cluster);
    return status;
}
