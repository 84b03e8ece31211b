/* SPDX-License-Identifier: Apache-2.0 */
/* What a node that joins makes of the answers of a cluster, of which there is only the door here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/memory/memory.h"
#include "core/token/token.h"
#include "driver/wire/wire.h"
#include "node/node_cluster.h"

#define CLUSTER "0123456789abcdef0123456789abcdef"
#define WELCOME ""
#define SILENCE NULL
#define FULL "full"

enum { ASKED_COUNT_MAX = 4 };

struct site {
    char directory[64];
    struct node_data *data;
    struct os_log *log;
    /* The cluster's node, on a thread of its own while it is asked. */
    struct os_loop *loop;
    struct tls_pair authority;
    struct tls_pair own;
    struct tls_context *tls;
    struct wire *wire;
    struct node_cluster *full;     /* FULL: a node of a cluster that has all that it can. */
    struct wire_stranger *waiting; /* Who got SILENCE. */
    atomic_bool is_stop_wanted;    /* From then on, if there is one. */
    const char *const *answers;    /* Refusals, WELCOME, SILENCE or FULL. */
    uint32_t asked_count;
    struct buffer requests[ASKED_COUNT_MAX];
};

/* ---- The door -------------------------------------------------------------------------------- */

static void sign(struct buffer *certificate, const struct tls_pair *authority, struct bytes request,
                 uint32_t node_id)
{
    struct tls_sign_options options = {.authority = authority,
                                       .request = request,
                                       .node_id = node_id,
                                       .now_ms = os_wall_clock_ms()};
    assert_int_equal(tls_request_sign(certificate, &options, NULL), 0);
}

static void came(struct wire_stranger *stranger, const char *address, struct bytes payload,
                 void *context)
{
    struct site *site = context;
    struct bytes asked[JOIN_ASK_COUNT];
    assert_int_equal(node_join_decode(payload, asked, JOIN_ASK_COUNT), 0);
    assert_true(site->asked_count < ASKED_COUNT_MAX);
    const char *answer = site->answers[site->asked_count];
    buffer_append(&site->requests[site->asked_count++], asked[JOIN_REQUEST]);
    if (answer == SILENCE) {
        site->waiting = stranger;
        atomic_store(&site->is_stop_wanted, true);
        return;
    }
    if (strcmp(answer, FULL) == 0) {
        site->full->log = site->log;
        site->full->peer_count = NODE_PEER_COUNT_MAX;
        node_admit(site->full, stranger, address, payload);
        return;
    }
    struct buffer certificate = {0};
    struct buffer reply = {0};
    struct bytes fields[JOINED_ANSWER_COUNT] = {[JOINED_REFUSAL] = bytes_of_text(answer)};
    if (answer[0] == '\0') {
        sign(&certificate, &site->authority, asked[JOIN_REQUEST], 2);
        fields[JOINED_NODE] = BYTES("2");
        fields[JOINED_CLUSTER] = BYTES(CLUSTER);
        fields[JOINED_AUTHORITY] = buffer_bytes(&site->authority.certificate);
        fields[JOINED_AUTHORITY_KEY] = buffer_bytes(&site->authority.key);
        fields[JOINED_CERTIFICATE] = buffer_bytes(&certificate);
        fields[JOINED_ROSTER] = BYTES("1 127.0.0.1:1\n");
        fields[JOINED_SHARDS] = BYTES("1");
    }
    node_join_encode(fields, JOINED_ANSWER_COUNT, &reply);
    wire_stranger_reply(stranger, buffer_bytes(&reply));
    buffer_deinit(&certificate);
    buffer_deinit(&reply);
}

static void frame_came(const struct wire_remote *remote, uint16_t kind, struct bytes payload,
                       void *context)
{
    (void)remote;
    (void)kind;
    (void)payload;
    (void)context;
}

static const struct wire_events events = {.frame = frame_came, .stranger = came};

