/* SPDX-License-Identifier: Apache-2.0 */
/* HELLO and REFUSAL: Protocol Buffers, so that fields can be added. What comes out of here is plain
 * and checked; nobody else knows the library. */
#include <protobuf-c/protobuf-c.h>
#include <string.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "driver/wire/wire.pb-c.h"
#include "driver/wire/wire_internal.h"

/* The library's memory comes from where all memory comes from. */
static void *allocate(void *unused, size_t size_bytes)
{
    (void)unused;
    return memory_allocate(size_bytes > 0 ? size_bytes : 1);
}

static void release(void *unused, void *memory)
{
    (void)unused;
    memory_free(memory);
}

static ProtobufCAllocator allocator = {.alloc = allocate, .free = release};

void wire__text_copy(char *target, size_t size, const char *text)
{
    size_t length = strnlen(text, size - 1);
    memcpy(target, text, length);
    target[length] = '\0';
}

/* From outside, for people: what is not printable is shown as such. */
static void copy_printable(char *target, size_t size, const char *text)
{
    wire__text_copy(target, size, text);
    for (char *place = target; *place != '\0'; place++) {
        if (*place < ' ' || *place > '~') {
            *place = '?';
        }
    }
}

static void append_packed(struct buffer *target, const ProtobufCMessage *message)
{
    size_t size_bytes = protobuf_c_message_get_packed_size(message);
    ASSERT(size_bytes <= WIRE__MESSAGE_SIZE_BYTES_MAX);
    size_t packed_bytes = protobuf_c_message_pack(message, buffer_extend(target, size_bytes));
    ASSERT(packed_bytes == size_bytes);
}

void wire__hello_encode(struct buffer *target, const struct wire__hello *hello)
{
    struct wire__hello copy = *hello; /* The library wants texts that it could change. */
    Wire__Messages__Hello message = WIRE__MESSAGES__HELLO__INIT;
    message.cluster = copy.cluster;
    message.node_id = copy.node_id;
    message.boot_id = copy.boot_id;
    message.version_min = copy.version_min;
    message.version_max = copy.version_max;
    message.software = copy.software;
    append_packed(target, &message.base);
}

void wire__refusal_encode(struct buffer *target, const struct wire__refusal *refusal)
{
    struct wire__refusal copy = *refusal;
    Wire__Messages__Refusal message = WIRE__MESSAGES__REFUSAL__INIT;
    message.reason = copy.reason;
    message.text = copy.text;
    append_packed(target, &message.base);
}

bool wire__hello_decode(struct bytes input, struct wire__hello *hello)
{
    if (input.size_bytes > WIRE__MESSAGE_SIZE_BYTES_MAX) {
        return false;
    }
    Wire__Messages__Hello *message =
        wire__messages__hello__unpack(&allocator, input.size_bytes, input.data);
    if (message == NULL) {
        return false;
    }
    bool is_good = strlen(message->cluster) < sizeof hello->cluster && message->boot_id != 0 &&
                   message->version_min != 0 && message->version_min <= message->version_max;
    if (is_good) {
        *hello = (struct wire__hello){.node_id = message->node_id,
                                      .boot_id = message->boot_id,
                                      .version_min = message->version_min,
                                      .version_max = message->version_max};
        copy_printable(hello->cluster, sizeof hello->cluster, message->cluster);
        copy_printable(hello->software, sizeof hello->software, message->software);
    }
    wire__messages__hello__free_unpacked(message, &allocator);
    return is_good;
}

bool wire__refusal_decode(struct bytes input, struct wire__refusal *refusal)
{
    if (input.size_bytes > WIRE__MESSAGE_SIZE_BYTES_MAX) {
        return false;
    }
    Wire__Messages__Refusal *message =
        wire__messages__refusal__unpack(&allocator, input.size_bytes, input.data);
    if (message == NULL) {
        return false;
    }
    *refusal = (struct wire__refusal){.reason = message->reason};
    copy_printable(refusal->text, sizeof refusal->text, message->text);
    wire__messages__refusal__free_unpacked(message, &allocator);
    return true;
}

uint32_t wire__version_of(const struct wire__hello *left, const struct wire__hello *right)
{
    uint32_t highest =
        left->version_max < right->version_max ? left->version_max : right->version_max;
    return highest >= left->version_min && highest >= right->version_min ? highest : 0;
}
