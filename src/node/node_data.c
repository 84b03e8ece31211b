/* SPDX-License-Identifier: Apache-2.0 */
/* The data directory:
 *
 *   node.conf   format, cluster id, node id, how the log is flushed, with how many data shards the
 *               cluster was made; first written last, so that a directory which has it is whole
 *   lock        one process per directory
 *   wal/        the log's segments
 *   store/      RocksDB
 *   tls/        the authority of the cluster, this node's certificate; while it joins, what it asks with
 *   roster      where the other nodes are, as far as this one knows
 *   control     a socket for the operator
 *   fence       after a recovery: what the audit shall say; empty when the others are fenced
 *   admin       where the admin port is, and the name of the start that says so
 *   shards      which shard has which slots, once one has split
 *
 * docs/formats/directory.md says more. */
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/number/number.h"
#include "node/node_internal.h"

enum {
    FORMAT_VERSION = 3,           /* The newest that is read: shards have split. */
    FORMAT_VERSION_SHARDS = 2,    /* There are several, as the cluster was made. */
    FORMAT_VERSION_ONE_SHARD = 1, /* There is one. */
    CLUSTER_ID_SIZE_BYTES = 16,
    PATH_SIZE = 4096,
    CONF_SIZE_BYTES_MAX = 4096,
};

struct node_data {
    struct os_lock *lock;
    bool is_new;
    bool may_log_end_early;
    uint32_t shard_count;
    bool has_split;
    char cluster_id[2 * CLUSTER_ID_SIZE_BYTES + 1];
    char conf_path[PATH_SIZE];
    char wal_path[PATH_SIZE];
    char store_path[PATH_SIZE];
    uint32_t node_id;
    char tls_path[PATH_SIZE];
    char file_paths[NODE_FILE_COUNT][PATH_SIZE];
};

static int set_path(char path[PATH_SIZE], const char *directory, const char *name,
                    struct error *error)
{
    int length = snprintf(path, PATH_SIZE, "%s/%s", directory, name);
    if (length < 0 || length >= PATH_SIZE) {
        return error_set(error, -ENAMETOOLONG, "%s", directory);
    }
    return 0;
}

static void new_cluster_id(struct node_data *data)
{
    uint8_t random[CLUSTER_ID_SIZE_BYTES];
    os_random_fill(random, sizeof random);
    for (size_t i = 0; i < sizeof random; i++) {
        (void)snprintf(data->cluster_id + 2 * i, 3, "%02x", random[i]);
    }
}

/* The value of `key` in lines of "key = value"; empty when it is not there. */
static struct bytes conf_value(struct bytes conf, const char *key)
{
    size_t key_size = strlen(key);
    size_t start = 0;
    while (start < conf.size_bytes) {
        const uint8_t *line = conf.data + start;
        const uint8_t *line_end = memchr(line, '\n', conf.size_bytes - start);
        size_t length = line_end != NULL ? (size_t)(line_end - line) : conf.size_bytes - start;
        if (length > key_size + 3 && memcmp(line, key, key_size) == 0 &&
            memcmp(line + key_size, " = ", 3) == 0) {
            return bytes_make(line + key_size + 3, length - key_size - 3);
        }
        start += length + 1;
    }
    return bytes_make(NULL, 0);
}

/* With how many shards, all of the same size, the cluster was made. */
static int read_shard_count(struct node_data *data, struct bytes conf, struct error *error)
{
    struct bytes text = conf_value(conf, "shards");
    uint64_t count = 1;
    if (text.size_bytes > 0 && (!number_parse_unsigned(text, &count) || count == 0)) {
        count = SLOTS_SHARD_COUNT_MAX + 1ull;
    }
    if (count > SLOTS_SHARD_COUNT_MAX) {
        return error_say(error, ERROR_CORRUPT, "%s is damaged: shards = %.*s", data->conf_path,
                         (int)text.size_bytes, (const char *)text.data);
    }
    data->shard_count = (uint32_t)count;
    return 0;
}

