/* SPDX-License-Identifier: Apache-2.0 */
/* The simulated disk keeps what was flushed and nothing else for certain. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "sim/sim_internal.h"

enum { ROUND_COUNT = 200 };

struct world {
    struct random random;
    struct sim__disk *disk;
    struct env_files files;
    bool is_dead;
};

static bool touch(void *context, const char *operation)
{
    return !((struct world *)context)->is_dead;
}

static void set_up(struct world *world, uint64_t seed, uint64_t capacity_bytes)
{
    *world = (struct world){0};
    random_init(&world->random, seed);
    struct sim__disk_options options = {
        .capacity_bytes = capacity_bytes,
        .does_directory_reorder = seed % 2 == 0,
        .does_cache_lie = seed % 3 == 0,
        .touch = touch,
        .context = world,
    };
    world->disk = sim__disk_create(&options, &world->random);
    world->files = sim__disk_interface(world->disk);
}

static struct env_file *open_file(struct world *world, const char *name, unsigned flags)
{
    struct env_file *file = NULL;
    assert_int_equal(world->files.ops->open(world->disk, name, flags, &file, NULL), 0);
    return file;
}

static void close_file(struct world *world, struct env_file *file)
{
    world->files.ops->close(world->disk, file);
}

static int write_fill(struct world *world, struct env_file *file, uint64_t offset, int byte,
                      size_t size_bytes)
{
    uint8_t content[4096];
    memset(content, byte, size_bytes);
    struct bytes piece = bytes_make(content, size_bytes);
    return world->files.ops->write(world->disk, file, offset, &piece, 1, NULL);
}

static size_t read_all(struct world *world, struct env_file *file, uint8_t *content,
                       size_t size_bytes)
{
    size_t read_bytes = 0;
    assert_int_equal(
        world->files.ops->read(world->disk, file, 0, content, size_bytes, &read_bytes, NULL), 0);
    return read_bytes;
}

static int flush(struct world *world, struct env_file *file)
{
    return world->files.ops->flush(world->disk, file, NULL);
}

static void flush_directory(struct world *world)
{
    assert_int_equal(world->files.ops->flush_directory(world->disk, NULL), 0);
}

/* What was flushed is there after a power loss, whatever was written over other parts. */
static void flushed_bytes_survive(void **state)
{
    for (uint64_t seed = 1; seed <= ROUND_COUNT; seed++) {
        struct world world;
        set_up(&world, seed, 1 << 20);
        struct env_file *file = open_file(&world, "a", ENV_FILE_CREATE);
        assert_int_equal(write_fill(&world, file, 0, 'a', 1024), 0);
        assert_int_equal(flush(&world, file), 0);
        flush_directory(&world);
        assert_int_equal(write_fill(&world, file, 1024, 'b', 1024), 0);
        close_file(&world, file);
        sim__disk_lose_power(world.disk);
        file = open_file(&world, "a", ENV_FILE_READ_ONLY);
        uint8_t content[4096];
        assert_true(read_all(&world, file, content, sizeof content) >= 1024);
        for (uint32_t i = 0; i < 1024; i++) {
            assert_int_equal(content[i], 'a');
        }
        close_file(&world, file);
        sim__disk_destroy(world.disk);
    }
}

/* Unflushed sectors are kept or lost one by one, never mixed within, and over many seeds every case
 * occurs: all, none, a part, and a later one without an earlier one. */
static void unflushed_sectors_are_lost_one_by_one(void **state)
{
    uint32_t seen[4] = {0};
    for (uint64_t seed = 1; seed <= ROUND_COUNT; seed++) {
        struct world world;
        set_up(&world, seed, 1 << 20);
        struct env_file *file = open_file(&world, "a", ENV_FILE_CREATE);
        assert_int_equal(write_fill(&world, file, 0, 'a', 1024), 0);
        assert_int_equal(flush(&world, file), 0);
        flush_directory(&world);
        assert_int_equal(write_fill(&world, file, 0, 'b', 1024), 0);
        close_file(&world, file);
        sim__disk_lose_power(world.disk);
        file = open_file(&world, "a", ENV_FILE_READ_ONLY);
        uint8_t content[1024];
        assert_int_equal(read_all(&world, file, content, sizeof content), 1024);
        for (uint32_t sector = 0; sector < 2; sector++) {
            for (uint32_t i = 0; i < 512; i++) {
                assert_int_equal(content[sector * 512 + i], content[sector * 512]);
            }
        }
        seen[(content[0] == 'b') + 2 * (content[512] == 'b')]++;
        close_file(&world, file);
        sim__disk_destroy(world.disk);
    }
    for (uint32_t i = 0; i < 4; i++) {
        assert_true(seen[i] > 0);
    }
}

/* A killed process loses nothing that it wrote, and its later calls have no effect. */
static void a_kill_keeps_the_cache(void **state)
{
    struct world world;
    set_up(&world, 1, 1 << 20);
    struct env_file *file = open_file(&world, "a", ENV_FILE_CREATE);
    assert_int_equal(write_fill(&world, file, 0, 'a', 512), 0);
    world.is_dead = true;
    assert_int_equal(write_fill(&world, file, 0, 'b', 512), -EIO);
    close_file(&world, file);
    sim__disk_kill(world.disk);
    world.is_dead = false;
    file = open_file(&world, "a", 0);
    uint8_t content[512];
    assert_int_equal(read_all(&world, file, content, sizeof content), 512);
    assert_int_equal(content[0], 'a');
    close_file(&world, file);
    sim__disk_destroy(world.disk);
}