static void open_door(struct site *site)
{
    struct buffer request = {0};
    assert_int_equal(tls_authority_create(&site->authority, CLUSTER, os_wall_clock_ms(), NULL), 0);
    assert_int_equal(tls_request_create(&site->own.key, &request, NULL), 0);
    sign(&site->own.certificate, &site->authority, buffer_bytes(&request), 1);
    buffer_deinit(&request);
    struct tls_context_options tls_options = {
        .authority = buffer_bytes(&site->authority.certificate), .pair = &site->own};
    assert_int_equal(tls_context_create(&site->tls, &tls_options, NULL), 0);
    assert_int_equal(os_loop_create(&site->loop, NULL), 0);
    struct wire_options options = {
        .listener = {.flag = "--peer"},
        .cluster = CLUSTER,
        .node_id = 1,
        .boot_id = 1,
        .tls = site->tls,
        .version_min = NODE_PROTOCOL_MIN,
        .version_max = NODE_PROTOCOL_MAX,
        .software = TUTTI_VERSION,
        .admits_strangers = true,
        .stranger_rate_max = 1000,
        .events = &events,
        .context = site,
    };
    assert_int_equal(os_address_parse(&options.listener.address, "127.0.0.1:0", NULL), 0);
    assert_int_equal(wire_open(&site->wire, site->loop, &options, NULL), 0);
}

static void run(void *context)
{
    os_loop_run(((struct site *)context)->loop);
}

/* Join with the first of the answers, or as many as it takes. */
static int join(struct site *site, const char *const *answers, struct error *error)
{
    char address[OS_ADDRESS_TEXT_SIZE];
    char text[TOKEN_TEXT_SIZE];
    struct os_address at = wire_address(site->wire);
    struct token token = {0};
    struct tls_digest fingerprint;
    assert_int_equal(
        tls_fingerprint(&fingerprint, buffer_bytes(&site->authority.certificate), NULL), 0);
    memcpy(token.fingerprint, fingerprint.bytes, sizeof token.fingerprint);
    struct node_options options = {.join = os_address_format(&at, address),
                                   .join_token = token_encode(&token, text),
                                   .advertise = "127.0.0.1:2",
                                   .log = site->log};
    site->answers = answers;
    for (; site->asked_count > 0; site->asked_count--) {
        buffer_clear(&site->requests[site->asked_count - 1]);
    }
    struct os_thread *thread = NULL;
    assert_int_equal(os_thread_start(&thread, "door", run, site, NULL), 0);
    int status =
        node_join(site->data, &options, "127.0.0.1:3", "127.0.0.1:4", &site->is_stop_wanted, error);
    os_loop_stop(site->loop);
    os_thread_join(thread);
    return status;
}

static int set_up(void **state)
{
    static struct site site;
    site = (struct site){0};
    (void)snprintf(site.directory, sizeof site.directory, "/tmp/tutti-join-XXXXXX");
    assert_non_null(mkdtemp(site.directory));
    assert_int_equal(node_data_open(&site.data, site.directory, NODE_USE_SERVE, NULL), 0);
    struct os_log_options options = {.descriptor = STDERR_FILENO, .level = OS_LOG_ERROR};
    site.full = memory_allocate_zeroed(1, sizeof *site.full);
    site.log = os_log_create(&options);
    open_door(&site);
    *state = &site;
    return 0;
}

static int tear_down(void **state)
{
    static const char *const parts[] = {"tls/node.pem",
                                        "tls/authority.pem",
                                        "tls/joining.pem",
                                        "tls",
                                        "roster",
                                        "lock",
                                        "wal",
                                        "store",
                                        ""};
    struct site *site = *state;
    wire_close(site->wire);
    os_loop_destroy(site->loop);
    tls_context_destroy(site->tls);
    tls_pair_deinit(&site->authority);
    tls_pair_deinit(&site->own);
    for (size_t i = 0; i < ASKED_COUNT_MAX; i++) {
        buffer_deinit(&site->requests[i]);
    }
    os_log_destroy(site->log);
    memory_free(site->full);
    node_data_close(site->data);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        char path[128];
        (void)snprintf(path, sizeof path, "%s/%s", site->directory, parts[i]);
        (void)remove(path); /* What there is depends on the test. */
    }
    return access(site->directory, F_OK) == 0 ? -1 : 0;
}

