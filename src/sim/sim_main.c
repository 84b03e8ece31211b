/* SPDX-License-Identifier: Apache-2.0 */
/* tutti-sim: run seeds of the simulator, in a few processes.
 *
 * A worker takes every n-th seed and writes one result after the other into a pipe. One that dies,
 * by an assertion of a core or because a run does not end, has failed the seed it was at; another
 * goes on behind it. */
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/assert/assert.h"
#include "base/error/error.h"
#include "base/number/number.h"
#include "sim/sim.h"

enum {
    JOB_COUNT_MAX = 64,
    PROBE_COUNT_MAX = 128,
    SEED_SECONDS_MAX = 60, /* Of a processor; */
    CLOCK_FACTOR = 30,     /* by the clock so much more, for others may have it. */
    EXIT_USAGE = 2,
    SHOWN_FAILURES_MAX = 20,
};

struct arguments {
    uint64_t seed;
    uint64_t first;
    uint64_t count;
    uint64_t job_count;
    const char *bug;
    bool has_seed;
    bool is_tracing;
    bool does_check_determinism;
    bool does_stop_at_first;
    bool is_quiet;
    bool does_list_probes;
    bool is_cluster;
    bool does_show_nature;
    const char *settings;
    uint64_t stream;
};

/* What a worker says of one seed. */
struct message {
    uint64_t seed;
    struct sim_result result;
    bool is_same_again; /* Of a second run. */
    uint32_t probe_count;
    char probes[16][48]; /* Met for the first time by this worker. */
};

struct worker {
    pid_t process;
    int pipe;
    uint64_t next; /* The seed it is at. */
};

static const char usage[] =
    "Usage: tutti-sim [--cluster] --seed S [--trace] [--set NAME=VALUE,...] [--stream N]\n"
    "       tutti-sim [--cluster] --seed S --nature\n"
    "       tutti-sim [--cluster] --seeds N [--first S] [--jobs N] [--check-determinism] [--stop]\n"
    "\n"
    "Live simulated lives of a node, each a function of its seed.\n"
    "\n"
    "  --seed S             run one seed and print its trace hash\n"
    "  --cluster            lives of a cluster, not of one node\n"
    "  --trace              print what happens\n"
    "  --nature             print what the life of the seed is like, and live nothing\n"
    "  --set NAME=VALUE,... what it is like, where not as the seed says\n"
    "  --stream N           other things happen in a life that is like that of the seed (0: those "
    "of the seed)\n"
    "  --seeds N            run N seeds\n"
    "  --first S            the first of them (1)\n"
    "  --jobs N             processes (2)\n"
    "  --check-determinism  run each seed twice and compare the trace hashes\n"
    "  --stop               stop at the first failure\n"
    "  --bug NAME           switch a planted bug on and say how many seeds it takes to find it\n"
    "                       (needs a build with -Dplanted_bugs=true)\n"
    "  --probes             list the rare branches that were taken\n"
    "  --quiet              no progress\n"
    "  --help               this\n"
    "\n"
    "Exit code: 0 when all seeds pass (with --bug: when the bug is found), 1 when not, 2 for "
    "wrong\n"
    "usage.\n";

/* ---- Probes ---------------------------------------------------------------------------------- */

struct probes {
    const char *names[PROBE_COUNT_MAX];
    uint32_t count;
    struct message *message; /* Gets the new ones. */
};

static void probe_met(void *context, const char *name)
{
    struct probes *probes = context;
    for (uint32_t i = 0; i < probes->count; i++) {
        if (strcmp(probes->names[i], name) == 0) {
            return;
        }
    }
    struct message *message = probes->message;
    if (probes->count < PROBE_COUNT_MAX &&
        message->probe_count < sizeof message->probes / sizeof message->probes[0]) {
        probes->names[probes->count++] = name;
        (void)snprintf(message->probes[message->probe_count++], sizeof message->probes[0], "%s",
                       name);
    }
}

static void collect_probes(char known[][48], uint32_t *count, const struct message *message)
{
    for (uint32_t i = 0; i < message->probe_count; i++) {
        bool is_known = false;
        for (uint32_t k = 0; k < *count; k++) {
            is_known = is_known || strcmp(known[k], message->probes[i]) == 0;
        }
        if (!is_known && *count < PROBE_COUNT_MAX) {
            memcpy(known[(*count)++], message->probes[i], sizeof message->probes[i]);
        }
    }
}

/* ---- Workers --------------------------------------------------------------------------------- */

