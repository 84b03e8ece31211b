/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdatomic.h>

#include "base/memory/memory.h"
#include "driver/os/os.h"
#include "driver/os/os_test_resolver.h"

static _Atomic uint8_t said;
static _Atomic bool says_nothing;
static _Atomic uint32_t asked_count;
static _Atomic uint32_t waiting_count;

void resolver_say(uint8_t last)
{
    atomic_store(&said, last);
}

void resolver_be_silent(bool is_silent)
{
    atomic_store(&says_nothing, is_silent);
}

uint32_t resolver_asked_count(void)
{
    return atomic_load(&asked_count);
}

uint32_t resolver_waiting_count(void)
{
    return atomic_load(&waiting_count);
}

struct answer {
    struct addrinfo information; /* First: it is what is given back. */
    struct sockaddr_in address;
};

/* These are found before those of the system. */
int getaddrinfo(const char *restrict name, const char *restrict service,
                const struct addrinfo *restrict hints, struct addrinfo **restrict found)
{
    (void)name;
    (void)service;
    (void)hints;
    (void)atomic_fetch_add(&waiting_count, 1);
    (void)atomic_fetch_add(&asked_count, 1);
    while (atomic_load(&says_nothing)) {
        os_sleep_ms(1);
    }
    uint8_t last = atomic_load(&said);
    (void)atomic_fetch_sub(&waiting_count, 1);
    if (last == 0) {
        return EAI_NONAME;
    }
    struct answer *answer = memory_allocate_zeroed(1, sizeof *answer);
    answer->address.sin_family = AF_INET;
    answer->address.sin_addr.s_addr = htonl(INADDR_LOOPBACK - 1 + last);
    answer->information.ai_family = AF_INET;
    answer->information.ai_addr = (struct sockaddr *)(void *)&answer->address;
    answer->information.ai_addrlen = sizeof answer->address;
    *found = &answer->information;
    return 0;
}

void freeaddrinfo(struct addrinfo *information)
{
    memory_free(information);
}
