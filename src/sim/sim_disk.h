/* SPDX-License-Identifier: Apache-2.0 */
/* Names on the simulated disk, for sim_disk.c and sim_directory.c. */
#ifndef SIM_SIM_DISK_H
#define SIM_SIM_DISK_H

#include "sim/sim_internal.h"

#define SIM__NAME_SIZE_MAX 64

struct sim__inode; /* A file's content; sim_disk.c knows. */

struct sim__entry {
    char name[SIM__NAME_SIZE_MAX];
    struct sim__inode *inode;
};

struct sim__directory {
    struct sim__entry *entries; /* In ascending order of name. */
    uint32_t count;
    uint32_t capacity;
};

enum sim__change_kind { SIM__CHANGE_LINK, SIM__CHANGE_RENAME, SIM__CHANGE_REMOVE };

struct sim__change {
    enum sim__change_kind kind;
    char name[SIM__NAME_SIZE_MAX];
    char target[SIM__NAME_SIZE_MAX];
    struct sim__inode *inode;
};

struct sim__inode *sim__directory_get(const struct sim__directory *directory, const char *name);
bool sim__directory_has(const struct sim__directory *directory, const struct sim__inode *inode);
void sim__directory_put(struct sim__directory *directory, const char *name,
                        struct sim__inode *inode);
/* Make a change, or, where what it changes is not there, nothing. */
void sim__directory_apply(struct sim__directory *directory, const struct sim__change *change);
void sim__directory_copy(struct sim__directory *target, const struct sim__directory *source);
void sim__directory_deinit(struct sim__directory *directory);
void sim__copy_name(char *target, const char *source);

#endif
