/* Large blocks of which it touches some pages and no others. Ends with 1 if a block does not hold what it
   must. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { KIB = 1024 };

static long page;

/* A byte in each of so many pages, none of them the first or the last. */
static void touch(char *block, int pages) {
    for (int n = 1; n <= pages; n++)
        block[n * page + 64] = 1;
}

static int is_zero(const char *block, size_t bytes) {
    for (size_t n = 0; n < bytes; n++)
        if (block[n] != 0)
            return 0;
    return 1;
}

int main(void) {
    page = sysconf(_SC_PAGESIZE);
    /* The second is, in most allocators, where the first was. */
    char *block = malloc(256 * KIB);
    touch(block, 3);
    free(block);
    block = malloc(256 * KIB);
    touch(block, 2);
    free(block);
    /* All is written, so that a block that holds it again is not fresh; then a calloc. */
    block = malloc(512 * KIB);
    memset(block, 7, 512 * KIB);
    free(block);
    block = calloc(512, KIB);
    int is_right = is_zero(block, 512 * KIB);
    free(block);
    /* What was written stays when a block grows. */
    block = malloc(64 * KIB);
    memset(block, 7, 64 * KIB);
    block = realloc(block, 1024 * KIB);
    for (int n = 0; n < 64 * KIB; n++)
        is_right &= block[n] == 7;
    free(block);
    /* Too small to be looked at. */
    free(malloc(8 * KIB));
    /* Never freed. */
    block = malloc(2048 * KIB);
    touch(block, 9);
    return !is_right;
}
