/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/sim_settings.h"

#include <inttypes.h>
#include <string.h>

#include "base/assert/assert.h"
#include "base/bytes/bytes.h"
#include "base/number/number.h"

static const struct sim__setting *find(const struct sim__setting *settings, uint32_t count,
                                       struct bytes name)
{
    for (uint32_t i = 0; i < count; i++) {
        if (bytes_equal(bytes_of_text(settings[i].name), name)) {
            return &settings[i];
        }
    }
    return NULL;
}

static uint64_t greatest(const struct sim__setting *setting)
{
    return setting->size_bytes == sizeof(bool)       ? 1
           : setting->size_bytes == sizeof(uint32_t) ? UINT32_MAX
                                                     : UINT64_MAX;
}

static void set(const struct sim__setting *setting, uint8_t *nature, uint64_t value)
{
    uint8_t *place = nature + setting->offset;
    uint32_t half = (uint32_t)value;
    bool flag = value != 0;
    switch (setting->size_bytes) {
    case sizeof flag:
        memcpy(place, &flag, sizeof flag);
        break;
    case sizeof half:
        memcpy(place, &half, sizeof half);
        break;
    default:
        ASSERT(setting->size_bytes == sizeof value);
        memcpy(place, &value, sizeof value);
        break;
    }
}

static uint64_t get(const struct sim__setting *setting, const uint8_t *nature)
{
    const uint8_t *place = nature + setting->offset;
    uint64_t value = 0;
    memcpy(&value, place, setting->size_bytes); /* Little-endian, as all that we run on. */
    return value;
}

/* The next of `rest`; with no nature, it is only looked at. */
static int apply_one(const struct sim__setting *settings, uint32_t count, void *nature,
                     struct bytes *rest, struct error *error)
{
    const uint8_t *comma = memchr(rest->data, ',', rest->size_bytes);
    size_t size = comma != NULL ? (size_t)(comma - rest->data) : rest->size_bytes;
    struct bytes one = bytes_make(rest->data, size);
    size_t used = comma != NULL ? size + 1 : size;
    *rest = bytes_make(rest->data + used, rest->size_bytes - used);
    const uint8_t *equals = memchr(one.data, '=', one.size_bytes);
    size_t name_size = equals != NULL ? (size_t)(equals - one.data) : one.size_bytes;
    const struct sim__setting *setting = find(settings, count, bytes_make(one.data, name_size));
    if (setting == NULL) {
        return error_say(error, -EINVAL,
                         "there is nothing called %.*s; --nature lists what there is",
                         (int)name_size, (const char *)one.data);
    }
    uint64_t value = 0;
    if (equals == NULL ||
        !number_parse_unsigned(bytes_make(equals + 1, one.size_bytes - name_size - 1), &value) ||
        value > greatest(setting)) {
        return error_say(error, -EINVAL, "%s needs a number up to %" PRIu64, setting->name,
                         greatest(setting));
    }
    if (nature != NULL) {
        set(setting, nature, value);
    }
    return 0;
}

int sim__settings_apply(const struct sim__setting *settings, uint32_t count, void *nature,
                        const char *text, struct error *error)
{
    if (text == NULL) {
        return 0;
    }
    int status = 0;
    struct bytes rest = bytes_of_text(text);
    while (rest.size_bytes > 0 && status == 0) {
        status = apply_one(settings, count, NULL, &rest, error);
    }
    rest = bytes_of_text(text);
    while (rest.size_bytes > 0 && status == 0) {
        status = apply_one(settings, count, nature, &rest, error);
    }
    return status;
}

void sim__settings_print(const struct sim__setting *settings, uint32_t count, const void *nature,
                         FILE *file)
{
    for (uint32_t i = 0; i < count; i++) {
        (void)fprintf(file, "%s=%" PRIu64 "\n", settings[i].name, get(&settings[i], nature));
    }
}

uint64_t sim__stream_seed(const struct sim_options *options)
{
    /* Steele and others' golden gamma: streams of neighbouring seeds are not each other's. */
    return options->seed + options->stream * 0x9e3779b97f4a7c15u;
}
