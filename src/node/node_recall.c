/* SPDX-License-Identifier: Apache-2.0 */
/* What the commands of the log found (core/recall), in two files of the data directory that take turns:
 * each begins anew, with a higher number, when the other has grown to its size. A start goes on in the
 * older one, so that what the newer one has is there until as much was noted again. Nothing of it is
 * flushed. While the node serves, the pool writes it, a group at a time; what is found meanwhile gathers
 * for the next. When something fails the rest of
 * that file is left out; a start then reads from the store what it would have known. */
#include <inttypes.h>
#include <stdio.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/number/number.h"
#include "core/recall/recall.h"
#include "node/node_recovery.h"

enum {
    FILE_COUNT = 2,
    /* A file has this part of the memory at most, because a start loads both: */
    MEMORY_SHARE = 64,
    FILE_SIZE_BYTES_MIN = 256 << 10,
    FILE_SIZE_BYTES_MAX = 16 << 20, /* What some million commands found. */
    /* What has gathered is written when it is so much: a few entries. */
    GROUP_SIZE_BYTES_MIN = 512,
    NAME_SIZE_BYTES = 16,
    /* Entries that the others know to be committed are executed after the start. */
    KEEP_MS = 60000,
};

struct node_recall {
    struct recall *recall;
    struct os_files *files; /* NULL: there is no directory. */
    struct node_shards *shards;
    uint64_t file_size_bytes_max;
    uint64_t forget_at_ms; /* 0: that is not known yet. */
    bool has_forgotten;
    bool is_disk_full; /* What room there is, the store needs. */

    /* Of whoever notes. */
    uint32_t place;      /* Of the file that is written: which of the two. */
    uint64_t number;     /* Its number. */
    uint64_t size_bytes; /* With what is on its way. */

    /* Of whoever writes: the pool while `is_writing`. */
    bool is_writing;
    struct os_work work;
    struct buffer group;
    uint32_t group_place;
    bool does_begin;       /* The file begins with the group. */
    struct env_file *file; /* NULL: something failed. */
    uint64_t written_bytes;
};

static void name_of(uint32_t place, char name[NAME_SIZE_BYTES])
{
    (void)snprintf(name, NAME_SIZE_BYTES, "recall-%" PRIu32, place);
}

/* ---- The start ------------------------------------------------------------------------------- */

static void read_file(struct node_recall *recall, uint32_t place, struct buffer *content)
{
    struct env_files files = os_files_env(recall->files);
    char name[NAME_SIZE_BYTES];
    name_of(place, name);
    struct env_file *file;
    uint64_t size_bytes;
    size_t read_bytes = 0;
    if (files.ops->open(files.context, name, ENV_FILE_READ_ONLY, &file, NULL) != 0) {
        return;
    }
    if (files.ops->size(files.context, file, &size_bytes, NULL) == 0 &&
        size_bytes <= 2 * recall->file_size_bytes_max &&
        files.ops->read(files.context, file, 0, buffer_extend(content, size_bytes), size_bytes,
                        &read_bytes, NULL) != 0) {
        read_bytes = 0;
    }
    content->size_bytes = read_bytes;
    files.ops->close(files.context, file);
}

static raft_index first_needed(void *context, wal_shard id)
{
    const struct node_shard *shard = node_shards_find(context, id);
    return shard != NULL ? shard_stored_index(shard->shard) + 1 : 1;
}

/* Both, the older one first; the next one takes its place. */
static void load_files(struct node_recall *recall)
{
    struct buffer contents[FILE_COUNT] = {{0}};
    uint64_t numbers[FILE_COUNT];
    for (uint32_t i = 0; i < FILE_COUNT; i++) {
        read_file(recall, i, &contents[i]);
        numbers[i] = recall_file_number(buffer_bytes(&contents[i]));
    }
    uint32_t older = numbers[0] <= numbers[1] ? 0 : 1;
    for (uint32_t i = 0; i < FILE_COUNT; i++) {
        uint32_t place = i == 0 ? older : 1 - older;
        (void)recall_load(recall->recall, buffer_bytes(&contents[place]), first_needed,
                          recall->shards);
        buffer_deinit(&contents[place]);
    }
    recall->place = older;
    recall->number = numbers[1 - older] + 1;
}