/* 0: no longer. */
static void limit_seconds(uint32_t seconds)
{
    struct itimerval limit = {.it_value.tv_sec = seconds};
    int status = setitimer(ITIMER_PROF, &limit, NULL);
    ASSERT(status == 0);
    (void)alarm(CLOCK_FACTOR * seconds); /* One that waits uses no processor. */
}

static const char *death(int status)
{
    if (!WIFSIGNALED(status)) {
        return "exit";
    }
    bool is_too_long = WTERMSIG(status) == SIGPROF || WTERMSIG(status) == SIGALRM;
    return is_too_long ? "it did not end in time" : strsignal(WTERMSIG(status));
}

static void run_seed(const struct arguments *arguments, struct probes *probes,
                     struct message *message)
{
    struct sim_options options = {
        .seed = message->seed,
        .bug = arguments->bug,
        .settings = arguments->settings,
        .stream = arguments->stream,
        .trace = arguments->is_tracing ? stdout : NULL,
        .probe = probe_met,
        .context = probes,
    };
    probes->message = message;
    message->probe_count = 0;
    limit_seconds(SEED_SECONDS_MAX);
    void (*run)(const struct sim_options *, struct sim_result *) =
        arguments->is_cluster ? sim_cluster_run : sim_run;
    run(&options, &message->result);
    message->is_same_again = true;
    if (arguments->does_check_determinism) {
        struct sim_result again;
        options.trace = NULL;
        run(&options, &again);
        message->is_same_again = again.trace_hash == message->result.trace_hash;
    }
    limit_seconds(0);
}

static _Noreturn void work(const struct arguments *arguments, int pipe_end, uint64_t seed,
                           uint64_t end)
{
    static struct probes probes;
    for (; seed < end; seed += arguments->job_count) {
        static struct message message;
        message.seed = seed;
        run_seed(arguments, &probes, &message);
        const char *place = (const char *)&message;
        for (size_t left = sizeof message; left > 0;) {
            ssize_t written = write(pipe_end, place, left);
            if (written <= 0) {
                _exit(1);
            }
            place += written;
            left -= (size_t)written;
        }
    }
    _exit(0);
}

static void start_worker(const struct arguments *arguments, struct worker *worker, uint64_t end)
{
    int ends[2];
    (void)fflush(NULL);
    if (pipe(ends) != 0) {
        assert_fatal("tutti-sim: pipe: %s", strerror(errno));
    }
    worker->process = fork();
    if (worker->process < 0) {
        assert_fatal("tutti-sim: fork: %s", strerror(errno));
    }
    if (worker->process == 0) {
        (void)close(ends[0]);
        work(arguments, ends[1], worker->next, end);
    }
    (void)close(ends[1]);
    worker->pipe = ends[0];
}

static void stop_worker(struct worker *worker)
{
    if (worker->process > 0) {
        (void)kill(worker->process, SIGKILL);
        (void)waitpid(worker->process, NULL, 0);
        (void)close(worker->pipe);
        worker->process = 0;
    }
}

static bool read_message(struct worker *worker, struct message *message)
{
    char *place = (char *)message;
    for (size_t left = sizeof *message; left > 0;) {
        ssize_t count = read(worker->pipe, place, left);
        if (count <= 0) {
            return false;
        }
        place += count;
        left -= (size_t)count;
    }
    return true;
}

/* The next result of a worker; a death is a failure of the seed it was at. False: it has no
 * more. */
static bool next_result(const struct arguments *arguments, struct worker *worker, uint64_t end,
                        struct message *message)
{
    if (worker->process == 0) {
        return false;
    }
    if (read_message(worker, message)) {
        worker->next = message->seed + arguments->job_count;
        return true;
    }
    int status = 0;
    (void)waitpid(worker->process, &status, 0);
    (void)close(worker->pipe);
    worker->process = 0;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        return false;
    }
    *message = (struct message){.seed = worker->next, .is_same_again = true};
    (void)snprintf(message->result.reason, SIM_REASON_SIZE, "the process died: %s", death(status));
    worker->next += arguments->job_count;
    if (worker->next < end) {
        start_worker(arguments, worker, end);
    }
    return true;
}

/* ---- Many seeds ------------------------------------------------------------------------------ */

struct totals {
    uint64_t passed;
    uint64_t failed;
    uint64_t first_failed; /* Seed. */
    char reason[SIM_REASON_SIZE];
    struct sim_result sums;
};

