/* SPDX-License-Identifier: Apache-2.0 */
/* A transaction cut into the parts of its shards, and their replies joined.
 *
 * Each command keeps a recipe: how its reply is made of replies of the parts. The replies of a part
 * come in the order of its commands, so that one cursor for each part suffices. What a command with
 * keys in several shards becomes:
 *
 *   MGET                           an MGET in each, elements put in order
 *   DEL, UNLINK, EXISTS, TOUCH     the same in each, numbers added
 *   MSET                           the same in each
 *   MSETNX, alone                  MSET in each, where all keys are watched as not existing
 *   LCS                            GET in both; the gateway compares
 *   what is refused whatever its keys hold,
 *   or names no key (OBJECT HELP)  nothing: a part would not see it, or see it too late
 */
#include <stdlib.h>

#include "base/assert/assert.h"
#include "base/endian/endian.h"
#include "base/memory/memory.h"
#include "base/number/number.h"
#include "service/kv/kv_lcs.h"
#include "service/kv/kv_part.h"

enum recipe_kind {
    RECIPE_PASS,    /* The reply of its only part. */
    RECIPE_LITERAL, /* The gateway's own, or a refusal. */
    RECIPE_SUM,
    RECIPE_MERGE,
    RECIPE_FIRST, /* They are all the same, or one is an error. */
    RECIPE_NEW,   /* 1, or one is an error. */
    RECIPE_LCS,
};

struct recipe {
    enum recipe_kind kind;
    struct buffer text;  /* The literal; of LCS, the words behind its keys, one after the other, */
    struct bytes *words; /* and where they are. */
    uint32_t word_count;
    uint32_t key_count;
    uint32_t *parts; /* Of each key. */
};

struct split_part {
    struct kv_transaction *transaction;
    uint32_t group;
    uint32_t place; /* The lowest slot of a key of it, and the highest one. */
    uint32_t last_slot;
    struct shard_command command;
    bool does_grow;
};

struct kv_split {
    uint32_t (*group_of_slot)(void *context, uint32_t slot);
    void *context;
    struct split_part *parts; /* In ascending order of group, once it is whole. */
    uint32_t part_count;
    uint32_t part_capacity;
    struct recipe *recipes;
    uint32_t recipe_count;
    uint32_t recipe_capacity;
    uint32_t reply_count; /* Of the first so many recipes; the others are silent. */
    bool is_only_new;     /* MSETNX. */
    uint64_t size_bytes;  /* Of the parts' arguments, and of the recipes. */
};

/* ---- Cutting --------------------------------------------------------------------------------- */

static uint32_t part_of_key(struct kv_split *split, struct bytes key)
{
    uint32_t slot = kv_slot_of_key(key);
    uint32_t group = split->group_of_slot(split->context, slot);
    for (uint32_t i = 0; i < split->part_count; i++) {
        if (split->parts[i].group == group) {
            struct split_part *part = &split->parts[i];
            part->place = slot < part->place ? slot : part->place;
            part->last_slot = slot > part->last_slot ? slot : part->last_slot;
            return i;
        }
    }
    if (split->part_count == split->part_capacity) {
        split->part_capacity = 2 * split->part_capacity + 4;
        split->parts = memory_resize(split->parts, split->part_capacity * sizeof split->parts[0]);
    }
    split->parts[split->part_count] = (struct split_part){
        .transaction = kv_transaction_create(), .group = group, .place = slot, .last_slot = slot};
    return split->part_count++;
}

static struct recipe *add_recipe(struct kv_split *split, enum recipe_kind kind, uint32_t key_count)
{
    if (split->recipe_count == split->recipe_capacity) {
        split->recipe_capacity = 2 * split->recipe_capacity + 4;
        split->recipes =
            memory_resize(split->recipes, split->recipe_capacity * sizeof split->recipes[0]);
    }
    struct recipe *recipe = &split->recipes[split->recipe_count++];
    *recipe = (struct recipe){.kind = kind, .key_count = key_count};
    recipe->parts = memory_allocate((key_count + 1u) * sizeof recipe->parts[0]);
    return recipe;
}

