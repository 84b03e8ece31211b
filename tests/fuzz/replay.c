/* SPDX-License-Identifier: Apache-2.0 */
/* A main() for fuzz targets where libFuzzer is not: runs every file of the corpus folders named on
 * the command line through the target once, so that what fuzzing once found stays found in every
 * build. */
#include <dirent.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

enum { INPUT_SIZE_BYTES_MAX = 16 << 20 };

static bool replay_file(const char *path, uint8_t *input)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        return false;
    }
    size_t size_bytes = fread(input, 1, INPUT_SIZE_BYTES_MAX, file);
    bool is_read = ferror(file) == 0;
    (void)fclose(file);
    if (!is_read) {
        (void)fprintf(stderr, "%s: cannot be read\n", path);
        return false;
    }
    /* An exact copy on the heap, so that a read past the end is seen by the sanitizers. */
    uint8_t *exact = malloc(size_bytes > 0 ? size_bytes : 1);
    if (exact == NULL) {
        return false;
    }
    memcpy(exact, input, size_bytes);
    (void)LLVMFuzzerTestOneInput(exact, size_bytes);
    free(exact);
    return true;
}

/* The number of files replayed, or -1. */
static int replay_folder(const char *folder, uint8_t *input)
{
    DIR *entries = opendir(folder);
    if (entries == NULL) {
        perror(folder);
        return -1;
    }
    int count = 0;
    const struct dirent *entry;
    while (count >= 0 && (entry = readdir(entries)) != NULL) {
        char path[4096];
        int length = snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        struct stat status;
        if (length < 0 || (size_t)length >= sizeof path || stat(path, &status) != 0) {
            count = -1;
        } else if (S_ISREG(status.st_mode)) {
            count = replay_file(path, input) ? count + 1 : -1;
        }
    }
    (void)closedir(entries);
    return count;
}

int main(int argument_count, char **arguments)
{
    uint8_t *input = malloc(INPUT_SIZE_BYTES_MAX);
    if (input == NULL) {
        return EXIT_FAILURE;
    }
    int total = 0;
    for (int i = 1; i < argument_count; i++) {
        int count = replay_folder(arguments[i], input);
        if (count <= 0) {
            (void)fprintf(stderr, "%s: no corpus\n", arguments[i]);
            free(input);
            return EXIT_FAILURE;
        }
        total += count;
    }
    free(input);
    (void)printf("%d inputs replayed\n", total);
    return EXIT_SUCCESS;
}