static int read_conf(struct node_data *data, struct error *error)
{
    struct buffer conf = {0};
    int status = os_file_read(data->conf_path, CONF_SIZE_BYTES_MAX, &conf, error);
    if (status != 0) {
        buffer_deinit(&conf);
        return status;
    }
    uint64_t format = 0;
    struct bytes cluster = conf_value(buffer_bytes(&conf), "cluster");
    if (!number_parse_unsigned(conf_value(buffer_bytes(&conf), "format"), &format) ||
        cluster.size_bytes != sizeof data->cluster_id - 1) {
        status =
            error_say(error, ERROR_CORRUPT,
                      "%s is damaged: it needs lines \"format = %d\" and \"cluster = …\" with %zu "
                      "digits. Restore it from a copy of the directory.",
                      data->conf_path, FORMAT_VERSION, sizeof data->cluster_id - 1);
    } else if (format > FORMAT_VERSION) {
        status =
            error_say(error, ERROR_NEWER_FORMAT,
                      "%s says format %" PRIu64 ", this version reads up to format %d: use the "
                      "version of tutti that wrote it, or a newer one",
                      data->conf_path, format, FORMAT_VERSION);
    } else {
        uint64_t node_id = 0;
        bool is_named = number_parse_unsigned(conf_value(buffer_bytes(&conf), "node"), &node_id) &&
                        node_id > 0 && node_id <= UINT32_MAX;
        data->has_split = format >= FORMAT_VERSION;
        data->node_id = is_named ? (uint32_t)node_id : NODE_FOUNDER;
        memcpy(data->cluster_id, cluster.data, cluster.size_bytes);
        data->may_log_end_early =
            bytes_equal(conf_value(buffer_bytes(&conf), "flush"), BYTES("everysec"));
        status = read_shard_count(data, buffer_bytes(&conf), error);
    }
    buffer_deinit(&conf);
    return status;
}

/* A node that served has both; a directory that lacks one would come up empty and lose data. */
static int check_parts(const struct node_data *data, struct error *error)
{
    const char *paths[] = {data->wal_path, data->store_path};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        struct os_files *files = NULL;
        int status = os_files_create(&files, paths[i], error);
        if (status == -ENOENT) {
            return error_say(error, ERROR_CORRUPT,
                             "the data directory is not whole: %s is gone, and with it "
                             "acknowledged writes; restore the directory from a copy",
                             paths[i]);
        }
        if (status != 0) {
            return status;
        }
        os_files_destroy(files);
    }
    return 0;
}

/* There is no node.conf. A certificate comes after it, but for one that a join was interrupted with. */
static int judge_without_conf(const struct node_data *data, const char *directory,
                              enum node_use use, struct error *error)
{
    if (access(data->file_paths[NODE_FILE_CERTIFICATE], F_OK) == 0 &&
        access(data->file_paths[NODE_FILE_JOINING], F_OK) != 0) {
        return error_say(error, ERROR_CORRUPT,
                         "%s is gone, though a node ran here: restore the data directory from a "
                         "copy",
                         data->conf_path);
    }
    if (use == NODE_USE_SERVE) {
        return 0;
    }
    if (access(directory, F_OK) != 0) {
        return error_set(error, -errno, "%s", directory);
    }
    return error_say(error, -ENOENT, "%s is not the data directory of a node: it has no node.conf",
                     directory);
}

static int open_parts(struct node_data *data, const char *directory, enum node_use use,
                      struct error *error)
{
    int status = read_conf(data, error);
    if (status == 0) {
        return check_parts(data, error);
    }
    status = status == -ENOENT ? judge_without_conf(data, directory, use, error) : status;
    if (status != 0) {
        return status;
    }
    data->is_new = true;
    data->node_id = NODE_FOUNDER;
    data->shard_count = 1;
    new_cluster_id(data);
    status = os_directory_create(data->wal_path, error);
    if (status == 0) {
        status = os_directory_create(data->store_path, error);
    }
    return status;
}

static int set_paths(struct node_data *data, const char *directory, struct error *error)
{
    static const char *const names[] = {
        [NODE_FILE_AUTHORITY] = "tls/authority.pem",
        [NODE_FILE_CERTIFICATE] = "tls/node.pem",
        [NODE_FILE_JOINING] = "tls/joining.pem",
        [NODE_FILE_ROSTER] = "roster",
        [NODE_FILE_CONTROL] = "control",
        [NODE_FILE_ADMIN] = NODE_ADMIN_FILE_NAME,
        [NODE_FILE_FENCE] = "fence",
        [NODE_FILE_MAP] = "shards",
    };
    int status = set_path(data->conf_path, directory, "node.conf", error);
    if (status == 0) {
        status = set_path(data->wal_path, directory, "wal", error);
    }
    if (status == 0) {
        status = set_path(data->store_path, directory, "store", error);
    }
    if (status == 0) {
        status = set_path(data->tls_path, directory, "tls", error);
    }
    for (int i = 0; i < NODE_FILE_COUNT && status == 0; i++) {
        status = set_path(data->file_paths[i], directory, names[i], error);
    }
    return status;
}

