/* A library that brings an allocator of its own and does its work with it. */
#include <stddef.h>

static char arena[1 << 20];
static size_t used;

void *malloc(size_t size) {
    size_t at = used;
    used += (size + 15) & ~(size_t)15;
    return used <= sizeof arena ? arena + at : 0;
}

void *owner_work(size_t size) { return malloc(size); }
