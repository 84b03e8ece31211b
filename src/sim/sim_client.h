/* SPDX-License-Identifier: Apache-2.0 */
/* Commands that clients make, for sim_client.c and sim_command.c. */
#ifndef SIM_SIM_CLIENT_H
#define SIM_SIM_CLIENT_H

#include "sim/sim_internal.h"

#define SIM__ARGUMENT_COUNT_MAX 160

/* A command with arguments of its own. */
struct sim__command {
    const struct kv_command *known;
    struct bytes arguments[SIM__ARGUMENT_COUNT_MAX];
    uint32_t count;
};

void sim__command_deinit(struct sim__command *command);
void sim__command_add_text(struct sim__command *command, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* One of the keys k0, k1, … */
void sim__command_add_key(struct sim *sim, struct sim__command *command);
/* Any command, as the nature of the run has it. */
void sim__command_make(struct sim *sim, struct sim__command *command, uint32_t client);
/* One whose reply has a defined order. */
void sim__command_make_for_transaction(struct sim *sim, struct sim__command *command,
                                       uint32_t client);

void sim__trace_answer(struct sim *sim, uint32_t client, const struct kv_command *known,
                       const struct sim__command *command, struct bytes reply);

#endif