/* Whoever only reads needs no lock where no node has ever made one. */
static int take_lock(struct node_data *data, const char *directory, enum node_use use,
                     struct error *error)
{
    int status = use == NODE_USE_READ ? os_lock_take_existing(&data->lock, directory, error)
                                      : os_lock_take(&data->lock, directory, error);
    if (status == -ENOENT && use == NODE_USE_READ) {
        return 0;
    }
    if (status == -EBUSY) {
        struct error reason = {0};
        (void)error_say(&reason, status, "%s", error != NULL ? error->message : "");
        return error_say(error, status, "%.160s; stop that one%s", reason.message,
                         use == NODE_USE_SERVE ? ", or choose another directory with --data DIR"
                                               : " first");
    }
    return status;
}

int node_data_open(struct node_data **data, const char *directory, enum node_use use,
                   struct error *error)
{
    struct node_data *created = memory_allocate_zeroed(1, sizeof *created);
    int status = set_paths(created, directory, error);
    if (status == 0 && use == NODE_USE_SERVE) {
        status = os_directory_create(directory, error);
    }
    if (status == 0 && use == NODE_USE_SERVE) {
        status = os_directory_create(created->tls_path, error);
    }
    if (status == 0) {
        status = take_lock(created, directory, use, error);
    }
    if (status == 0) {
        status = open_parts(created, directory, use, error);
    }
    if (status != 0) {
        node_data_close(created);
        return status;
    }
    *data = created;
    return 0;
}

void node_data_close(struct node_data *data)
{
    if (data->lock != NULL) {
        os_lock_release(data->lock);
    }
    memory_free(data);
}

const char *node_data_wal_path(const struct node_data *data)
{
    return data->wal_path;
}

const char *node_data_store_path(const struct node_data *data)
{
    return data->store_path;
}

bool node_data_is_new(const struct node_data *data)
{
    return data->is_new;
}

const char *node_data_cluster_id(const struct node_data *data)
{
    return data->cluster_id;
}

uint32_t node_data_node_id(const struct node_data *data)
{
    return data->node_id;
}

const char *node_data_path(const struct node_data *data, enum node_file file)
{
    return data->file_paths[file];
}

uint32_t node_data_shard_count(const struct node_data *data)
{
    return data->shard_count;
}

void node_data_set_shard_count(struct node_data *data, uint32_t shard_count)
{
    ASSERT(data->is_new && shard_count > 0 && shard_count <= SLOTS_SHARD_COUNT_MAX);
    data->shard_count = shard_count;
}

void node_data_adopt(struct node_data *data, const char *cluster_id, uint32_t node_id,
                     uint32_t shard_count)
{
    ASSERT(data->is_new && strlen(cluster_id) == sizeof data->cluster_id - 1);
    memcpy(data->cluster_id, cluster_id, sizeof data->cluster_id);
    data->node_id = node_id;
    node_data_set_shard_count(data, shard_count);
}

bool node_data_may_log_end_early(const struct node_data *data)
{
    return data->may_log_end_early;
}

/* Software that knows of one shard only, or of no splits, must not serve what has more. */
static int write_conf(const struct node_data *data, struct error *error)
{
    struct buffer conf = {0};
    bool is_one = data->shard_count == 1;
    int format = is_one ? FORMAT_VERSION_ONE_SHARD : FORMAT_VERSION_SHARDS;
    buffer_append_format(&conf, "format = %d\ncluster = %s\nnode = %u\nflush = %s\n",
                         data->has_split ? FORMAT_VERSION : format, data->cluster_id, data->node_id,
                         data->may_log_end_early ? "everysec" : "always");
    if (!is_one) {
        buffer_append_format(&conf, "shards = %u\n", data->shard_count);
    }
    int status = os_file_write(data->conf_path, buffer_bytes(&conf), error);
    buffer_deinit(&conf);
    return status;
}

int node_data_commit(struct node_data *data, bool may_log_end_early, struct error *error)
{
    bool was_early = data->may_log_end_early;
    if (!data->is_new && was_early == may_log_end_early) {
        return 0;
    }
    data->may_log_end_early = may_log_end_early;
    int status = write_conf(data, error);
    if (status == 0) {
        data->is_new = false;
    } else {
        data->may_log_end_early = was_early;
    }
    return status;
}

int node_data_say_split(struct node_data *data, struct error *error)
{
    if (data->has_split || data->is_new) {
        return 0;
    }
    data->has_split = true;
    int status = write_conf(data, error);
    data->has_split = status == 0;
    return status;
}