/* A name is there for certain only after the directory was flushed. */
static void names_need_a_flush_of_the_directory(void **state)
{
    uint32_t lost_count = 0;
    for (uint64_t seed = 1; seed <= ROUND_COUNT; seed++) {
        struct world world;
        set_up(&world, seed, 1 << 20);
        struct env_file *file = open_file(&world, "a", ENV_FILE_CREATE);
        assert_int_equal(write_fill(&world, file, 0, 'a', 512), 0);
        assert_int_equal(flush(&world, file), 0);
        close_file(&world, file);
        flush_directory(&world);
        assert_int_equal(world.files.ops->rename(world.disk, "a", "b", NULL), 0);
        sim__disk_lose_power(world.disk);
        struct env_file *old_name = NULL;
        struct env_file *new_name = NULL;
        int old_status = world.files.ops->open(world.disk, "a", 0, &old_name, NULL);
        int new_status = world.files.ops->open(world.disk, "b", 0, &new_name, NULL);
        assert_int_equal(old_status == 0, new_status == -ENOENT);
        assert_int_equal(old_status == -ENOENT, new_status == 0);
        lost_count += old_status == 0;
        close_file(&world, old_status == 0 ? old_name : new_name);
        sim__disk_destroy(world.disk);
    }
    assert_in_range(lost_count, 1, ROUND_COUNT - 1);
}

/* A flush fails once when told to; what it leaves behind is a part of what was written. */
static void a_flush_can_fail(void **state)
{
    struct world world;
    set_up(&world, 3, 1 << 20);
    struct env_file *file = open_file(&world, "a", ENV_FILE_CREATE);
    assert_int_equal(write_fill(&world, file, 0, 'a', 512), 0);
    sim__disk_fail_flush(world.disk, 1000000);
    assert_int_equal(flush(&world, file), -EIO);
    assert_int_equal(sim__disk_flush_error_count(world.disk), 1);
    assert_int_equal(flush(&world, file), 0);
    close_file(&world, file);
    sim__disk_destroy(world.disk);
}

/* A full disk refuses blocks that are not allocated yet, and only those. */
static void a_full_disk_refuses_new_blocks(void **state)
{
    struct world world;
    set_up(&world, 1, 8192);
    struct env_file *file = open_file(&world, "a", ENV_FILE_CREATE);
    assert_int_equal(world.files.ops->allocate(world.disk, file, 4096, NULL), 0);
    sim__disk_set_full(world.disk, true);
    assert_int_equal(write_fill(&world, file, 0, 'a', 4096), 0);
    assert_int_equal(world.files.ops->allocate(world.disk, file, 8192, NULL), -ENOSPC);
    sim__disk_set_full(world.disk, false);
    assert_int_equal(world.files.ops->allocate(world.disk, file, 8192, NULL), 0);
    assert_int_equal(world.files.ops->allocate(world.disk, file, 12288, NULL), -ENOSPC);
    close_file(&world, file);
    sim__disk_destroy(world.disk);
}

/* Damage hits only what two later rounds have followed, and can be undone. */
static void damage_spares_the_tail(void **state)
{
    struct world world;
    set_up(&world, 1, 1 << 20);
    struct env_file *file = open_file(&world, "a", ENV_FILE_CREATE);
    for (uint32_t round = 0; round < 3; round++) {
        assert_false(sim__disk_damage(world.disk, SIM__DAMAGE_ROT));
        assert_int_equal(write_fill(&world, file, round * 512, 'a', 512), 0);
        assert_int_equal(flush(&world, file), 0);
        sim__disk_next_round(world.disk);
    }
    flush_directory(&world);
    uint64_t before = sim__disk_hash(world.disk);
    assert_true(sim__disk_damage(world.disk, SIM__DAMAGE_ROT));
    assert_true(sim__disk_hash(world.disk) != before);
    uint8_t content[1536];
    assert_int_equal(read_all(&world, file, content, sizeof content), 1536);
    for (uint32_t i = 512; i < 1536; i++) {
        assert_int_equal(content[i], 'a');
    }
    sim__disk_repair(world.disk);
    assert_true(sim__disk_hash(world.disk) == before);
    close_file(&world, file);
    sim__disk_destroy(world.disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flushed_bytes_survive),
        cmocka_unit_test(unflushed_sectors_are_lost_one_by_one),
        cmocka_unit_test(a_kill_keeps_the_cache),
        cmocka_unit_test(names_need_a_flush_of_the_directory),
        cmocka_unit_test(a_flush_can_fail),
        cmocka_unit_test(a_full_disk_refuses_new_blocks),
        cmocka_unit_test(damage_spares_the_tail),
    };
    return cmocka_run_group_tests_name("sim_disk", tests, NULL, NULL);
}
