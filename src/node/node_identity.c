/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates of this node and of the cluster's authority, in the data directory. */
#include "base/assert/assert.h"
#include "node/node_internal.h"

static int sign_own(struct node_identity *identity, struct node_data *data, struct error *error)
{
    struct tls_pair made = {0};
    struct buffer request = {0};
    int status = tls_request_create(&made.key, &request, error);
    if (status == 0) {
        struct tls_sign_options options = {
            .authority = &identity->authority,
            .request = buffer_bytes(&request),
            .node_id = node_data_node_id(data),
            .now_ms = os_wall_clock_ms(),
        };
        status = tls_request_sign(&made.certificate, &options, error);
    }
    if (status == 0) {
        status = tls_pair_save(&made, node_data_path(data, NODE_FILE_CERTIFICATE), error);
    }
    buffer_deinit(&request);
    if (status != 0) {
        tls_pair_deinit(&made);
        return error_wrap(error, status, "make a certificate for this node");
    }
    tls_pair_deinit(&identity->own);
    identity->own = made;
    return 0;
}

/* Only who founds a cluster, or did so before there were certificates, makes an authority. */
static int load_authority(struct node_identity *identity, struct node_data *data,
                          struct error *error)
{
    const char *path = node_data_path(data, NODE_FILE_AUTHORITY);
    int status = tls_pair_load(&identity->authority, path, error);
    if (status != -ENOENT || node_data_node_id(data) != NODE_FOUNDER) {
        return status;
    }
    status = tls_authority_create(&identity->authority, node_data_cluster_id(data),
                                  os_wall_clock_ms(), error);
    return status == 0 ? tls_pair_save(&identity->authority, path, error) : status;
}

static int load_own(struct node_identity *identity, struct node_data *data, struct error *error)
{
    int status = tls_pair_load(&identity->own, node_data_path(data, NODE_FILE_CERTIFICATE), error);
    return status == -ENOENT ? sign_own(identity, data, error) : status;
}

static struct tls_context_options context_options(const struct node_identity *identity)
{
    return (struct tls_context_options){
        .authority = buffer_bytes(&identity->authority.certificate),
        .pair = &identity->own,
    };
}

/* Is the certificate that of the node that node.conf names? */
static int check_own(const struct node_identity *identity, const struct node_data *data,
                     struct error *error)
{
    const struct tls_identity *own = tls_context_identity(identity->tls);
    if (strcmp(own->cluster, node_data_cluster_id(data)) == 0 &&
        own->node_id == node_data_node_id(data)) {
        return 0;
    }
    return error_say(error, ERROR_CORRUPT,
                     "%s is of node %u of cluster %s, and node.conf says node %u of cluster %s",
                     node_data_path(data, NODE_FILE_CERTIFICATE), own->node_id, own->cluster,
                     node_data_node_id(data), node_data_cluster_id(data));
}

static int open_context(struct node_identity *identity, const struct node_data *data,
                        struct error *error)
{
    struct tls_context_options options = context_options(identity);
    if (tls_context_create(&identity->tls, &options, error) != 0) {
        return error_wrap(error, ERROR_CORRUPT, "%s does not go with its authority",
                          node_data_path(data, NODE_FILE_CERTIFICATE));
    }
    return check_own(identity, data, error);
}

int node_identity_open(struct node_identity *identity, struct node_data *data, struct error *error)
{
    *identity = (struct node_identity){0};
    int status = load_authority(identity, data, error);
    if (status == 0) {
        status = tls_fingerprint(&identity->fingerprint,
                                 buffer_bytes(&identity->authority.certificate), error);
    }
    if (status == 0) {
        status = load_own(identity, data, error);
    }
    if (status == 0) {
        status = open_context(identity, data, error);
    }
    if (status == ERROR_CORRUPT && error != NULL) {
        struct error reason = *error;
        (void)error_say(error, status, "%.190s; restore node.conf and tls/ from a copy",
                        reason.message);
    }
    if (status != 0) {
        node_identity_close(identity);
    }
    return status;
}

void node_identity_close(struct node_identity *identity)
{
    if (identity->tls != NULL) {
        tls_context_destroy(identity->tls);
        identity->tls = NULL;
    }
    tls_pair_deinit(&identity->authority);
    tls_pair_deinit(&identity->own);
}

int node_identity_renew(struct node_identity *identity, struct node_data *data, bool *is_renewed,
                        struct error *error)
{
    *is_renewed = false;
    if (!tls_is_renewal_due(tls_context_identity(identity->tls), os_wall_clock_ms())) {
        return 0;
    }
    int status = sign_own(identity, data, error);
    if (status == 0) {
        struct tls_context_options options = context_options(identity);
        status = tls_context_reload(identity->tls, &options, error);
    }
    *is_renewed = status == 0;
    return status;
}
