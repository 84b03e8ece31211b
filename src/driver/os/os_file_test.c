/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "driver/os/os.h"

static char folder[64];

static char *path_of(const char *name)
{
    static char paths[4][128];
    static int next;
    next = (next + 1) % 4;
    (void)snprintf(paths[next], sizeof paths[next], "%s/%s", folder, name);
    return paths[next];
}

static int setup(void **state)
{
    (void)state;
    (void)snprintf(folder, sizeof folder, "/tmp/tutti-os-XXXXXX");
    return mkdtemp(folder) != NULL ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    char command[128];
    (void)snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

/* Claim: directories are made with those above them, twice is fine, and a file in the way is
 * named. */
static void test_directory_create(void **state)
{
    (void)state;
    struct error error = {0};
    assert_int_equal(os_directory_create(path_of("a/b//c/"), &error), 0);
    assert_int_equal(os_directory_create(path_of("a/b/c"), &error), 0);
    struct stat information;
    assert_int_equal(stat(path_of("a/b/c"), &information), 0);
    assert_int_equal(information.st_mode & 0777, 0700);
    assert_int_equal(os_file_write(path_of("file"), BYTES("x"), &error), 0);
    assert_int_equal(os_directory_create(path_of("file"), &error), -ENOTDIR);
    assert_int_equal(os_directory_create(path_of("file/below"), &error), -ENOTDIR);
    assert_non_null(strstr(error.message, "/file"));
    assert_int_equal(os_directory_create("", &error), -ENOENT);
}

/* Claim: a file is replaced whole, read whole, and refused when it is too large or missing. */
static void test_whole_files(void **state)
{
    (void)state;
    struct error error = {0};
    struct buffer content = {0};
    struct buffer large = {0};
    memset(buffer_extend(&large, 100000), 'l', 100000);
    assert_int_equal(os_file_write(path_of("f"), buffer_bytes(&large), &error), 0);
    assert_int_equal(os_file_read(path_of("f"), 100000, &content, &error), 0);
    assert_true(bytes_equal(buffer_bytes(&content), buffer_bytes(&large)));
    assert_int_equal(os_file_read(path_of("f"), 99999, &content, &error), -EFBIG);
    assert_int_equal(content.size_bytes, 100000); /* All or nothing. */
    buffer_clear(&content);
    assert_int_equal(os_file_write(path_of("f"), BYTES("short"), &error), 0);
    assert_int_equal(os_file_read(path_of("f"), 10, &content, &error), 0);
    assert_true(bytes_equal(buffer_bytes(&content), BYTES("short")));
    assert_int_equal(access(path_of("f.new"), F_OK), -1);
    assert_int_equal(os_file_read(path_of("none"), 10, &content, &error), -ENOENT);
    assert_non_null(strstr(error.message, "/none: No such file"));
    assert_int_equal(os_file_write(path_of("none/f"), BYTES("x"), &error), -ENOENT);
    assert_int_equal(os_file_remove(path_of("f"), &error), 0);
    assert_int_equal(access(path_of("f"), F_OK), -1);
    assert_int_equal(os_file_remove(path_of("f"), &error), 0);
    assert_int_equal(os_file_remove(folder, &error), -EISDIR);
    assert_non_null(strstr(error.message, folder));
    buffer_deinit(&content);
    buffer_deinit(&large);
}

/* Claim: one process at a time; the refusal names the other, and its end frees the directory. */
static void test_lock(void **state)
{
    (void)state;
    struct os_lock *lock = NULL;
    struct os_lock *second = NULL;
    struct error error = {0};
    assert_int_equal(os_lock_take(&lock, folder, &error), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct os_lock *taken = NULL;
        char number[24];
        (void)snprintf(number, sizeof number, "in use by process %d", (int)getppid());
        bool is_right =
            os_lock_take(&taken, folder, &error) == -EBUSY && strstr(error.message, number) != NULL;
        _exit(is_right ? 0 : 1);
    }
    int outcome = 0;
    assert_int_equal(waitpid(child, &outcome, 0), child);
    assert_int_equal(outcome, 0);
    assert_int_equal(os_lock_take(&second, folder, &error), -EBUSY);
    assert_int_equal(os_lock_take_existing(&second, folder, &error), -EBUSY);
    os_lock_release(lock);
    assert_int_equal(os_lock_take(&second, folder, &error), 0);
    os_lock_release(second);
    assert_int_equal(os_lock_take(&second, path_of("none"), &error), -ENOENT);
}

/* Claim: who only reads takes the lock that is there, and creates none. */
static void test_lock_of_a_reader(void **state)
{
    (void)state;
    struct os_lock *lock = NULL;
    struct os_lock *second = NULL;
    struct error error = {0};
    const char *path = path_of("lock");
    (void)unlink(path);
    assert_int_equal(os_lock_take_existing(&lock, folder, &error), -ENOENT);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(os_lock_take(&lock, folder, &error), 0);
    os_lock_release(lock);
    assert_int_equal(os_lock_take_existing(&lock, folder, &error), 0);
    assert_int_equal(os_lock_take(&second, folder, &error), -EBUSY);
    os_lock_release(lock);
}

/* Claim: the disk's space is told, and a missing path is an error. */
static void test_disk_space(void **state)
{
    (void)state;
    uint64_t free_bytes = 0;
    uint64_t total_bytes = 0;
    assert_int_equal(os_disk_space(folder, &free_bytes, &total_bytes, NULL), 0);
    assert_true(total_bytes > 0);
    assert_true(free_bytes <= total_bytes);
    assert_int_equal(os_disk_space(path_of("none"), &free_bytes, &total_bytes, NULL), -ENOENT);
}

/* ---- env_files ------------------------------------------------------------------------------- */

static struct os_files *files;
static struct env_files env;
static struct error problem;

static struct env_file *open_file(const char *name, unsigned flags)
{
    struct env_file *file = NULL;
    assert_int_equal(env.ops->open(env.context, name, flags, &file, &problem), 0);
    return file;
}

static int files_setup(void **state)
{
    if (setup(state) != 0 || os_files_create(&files, folder, NULL) != 0) {
        return -1;
    }
    env = os_files_env(files);
    return 0;
}

static int files_teardown(void **state)
{
    os_files_destroy(files);
    return teardown(state);
}

/* Claim: many pieces are written one after the other wherever told, and read back up to the end. */
static void test_files_write_and_read(void **state)
{
    (void)state;
    enum { COUNT = 150 };
    struct env_file *file = open_file("1.log", ENV_FILE_CREATE);
    struct bytes pieces[COUNT];
    static uint8_t data[COUNT * COUNT];
    static uint8_t back[COUNT * COUNT];
    size_t total = 0;
    for (uint32_t i = 0; i < COUNT; i++) {
        pieces[i] = bytes_make(data + total, i);
        memset(data + total, (int)i, i);
        total += i;
    }
    assert_int_equal(env.ops->write(env.context, file, 4096, pieces, COUNT, &problem), 0);
    assert_int_equal(env.ops->flush(env.context, file, &problem), 0);
    uint64_t size = 0;
    assert_int_equal(env.ops->size(env.context, file, &size, &problem), 0);
    assert_int_equal(size, 4096 + total);
    size_t count = 0;
    assert_int_equal(env.ops->read(env.context, file, 4096, back, sizeof back, &count, &problem),
                     0);
    assert_int_equal(count, total);
    assert_memory_equal(back, data, total);
    assert_int_equal(env.ops->read(env.context, file, 1 << 20, back, 10, &count, &problem), 0);
    assert_int_equal(count, 0);
    env.ops->close(env.context, file);
}

/* Claim: reserving lengthens the file to the size, with zeros. */
static void test_files_allocate(void **state)
{
    (void)state;
    struct env_file *file = open_file("a", ENV_FILE_CREATE);
    assert_int_equal(env.ops->allocate(env.context, file, 1 << 20, &problem), 0);
    uint64_t size = 0;
    assert_int_equal(env.ops->size(env.context, file, &size, &problem), 0);
    assert_int_equal(size, 1 << 20);
    struct stat information;
    assert_int_equal(stat(path_of("a"), &information), 0);
    assert_true(information.st_blocks * 512 >= 1 << 20);
    env.ops->close(env.context, file);
}

struct listing {
    char text[128];
};

static void list_one(void *context, const char *name)
{
    struct listing *listing = context;
    size_t used = strlen(listing->text);
    (void)snprintf(listing->text + used, sizeof listing->text - used, "%s ", name);
}

/* Claim: listing is in order of name and leaves out directories; renaming replaces; removing
 * removes. */
static void test_files_names(void **state)
{
    (void)state;
    struct listing listing = {{0}};
    const char *const names[] = {"b", "a", "10", "2"};
    for (size_t i = 0; i < 4; i++) {
        env.ops->close(env.context, open_file(names[i], ENV_FILE_CREATE));
    }
    assert_int_equal(os_directory_create(path_of("folder"), NULL), 0);
    assert_int_equal(env.ops->list(env.context, list_one, &listing, &problem), 0);
    assert_string_equal(listing.text, "10 2 a b ");
    assert_int_equal(env.ops->rename(env.context, "a", "b", &problem), 0);
    assert_int_equal(env.ops->remove(env.context, "10", &problem), 0);
    assert_int_equal(env.ops->flush_directory(env.context, &problem), 0);
    listing.text[0] = '\0';
    assert_int_equal(env.ops->list(env.context, list_one, &listing, &problem), 0);
    assert_string_equal(listing.text, "2 b ");
}

/* Claim: errors are the system's codes and name the file. */
static void test_files_errors(void **state)
{
    (void)state;
    struct env_file *file = NULL;
    assert_int_equal(env.ops->open(env.context, "none", 0, &file, &problem), -ENOENT);
    assert_non_null(strstr(problem.message, "/none: No such file"));
    env.ops->close(env.context, open_file("f", ENV_FILE_CREATE));
    assert_int_equal(env.ops->open(env.context, "f", ENV_FILE_CREATE, &file, &problem), -EEXIST);
    file = open_file("f", ENV_FILE_READ_ONLY);
    struct bytes piece = BYTES("x");
    assert_int_equal(env.ops->write(env.context, file, 0, &piece, 1, &problem), -EBADF);
    env.ops->close(env.context, file);
    assert_int_equal(env.ops->remove(env.context, "none", &problem), -ENOENT);
    assert_int_equal(env.ops->rename(env.context, "none", "f", &problem), -ENOENT);
    struct os_files *others = NULL;
    assert_int_equal(os_files_create(&others, path_of("f"), &problem), -ENOTDIR);
}

/* Claim: what is written around the cache and what is not, over each other and larger than what is
 * written at a time, is read back as the last of both left it. */
static void test_files_write_directly(void **state)
{
    (void)state;
    enum { SECTOR = 512, SIZE = (2 << 20) + 4 * SECTOR };
    static uint8_t expected[SIZE + SECTOR];
    static uint8_t back[SIZE + SECTOR];
    os_files_write_directly(files);
    struct env_file *file = open_file("1.log", ENV_FILE_CREATE);
    for (size_t i = 0; i < SIZE; i++) {
        expected[i] = (uint8_t)(i * 7 + (i >> 9));
    }
    struct bytes pieces[] = {bytes_make(expected, 100), bytes_make(expected + 100, 0),
                             bytes_make(expected + 100, (1 << 20) + 1),
                             bytes_make(expected + (1 << 20) + 101, SIZE - (1 << 20) - 101)};
    assert_int_equal(env.ops->write(env.context, file, 0, pieces, 4, &problem), 0);
    static const struct {
        uint32_t offset;
        uint32_t size_bytes;
    } writes[] = {{SECTOR, SECTOR}, {700, 9}, {3 * SECTOR, 2 * SECTOR}, {SIZE, 3}, {4096, 4096}};
    for (uint32_t i = 0; i < sizeof writes / sizeof writes[0]; i++) {
        memset(expected + writes[i].offset, (int)(200 + i), writes[i].size_bytes);
        struct bytes piece = bytes_make(expected + writes[i].offset, writes[i].size_bytes);
        assert_int_equal(env.ops->write(env.context, file, writes[i].offset, &piece, 1, &problem),
                         0);
        assert_int_equal(env.ops->flush(env.context, file, &problem), 0);
        size_t count = 0;
        assert_int_equal(env.ops->read(env.context, file, 0, back, sizeof back, &count, &problem),
                         0);
        assert_true(count >= SIZE);
        assert_memory_equal(back, expected, count);
    }
    env.ops->close(env.context, file);
}

/* Claim: reserving leaves what is to be kept free. */
static void test_files_keep_free(void **state)
{
    (void)state;
    struct error error = {0};
    uint64_t free_bytes;
    uint64_t total_bytes;
    assert_int_equal(os_disk_space(folder, &free_bytes, &total_bytes, NULL), 0);
    struct os_files *careful = NULL;
    assert_int_equal(os_files_create(&careful, folder, &error), 0);
    struct env_files own = os_files_env(careful);
    struct env_file *file = NULL;
    assert_int_equal(own.ops->open(own.context, "kept", ENV_FILE_CREATE, &file, &error), 0);
    os_files_keep_free(careful, total_bytes);
    assert_int_equal(own.ops->allocate(own.context, file, 1 << 20, &error), -ENOSPC);
    assert_non_null(strstr(error.message, "kept free"));
    os_files_keep_free(careful, 1);
    assert_int_equal(own.ops->allocate(own.context, file, 1 << 20, &error), 0);
    own.ops->close(own.context, file);
    assert_int_equal(own.ops->remove(own.context, "kept", &error), 0);
    os_files_destroy(careful);
}

/* Claim: a full disk is -ENOSPC, from writing and from reserving. */
static void test_files_full(void **state)
{
    (void)state;
    struct os_files *devices = NULL;
    struct error error = {0};
    if (access("/dev/full", W_OK) != 0) {
        skip();
    }
    assert_int_equal(os_files_create(&devices, "/dev", &error), 0);
    struct env_files device_env = os_files_env(devices);
    struct env_file *file = NULL;
    assert_int_equal(device_env.ops->open(device_env.context, "full", 0, &file, &error), 0);
    struct bytes piece = BYTES("x");
    assert_int_equal(device_env.ops->write(device_env.context, file, 0, &piece, 1, &error),
                     -ENOSPC);
    assert_non_null(strstr(error.message, "write /dev/full: No space left"));
    device_env.ops->close(device_env.context, file);
    os_files_destroy(devices);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_directory_create, setup, teardown),
        cmocka_unit_test_setup_teardown(test_whole_files, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lock, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lock_of_a_reader, setup, teardown),
        cmocka_unit_test_setup_teardown(test_disk_space, setup, teardown),
        cmocka_unit_test_setup_teardown(test_files_write_and_read, files_setup, files_teardown),
        cmocka_unit_test_setup_teardown(test_files_write_directly, files_setup, files_teardown),
        cmocka_unit_test_setup_teardown(test_files_allocate, files_setup, files_teardown),
        cmocka_unit_test_setup_teardown(test_files_names, files_setup, files_teardown),
        cmocka_unit_test_setup_teardown(test_files_errors, files_setup, files_teardown),
        cmocka_unit_test_setup_teardown(test_files_keep_free, setup, teardown),
        cmocka_unit_test(test_files_full),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