/* How many arguments go with each key; 0: it cannot be cut. */
static uint32_t stride_of(const struct kv_command *command, enum recipe_kind *kind)
{
    static const char *const sums[] = {"del", "unlink", "exists", "touch"};
    static const char *const sets[] = {"mset", "msetnx"};
    *kind = RECIPE_SUM;
    if (kv__is_one_of(command, sums, 4)) {
        return 1;
    }
    *kind = RECIPE_FIRST;
    if (kv__is_one_of(command, sets, 2)) {
        return 2;
    }
    *kind = RECIPE_MERGE;
    return kv__is_named(command, "mget") ? 1 : 0;
}

static bool is_lcs(const struct kv_command *command)
{
    return kv__is_named(command, "lcs");
}

bool kv_command_may_be_split(const struct kv_command *command)
{
    enum recipe_kind kind;
    return stride_of(command, &kind) > 0 || is_lcs(command);
}

/* Deal the keys: a command for each part that gets some. */
static void deal(struct kv_split *split, const struct kv_call *call, enum recipe_kind kind,
                 uint32_t stride)
{
    const struct kv_command *command = &call->entry->command;
    uint32_t key_count = call->argument_count / stride;
    struct recipe *recipe = add_recipe(split, kind, key_count);
    struct bytes *dealt = memory_allocate((call->argument_count + 1u) * sizeof dealt[0]);
    for (uint32_t i = 0; i < key_count; i++) {
        recipe->parts[i] = part_of_key(split, call->arguments[(size_t)i * stride]);
    }
    for (uint32_t part = 0; part < split->part_count; part++) {
        uint32_t count = 0;
        for (uint32_t i = 0; i < key_count; i++) {
            if (recipe->parts[i] == part) {
                memcpy(dealt + count, call->arguments + (size_t)i * stride,
                       stride * sizeof dealt[0]);
                count += stride;
            }
        }
        struct kv_transaction *transaction = split->parts[part].transaction;
        for (uint32_t i = 0; i < count && split->is_only_new; i += 2) {
            kv_transaction_watch(transaction, dealt[i], 0);
        }
        if (count > 0) {
            kv_transaction_add(transaction,
                               split->is_only_new ? kv_command_find(BYTES("mset")) : command, dealt,
                               count);
        }
    }
    memory_free(dealt);
}

static void copy_words(struct recipe *recipe, const struct bytes *words, uint32_t count)
{
    recipe->words = memory_allocate((count + 1u) * sizeof words[0]);
    recipe->word_count = count;
    for (uint32_t i = 0; i < count; i++) {
        buffer_append(&recipe->text, words[i]);
    }
    const uint8_t *place = recipe->text.data;
    for (uint32_t i = 0; i < count; i++) {
        recipe->words[i] = bytes_make(place, words[i].size_bytes);
        place += words[i].size_bytes;
    }
}

static void add_lcs(struct kv_split *split, const struct kv_call *call)
{
    struct recipe *recipe = add_recipe(split, RECIPE_LCS, 2);
    copy_words(recipe, call->arguments + 2, call->argument_count - 2);
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t part = part_of_key(split, call->arguments[i]);
        recipe->parts[i] = part;
        kv_transaction_add(split->parts[part].transaction, kv_command_find(BYTES("get")),
                           &call->arguments[i], 1);
    }
}

struct placement {
    struct kv_split *split;
    uint32_t part;
    uint32_t key_count;
    bool is_same;
};

static bool place_key(void *context, struct bytes key)
{
    struct placement *placement = context;
    uint32_t part = part_of_key(placement->split, key);
    placement->is_same =
        placement->is_same && (placement->key_count == 0 || part == placement->part);
    placement->part = part;
    placement->key_count++;
    return true;
}

