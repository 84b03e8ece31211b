/* SPDX-License-Identifier: Apache-2.0 */
#include "core/txn/txn.h"
#include "gateway/resp/resp_world.h"
#include "service/kv/kv.h"

bool world_execute_step(const struct shard_command *command, bool is_losing,
                        const struct reply *reply)
{
    struct kv_txn_opcodes opcodes = kv_txn_opcodes();
    struct txn_header header;
    bool is_wish = command->opcode == opcodes.decide || command->opcode == opcodes.finish;
    if (command->opcode == opcodes.prepare) {
        buffer_append_byte(reply->target, TXN_ANSWER_YES);
    } else if (command->opcode == opcodes.forget) {
        buffer_append_byte(reply->target, TXN_ANSWER_DONE);
    } else if (is_wish && txn_header_decode(command->arguments[0], &header)) {
        bool is_commit = header.outcome == TXN_COMMIT;
        if (is_losing && is_commit && command->opcode == opcodes.finish) {
            buffer_append_byte(reply->target, TXN_ANSWER_UNPREPARED);
            return true;
        }
        buffer_append_byte(reply->target, is_commit ? TXN_ANSWER_COMMITTED : TXN_ANSWER_ABORTED);
        if (is_commit && command->opcode == opcodes.finish) {
            buffer_append_byte(reply->target, 0);
        }
    }
    return is_wish || command->opcode == opcodes.prepare || command->opcode == opcodes.forget;
}
