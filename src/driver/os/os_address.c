/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "base/number/number.h"
#include "driver/os/os_internal.h"

socklen_t os__address_to_socket(const struct os_address *address, struct sockaddr_storage *target)
{
    memset(target, 0, sizeof *target);
    if (address->is_ipv6) {
        struct sockaddr_in6 *ipv6 = (struct sockaddr_in6 *)target;
        ipv6->sin6_family = AF_INET6;
        ipv6->sin6_port = htons(address->port);
        ipv6->sin6_scope_id = address->scope_id;
        memcpy(&ipv6->sin6_addr, address->bytes, sizeof ipv6->sin6_addr);
        return sizeof *ipv6;
    }
    struct sockaddr_in *ipv4 = (struct sockaddr_in *)target;
    ipv4->sin_family = AF_INET;
    ipv4->sin_port = htons(address->port);
    memcpy(&ipv4->sin_addr, address->bytes, sizeof ipv4->sin_addr);
    return sizeof *ipv4;
}

struct os_address os__address_from_socket(const struct sockaddr_storage *source)
{
    struct os_address address = {0};
    if (source->ss_family == AF_INET6) {
        const struct sockaddr_in6 *ipv6 = (const struct sockaddr_in6 *)source;
        address.is_ipv6 = true;
        address.port = ntohs(ipv6->sin6_port);
        address.scope_id = ipv6->sin6_scope_id;
        memcpy(address.bytes, &ipv6->sin6_addr, sizeof ipv6->sin6_addr);
    } else {
        const struct sockaddr_in *ipv4 = (const struct sockaddr_in *)source;
        address.port = ntohs(ipv4->sin_port);
        memcpy(address.bytes, &ipv4->sin_addr, sizeof ipv4->sin_addr);
    }
    return address;
}

bool os_address_split(const char *text, char *host, uint16_t *port)
{
    const char *colon = strrchr(text, ':');
    if (colon == NULL || colon == text) {
        return false;
    }
    const char *start = text;
    size_t size_bytes = (size_t)(colon - text);
    if (text[0] == '[') {
        if (colon[-1] != ']') {
            return false;
        }
        start++;
        size_bytes -= 2;
    } else if (memchr(text, ':', size_bytes) != NULL) {
        return false; /* IPv6 without brackets: which colon is the port's? */
    }
    uint64_t number = 0;
    if (size_bytes == 0 || size_bytes >= OS_HOST_SIZE ||
        !number_parse_unsigned(bytes_of_text(colon + 1), &number) || number > UINT16_MAX) {
        return false;
    }
    memcpy(host, start, size_bytes);
    host[size_bytes] = '\0';
    *port = (uint16_t)number;
    return true;
}

static int resolve(struct os_address *address, const char *host, const char *text,
                   struct error *error)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    int status = getaddrinfo(host, NULL, &hints, &found);
    if (status != 0) {
        return error_say(error, -EINVAL, "address %s: cannot find host \"%s\": %s", text, host,
                         gai_strerror(status));
    }
    const struct addrinfo *best = found;
    for (const struct addrinfo *each = found; each != NULL; each = each->ai_next) {
        if (each->ai_family == AF_INET) {
            best = each;
            break;
        }
    }
    struct sockaddr_storage storage = {0};
    memcpy(&storage, best->ai_addr, best->ai_addrlen);
    freeaddrinfo(found);
    *address = os__address_from_socket(&storage);
    return 0;
}

/* False: it is a name. */
static bool take_number(struct os_address *address, const char *host, uint16_t port)
{
    struct os_address parsed = {.port = port};
    if (inet_pton(AF_INET6, host, parsed.bytes) == 1) {
        parsed.is_ipv6 = true;
    } else if (inet_pton(AF_INET, host, parsed.bytes) != 1) {
        return false;
    }
    *address = parsed;
    return true;
}

bool os_address_parse_number(struct os_address *address, const char *text)
{
    char host[OS_HOST_SIZE];
    uint16_t port = 0;
    return os_address_split(text, host, &port) && take_number(address, host, port);
}

int os_address_parse(struct os_address *address, const char *text, struct error *error)
{
    char host[OS_HOST_SIZE];
    uint16_t port = 0;
    if (!os_address_split(text, host, &port)) {
        return error_say(
            error, -EINVAL,
            "address \"%s\" is not ADDRESS:PORT, such as 127.0.0.1:6379, [::1]:6379 or "
            "localhost:6379",
            text);
    }
    if (take_number(address, host, port)) {
        return 0;
    }
    struct os_address found;
    int status = resolve(&found, host, text, error);
    if (status != 0) {
        return status;
    }
    found.port = port;
    *address = found;
    return 0;
}

char *os_address_format(const struct os_address *address, char *text)
{
    char host[INET6_ADDRSTRLEN];
    int family = address->is_ipv6 ? AF_INET6 : AF_INET;
    if (inet_ntop(family, address->bytes, host, sizeof host) == NULL) {
        host[0] = '?';
        host[1] = '\0';
    }
    const char *format = address->is_ipv6 ? "[%s]:%u" : "%s:%u";
    (void)snprintf(text, OS_ADDRESS_TEXT_SIZE, format, host, (unsigned)address->port);
    return text;
}

bool os_address_is_loopback(const struct os_address *address)
{
    static const uint8_t ipv6_loopback[16] = {[15] = 1};
    static const uint8_t ipv4_in_ipv6[12] = {[10] = 0xff, [11] = 0xff};
    if (!address->is_ipv6) {
        return address->bytes[0] == 127;
    }
    if (memcmp(address->bytes, ipv4_in_ipv6, sizeof ipv4_in_ipv6) == 0) {
        return address->bytes[12] == 127;
    }
    return memcmp(address->bytes, ipv6_loopback, sizeof ipv6_loopback) == 0;
}