/* False: it cannot be cut. */
static bool add_keys(struct kv_split *split, const struct kv_call *call, bool is_alone)
{
    const struct kv_command *command = &call->entry->command;
    struct placement placement = {.split = split, .is_same = true};
    (void)kv__keys_visit(call, place_key, &placement);
    if (placement.is_same) {
        add_recipe(split, RECIPE_PASS, 1)->parts[0] = placement.part;
        kv_transaction_add(split->parts[placement.part].transaction, command, call->arguments,
                           call->argument_count);
        return true;
    }
    if (is_lcs(command)) {
        add_lcs(split, call);
        return true;
    }
    enum recipe_kind kind;
    uint32_t stride = stride_of(command, &kind);
    bool is_only_new = kv__is_named(command, "msetnx");
    if (stride == 0 || (is_only_new && !is_alone)) {
        return false;
    }
    split->is_only_new = is_only_new;
    deal(split, call, is_only_new ? RECIPE_NEW : kind, stride);
    return true;
}

/* False: it cannot be cut. */
static bool add_command(struct kv_split *split, const struct kv_call *call, bool is_alone)
{
    struct buffer answer = {0};
    switch (kv__reach_of(call, &answer)) {
    case KV__REACH_ALL:
        return false;
    case KV__REACH_NONE:
        add_recipe(split, RECIPE_LITERAL, 0)->text = answer;
        return true;
    case KV__REACH_KEYS:
        break;
    }
    return add_keys(split, call, is_alone);
}

static int compare_parts(const void *left, const void *right)
{
    uint32_t left_place = ((const struct split_part *)left)->place;
    uint32_t right_place = ((const struct split_part *)right)->place;
    return (left_place > right_place) - (left_place < right_place);
}

/* In the order of places, with recipes that know it. */
static void sort_parts(struct kv_split *split)
{
    uint32_t *groups = memory_allocate((split->part_count + 1u) * sizeof groups[0]);
    for (uint32_t i = 0; i < split->part_count; i++) {
        groups[i] = split->parts[i].group;
    }
    if (split->part_count > 0) {
        qsort(split->parts, split->part_count, sizeof split->parts[0], compare_parts);
    }
    for (uint32_t i = 0; i < split->recipe_count; i++) {
        for (uint32_t j = 0; j < split->recipes[i].key_count; j++) {
            uint32_t group = groups[split->recipes[i].parts[j]];
            uint32_t part = 0;
            while (split->parts[part].group != group) {
                part++;
            }
            split->recipes[i].parts[j] = part;
        }
    }
    memory_free(groups);
}

static bool add_all(struct kv_split *split, const struct kv_call *call, const struct kv__part *part)
{
    for (uint32_t i = 0; i < part->watch_count; i++) {
        const struct bytes *watch = call->arguments + 1 + 2 * (size_t)i;
        uint32_t place = part_of_key(split, watch[0]);
        kv_transaction_watch(split->parts[place].transaction, watch[0],
                             endian_get_u64_le(watch[1].data));
    }
    struct kv__part_cursor cursor = kv__part_begin(call, part);
    struct kv_call inner;
    while (kv__part_next(&cursor, call, &inner)) {
        if (!add_command(split, &inner, part->command_count == 1 && part->watch_count == 0)) {
            return false;
        }
    }
    return true;
}