/* ---- Tests ----------------------------------------------------------------------------------- */

static bool is_same_request(const struct buffer *one, const struct buffer *other)
{
    return one->size_bytes > 0 && bytes_equal(buffer_bytes(one), buffer_bytes(other));
}

/* Claim: a cluster without a leader is asked again, with the same request. */
static void test_no_leader_is_no_refusal(void **state)
{
    struct site *site = *state;
    struct error error = {0};
    const char *const answers[] = {NODE_JOIN_NO_LEADER, NODE_JOIN_NO_LEADER, WELCOME};
    assert_int_equal(join(site, answers, &error), 0);
    assert_int_equal(site->asked_count, 3);
    assert_true(is_same_request(&site->requests[0], &site->requests[1]));
    assert_true(is_same_request(&site->requests[0], &site->requests[2]));
    assert_int_equal(node_data_node_id(site->data), 2);
    assert_string_equal(node_data_cluster_id(site->data), CLUSTER);
}

/* Claim: any other refusal is final, and says why. Who is started again, whatever it had been told, asks
 * with the request of before until its directory is a node's; then it is gone. */
static void test_the_request_stays_until_it_is_forgotten(void **state)
{
    struct site *site = *state;
    struct error error = {0};
    struct buffer first = {0};
    const char *path = node_data_path(site->data, NODE_FILE_JOINING);
    const char *const refusals[] = {"the token is used up", WELCOME};
    assert_int_equal(join(site, refusals, &error), -EACCES);
    assert_non_null(strstr(error.message, "the token is used up"));
    assert_int_equal(site->asked_count, 1);
    buffer_append(&first, buffer_bytes(&site->requests[0]));
    const char *const answers[] = {WELCOME};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(join(site, answers, &error), 0);
        assert_int_equal(site->asked_count, 1);
        assert_true(is_same_request(&first, &site->requests[0]));
        assert_int_equal(access(path, F_OK), 0);
    }
    node_join_forget(site->data, site->log);
    assert_int_equal(access(path, F_OK), -1);
    node_join_forget(site->data, site->log);
    buffer_deinit(&first);
}

/* Claim: who is told to stop waits neither for an answer nor for the next attempt; nobody is asked afterwards. */
static void test_it_stops_when_told_to(void **state)
{
    struct site *site = *state;
    struct error error = {0};
    const char *const answers[] = {SILENCE, WELCOME};
    uint64_t began_ms = os_monotonic_ms();
    assert_int_equal(join(site, answers, &error), -ECANCELED);
    assert_true(os_monotonic_ms() - began_ms < WIRE_STRANGER_TIMEOUT_MS / 2);
    assert_int_equal(site->asked_count, 1);
    wire_stranger_reply(site->waiting, BYTES("too late"));
    assert_int_equal(join(site, answers, &error), -ECANCELED);
    assert_int_equal(site->asked_count, 0);
    atomic_store(&site->is_stop_wanted, false);
    assert_int_equal(join(site, answers + 1, &error), 0);
}

/* Claim: a cluster that has as many nodes as each of them can know lets nobody in, and says so. */
static void test_a_full_cluster_refuses(void **state)
{
    struct site *site = *state;
    struct error error = {0};
    const char *const answers[] = {FULL};
    assert_int_equal(join(site, answers, &error), -EACCES);
    assert_non_null(strstr(error.message, "as many nodes as it can"));
    assert_int_equal(site->asked_count, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_no_leader_is_no_refusal, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_request_stays_until_it_is_forgotten, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_it_stops_when_told_to, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_full_cluster_refuses, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("node_join", tests, NULL, NULL);
}
