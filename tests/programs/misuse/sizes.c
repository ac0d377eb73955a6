/* Sizes that cannot be meant, and sizes that are not those of the block. */
#include "misuse.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

/* Nothing, for want of memory: what all of these must be. */
static void expect_refusal(void *block) {
    if (hide(block)) granted("granted: a size that overflows");
    refused();
}

static size_t unseen(size_t number) { return (size_t)hide((void *)number); }

static void overflow_calloc(void) { expect_refusal(calloc(unseen(SIZE_MAX / 2 + 2), unseen(2))); }
static void overflow_reallocarray(void) {
    expect_refusal(reallocarray(take(16), unseen(SIZE_MAX / 8 + 2), unseen(8)));
}
static void overflow_malloc(void) { expect_refusal(malloc(unseen(SIZE_MAX - 8))); }
static void overflow_realloc(void) { expect_refusal(realloc(take(16), unseen(SIZE_MAX - 8))); }
static void overflow_aligned(void) { expect_refusal(aligned_alloc(4096, unseen(SIZE_MAX - 4000))); }
static void overflow_posix_memalign(void) {
    void *block = NULL;
    if (posix_memalign(&block, unseen((size_t)1 << 62), unseen((size_t)3 << 61))) refused();
    granted("granted: a size that overflows");
}

/* More bytes than the block has, by who should know. */
static void sized(const char *name, size_t asked, size_t told) {
    void (*end)(void *, size_t) = function(name);
    if (!end) skip("no such function");
    end(hide(take(asked)), told);
}
static void too_many_bytes_deleted(void) { sized("_ZdlPvm", 64, 5000); }
static void too_many_bytes_deleted_large(void) { sized("_ZdlPvm", 100000, 9000000); }
static void too_many_bytes_freed(void) { sized("free_sized", 64, 5000); }
static void far_too_few_bytes_deleted(void) { sized("_ZdlPvm", 5000, 8); }

const struct mistake size_mistakes[] = {
#define MISTAKE(name) {#name, name}
    MISTAKE(overflow_calloc), MISTAKE(overflow_reallocarray), MISTAKE(overflow_malloc),
    MISTAKE(overflow_realloc), MISTAKE(overflow_aligned), MISTAKE(overflow_posix_memalign),
    MISTAKE(too_many_bytes_deleted), MISTAKE(too_many_bytes_deleted_large),
    MISTAKE(too_many_bytes_freed), MISTAKE(far_too_few_bytes_deleted),
    {NULL, NULL},
};