int kv_split_create(struct kv_split **split, struct kv_transaction *transaction,
                    uint32_t (*group_of_slot)(void *context, uint32_t slot), void *context)
{
    bool does_grow;
    struct shard_command command = kv_transaction_command(transaction, &does_grow);
    const struct kv_call call = {
        .entry = kv__entry_of_opcode(command.opcode),
        .arguments = command.arguments,
        .argument_count = command.argument_count,
    };
    struct kv__part part;
    bool is_whole = kv__part_parse(&call, &part);
    ASSERT(is_whole);
    struct kv_split *created = memory_allocate_zeroed(1, sizeof *created);
    created->group_of_slot = group_of_slot;
    created->context = context;
    created->reply_count = kv__transaction_reply_count(transaction);
    if (!add_all(created, &call, &part)) {
        kv_split_destroy(created);
        return -EXDEV;
    }
    sort_parts(created);
    created->context = NULL; /* Of the call alone: it may be gone afterwards. */
    for (uint32_t i = 0; i < created->part_count; i++) {
        struct split_part *own = &created->parts[i];
        own->command = kv_transaction_command(own->transaction, &own->does_grow);
        for (uint32_t j = 0; j < own->command.argument_count; j++) {
            created->size_bytes += sizeof(struct bytes) + own->command.arguments[j].size_bytes;
        }
    }
    for (uint32_t i = 0; i < created->recipe_count; i++) {
        const struct recipe *recipe = &created->recipes[i];
        created->size_bytes += sizeof *recipe + recipe->text.capacity_bytes +
                               recipe->key_count * sizeof recipe->parts[0] +
                               recipe->word_count * sizeof recipe->words[0];
    }
    *split = created;
    return 0;
}

void kv_split_drop_parts(struct kv_split *split)
{
    for (uint32_t i = 0; i < split->part_count; i++) {
        kv_transaction_destroy(split->parts[i].transaction);
        split->parts[i].transaction = NULL;
    }
}

uint64_t kv_split_size_bytes(const struct kv_split *split)
{
    return split->size_bytes;
}

void kv_split_destroy(struct kv_split *split)
{
    if (split == NULL) {
        return;
    }
    kv_split_drop_parts(split);
    for (uint32_t i = 0; i < split->recipe_count; i++) {
        memory_free(split->recipes[i].parts);
        memory_free(split->recipes[i].words);
        buffer_deinit(&split->recipes[i].text);
    }
    memory_free(split->parts);
    memory_free(split->recipes);
    memory_free(split);
}

uint32_t kv_split_part_count(const struct kv_split *split)
{
    return split->part_count;
}

struct txn_part kv_split_part(const struct kv_split *split, uint32_t index)
{
    ASSERT(index < split->part_count);
    ASSERT(split->parts[index].transaction != NULL);
    const struct split_part *part = &split->parts[index];
    return (struct txn_part){
        .place = part->place,
        .argument_count = part->command.argument_count,
        .arguments = part->command.arguments,
        .does_grow = part->does_grow,
    };
}

uint16_t kv_split_last_slot(const struct kv_split *split, uint32_t index)
{
    ASSERT(index < split->part_count);
    return (uint16_t)split->parts[index].last_slot;
}

bool kv_split_is_only_new(const struct kv_split *split)
{
    return split->is_only_new;
}

/* ---- Joining --------------------------------------------------------------------------------- */

/* The first line, with its end. Empty: there is none. */
static struct bytes line_of(struct bytes source)
{
    const uint8_t *end =
        source.size_bytes < 3 ? NULL : memchr(source.data, '\n', source.size_bytes);
    if (end == NULL || end < source.data + 2 || end[-1] != '\r') {
        return bytes_make(NULL, 0);
    }
    return bytes_make(source.data, (size_t)(end - source.data) + 1);
}

static bool number_in(struct bytes line, int64_t *number)
{
    return number_parse_integer(bytes_make(line.data + 1, line.size_bytes - 3), number);
}

bool kv_reply_take_number(struct bytes *rest, uint8_t kind, int64_t *number)
{
    struct bytes line = line_of(*rest);
    if (line.size_bytes == 0 || line.data[0] != kind || !number_in(line, number)) {
        return false;
    }
    *rest = bytes_make(rest->data + line.size_bytes, rest->size_bytes - line.size_bytes);
    return true;
}