static void count_result(const struct arguments *arguments, struct totals *totals,
                         const struct message *message)
{
    const struct sim_result *result = &message->result;
    if (result->is_passed && message->is_same_again) {
        totals->passed++;
    } else {
        if (totals->failed == 0 || message->seed < totals->first_failed) {
            totals->first_failed = message->seed;
            memcpy(totals->reason, result->reason, SIM_REASON_SIZE);
        }
        totals->failed++;
        if (arguments->bug == NULL && totals->failed <= SHOWN_FAILURES_MAX) {
            printf("seed %" PRIu64 " failed: %s\n  tutti-sim %s--seed %" PRIu64 " --trace\n",
                   message->seed,
                   result->is_passed ? "two runs differ in their trace" : result->reason,
                   arguments->is_cluster ? "--cluster " : "", message->seed);
        }
    }
    totals->sums.step_count += result->step_count;
    totals->sums.request_count += result->request_count;
    totals->sums.entry_count += result->entry_count;
    totals->sums.kill_count += result->kill_count;
    totals->sums.power_loss_count += result->power_loss_count;
    totals->sums.damage_count += result->damage_count;
    totals->sums.split_count += result->split_count;
    totals->sums.discarded_count += result->discarded_count;
    totals->sums.conducted_count += result->conducted_count;
    totals->sums.reported_damage_count += result->reported_damage_count;
}

static void print_totals(const struct arguments *arguments, const struct totals *totals,
                         char known[][48], uint32_t probe_count)
{
    const struct sim_result *sums = &totals->sums;
    printf("%" PRIu64 " requests, %" PRIu64 " commands in logs, %" PRIu64 " kills, %" PRIu64
           " power losses, %" PRIu64 " damages (%" PRIu64 " reported), %" PRIu64 " splits, %" PRIu64
           " replicas discarded, %" PRIu64 " steps of conductors\n",
           sums->request_count, sums->entry_count, sums->kill_count, sums->power_loss_count,
           sums->damage_count, sums->reported_damage_count, sums->split_count,
           sums->discarded_count, sums->conducted_count);
    for (uint32_t i = 0; arguments->does_list_probes && i < probe_count; i++) {
        printf("probe %s\n", known[i]);
    }
    printf("%" PRIu64 " passed, %" PRIu64 " failed\n", totals->passed, totals->failed);
}