struct node_recall *node__recall_create(struct node_shards *shards)
{
    struct node_recall *created = memory_allocate_zeroed(1, sizeof *created);
    created->shards = shards;
    created->recall = recall_create();
    created->file_size_bytes_max = number_min(
        number_max(shards->options->memory_size_bytes / MEMORY_SHARE, FILE_SIZE_BYTES_MIN),
        FILE_SIZE_BYTES_MAX);
    if (os_files_create(&created->files, shards->options->data_directory, NULL) != 0) {
        created->files = NULL;
        return created;
    }
    load_files(created);
    return created;
}

static void close_file(struct node_recall *recall)
{
    if (recall->file != NULL) {
        struct env_files files = os_files_env(recall->files);
        files.ops->close(files.context, recall->file);
        recall->file = NULL;
    }
}

void node__recall_destroy(struct node_recall *recall)
{
    if (recall == NULL) {
        return;
    }
    if (recall->files != NULL) {
        close_file(recall);
        os_files_destroy(recall->files);
    }
    buffer_deinit(&recall->group);
    recall_destroy(recall->recall);
    memory_free(recall);
}

/* ---- Noting ---------------------------------------------------------------------------------- */

static void begin_file(struct node_recall *recall, uint32_t place)
{
    struct env_files files = os_files_env(recall->files);
    char name[NAME_SIZE_BYTES];
    name_of(place, name);
    close_file(recall);
    (void)files.ops->remove(files.context, name, NULL);
    recall->written_bytes = 0;
    if (files.ops->open(files.context, name, ENV_FILE_CREATE, &recall->file, NULL) != 0) {
        recall->file = NULL;
    }
}

static void write_group(struct node_recall *recall)
{
    if (recall->does_begin) {
        begin_file(recall, recall->group_place);
    }
    struct bytes bytes = buffer_bytes(&recall->group);
    if (recall->file != NULL) {
        struct env_files files = os_files_env(recall->files);
        int status =
            files.ops->write(files.context, recall->file, recall->written_bytes, &bytes, 1, NULL);
        recall->written_bytes += bytes.size_bytes;
        if (status != 0) {
            close_file(recall);
        }
    }
    buffer_clear(&recall->group);
}

static void run_write(struct os_work *work)
{
    write_group(CONTAINER_OF(work, struct node_recall, work));
}

static void write_is_done(struct os_work *work)
{
    CONTAINER_OF(work, struct node_recall, work)->is_writing = false;
}

static void take_group(struct node_recall *recall)
{
    struct node_shards *shards = recall->shards;
    recall->does_begin = recall->size_bytes == 0;
    recall->group_place = recall->place;
    recall_take(recall->recall, recall->number, &recall->group);
    recall->size_bytes += recall->group.size_bytes;
    if (recall->size_bytes >= recall->file_size_bytes_max) {
        recall->place = 1 - recall->place;
        recall->number++;
        recall->size_bytes = 0;
    }
    recall->work = (struct os_work){.run = run_write, .done = write_is_done};
    bool does_serve = shards->node_log != NULL && shards->pool != NULL;
    recall->is_writing =
        does_serve && os_pool_submit(shards->pool, shards->loop, &recall->work) == 0;
    if (!recall->is_writing) {
        write_group(recall);
    }
}

void node__note_found(void *context, const struct recall_entry *entry)
{
    struct node_recall *recall = ((struct node_shard *)context)->host->recall;
    if (recall == NULL || recall->files == NULL || recall->shards->stop_until_ms != 0 ||
        recall->is_disk_full) {
        return;
    }
    recall_note(recall->recall, entry);
    if (!recall->is_writing && recall_gathered_size_bytes(recall->recall) >= GROUP_SIZE_BYTES_MIN) {
        take_group(recall);
    }
}

bool node__recall_found(void *context, struct recall_entry *entry)
{
    struct node_recall *recall = ((struct node_shard *)context)->host->recall;
    return recall != NULL && recall_find(recall->recall, entry);
}

void node__recall_tick(struct node_recall *recall, uint64_t now_ms, bool is_disk_full)
{
    recall->is_disk_full = is_disk_full;
    if (recall->has_forgotten) {
        return;
    }
    if (recall->forget_at_ms == 0) {
        recall->forget_at_ms = now_ms + (recall->shards->is_lone ? 0 : KEEP_MS);
    }
    if (now_ms >= recall->forget_at_ms) {
        recall_forget(recall->recall);
        recall->has_forgotten = true;
    }
}