/* The bytes behind the line that belong to the same reply, and how many replies it contains. */
static bool measure(struct bytes line, uint64_t *content_bytes, uint64_t *reply_count)
{
    int64_t number = 0;
    *content_bytes = 0;
    *reply_count = 0;
    switch (line.data[0]) {
    case '+':
    case '-':
    case ':':
    case ',':
    case '#':
    case '_':
    case '(':
        return true;
    case '$':
    case '=':
    case '!':
        if (!number_in(line, &number) || number < -1 || number > UINT32_MAX) {
            return false;
        }
        *content_bytes = number < 0 ? 0 : (uint64_t)number + 2;
        return true;
    case '*':
    case '~':
    case '>':
    case '%':
        if (!number_in(line, &number) || number < -1 || number > UINT32_MAX) {
            return false;
        }
        *reply_count = number < 0 ? 0 : (uint64_t)number * (line.data[0] == '%' ? 2 : 1);
        return true;
    default:
        return false;
    }
}

bool kv_reply_take(struct bytes *rest, struct bytes *reply)
{
    struct bytes at = *rest;
    for (uint64_t open = 1; open > 0; open--) {
        uint64_t content_bytes;
        uint64_t reply_count;
        struct bytes line = line_of(at);
        if (line.size_bytes == 0 || !measure(line, &content_bytes, &reply_count) ||
            content_bytes > at.size_bytes - line.size_bytes) {
            return false;
        }
        size_t used = line.size_bytes + (size_t)content_bytes;
        at = bytes_make(at.data + used, at.size_bytes - used);
        open += reply_count;
    }
    *reply = bytes_make(rest->data, rest->size_bytes - at.size_bytes);
    *rest = at;
    return true;
}

/* Take the next reply of each part that the command had a share in, once. */
static bool take_shares(const struct recipe *recipe, uint32_t part_count, struct bytes *rests,
                        struct bytes *shares)
{
    for (uint32_t part = 0; part < part_count; part++) {
        bool has_share = false;
        for (uint32_t i = 0; i < recipe->key_count && !has_share; i++) {
            has_share = recipe->parts[i] == part;
        }
        shares[part] = bytes_make(NULL, 0);
        if (has_share && !kv_reply_take(&rests[part], &shares[part])) {
            return false;
        }
    }
    return true;
}

static bool join_sum(const struct bytes *shares, uint32_t part_count, const struct reply *reply)
{
    int64_t sum = 0;
    for (uint32_t i = 0; i < part_count; i++) {
        int64_t number = 0;
        if (shares[i].size_bytes == 0) {
            continue;
        }
        struct bytes share = shares[i];
        if (!kv_reply_take_number(&share, ':', &number)) {
            buffer_append(reply->target, shares[i]); /* An error. */
            return true;
        }
        sum += number;
    }
    reply_integer(reply, sum);
    return true;
}

/* An error before all; of what is none, the first. */
static struct bytes choose(const struct bytes *shares, uint32_t part_count)
{
    struct bytes chosen = BYTES("");
    for (uint32_t i = 0; i < part_count; i++) {
        bool is_error = shares[i].size_bytes > 0 && shares[i].data[0] == '-';
        if (is_error || chosen.size_bytes == 0) {
            chosen = shares[i];
        }
    }
    return chosen;
}

static void join_new(const struct bytes *shares, uint32_t part_count, const struct reply *reply)
{
    struct bytes chosen = choose(shares, part_count);
    if (chosen.size_bytes > 0 && chosen.data[0] == '-') {
        buffer_append(reply->target, chosen);
    } else {
        reply_integer(reply, 1);
    }
}

static bool join_merge(const struct recipe *recipe, struct bytes *shares, uint32_t part_count,
                       const struct reply *reply)
{
    for (uint32_t i = 0; i < part_count; i++) {
        int64_t count;
        if (shares[i].size_bytes > 0 && !kv_reply_take_number(&shares[i], '*', &count)) {
            buffer_append(reply->target, shares[i]);
            return true;
        }
    }
    reply_array(reply, recipe->key_count);
    for (uint32_t i = 0; i < recipe->key_count; i++) {
        struct bytes element;
        if (!kv_reply_take(&shares[recipe->parts[i]], &element)) {
            return false;
        }
        buffer_append(reply->target, element);
    }
    return true;
}

