/* Pointers to memory that is not the allocator's. */
#define _GNU_SOURCE
#include "misuse.h"

#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void *aligned(const void *place) { return (void *)(((uintptr_t)place + 15) & ~(uintptr_t)15); }

static void foreign_stack(void) {
    long long place[16] = {0};
    forbid(place, sizeof place);
    drop(aligned(place));
}
static long long data[1024] = {1};
static void foreign_data(void) {
    forbid(data, sizeof data);
    drop(aligned(data));
}
static const long long constants[8] = {1, 2, 3};
static void foreign_constant(void) { drop(aligned(constants)); }
static void foreign_code(void) { drop(aligned((void *)foreign_data)); }
static __thread long long own[64];
static void foreign_thread_local(void) {
    forbid(own, sizeof own);
    drop(aligned(own));
}

static char *mapping(void) {
    char *pages = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) skip("no mapping");
    forbid(pages, 1 << 20);
    return hide(pages);
}
static void foreign_mapping(void) { drop(mapping()); }
static void foreign_mapping_inside(void) { drop(mapping() + 4096 + 64); }
static void foreign_break(void) {
    char *place = sbrk(8192);
    if (place == (void *)-1) skip("no break");
    forbid(place, 8192);
    drop((char *)aligned(place) + 64);
}

/* What looks like a chunk of a well-known allocator: a size of 80, "the one before is in use", and the
 * ones behind it look alike. */
static void foreign_forged(void) {
    forbid(data, sizeof data);
    long long *place = aligned(data);
    for (int i = 0; i + 10 < 256; i += 10) place[i + 1] = 0x51;
    drop(place + 2);
}

static void foreign_small_number(void) { drop((void *)(uintptr_t)0x30); }
static void foreign_unmapped(void) { drop((void *)(uintptr_t)0x123456789000); }
static void foreign_kernel(void) { drop((void *)(uintptr_t)0xffffffff81000000); }
static void foreign_non_canonical(void) { drop((void *)(uintptr_t)0x4141414141414140); }
static void foreign_tagged(void) { drop((void *)((uintptr_t)take(64) | (uintptr_t)1 << 60)); }
static void foreign_by_realloc(void) { hide(realloc(hide((void *)(uintptr_t)0x123456789000), 10)); }
static void foreign_stack_by_realloc(void) {
    long long place[16] = {0};
    forbid(place, sizeof place);
    hide(realloc(hide(aligned(place)), 1000));
}
static void size_of_foreign(void) {
    forbid(data, sizeof data);
    hide((void *)malloc_usable_size(hide(aligned(data))));
}

const struct mistake foreign_mistakes[] = {
#define MISTAKE(name) {#name, name}
    MISTAKE(foreign_stack), MISTAKE(foreign_data), MISTAKE(foreign_constant), MISTAKE(foreign_code),
    MISTAKE(foreign_thread_local), MISTAKE(foreign_mapping), MISTAKE(foreign_mapping_inside),
    MISTAKE(foreign_break), MISTAKE(foreign_forged), MISTAKE(foreign_small_number),
    MISTAKE(foreign_unmapped), MISTAKE(foreign_kernel), MISTAKE(foreign_non_canonical),
    MISTAKE(foreign_tagged), MISTAKE(foreign_by_realloc), MISTAKE(foreign_stack_by_realloc),
    MISTAKE(size_of_foreign),
    {NULL, NULL},
};