static int run_many(const struct arguments *arguments)
{
    static struct worker workers[JOB_COUNT_MAX];
    static char known_probes[PROBE_COUNT_MAX][48];
    static struct message message;
    uint32_t probe_count = 0;
    uint64_t end = arguments->first + arguments->count;
    bool does_stop = arguments->does_stop_at_first || arguments->bug != NULL;
    struct totals totals = {0};
    for (uint64_t i = 0; i < arguments->job_count; i++) {
        workers[i].next = arguments->first + i;
        start_worker(arguments, &workers[i], end);
    }
    /* In turn, so that seeds are counted nearly in their order. */
    for (bool is_more = true; is_more && !(does_stop && totals.failed > 0);) {
        is_more = false;
        for (uint64_t i = 0; i < arguments->job_count; i++) {
            if (next_result(arguments, &workers[i], end, &message)) {
                is_more = true;
                count_result(arguments, &totals, &message);
                collect_probes(known_probes, &probe_count, &message);
            }
        }
        uint64_t done = totals.passed + totals.failed;
        if (!arguments->is_quiet && done % 100 < arguments->job_count && done >= 100) {
            printf("%" PRIu64 " of %" PRIu64 " seeds, %" PRIu64 " failed\n", done, arguments->count,
                   totals.failed);
            (void)fflush(stdout);
        }
    }
    for (uint64_t i = 0; i < arguments->job_count; i++) {
        stop_worker(&workers[i]);
    }
    if (arguments->bug != NULL) {
        if (totals.failed > 0) {
            printf("%s found after %" PRIu64 " seeds, by seed %" PRIu64 ": %s\n", arguments->bug,
                   totals.first_failed - arguments->first + 1, totals.first_failed, totals.reason);
        } else {
            printf("%s not found in %" PRIu64 " seeds\n", arguments->bug, totals.passed);
        }
        return totals.failed > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
    }
    print_totals(arguments, &totals, known_probes, probe_count);
    return totals.failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int run_one(const struct arguments *arguments)
{
    static struct probes probes;
    static struct message message;
    message.seed = arguments->seed;
    run_seed(arguments, &probes, &message);
    const struct sim_result *result = &message.result;
    printf("seed %" PRIu64 ": %" PRIu64 " steps, %" PRIu64 " requests, %" PRIu64 " kills, %" PRIu64
           " power losses, %" PRIu64 " damages, trace %016" PRIx64 "\n",
           arguments->seed, result->step_count, result->request_count, result->kill_count,
           result->power_loss_count, result->damage_count, result->trace_hash);
    for (uint32_t i = 0; arguments->does_list_probes && i < message.probe_count; i++) {
        printf("probe %s\n", message.probes[i]);
    }
    if (!message.is_same_again) {
        printf("two runs differ in their trace\n");
    }
    if (!result->is_passed) {
        printf("failed: %s\n", result->reason);
    }
    bool is_passed = result->is_passed && message.is_same_again;
    printf("%d passed, %d failed\n", is_passed, !is_passed);
    return is_passed ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* ---- Arguments ------------------------------------------------------------------------------- */

static bool parse_number(const char *text, uint64_t *value)
{
    if (number_parse_unsigned(bytes_of_text(text), value)) {
        return true;
    }
    (void)fprintf(stderr, "tutti-sim: %s is not a number\n", text);
    return false;
}

static bool take_option(struct arguments *arguments, int option)
{
    switch (option) {
    case 's':
        arguments->has_seed = true;
        return parse_number(optarg, &arguments->seed);
    case 'n':
        return parse_number(optarg, &arguments->count);
    case 'f':
        return parse_number(optarg, &arguments->first);
    case 'j':
        return parse_number(optarg, &arguments->job_count);
    case 'r':
        return parse_number(optarg, &arguments->stream);
    case 'b':
        arguments->bug = optarg;
        return true;
    case 'S':
        arguments->settings = optarg;
        return true;
    case 'N':
        arguments->does_show_nature = true;
        return true;
    case 't':
        arguments->is_tracing = true;
        return true;
    case 'd':
        arguments->does_check_determinism = true;
        return true;
    case 'x':
        arguments->does_stop_at_first = true;
        return true;
    case 'p':
        arguments->does_list_probes = true;
        return true;
    case 'c':
        arguments->is_cluster = true;
        return true;
    case 'q':
        arguments->is_quiet = true;
        return true;
    case 'h':
        printf("%s", usage);
        exit(EXIT_SUCCESS);
    default:
        return false;
    }
}

static bool parse_arguments(int argc, char **argv, struct arguments *arguments)
{
    static const struct option options[] = {
        {"seed", required_argument, NULL, 's'},
        {"seeds", required_argument, NULL, 'n'},
        {"first", required_argument, NULL, 'f'},
        {"jobs", required_argument, NULL, 'j'},
        {"bug", required_argument, NULL, 'b'},
        {"trace", no_argument, NULL, 't'},
        {"check-determinism", no_argument, NULL, 'd'},
        {"stop", no_argument, NULL, 'x'},
        {"probes", no_argument, NULL, 'p'},
        {"quiet", no_argument, NULL, 'q'},
        {"cluster", no_argument, NULL, 'c'},
        {"nature", no_argument, NULL, 'N'},
        {"set", required_argument, NULL, 'S'},
        {"stream", required_argument, NULL, 'r'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    bool is_right = true;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        is_right = take_option(arguments, option) && is_right;
    }
    return is_right && optind == argc && arguments->job_count >= 1 &&
           arguments->job_count <= JOB_COUNT_MAX && (arguments->has_seed || arguments->count > 0) &&
           (arguments->has_seed || (arguments->settings == NULL && !arguments->does_show_nature));
}

/* Also whether the settings are right: with no file, nothing is printed. */
static int show_nature(const struct arguments *arguments, FILE *file)
{
    const struct sim_options options = {
        .seed = arguments->seed, .settings = arguments->settings, .stream = arguments->stream};
    struct error error = {0};
    int status = arguments->is_cluster ? sim_cluster_show_nature(&options, file, &error)
                                       : sim_show_nature(&options, file, &error);
    if (status != 0) {
        (void)fprintf(stderr, "tutti-sim: %s\n", error.message);
    }
    return status == 0 ? EXIT_SUCCESS : EXIT_USAGE;
}

int main(int argc, char **argv)
{
    struct arguments arguments = {.first = 1, .job_count = 2};
    if (!parse_arguments(argc, argv, &arguments)) {
        (void)fputs(usage, stderr);
        return EXIT_USAGE;
    }
#ifndef TUTTI_PLANTED_BUGS
    if (arguments.bug != NULL) {
        (void)fputs("tutti-sim: --bug needs a build with -Dplanted_bugs=true\n", stderr);
        return EXIT_USAGE;
    }
#endif
    if (!arguments.has_seed) {
        return run_many(&arguments);
    }
    int status = show_nature(&arguments, arguments.does_show_nature ? stdout : NULL);
    return status != EXIT_SUCCESS || arguments.does_show_nature ? status : run_one(&arguments);
}
