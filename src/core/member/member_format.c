/* SPDX-License-Identifier: Apache-2.0 */
/* Messages as bytes; the table is docs/formats/member.md. Integers are little-endian.
 *
 * Header                                       Record
 *   0  1  version, 1                             0   1  size of the record
 *   1  1  kind                                   1   1  state
 *   2  1  size of the header                     2   1  flags: 1 fresh, 2 has meta
 *   3  1  number of records                      3   1  number of accusers
 *   4  4  sequence, or first node id             4   4  node id
 *   8  4  node probed, or last node id           8   8  incarnation
 *  12  2  limit                                 16   8  revision
 *  14  2  zero                                  24  4n  accusers
 *  16  8  incarnation of the sender
 *                                              Meta, behind the accusers
 *                                                0   8  boot id
 *                                                8   4  version of the software
 *                                               12   4  conditions
 *                                               16   8  capacity in bytes
 *                                               24   8  used bytes
 *                                               32   4  processor, permille
 *                                               36   4  memory, permille
 *                                               40   4  requests per second
 *                                               44   4  shards
 *                                               48   4  leaders
 *                                               52   1  size of the address
 *                                               53   1  size of the zone
 *                                               54      address, zone
 *
 * The header and a record say their size, so that a later release may lengthen them: what is
 * behind the known part is skipped, and so are unknown flags. */
#include "base/assert/assert.h"
#include "base/endian/endian.h"
#include "core/member/member_internal.h"

enum { VERSION = 1, FLAG_FRESH = 1, FLAG_META = 2 };

/* Addresses and zones get into logs and resolvers: visible ASCII only. */
static bool is_visible(struct bytes text)
{
    for (size_t i = 0; i < text.size_bytes; i++) {
        if (text.data[i] <= ' ' || text.data[i] > '~') {
            return false;
        }
    }
    return true;
}

static bool decode_meta(struct bytes bytes, struct member_meta *meta)
{
    if (bytes.size_bytes < MEMBER__META_SIZE_MIN) {
        return false;
    }
    const uint8_t *data = bytes.data;
    uint8_t address_size_bytes = data[52];
    uint8_t zone_size_bytes = data[53];
    if (address_size_bytes > MEMBER_ADDRESS_SIZE_MAX || zone_size_bytes > MEMBER_ZONE_SIZE_MAX ||
        bytes.size_bytes < (size_t)MEMBER__META_SIZE_MIN + address_size_bytes + zone_size_bytes) {
        return false;
    }
    struct bytes address = bytes_make(data + MEMBER__META_SIZE_MIN, address_size_bytes);
    struct bytes zone = bytes_make(address.data + address_size_bytes, zone_size_bytes);
    if (!is_visible(address) || !is_visible(zone)) {
        return false;
    }
    *meta = (struct member_meta){
        .boot_id = endian_get_u64_le(data),
        .version = endian_get_u32_le(data + 8),
        .load =
            {
                .conditions = endian_get_u32_le(data + 12),
                .capacity_bytes = endian_get_u64_le(data + 16),
                .used_bytes = endian_get_u64_le(data + 24),
                .processor_permille = endian_get_u32_le(data + 32),
                .memory_permille = endian_get_u32_le(data + 36),
                .requests_per_s = endian_get_u32_le(data + 40),
                .shard_count = endian_get_u32_le(data + 44),
                .leader_count = endian_get_u32_le(data + 48),
            },
    };
    int status = member_meta_set_address(meta, address);
    ASSERT(status == 0);
    status = member_meta_set_zone(meta, zone);
    ASSERT(status == 0);
    return true;
}

static bool decode_record(struct bytes bytes, struct member__record *record)
{
    ASSERT(bytes.size_bytes >= MEMBER__RECORD_SIZE_MIN);
    const uint8_t *data = bytes.data;
    uint8_t state = data[1];
    uint8_t flags = data[2];
    uint8_t accuser_count = data[3];
    size_t known_bytes = MEMBER__RECORD_SIZE_MIN + (size_t)accuser_count * 4;
    if (state > MEMBER_STATE_LEFT || accuser_count > MEMBER__ACCUSER_COUNT_MAX ||
        known_bytes > bytes.size_bytes) {
        return false;
    }
    record->state = (enum member_state)state;
    record->is_fresh = (flags & FLAG_FRESH) != 0;
    record->has_meta = (flags & FLAG_META) != 0;
    record->accuser_count = accuser_count;
    record->node = endian_get_u32_le(data + 4);
    record->incarnation = endian_get_u64_le(data + 8);
    record->revision = endian_get_u64_le(data + 16);
    if (record->node == 0 || record->incarnation == 0 ||
        record->incarnation > MEMBER_INCARNATION_MAX || record->revision > MEMBER_INCARNATION_MAX) {
        return false;
    }
    for (uint8_t i = 0; i < accuser_count; i++) {
        record->accusers[i] = endian_get_u32_le(data + MEMBER__RECORD_SIZE_MIN + 4 * i);
        if (record->accusers[i] == 0) {
            return false;
        }
    }
    if (!record->has_meta) {
        return true;
    }
    return record->revision != 0 &&
           decode_meta(bytes_make(data + known_bytes, bytes.size_bytes - known_bytes),
                       &record->meta);
}

