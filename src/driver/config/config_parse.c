/* SPDX-License-Identifier: Apache-2.0 */
/* Values of the usual kinds. A reason continues the sentence `--memory: "12" …`. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/number/number.h"
#include "driver/config/config.h"

int config_parse_text(const struct config_option *option, const char *text, void *target,
                      struct error *error)
{
    size_t size_bytes = strlen(text) + 1;
    if (size_bytes > CONFIG_TEXT_SIZE) {
        return error_say(error, -EINVAL, "is longer than %d characters", CONFIG_TEXT_SIZE - 1);
    }
    memset(target, 0, CONFIG_TEXT_SIZE);
    memcpy(target, text, size_bytes);
    return 0;
}

static bool is_within(const struct config_option *option, uint64_t value)
{
    return value >= option->lowest && (option->largest == 0 || value <= option->largest);
}

int config_parse_number(const struct config_option *option, const char *text, void *target,
                        struct error *error)
{
    uint64_t value = 0;
    if (!number_parse_unsigned(bytes_of_text(text), &value)) {
        return error_say(error, -EINVAL, "is not a whole number");
    }
    if (!is_within(option, value)) {
        return error_say(error, -EINVAL, "is not between %" PRIu64 " and %" PRIu64, option->lowest,
                         option->largest);
    }
    memcpy(target, &value, sizeof value);
    return 0;
}

static const char *format_size(uint64_t size_bytes, char *text, size_t text_size)
{
    static const char *const units[] = {"", "kb", "mb", "gb", "tb"};
    size_t unit = 0;
    uint64_t count = size_bytes;
    while (count % 1024 == 0 && count > 0 && unit < 4) {
        count /= 1024;
        unit++;
    }
    (void)snprintf(text, text_size, "%" PRIu64 "%s", count, units[unit]);
    return text;
}

int config_parse_size(const struct config_option *option, const char *text, void *target,
                      struct error *error)
{
    uint64_t value = 0;
    char limit[32];
    if (!number_parse_size(bytes_of_text(text), &value)) {
        return error_say(error, -EINVAL, "is not a size, such as 64mb, 2gb or 1073741824");
    }
    if (!is_within(option, value)) {
        bool is_low = value < option->lowest;
        return error_say(
            error, -EINVAL, "is %s than %s", is_low ? "less" : "more",
            format_size(is_low ? option->lowest : option->largest, limit, sizeof limit));
    }
    memcpy(target, &value, sizeof value);
    return 0;
}

int config_parse_choice(const struct config_option *option, const char *text, void *target,
                        struct error *error)
{
    char list[160] = {0};
    size_t used = 0;
    for (int i = 0; option->choices[i] != NULL; i++) {
        if (strcmp(option->choices[i], text) == 0) {
            memcpy(target, &i, sizeof i);
            return 0;
        }
        int size = snprintf(list + used, sizeof list - used, "%s%s", i > 0 ? ", " : "",
                            option->choices[i]);
        used += size > 0 && (size_t)size < sizeof list - used ? (size_t)size : 0;
    }
    return error_say(error, -EINVAL, "is not one of: %s", list);
}

int config_parse_address(const struct config_option *option, const char *text, void *target,
                         struct error *error)
{
    struct os_address address = {0};
    struct error reason = {0};
    int status = os_address_parse(&address, text, &reason);
    if (status != 0) {
        return error_say(error, -EINVAL, "cannot be used: %s", reason.message);
    }
    memcpy(target, &address, sizeof address);
    return 0;
}

int config_parse_host(const struct config_option *option, const char *text, void *target,
                      struct error *error)
{
    char host[OS_HOST_SIZE];
    uint16_t port = 0;
    if (text[0] != '\0' && (!os_address_split(text, host, &port) || port == 0)) {
        return error_say(error, -EINVAL,
                         "is not HOST:PORT, such as db1.example.org:7380, 10.0.0.1:7380 or "
                         "[fd00::1]:7380");
    }
    return config_parse_text(option, text, target, error);
}

bool config_list_at(const char *list, uint32_t index, char *part)
{
    const char *start = list;
    for (uint32_t i = 0; i < index && start != NULL; i++) {
        start = strchr(start, ',');
        start = start != NULL ? start + 1 : NULL;
    }
    if (start == NULL || list[0] == '\0') {
        return false;
    }
    size_t size_bytes = strcspn(start, ",");
    if (size_bytes >= CONFIG_TEXT_SIZE) {
        return false;
    }
    memcpy(part, start, size_bytes);
    part[size_bytes] = '\0';
    return true;
}

int config_parse_hosts(const struct config_option *option, const char *text, void *target,
                       struct error *error)
{
    char checked[CONFIG_TEXT_SIZE];
    char part[CONFIG_TEXT_SIZE];
    for (uint32_t i = 0; config_list_at(text, i, part); i++) {
        int status = part[0] != '\0' ? config_parse_host(option, part, checked, error)
                                     : error_say(error, -EINVAL, "has an empty part");
        if (status != 0) {
            return status;
        }
    }
    return config_parse_text(option, text, target, error);
}

int config_parse_name(const struct config_option *option, const char *text, void *target,
                      struct error *error)
{
    for (const char *each = text; *each != '\0'; each++) {
        if (*each < '!' || *each > '~') {
            return error_say(error, -EINVAL,
                             "is not a name: letters, digits and signs of ASCII, "
                             "without blanks");
        }
    }
    if (strlen(text) > option->largest) {
        return error_say(error, -EINVAL, "is longer than %" PRIu64 " characters", option->largest);
    }
    return config_parse_text(option, text, target, error);
}