/* What GET answered; false: an error. */
static bool string_in(struct bytes share, struct bytes *string)
{
    struct bytes line = line_of(share);
    *string = BYTES("");
    if (line.data[0] == '$' && share.size_bytes > line.size_bytes) {
        *string = bytes_make(share.data + line.size_bytes, share.size_bytes - line.size_bytes - 2);
    }
    return line.data[0] == '$' || line.data[0] == '_';
}

/* Any other error than that of the type is the answer itself. */
static void refuse_lcs(struct bytes share, const struct reply *reply)
{
    if (share.data[0] == '-' && !bytes_have_prefix(share, BYTES("-WRONGTYPE"))) {
        buffer_append(reply->target, share);
    } else {
        reply_error(reply, "ERR The specified keys must contain string values");
    }
}

static void join_lcs(const struct recipe *recipe, const struct bytes *shares,
                     const struct reply *reply)
{
    struct bytes strings[2];
    for (uint32_t i = 0; i < 2; i++) {
        if (!string_in(shares[recipe->parts[i]], &strings[i])) {
            refuse_lcs(shares[recipe->parts[i]], reply);
            return;
        }
    }
    kv__lcs_answer(reply, strings[0], strings[1], recipe->words, recipe->word_count);
}

static bool join_one(const struct kv_split *split, const struct recipe *recipe, struct bytes *rests,
                     struct bytes *shares, const struct reply *reply)
{
    if (recipe->kind == RECIPE_LITERAL) {
        buffer_append(reply->target, buffer_bytes(&recipe->text));
        return true;
    }
    if (!take_shares(recipe, split->part_count, rests, shares)) {
        return false;
    }
    switch (recipe->kind) {
    case RECIPE_FIRST:
        buffer_append(reply->target, choose(shares, split->part_count));
        return true;
    case RECIPE_NEW:
        join_new(shares, split->part_count, reply);
        return true;
    case RECIPE_PASS:
        buffer_append(reply->target, shares[recipe->parts[0]]);
        return true;
    case RECIPE_SUM:
        return join_sum(shares, split->part_count, reply);
    case RECIPE_MERGE:
        return join_merge(recipe, shares, split->part_count, reply);
    case RECIPE_LCS:
        join_lcs(recipe, shares, reply);
        return true;
    case RECIPE_LITERAL:
        break;
    }
    return false;
}

/* What has no reply for the client has succeeded. */
static bool pass_silent(const struct kv_split *split, const struct recipe *recipe,
                        struct bytes *rests, struct bytes *shares)
{
    struct buffer answer = {0};
    const struct reply reply = {.target = &answer, .protocol = 2};
    bool is_well = join_one(split, recipe, rests, shares, &reply) && answer.size_bytes > 0 &&
                   answer.data[0] != '-';
    buffer_deinit(&answer);
    return is_well;
}

bool kv_split_join(const struct kv_split *split, const struct bytes *replies, bool is_array,
                   const struct reply *reply)
{
    size_t before = reply->target->size_bytes;
    struct bytes *rests = memory_allocate((2 * split->part_count + 1u) * sizeof rests[0]);
    for (uint32_t i = 0; i < split->part_count; i++) {
        rests[i] = replies[i];
    }
    if (is_array) {
        reply_array(reply, split->reply_count);
    }
    bool is_whole = true;
    struct bytes *shares = rests + split->part_count;
    for (uint32_t i = 0; i < split->recipe_count && is_whole; i++) {
        const struct recipe *recipe = &split->recipes[i];
        is_whole = i < split->reply_count ? join_one(split, recipe, rests, shares, reply)
                                          : pass_silent(split, recipe, rests, shares);
    }
    for (uint32_t i = 0; i < split->part_count; i++) {
        is_whole = is_whole && rests[i].size_bytes == 0;
    }
    memory_free(rests);
    if (!is_whole) {
        reply->target->size_bytes = before;
    }
    return is_whole;
}