static bool decode_header(struct bytes bytes, struct member__message *message)
{
    if (bytes.size_bytes < MEMBER__HEADER_SIZE || bytes.size_bytes > MEMBER_MESSAGE_SIZE_MAX) {
        return false;
    }
    const uint8_t *data = bytes.data;
    uint8_t kind = data[1];
    uint8_t header_size_bytes = data[2];
    if (data[0] != VERSION || kind < MEMBER__KIND_PING || kind > MEMBER__KIND_SYNC_REPLY ||
        header_size_bytes < MEMBER__HEADER_SIZE || header_size_bytes > bytes.size_bytes) {
        return false;
    }
    *message = (struct member__message){
        .kind = (enum member__kind)kind,
        .record_count = data[3],
        .sequence = endian_get_u32_le(data + 4),
        .subject = endian_get_u32_le(data + 8),
        .limit = endian_get_u16_le(data + 12),
        .incarnation = endian_get_u64_le(data + 16),
    };
    return message->record_count <= MEMBER__RECORD_COUNT_MAX && message->incarnation > 0 &&
           message->incarnation <= MEMBER_INCARNATION_MAX;
}

int member__decode(struct bytes bytes, struct member__message *message,
                   struct member__record *records)
{
    if (!decode_header(bytes, message)) {
        return ERROR_PROTOCOL;
    }
    size_t offset = bytes.data[2];
    for (uint8_t i = 0; i < message->record_count; i++) {
        if (offset == bytes.size_bytes) {
            return ERROR_PROTOCOL;
        }
        size_t size_bytes = bytes.data[offset];
        if (size_bytes < MEMBER__RECORD_SIZE_MIN || size_bytes > bytes.size_bytes - offset ||
            !decode_record(bytes_make(bytes.data + offset, size_bytes), &records[i])) {
            return ERROR_PROTOCOL;
        }
        offset += size_bytes;
    }
    return offset == bytes.size_bytes ? 0 : ERROR_PROTOCOL;
}

void member__build_start(struct member__builder *builder, uint8_t *data)
{
    *builder = (struct member__builder){.data = data, .size_bytes = MEMBER__HEADER_SIZE};
}

static void encode_meta(uint8_t *data, const struct member_meta *meta)
{
    endian_put_u64_le(data, meta->boot_id);
    endian_put_u32_le(data + 8, meta->version);
    endian_put_u32_le(data + 12, meta->load.conditions);
    endian_put_u64_le(data + 16, meta->load.capacity_bytes);
    endian_put_u64_le(data + 24, meta->load.used_bytes);
    endian_put_u32_le(data + 32, meta->load.processor_permille);
    endian_put_u32_le(data + 36, meta->load.memory_permille);
    endian_put_u32_le(data + 40, meta->load.requests_per_s);
    endian_put_u32_le(data + 44, meta->load.shard_count);
    endian_put_u32_le(data + 48, meta->load.leader_count);
    data[52] = meta->address_size_bytes;
    data[53] = meta->zone_size_bytes;
    memcpy(data + MEMBER__META_SIZE_MIN, meta->address, meta->address_size_bytes);
    memcpy(data + MEMBER__META_SIZE_MIN + meta->address_size_bytes, meta->zone,
           meta->zone_size_bytes);
}

bool member__build_record(struct member__builder *builder, const struct member__record *record)
{
    ASSERT(record->node != 0 && record->incarnation != 0);
    ASSERT_IF(record->has_meta, record->revision != 0);
    size_t meta_offset = MEMBER__RECORD_SIZE_MIN + (size_t)record->accuser_count * 4;
    size_t size_bytes = meta_offset;
    if (record->has_meta) {
        size_bytes += (size_t)MEMBER__META_SIZE_MIN + record->meta.address_size_bytes +
                      record->meta.zone_size_bytes;
    }
    ASSERT(size_bytes <= MEMBER__RECORD_SIZE_MAX);
    if (size_bytes > MEMBER_MESSAGE_SIZE_MAX - builder->size_bytes) {
        return false;
    }
    uint8_t *data = builder->data + builder->size_bytes;
    data[0] = (uint8_t)size_bytes;
    data[1] = (uint8_t)record->state;
    data[2] = (uint8_t)((record->is_fresh ? FLAG_FRESH : 0) | (record->has_meta ? FLAG_META : 0));
    data[3] = record->accuser_count;
    endian_put_u32_le(data + 4, record->node);
    endian_put_u64_le(data + 8, record->incarnation);
    endian_put_u64_le(data + 16, record->revision);
    for (uint8_t i = 0; i < record->accuser_count; i++) {
        endian_put_u32_le(data + MEMBER__RECORD_SIZE_MIN + 4 * i, record->accusers[i]);
    }
    if (record->has_meta) {
        encode_meta(data + meta_offset, &record->meta);
    }
    builder->size_bytes += size_bytes;
    builder->record_count++;
    return true;
}

struct bytes member__build_end(struct member__builder *builder,
                               const struct member__message *message)
{
    ASSERT(message->incarnation > 0 && message->incarnation <= MEMBER_INCARNATION_MAX);
    uint8_t *data = builder->data;
    data[0] = VERSION;
    data[1] = (uint8_t)message->kind;
    data[2] = MEMBER__HEADER_SIZE;
    data[3] = builder->record_count;
    endian_put_u32_le(data + 4, message->sequence);
    endian_put_u32_le(data + 8, message->subject);
    endian_put_u16_le(data + 12, message->limit);
    endian_put_u16_le(data + 14, 0);
    endian_put_u64_le(data + 16, message->incarnation);
    return bytes_make(data, builder->size_bytes); /* I6: build_record() refused anything longer. */
}
