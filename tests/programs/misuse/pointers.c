/* Pointers into blocks of the allocator that are not the start of an allocated one. */
#include "misuse.h"

#include <malloc.h>
#include <stdlib.h>

static void inside_small(void) { drop(take(64) + 16); }
static void inside_small_far(void) { drop(take(1000) + 512); }
static void inside_slice_neighbour(void) { drop(take(160) + 32); }
static void inside_medium(void) { drop(take(100000) + 4096); }
static void inside_large(void) { drop(take(1000000) + 65536); }
static void inside_huge(void) { drop(take(100 << 20) + (64 << 20)); }
static void inside_aligned(void) { drop((char *)hide(aligned_alloc(4096, 8192)) + 4096); }
static void inside_by_realloc(void) { hide(realloc(hide(take(64) + 16), 100)); }
static void inside_by_realloc_large(void) { hide(realloc(hide(take(1000000) + 8192), 2000000)); }
static void size_of_inside(void) { hide((void *)malloc_usable_size(hide(take(200) + 64))); }

static void before_the_block(void) { drop(take(64) - 16); }
static void one_past_the_end(void) {
    char *block = take(64);
    drop(block + malloc_usable_size(hide(block)));
}
static void one_past_the_end_large(void) {
    char *block = take(1000000);
    drop(block + malloc_usable_size(hide(block)));
}
static void never_handed_out(void) { drop(take(1000) + 20 * 1024); }

static void misaligned_1(void) { drop(take(64) + 1); }
static void misaligned_8(void) { drop(take(64) + 8); }
static void misaligned_large(void) { drop(take(1000000) + 8); }
static void misaligned_by_realloc(void) { hide(realloc(hide(take(64) + 4), 100)); }

const struct mistake pointer_mistakes[] = {
#define MISTAKE(name) {#name, name}
    MISTAKE(inside_small), MISTAKE(inside_small_far), MISTAKE(inside_slice_neighbour),
    MISTAKE(inside_medium), MISTAKE(inside_large), MISTAKE(inside_huge), MISTAKE(inside_aligned),
    MISTAKE(inside_by_realloc), MISTAKE(inside_by_realloc_large), MISTAKE(size_of_inside),
    MISTAKE(before_the_block), MISTAKE(one_past_the_end), MISTAKE(one_past_the_end_large),
    MISTAKE(never_handed_out), MISTAKE(misaligned_1), MISTAKE(misaligned_8), MISTAKE(misaligned_large),
    MISTAKE(misaligned_by_realloc),
    {NULL, NULL},
};
