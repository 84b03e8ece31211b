/* SPDX-License-Identifier: Apache-2.0 */
/* A directory of the simulated disk: an array of names in ascending order. */
#include <string.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "sim/sim_disk.h"

static uint32_t directory_find(const struct sim__directory *directory, const char *name,
                               bool *is_there)
{
    uint32_t i = 0;
    while (i < directory->count && strcmp(directory->entries[i].name, name) < 0) {
        i++;
    }
    *is_there = i < directory->count && strcmp(directory->entries[i].name, name) == 0;
    return i;
}

struct sim__inode *sim__directory_get(const struct sim__directory *directory, const char *name)
{
    bool is_there;
    uint32_t i = directory_find(directory, name, &is_there);
    return is_there ? directory->entries[i].inode : NULL;
}

void sim__copy_name(char *target, const char *source)
{
    size_t length = strlen(source);
    ASSERT(length < SIM__NAME_SIZE_MAX);
    memcpy(target, source, length + 1);
}

void sim__directory_put(struct sim__directory *directory, const char *name,
                        struct sim__inode *inode)
{
    bool is_there;
    uint32_t i = directory_find(directory, name, &is_there);
    if (!is_there) {
        if (directory->count == directory->capacity) {
            directory->capacity = directory->capacity == 0 ? 16 : directory->capacity * 2;
            directory->entries =
                memory_resize(directory->entries, directory->capacity * sizeof(struct sim__entry));
        }
        memmove(&directory->entries[i + 1], &directory->entries[i],
                (directory->count - i) * sizeof(struct sim__entry));
        directory->count++;
        sim__copy_name(directory->entries[i].name, name);
    }
    directory->entries[i].inode = inode;
}

static void directory_delete(struct sim__directory *directory, const char *name)
{
    bool is_there;
    uint32_t i = directory_find(directory, name, &is_there);
    if (is_there) {
        directory->count--;
        memmove(&directory->entries[i], &directory->entries[i + 1],
                (directory->count - i) * sizeof(struct sim__entry));
    }
}

void sim__directory_apply(struct sim__directory *directory, const struct sim__change *change)
{
    switch (change->kind) {
    case SIM__CHANGE_LINK:
        sim__directory_put(directory, change->name, change->inode);
        break;
    case SIM__CHANGE_RENAME:
        /* On a disk that lost the creation there is nothing to rename. */
        if (sim__directory_get(directory, change->name) == change->inode) {
            directory_delete(directory, change->name);
            sim__directory_put(directory, change->target, change->inode);
        }
        break;
    case SIM__CHANGE_REMOVE:
        directory_delete(directory, change->name);
        break;
    }
}

void sim__directory_copy(struct sim__directory *target, const struct sim__directory *source)
{
    target->count = 0;
    for (uint32_t i = 0; i < source->count; i++) {
        sim__directory_put(target, source->entries[i].name, source->entries[i].inode);
    }
}

bool sim__directory_has(const struct sim__directory *directory, const struct sim__inode *inode)
{
    for (uint32_t i = 0; i < directory->count; i++) {
        if (directory->entries[i].inode == inode) {
            return true;
        }
    }
    return false;
}

void sim__directory_deinit(struct sim__directory *directory)
{
    memory_free(directory->entries);
    *directory = (struct sim__directory){0};
}
